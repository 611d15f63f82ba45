"""Trains networks of the next event (torch) and writes them as ONNX: each distinct beginning of a context is run once.

    model, figures = fit(make, "deeplog", learnt, held, options, say)

Sessions repeat themselves, so the contexts of a batch share their beginnings: on HDFS the tree of beginnings of 512
distinct contexts has half as many nodes as the contexts have events, and each node is computed once. What follows a
context is learnt as a distribution: a context that came 2,000 times is one row with 2,000 times the weight, spread over
several batches so that no single step is all its own. Together 180,000 windows a second on one core, where a window at
a time through ``torch.nn.LSTM`` makes 8,000 (DeepLog; HDFS, 116,127 windows, 4,817 distinct contexts).

Names of sizes: B contexts in a batch, N nodes at one depth of the tree, E embedding, U units, V entries.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from contracts.service import DetectorOptions
from models.base import Floats
from models.gating import ONNX_DIFFERENCE
from models.learning import Counted, Passed, Say
from models.network import Network
from models.sessions import Ints
from models.vocabulary import FIRST_INDEX

UNITS = 64
"""Of each LSTM (DeepLog: Du et al. 2017, section 5.1)."""
BATCH = 256
"""Contexts a step."""
EPOCH_CONTEXTS = 50_000
"""Contexts between two looks at held-back time; a large service has more distinct ones than one look needs."""
RATE = 1e-2
"""Adam's first step; halved each time held-back likelihood gets no better. At 3e-3 the same likelihood takes twice as
many passes, at 2e-2 it is not reached (HDFS, inside of the learnt part)."""
PATIENCE = 3
LEAST_GAIN = 1e-4
"""Nats of held-back surprise that count as better."""
CLIP = 1.0
Drawn = Literal["mean", "root", "each"]
"""*mean*: a distinct context once, above the mean in as many parts as it is means; *root*: as often as the square root
of its count; *each*: as often as it came, as the field does it. Its weight in a pass is its count in all three."""
PARITY_CONTEXTS = 1_024
"""Contexts for which the saved model's answers are compared with the trained one's."""
OPSET = 17
IR_VERSION = 8
"""Of ONNX files: what onnxruntime 1.20, the oldest allowed, reads."""


@dataclass(frozen=True, eq=False, slots=True)
class Prefixes:
    """The tree of the beginnings of contexts: for each depth its nodes' last events and their parents one depth up."""

    events: list[Tensor]  # [N] positions in the vocabulary
    parents: list[Tensor]  # [N] nodes of the depth before
    leaves: Tensor  # [B] node of each whole context

    @classmethod
    def of(cls, contexts: Ints) -> "Prefixes":
        """Make the tree of contexts [B, window] in lexicographic order."""
        window = contexts.shape[1]
        differs = contexts[1:] != contexts[:-1]
        first = np.zeros(len(contexts), dtype=np.int64)  # depth at which a context leaves the one before it
        first[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1), window)
        events, parents, node = [], [], np.zeros(len(contexts), dtype=np.int64)
        for depth in range(window):
            new = np.flatnonzero(first <= depth)
            events.append(torch.from_numpy(contexts[new, depth]))
            parents.append(torch.from_numpy(node[new]))
            node = np.cumsum(first <= depth) - 1
        return cls(events, parents, torch.from_numpy(node))


class NextEvent(nn.Module, ABC):
    """What may come next, for contexts as a tree of their beginnings."""

    @abstractmethod
    def forward(self, prefixes: Prefixes) -> Tensor:
        """Logarithms of the chances of each entry: [B, V]."""

    @abstractmethod
    def to_onnx(self, window: int) -> bytes:
        """Write it as a graph of standard operators: ``contexts`` int64 [B, window] -> log chances float [B, V]."""


