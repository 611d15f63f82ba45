"""Other parsers than ours, for one question: how much of what a model finds is its parser's doing.

parse = PARSERS["drain3"]()
parse(["Deleting block blk_1", ...])      # numbers of templates, and their texts so far
"""

import re
from collections.abc import Callable, Mapping, Sequence

from training.parsing_bench import DRAIN3_MASKS, drain3_miner

Parse = Callable[[Sequence[str]], tuple[list[int], Mapping[int, str]]]
"""Messages, after those that came before, to the number of each one's template, and the texts of all so far."""

_VARIES = re.compile(r"\S*\d\S*")
"""A word with a digit in it."""


def drain3() -> Parse:
    """drain3 with its default tree and the masks of its README (``training.parsing_bench``)."""
    miner = drain3_miner(DRAIN3_MASKS)

    def parse(messages: Sequence[str]) -> tuple[list[int], Mapping[int, str]]:
        ids = [int(miner.add_log_message(message)["cluster_id"]) for message in messages]
        return ids, {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}

    return parse


def words() -> Parse:
    """No parser: a message is its words, those with a digit in them left out."""
    numbers: dict[str, int] = {}

    def parse(messages: Sequence[str]) -> tuple[list[int], Mapping[int, str]]:
        ids = [numbers.setdefault(_VARIES.sub("<*>", message), len(numbers) + 1) for message in messages]
        return ids, {number: text for text, number in numbers.items()}

    return parse


PARSERS: Mapping[str, Callable[[], Parse]] = {"drain3": drain3, "words": words}
"""Of this module; the other is ours."""
