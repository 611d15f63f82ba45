"""LogAnomaly's network of the next event: an LSTM over what templates say beside one over how many of each came.

Meng et al.: LogAnomaly: unsupervised detection of sequential and quantitative anomalies in unstructured logs, IJCAI
2019, section 3. What differs: template2vec takes synonyms and antonyms from dictionaries, here a template's vector is
that of its words by their company in the service's own log (``training.words``), and two with the same words are told
apart; the counts are those of the window up to each event; it raises by likelihood (``detector.rule``: or by rank, as
the paper). The paper takes an unseen template for the one with the nearest vector; here one in nearly the words of a
known one is judged as that one for every model (``models.wording``), and any other enters as the mean of the known.

Names of sizes: B contexts in a batch, N nodes at one depth of the tree, E template vector, U units, V entries.
"""

from collections.abc import Sequence

import numpy as np
import torch
from onnx import helper
from torch import Tensor, nn

from contracts.service import DetectorOptions
from models.learning import Counted, Say
from models.network import Network
from models.vocabulary import FIRST_INDEX
from training import next_event
from training.next_event import UNITS, NextEvent, Prefixes, cell, graph_of, lstm_node, lstm_tensors, shares_of, uniform
from training.simple import Numbers
from training.words import TemplateVectors, counted, words_of

ORDER, COUNTS = 0, 1
"""The two LSTMs, a layer each."""
LENGTH = 8.0
"""Of a template's vector: as DeepLog's embeddings, 64 normal numbers. With a length of 1 as many passes learn less."""


class LogAnomaly(NextEvent):
    """What may come next, from the order of the vectors and from the counts.

    Vectors [V, E] come from outside and stay as they are. Counts enter as sums of what each event adds, so that no row
    is as wide as the vocabulary.
    """

    def __init__(self, vectors: Tensor, shares: Tensor) -> None:
        super().__init__()
        entries, width = vectors.shape
        self.register_buffer("shares", shares)  # [V] of the entries among all events
        self.register_buffer("vectors", _by_position(torch.zeros(1, width), vectors, shares))  # [2 + V, E]
        self.adds = nn.Parameter(torch.randn(1 + entries, UNITS))  # [1 + V, U] padding, then the entries
        self.into = nn.ParameterList(uniform(size, 4 * UNITS) for size in (width, UNITS))  # [E or U, 4U]
        self.across = nn.ParameterList(uniform(UNITS, 4 * UNITS) for _ in (ORDER, COUNTS))  # [U, 4U]
        self.bias = nn.ParameterList(uniform(4 * UNITS) for _ in (ORDER, COUNTS))  # [4U] gates: in, forget, cell, out
        self.out = uniform(2 * UNITS, entries)
        self.out_bias = uniform(entries)

    def added(self) -> Tensor:
        """What an event at each position adds to the counts: [2 + V, U]."""
        return _by_position(self.adds[:1], self.adds[1:], self.get_buffer("shares"))

    def forward(self, prefixes: Prefixes) -> Tensor:
        """Logarithms of the chances of each entry: [B, V]."""
        said = self.get_buffer("vectors") @ self.into[ORDER] + self.bias[ORDER]  # [2 + V, 4U]
        added = self.added() @ self.into[COUNTS]  # [2 + V, 4U]
        counted = self.bias[COUNTS][None]  # [N, 4U] what the counts up to each node bring to their LSTM
        hidden = [torch.zeros(1, UNITS)] * 2
        cells = [torch.zeros(1, UNITS)] * 2
        for events, parents in zip(prefixes.events, prefixes.parents, strict=True):
            counted = counted[parents] + added[events]
            for number, entered in ((ORDER, said[events]), (COUNTS, counted)):
                gates = entered + (hidden[number] @ self.across[number])[parents]
                hidden[number], cells[number] = cell(gates, cells[number][parents])
        logits = torch.cat(hidden, dim=1) @ self.out + self.out_bias
        return torch.log_softmax(logits, dim=1)[prefixes.leaves]

    def to_onnx(self, window: int) -> bytes:
        """See ``NextEvent.to_onnx``."""
        entering = {f"enters{ORDER}": self.get_buffer("vectors"), f"enters{COUNTS}": self.added()}
        tensors = {name: one.detach().numpy() for name, one in (entering | {"out": self.out}).items()}
        tensors |= {"out_bias": self.out_bias.detach().numpy(), "axis0": np.array([0]), "axis1": np.array(1)}
        nodes = []
        for number in (ORDER, COUNTS):
            tensors |= lstm_tensors(number, self.into[number], self.across[number], self.bias[number])
            nodes.append(helper.make_node("Gather", [f"enters{number}", "contexts"], [f"each{number}"]))
            entered = f"each{number}"  # [B, window, E or U]
            if number == COUNTS:
                nodes.append(helper.make_node("CumSum", [entered, "axis1"], ["sums"]))
                entered = "sums"
            nodes.append(helper.make_node("Transpose", [entered], [f"events{number}"], perm=[1, 0, 2]))
            nodes.append(lstm_node(f"events{number}", number, ["", f"last{number}"]))
            nodes.append(helper.make_node("Squeeze", [f"last{number}", "axis0"], [f"state{number}"]))  # [B, U]
        nodes += [
            helper.make_node("Concat", [f"state{ORDER}", f"state{COUNTS}"], ["state"], axis=1),
            helper.make_node("Gemm", ["state", "out", "out_bias"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probabilities"], axis=1),
        ]
        return graph_of("loganomaly", nodes, tensors, window, len(self.out_bias))


def fit(
    learnt: Counted, held: Counted, texts: Sequence[str], detector: DetectorOptions, say: Say
) -> tuple[Network, dict[str, float]]:
    """Train; see ``models.learning.Fit``."""
    vectors = torch.from_numpy((LENGTH * vectors_of(learnt, texts)).astype(np.float32))

    def make() -> NextEvent:
        return LogAnomaly(vectors, shares_of(learnt, len(texts)))

    return next_event.fit(make, "loganomaly", learnt, held, detector, say)


def vectors_of(learnt: Counted, texts: Sequence[str]) -> Numbers:
    """Vectors [V, E] of the entries' texts, from which of them stood next to each other in the windows learnt."""
    entries = range(len(texts))
    last, came = learnt.contexts[:, -1] - FIRST_INDEX, learnt.targets - FIRST_INDEX
    beside = last >= 0
    one, other, times = last[beside], came[beside], learnt.counts[beside]
    rows, columns = np.concatenate([one, other, came]), np.concatenate([other, one, came])
    met = counted(rows, columns, np.concatenate([times, times, learnt.counts]), (len(texts), len(texts)))
    return TemplateVectors.of_neighbours(entries, met, told_apart(texts)).of(entries)


def told_apart(texts: Sequence[str]) -> dict[int, str]:
    """Texts by their number, none for one with the very words of another: it then counts by its number.

    Else the order of lines that differ in figures or in the order of their words alone could not be learnt.
    """
    found: dict[int, str] = {}
    met: set[tuple[str, ...]] = set()
    for number, text in enumerate(texts):
        words = tuple(sorted(words_of(number, {number: text})))
        found[number] = "" if words in met else text
        met.add(words)
    return found


def _by_position(padding: Tensor, entries: Tensor, shares: Tensor) -> Tensor:
    """Rows [2 + V, E]: of padding [1, E], of an unknown event the mean of the known ones as often as they come."""
    return torch.cat([padding, (shares @ entries)[None], entries])