def fit(
    make: Callable[[], NextEvent],
    name: str,
    learnt: Counted,
    held: Counted,
    detector: DetectorOptions,
    say: Say,
    *,
    drawn: Drawn = "mean",
) -> tuple[Network, dict[str, float]]:
    """Make a network and train it until held-back time gets no likelier; see ``models.learning.Fit``.

    The same windows and seed give the same model on the same kind of processor.

    Args:
        make: the network, untrained.
        name: of the model that is made of it.
        learnt: windows to learn.
        held: windows that say when to stop.
        detector: seed and passes.
        say: is told of each pass.
        drawn: how often a context comes in a pass, with what weight: see ``Drawn``.
    """
    with repeatable(detector.seed):
        model = make()
        rows, judged = _Rows.of(learnt), _Rows.of(held.known())
        rows = rows.drawn(drawn)
        if not len(judged.contexts):
            judged = rows
        rng = np.random.default_rng(detector.seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        best, best_loss, waited, epoch, epochs = _copy(model), math.inf, 0, 0, 0
        draws = rows.draws(rng)
        while waited < PATIENCE and epochs < detector.epochs:
            _pass(model, optimizer, rows, draws)
            loss, epochs = _loss(model, judged), epochs + 1
            say(Passed(epochs, detector.epochs, loss))
            if loss < best_loss - LEAST_GAIN:
                best, best_loss, waited, epoch = _copy(model), loss, 0, epochs
            else:
                waited += 1
                for group in optimizer.param_groups:
                    group["lr"] /= 2
        model.load_state_dict(best)
        saved = Network(model.to_onnx(learnt.contexts.shape[1]), name)
        difference = _difference(model, saved, judged.contexts[:PARITY_CONTEXTS])
    return saved, {"epochs": float(epoch), "held_back_nats": best_loss, ONNX_DIFFERENCE: difference}


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """Windows grouped by context, in lexicographic order."""

    contexts: Ints  # [c, window]
    starts: Ints  # [c + 1] where each context's targets begin
    targets: Ints  # [u] columns of the model's answer
    counts: Floats  # [u]
    copies: Ints  # [c] batches of a pass that a context comes in

    @classmethod
    def of(cls, windows: Counted) -> "_Rows":
        """Group windows, which are sorted."""
        new = np.ones(len(windows), dtype=np.bool_)
        new[1:] = (windows.contexts[1:] != windows.contexts[:-1]).any(axis=1)
        heads = np.flatnonzero(new)
        starts = np.append(heads, len(windows))
        counts = windows.counts.astype(np.float32)
        totals = np.add.reduceat(windows.counts, heads) if len(heads) else np.zeros(0)
        # A context above the mean comes in several batches, with a part of its weight in each.
        copies = np.ceil(totals / max(1.0, totals.mean() if len(totals) else 1.0)).astype(np.int64)
        return cls(windows.contexts[heads], starts, windows.targets - FIRST_INDEX, counts, copies)

    def drawn(self, how: Drawn) -> "_Rows":
        """The same, each context otherwise often in a pass."""
        totals = np.add.reduceat(self.counts, self.starts[:-1]) if len(self.contexts) else np.zeros(0)
        match how:
            case "mean":
                return self
            case "root":
                return replace(self, copies=np.ceil(np.sqrt(totals)).astype(np.int64))
            case "each":
                return replace(self, copies=np.round(totals).astype(np.int64))

    def draws(self, rng: np.random.Generator) -> Iterator[Ints]:
        """Batches of contexts without end: all of them (and their copies) in a random order, again and again."""
        pool = np.repeat(np.arange(len(self.contexts)), self.copies)
        while True:
            shuffled = rng.permutation(pool)
            for start in range(0, len(shuffled), BATCH):
                yield shuffled[start : start + BATCH]

    def batch(self, drawn: Ints) -> tuple[Ints, Tensor, Tensor, Tensor]:
        """Contexts [B, window], and row, column and weight of each of their targets."""
        chosen, times = np.unique(drawn, return_counts=True)
        kinds = self.starts[chosen + 1] - self.starts[chosen]
        of_row = np.repeat(np.arange(len(chosen)), kinds)
        places = np.arange(len(of_row)) + np.repeat(self.starts[chosen] - (np.cumsum(kinds) - kinds), kinds)
        weights = self.counts[places] * (times / self.copies[chosen]).astype(np.float32)[of_row]
        rows, columns = torch.from_numpy(of_row), torch.from_numpy(self.targets[places])
        return self.contexts[chosen], rows, columns, torch.from_numpy(weights)


def _pass(model: NextEvent, optimizer: torch.optim.Optimizer, rows: _Rows, draws: Iterator[Ints]) -> None:
    """Train on every context once (as often as it has copies), or on ``EPOCH_CONTEXTS``."""
    contexts = min(int(rows.copies.sum()), EPOCH_CONTEXTS)
    weight_of_batch = float(rows.counts.sum()) / math.ceil(int(rows.copies.sum()) / BATCH)
    for _ in range(math.ceil(contexts / BATCH)):
        asked, of_row, columns, weights = rows.batch(next(draws))
        log_p = model(Prefixes.of(asked))
        loss = -(log_p[of_row, columns] * weights).sum() / weight_of_batch
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()


@torch.no_grad()
def _loss(model: NextEvent, rows: _Rows, step: int = 4096) -> float:
    """Mean surprise of the windows, in nats."""
    total = 0.0
    for start in range(0, len(rows.contexts), step):
        contexts, of_row, columns, _ = rows.batch(np.arange(start, min(start + step, len(rows.contexts))))
        first = rows.starts[start]
        counts = torch.from_numpy(rows.counts[first : first + len(columns)])
        total -= float((model(Prefixes.of(contexts))[of_row, columns] * counts).sum())
    return total / float(rows.counts.sum())


@torch.no_grad()
def _difference(model: NextEvent, saved: Network, contexts: Ints) -> float:
    """How far the saved model's answers are from the trained one's, at most: nats, of chances above e^-20."""
    trained = model(Prefixes.of(contexts)).numpy()
    return float(np.abs(np.maximum(trained, -20) - np.maximum(saved.log_probabilities(contexts), -20)).max())


def shares_of(learnt: Counted, entries: int) -> Tensor:
    """[V] Of the entries among all events learnt."""
    shares = np.bincount(learnt.targets - FIRST_INDEX, learnt.counts, entries) / learnt.counts.sum()
    return torch.from_numpy(shares.astype(np.float32))


def cell(gates: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: gates [N, 4U] and cells [N, U] to hidden [N, U] and cells [N, U]."""
    opened = torch.sigmoid(gates)
    written = torch.tanh(gates[:, 2 * UNITS : 3 * UNITS])
    cells = opened[:, UNITS : 2 * UNITS] * cells + opened[:, :UNITS] * written
    return opened[:, 3 * UNITS :] * torch.tanh(cells), cells


def lstm_node(events: str, number: int, outputs: Sequence[str]) -> onnx.NodeProto:
    """A node of an LSTM over ``events`` [window, B, E or U], with the weights of ``lstm_tensors``."""
    inputs = [events, f"into{number}", f"across{number}", f"bias{number}"]
    return helper.make_node("LSTM", inputs, outputs, hidden_size=UNITS)


def lstm_tensors(number: int, into: Tensor, across: Tensor, bias: Tensor) -> dict[str, Floats]:
    """Weights [E or U, 4U], [U, 4U] and [4U] as ONNX wants them."""
    gates = _gates(bias.detach().numpy())
    return {
        f"into{number}": _gates(into.detach().numpy()).T[None],  # [1, 4U, E or U]
        f"across{number}": _gates(across.detach().numpy()).T[None],
        f"bias{number}": np.concatenate([gates, np.zeros_like(gates)])[None],  # [1, 8U]
    }


def graph_of(
    name: str, nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, NDArray[np.generic]], window: int, entries: int
) -> bytes:
    """A graph put together by hand, which needs no exporter: from ``contexts`` to ``log_probabilities``."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("contexts", TensorProto.INT64, ["B", window])],
        [helper.make_tensor_value_info("log_probabilities", TensorProto.FLOAT, ["B", entries])],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(one), name) for name, one in tensors.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _gates(parameters: Floats) -> Floats:
    """Reorder columns from (in, forget, cell, out), as here, to ONNX's (in, out, forget, cell)."""
    i, f, c, o = np.split(parameters, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def uniform(*shape: int) -> nn.Parameter:
    """Weights as ``torch.nn.LSTM`` starts with."""
    bound = UNITS**-0.5
    return nn.Parameter((torch.rand(*shape) * 2 - 1) * bound)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """One thread, fixed seeds and deterministic sums while training; the process's own settings afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # at this size a second thread gains nothing, and sums keep their order
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(threads)
