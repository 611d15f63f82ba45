"""Dense layers that give back what goes in, in numpy: small enough to be learnt and run without torch.

    net = autoencoder(rows, counts, later)  # rows that came so often, and which of them say when to stop
    net(rows)                               # what is left of them

Names of sizes: n rows, F columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.base import Floats
from models.sessions import Flags, Ints

Numbers = NDArray[np.float64]

CODE = (32, 8, 32)
"""Units between the columns and the columns again, the middle ones the code; Farzad and Gulliver name none."""
RATE = 0.01
"""Adam's step (Kingma and Ba 2015) over all rows at once."""
DECAY = (0.9, 0.999)
"""Of Adam's means and mean squares."""
STEPS = 2_000
LOOK = 20
"""Steps between two looks at the later rows."""
PATIENCE = 10
"""Looks without a gain, after which learning stops."""
LEAST_GAIN = 1e-4
"""Of the mean square of the later rows."""


@dataclass(frozen=True, eq=False, slots=True)
class Dense:
    """Layers with tanh between them: bounded, so that what lies far outside of what was learnt is not given back.

    With a rectifier, as in ``training.networks``, lines go on for ever: five are given back where one or two are usual.
    """

    spread: Floats  # [F] of the columns: what enters is divided by it
    weights: tuple[Floats, ...]  # [in, out] each
    biases: tuple[Floats, ...]  # [out] each

    def __call__(self, rows: Numbers) -> Numbers:
        """[n, F] to [n, F]."""
        layers = [one.astype(np.float64) for one in (*self.weights, *self.biases)]
        *_, last = _passed(layers, rows / self.spread.astype(np.float64))
        return last


def autoencoder(rows: Numbers, counts: Ints, later: Flags, seed: int = 0) -> Dense:
    """Learn to give rows [n, F] back, each as much as it came ([n]); stops when the later ones ([n]) get no nearer.

    Where none is later, all say when to stop. Rows have the mean 0. The same rows and seed give the same layers on the
    same kind of processor.
    """
    spread = np.sqrt(counts @ rows**2 / counts.sum()).astype(np.float32)
    spread[spread == 0] = 1
    entered = rows / spread.astype(np.float64)
    sizes = (rows.shape[1], *CODE, rows.shape[1])
    rng = np.random.default_rng(seed)
    layers: list[Numbers] = []
    for into, out in pairwise(sizes):
        bound = math.sqrt(6 / (into + out))  # Glorot and Bengio 2010
        layers.append(rng.uniform(-bound, bound, (into, out)))
    layers += [np.zeros(out) for out in sizes[1:]]
    every = np.ones(len(rows), dtype=np.bool_)
    learnt, asked = (~later, later) if later.any() and not later.all() else (every, every)
    best, least, looked = [one.copy() for one in layers], math.inf, 0
    steps = _Adam(layers)
    for step in range(STEPS):
        steps.take(_slopes(layers, entered[learnt], rows[learnt], counts[learnt] / counts[learnt].sum()))
        if step % LOOK == LOOK - 1:
            off = ((_passed(layers, entered[asked])[-1] - rows[asked]) ** 2).mean(axis=1)
            now, looked = float(counts[asked] @ off) / float(counts[asked].sum()), looked + 1
            if now < least - LEAST_GAIN:
                best, least, looked = [one.copy() for one in layers], now, 0
            if looked >= PATIENCE:
                break
    made = [one.astype(np.float32) for one in best]
    half = len(made) // 2
    return Dense(spread, tuple(made[:half]), tuple(made[half:]))


class _Adam:
    """Steps that change parameters in place (Kingma and Ba: Adam, ICLR 2015, algorithm 1)."""

    def __init__(self, parameters: Sequence[Numbers]) -> None:
        self._parameters = parameters
        self._means = [np.zeros_like(one) for one in parameters]
        self._squares = [np.zeros_like(one) for one in parameters]
        self._taken = 0

    def take(self, slopes: Sequence[Numbers]) -> None:
        """Go a step down."""
        self._taken += 1
        first, second = (1 - decay**self._taken for decay in DECAY)
        for i, slope in enumerate(slopes):
            self._means[i] += (1 - DECAY[0]) * (slope - self._means[i])
            self._squares[i] += (1 - DECAY[1]) * (slope**2 - self._squares[i])
            self._parameters[i][:] -= RATE * (self._means[i] / first) / (np.sqrt(self._squares[i] / second) + 1e-8)


def _passed(layers: Sequence[Numbers], rows: Numbers) -> list[Numbers]:
    """What goes into each layer, and what comes out of the last: layers are all weights, then all biases."""
    half = len(layers) // 2
    passed = [rows]
    for number, (weights, biases) in enumerate(zip(layers[:half], layers[half:], strict=True), 1):
        sums = passed[-1] @ weights + biases
        passed.append(sums if number == half else np.tanh(sums))
    return passed


def _slopes(layers: Sequence[Numbers], entered: Numbers, wanted: Numbers, shares: Numbers) -> list[Numbers]:
    """Of the mean square of what is off, by each parameter: rows [n, F] each, their shares [n] of all that came."""
    half = len(layers) // 2
    passed = _passed(layers, entered)
    weights: list[Numbers] = []
    biases: list[Numbers] = []
    slope = 2 * (passed[-1] - wanted) * (shares / wanted.shape[1])[:, None]
    for number in reversed(range(half)):
        weights.append(passed[number].T @ slope)
        biases.append(slope.sum(axis=0))
        if number:
            slope = (slope @ layers[number].T) * (1 - passed[number] ** 2)
    return [*reversed(weights), *reversed(biases)]
