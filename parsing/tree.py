"""drain3's Drain tree with an index in its leaves: the same clusters, without the cliff.

Drain compares a message with every cluster of a leaf, one after another. Where more than ``max_children`` words begin
messages of one length, they share a leaf, and the cost of a new message grows with the number of templates (drain3:
1,600 messages/s at 1,000 dissimilar templates, 260 at 6,000).

A cluster of ``n`` words that is similar enough shares at least ``k = ceil(n * similarity)`` words with the message, so
it shares at least one of any ``n - k + 1`` of its places. Looking at the places whose words are in the fewest clusters
therefore finds every cluster that may win, and nearly no other.
"""

from collections import defaultdict
from math import ceil

from drain3.drain import Drain, LogCluster, Node

_FEW = 8
"""Clusters up to which comparing with all is faster than looking for the right ones (measured)."""


class IndexedDrain(Drain):  # type: ignore[misc]  # drain3 has no types
    """A Drain tree whose leaves find the best cluster by an index. Everything else is drain3's."""

    def __init__(self, depth: int, sim_th: float, max_children: int, param_str: str) -> None:
        super().__init__(depth=depth, sim_th=sim_th, max_children=max_children, param_str=param_str)
        self._leaves: dict[int, _Leaf] = {}

    def tree_search(self, root_node: Node, tokens: list[str], sim_th: float, include_params: bool) -> LogCluster | None:
        """Find the cluster of a message as ``Drain.tree_search`` does; None if none is similar enough."""
        node = root_node.key_to_child_node.get(str(len(tokens)))
        if node is None:
            return None
        if not tokens:
            return self.id_to_cluster[node.cluster_ids[0]]
        for token in tokens[: min(self.max_node_depth, len(tokens)) - 1]:
            children = node.key_to_child_node
            node = children.get(token) or children.get(self.param_str)
            if node is None:
                return None
        if len(node.cluster_ids) <= _FEW:
            return self.fast_match(node.cluster_ids, tokens, sim_th, include_params)
        leaf = self._leaves.get(id(node))
        if leaf is None:
            leaf = self._leaves[id(node)] = _Leaf()
        leaf.catch_up(node.cluster_ids, self.id_to_cluster)
        return self.fast_match(leaf.candidates(tokens, sim_th), tokens, sim_th, include_params)

    def add_seq_to_prefix_tree(self, root_node: Node, cluster: LogCluster) -> None:
        """Hang a cluster where ``Drain.add_seq_to_prefix_tree`` does, without copying the leaf's list each time."""
        tokens = cluster.log_template_tokens
        node = root_node.key_to_child_node.setdefault(str(len(tokens)), Node())
        for token in tokens[: max(0, min(self.max_node_depth, len(tokens)) - 1)]:
            node = node.key_to_child_node.setdefault(self._branch(node, token), Node())
        node.cluster_ids.append(cluster.cluster_id)

    def _branch(self, node: Node, token: str) -> str:
        """Return the branch of a word: its own, or the common one for words with digits and where a node is full."""
        children = node.key_to_child_node
        if token in children:
            return token
        room = len(children) + (self.param_str not in children) < self.max_children
        return token if room and not self.has_numbers(token) else str(self.param_str)


class _Leaf:
    """Which clusters of a leaf have which word at which place.

    A word that was generalised since stays listed: every candidate is compared anyway.
    """

    def __init__(self) -> None:
        self._known = 0
        self._having: defaultdict[tuple[int, str], list[int]] = defaultdict(list)

    def catch_up(self, cluster_ids: list[int], clusters: dict[int, LogCluster]) -> None:
        """List the clusters that came since the last search."""
        for cluster in cluster_ids[self._known :]:
            for place in enumerate(clusters[cluster].log_template_tokens):
                self._having[place].append(cluster)
        self._known = len(cluster_ids)

    def candidates(self, tokens: list[str], similarity: float) -> list[int]:
        """Return every cluster that may be similar enough, in the order in which they came."""
        having = self._having
        lists = sorted((having.get(place, ()) for place in enumerate(tokens)), key=len)
        enough = max(1, ceil(len(tokens) * similarity - 1e-9))
        return sorted(set().union(*lists[: len(tokens) - enough + 1]))
