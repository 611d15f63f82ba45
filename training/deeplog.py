"""DeepLog's network of the next event: embedded events, two layers of LSTM.

Du, Li, Zheng, Srikumar: DeepLog, CCS 2017, section 3.1: the last ``window`` events in, the chances of the next one out;
section 5.1: two layers of 64 units, window 10. Events enter by a learnt embedding, and the first events of a session
are judged too, with padding before them.

Names of sizes: B contexts in a batch, N nodes at one depth of the tree, E embedding, U units, V entries.
"""

from collections.abc import Sequence

import numpy as np
import torch
from onnx import helper
from torch import Tensor, nn

from contracts.service import DetectorOptions
from models.learning import Counted, Say
from models.network import Network
from training import next_event
from training.next_event import (
    UNITS,
    Drawn,
    NextEvent,
    Prefixes,
    cell,
    graph_of,
    lstm_node,
    lstm_tensors,
    shares_of,
    uniform,
)

EMBEDDING = 64
LAYERS = 2


class DeepLog(NextEvent):
    """Embedding, two layers of LSTM, and a linear layer: what may come next."""

    def __init__(self, entries: int, shares: Tensor) -> None:
        super().__init__()
        self.register_buffer("shares", shares)  # [V] of the entries among all events
        self.embedding = nn.Parameter(torch.randn(1 + entries, EMBEDDING))  # padding, then the entries
        self.into = nn.ParameterList(uniform(size, 4 * UNITS) for size in (EMBEDDING, UNITS))  # [E or U, 4U]
        self.across = nn.ParameterList(uniform(UNITS, 4 * UNITS) for _ in range(LAYERS))  # [U, 4U]
        self.bias = nn.ParameterList(uniform(4 * UNITS) for _ in range(LAYERS))  # [4U] gates: in, forget, cell, out
        self.out = uniform(UNITS, entries)
        self.out_bias = uniform(entries)

    def table(self) -> Tensor:
        """Embeddings by position [2 + V, E]. An unknown event is the mean of the known ones, as often as they come."""
        unknown = self.get_buffer("shares") @ self.embedding[1:]
        return torch.cat([self.embedding[:1], unknown[None], self.embedding[1:]])

    def forward(self, prefixes: Prefixes) -> Tensor:
        """Logarithms of the chances of each entry: [B, V]."""
        first = self.table() @ self.into[0] + self.bias[0]  # [2 + V, 4U] what each event brings to the first layer
        hidden = [torch.zeros(1, UNITS)] * LAYERS
        cells = [torch.zeros(1, UNITS)] * LAYERS
        for events, parents in zip(prefixes.events, prefixes.parents, strict=True):
            gates = first[events]  # [N, 4U]
            for layer in range(LAYERS):
                if layer:
                    gates = hidden[layer - 1] @ self.into[layer] + self.bias[layer]
                # The product once a parent, not once a child.
                gates = gates + (hidden[layer] @ self.across[layer])[parents]
                hidden[layer], cells[layer] = cell(gates, cells[layer][parents])
        return torch.log_softmax(hidden[-1] @ self.out + self.out_bias, dim=1)[prefixes.leaves]

    def to_onnx(self, window: int) -> bytes:
        """See ``NextEvent.to_onnx``."""
        tensors = {name: one.detach().numpy() for name, one in (("table", self.table()), ("out", self.out))}
        tensors |= {"out_bias": self.out_bias.detach().numpy(), "axis0": np.array([0]), "axis1": np.array([1])}
        nodes = [
            helper.make_node("Gather", ["table", "contexts"], ["embedded"]),  # [B, window, E]
            helper.make_node("Transpose", ["embedded"], ["events0"], perm=[1, 0, 2]),  # [window, B, E]
        ]
        for layer in range(LAYERS):
            tensors |= lstm_tensors(layer, self.into[layer], self.across[layer], self.bias[layer])
            outputs = ["", "last"] if layer == LAYERS - 1 else [f"all{layer}"]
            nodes.append(lstm_node(f"events{layer}", layer, outputs))
            if layer < LAYERS - 1:  # [window, 1, B, U] -> [window, B, U]
                nodes.append(helper.make_node("Squeeze", [f"all{layer}", "axis1"], [f"events{layer + 1}"]))
        nodes += [
            helper.make_node("Squeeze", ["last", "axis0"], ["state"]),  # [1, B, U] -> [B, U]
            helper.make_node("Gemm", ["state", "out", "out_bias"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probabilities"], axis=1),
        ]
        return graph_of("deeplog", nodes, tensors, window, len(self.out_bias))


def fit(
    learnt: Counted,
    held: Counted,
    texts: Sequence[str],
    detector: DetectorOptions,
    say: Say,
    *,
    drawn: Drawn = "mean",
) -> tuple[Network, dict[str, float]]:
    """Train; see ``models.learning.Fit`` and, for ``drawn``, ``training.next_event.fit``."""

    def make() -> NextEvent:
        return DeepLog(len(texts), shares_of(learnt, len(texts)))

    return next_event.fit(make, "deeplog", learnt, held, detector, say, drawn=drawn)
