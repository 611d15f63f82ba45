"""The networks of the models that are compared (torch), and how they are fitted.

Sessions repeat themselves: rows are distinct, with how often each came as its weight. A row above the mean weight comes
in several batches of a pass, with a part of its weight in each, so that no single step is all its own. Fitting stops
when later rows, which it does not learn from, get no likelier.

Names of sizes: B rows, T events of a row, V templates, E width of a vector, U units.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.next_event import repeatable
from training.simple import Numbers

FIRST = 2
"""Position of the first template in a codebook: behind padding (0) and unseen templates (1)."""
WIDTH = 128
"""Of a template's vector: Lu et al. 2018, Tables I and II."""
FILTERS = 128
"""Of each height: Lu et al. 2018, Table I."""
HEIGHTS = (3, 4, 5)
LEAK = 0.1
"""Of the leaky rectifier below 0: Lu et al. 2018, Eq. 2."""
DROPOUT = 0.5
"""Lu et al. 2018, Table I."""
HIDDEN = (128, 64, 32)
"""Units of the perceptron's layers: Lu et al. 2018, Table II."""
UNITS = 64
"""Of every recurrent layer and of the transformer: as DeepLog's (Du et al. 2017, 5.1), with which they are compared."""

CODE = (32, 8)
"""Units of the autoencoder's layers, the second its code; the paper names none."""
HEADS = 4
"""Of the transformer's attention."""

BATCH = 64
RATE = 1e-3
"""Adam's step; the papers name none."""
LOOK = 20
"""Steps between two looks at the later rows: a pass over HDFS's distinct sessions."""
LOOKS = 100
PATIENCE = 10
"""Looks without a gain, after which fitting stops."""
LEAST_GAIN = 1e-4
"""Of the mean loss of the later rows."""
ENOUGH = 1e-3
"""Mean loss of the later rows below which nothing is left to learn."""
CLIP = 1.0
SCORED = 1_024
"""Rows that are judged at once: bounds the memory."""

Net = TypeVar("Net", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]
"""Answers [B, ...] and what was wanted [B, ...] to losses [B]."""


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Distinct rows: what goes in, what should come out, and how often each came."""

    given: tuple[Tensor, ...]  # [n, ...] each
    wanted: Tensor  # [n, ...]
    weights: Tensor  # [n]

    def __len__(self) -> int:
        """Rows."""
        return len(self.weights)

    def at(self, rows: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """What goes into these rows, and what should come out."""
        return tuple(one[rows] for one in self.given), self.wanted[rows]


def fit(make: Callable[[], Net], learnt: Rows, later: Rows, loss: Loss, seed: int) -> Net:
    """Make a network and train it until the later rows get no likelier; it is returned as it was at its best.

    The same rows and seed give the same network on the same kind of processor.
    """
    with repeatable(seed):
        net, _ = _until_no_likelier(make, learnt, later, loss, seed)
    return net


def fit_all(make: Callable[[], Net], learnt: Rows, later: Rows, whole: Rows, loss: Loss, seed: int) -> Net:
    """The same, but the later rows say how many steps are best, no more: a new network takes them over all rows.

    Systems drift, and the newest rows are those that are most like what comes.
    """
    with repeatable(seed):
        _, steps = _until_no_likelier(make, learnt, later, loss, seed)
        torch.manual_seed(seed)
        net = make()
        for _ in islice(_steps(net, whole, loss, np.random.default_rng(seed)), steps):
            pass
    return net.eval()


def _until_no_likelier(make: Callable[[], Net], learnt: Rows, later: Rows, loss: Loss, seed: int) -> tuple[Net, int]:
    """A network at its best, and after how many steps that was."""
    net = make()
    best, best_steps, least = _state(net), 0, math.inf
    steps = _steps(net, learnt, loss, np.random.default_rng(seed))
    for look in range(1, LOOKS + 1):
        for _ in range(LOOK):
            next(steps)
        now = _mean_loss(net, later, loss)
        if now < least - LEAST_GAIN:
            best, best_steps, least = _state(net), look * LOOK, now
        if least < ENOUGH or look * LOOK - best_steps >= PATIENCE * LOOK:
            break
    net.load_state_dict(best)
    return net.eval(), best_steps


@torch.no_grad()
def answers(net: nn.Module, *given: Tensor) -> Tensor:
    """What a network says of rows [n, ...], some at a time: [n, ...]."""
    net.eval()
    said = [net(*(one[start : start + SCORED] for one in given)) for start in range(0, len(given[0]), SCORED)]
    return torch.cat(said)


def class_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Surprise, in nats, at the right class: [B, classes] and [B] to [B]."""
    return functional.cross_entropy(said, wanted, reduction="none")


def square_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Mean square of what is off: [B, F] and [B, F] to [B]."""
    return ((said - wanted) ** 2).mean(dim=1)


def anomaly_chances(net: nn.Module, given: Tensor) -> Numbers:
    """The chance of the second of two classes: [n, ...] to [n]."""
    chances: Numbers = torch.softmax(answers(net, given), dim=1)[:, 1].double().numpy()
    return chances


def _steps(net: nn.Module, rows: Rows, loss: Loss, rng: np.random.Generator) -> Iterator[None]:
    """Train without end, a batch a step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    copies = torch.ceil(rows.weights / rows.weights.mean()).long()
    pool = np.repeat(np.arange(len(rows)), copies.numpy())
    weights = rows.weights / copies
    weights = weights * (len(pool) / float(rows.weights.sum()))  # 1 on average
    while True:
        order = torch.from_numpy(rng.permutation(pool))
        for drawn in torch.split(order, BATCH):
            net.train()
            given, wanted = rows.at(drawn)
            total = (loss(net(*given), wanted) * weights[drawn]).sum() / len(drawn)
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            yield


@torch.no_grad()
def _mean_loss(net: nn.Module, rows: Rows, loss: Loss) -> float:
    losses = loss(answers(net, *rows.given), rows.wanted)
    return float((losses * rows.weights).sum() / rows.weights.sum())


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


class Codebook(nn.Module):
    """logkey2vec (Lu et al. 2018, III-B): a vector for each template and for padding, learnt with the rest.

    A template that was never learnt has the zero vector: nobody has told what it means.
    """

    def __init__(self, templates: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(FIRST + templates, WIDTH, padding_idx=1)

    def table(self) -> Tensor:
        """The vector of each position: [V, E]."""
        return self.vectors.weight


class Keys(nn.Module):
    """No codebook (Lu et al. 2018, V-C): a template is its number, as a share of the highest; padding is 0."""

    def __init__(self, templates: int) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.arange(FIRST + templates)[:, None] / (FIRST + templates - 1))

    def table(self) -> Tensor:
        """The number of each position: [V, 1]."""
        return self.get_buffer("numbers")


class Filters(nn.Conv1d):
    """Filters of one height over vectors that are looked up."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, FILTERS, height)

    def forward(self, events: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        """Positions [B, T] and their vectors [V, E] to the greatest of each filter, rectified: [B, FILTERS].

        Bias and rectifier come after the greatest is taken: neither changes which it is.
        """
        height = self.weight.shape[2]
        places = events.shape[1] - height + 1
        brought = torch.einsum("ve,feh->hvf", table, self.weight)  # [height, V, F]
        summed = functional.embedding(events[:, :places], brought[0])
        for row in range(1, height):
            summed = summed + functional.embedding(events[:, row : row + places], brought[row])  # [B, places, F]
        found = summed.amax(dim=1)
        return functional.leaky_relu(found if self.bias is None else found + self.bias, LEAK)


class Cnn(nn.Module):
    """Three convolutions beside one another, the greatest of each filter, two classes (Lu et al. 2018, Table I).

    What a filter makes of a template is looked up, as the template's vector would be: a vector is multiplied once for
    each template, not once for each event, and the sums are the same.
    """

    def __init__(self, enters: Codebook | Keys) -> None:
        super().__init__()
        self.enters = enters
        width = enters.table().shape[1]
        self.filters = nn.ModuleList(Filters(width, height) for height in HEIGHTS)
        self.dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(len(HEIGHTS) * FILTERS, 2)

    def forward(self, events: Tensor) -> Tensor:
        """Positions [B, T] to logits [B, 2]."""
        table = self.enters.table()
        longest = int((events != 0).any(dim=0).sum())
        events = events[:, : longest + max(HEIGHTS)]  # what comes behind is the same padding once more
        found = [one(events, table) for one in self.filters]  # [B, FILTERS] each
        said: Tensor = self.out(self.dropout(torch.cat(found, dim=1)))
        return said


class Mlp(nn.Module):
    """The mean of the vectors, four layers, two classes (Lu et al. 2018, Table II); without a codebook, the keys."""

    def __init__(self, enters: Codebook | Keys, length: int) -> None:
        super().__init__()
        self.enters = enters
        first, second, third = HIDDEN
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT) if isinstance(enters, Codebook) else nn.Identity(),
            nn.Linear(WIDTH if isinstance(enters, Codebook) else length, first),
            nn.LeakyReLU(LEAK),
            nn.Dropout(DROPOUT),
            nn.Linear(first, second),
            nn.LeakyReLU(LEAK),
            nn.Linear(second, third),
            nn.LeakyReLU(LEAK),
            nn.Linear(third, 2),
        )

    def forward(self, events: Tensor) -> Tensor:
        """Positions [B, T] to logits [B, 2]."""
        vectors = functional.embedding(events, self.enters.table())  # [B, T, E]
        said: Tensor = self.layers(vectors.mean(dim=1) if isinstance(self.enters, Codebook) else vectors.squeeze(2))
        return said


class AttentionalBiLstm(nn.Module):
    """LogRobust's network (Zhang et al. 2019, 3.3): an LSTM each way, its states weighed and summed up, two classes.

    Vectors come from outside and stay as they are: [V, E], 0 for padding.
    """

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.lstm = nn.LSTM(vectors.shape[1], UNITS, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * UNITS, 1)
        self.out = nn.Linear(2 * UNITS, 2)

    def forward(self, events: Tensor) -> Tensor:
        """Positions [B, T], padded at their end, to logits [B, 2]."""
        states = self._states(events)
        said: Tensor = self.out((torch.tanh(self.attention(states)) * states).sum(dim=1))
        return said

    @torch.no_grad()
    def attended(self, events: Tensor) -> Tensor:
        """The share of attention that is on each event, whichever its sign: positions [B, T] to [B, longest]."""
        weights = torch.tanh(self.attention(self._states(events))).abs()[..., 0]
        weights = weights * (events[:, : weights.shape[1]] != 0)
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def _states(self, events: Tensor) -> Tensor:
        """[B, longest, 2U], 0 behind a row's end."""
        lengths = (events != 0).sum(dim=1).clamp(min=1)
        entered = functional.embedding(events, self.get_buffer("vectors"))  # [B, T, E]
        packed = nn.utils.rnn.pack_padded_sequence(entered, lengths, batch_first=True, enforce_sorted=False)
        states: Tensor = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        return states


class Autoencoder(nn.Module):
    """Columns to a code of a few numbers, and back."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        wide, code = CODE
        self.into = nn.Sequential(nn.Linear(columns, wide), nn.LeakyReLU(LEAK), nn.Linear(wide, code))
        self.back = nn.Sequential(
            nn.LeakyReLU(LEAK), nn.Linear(code, wide), nn.LeakyReLU(LEAK), nn.Linear(wide, columns)
        )

    def forward(self, columns: Tensor) -> Tensor:
        """Columns [B, F] to what is left of them [B, F]."""
        said: Tensor = self.back(self.into(columns))
        return said


class OrderAndCounts(nn.Module):
    """LogAnomaly's network (Meng et al. 2019): an LSTM of vectors beside one of counts, what comes next.

    Vectors come from outside and stay as they are: [V, E], 0 for padding.
    """

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.order = nn.LSTM(vectors.shape[1], UNITS, batch_first=True)
        self.counts = nn.LSTM(len(vectors), UNITS, batch_first=True)
        self.out = nn.Linear(2 * UNITS, len(vectors) - FIRST)

    def forward(self, events: Tensor) -> Tensor:
        """Positions [B, T] to logits [B, V - FIRST]."""
        vectors = functional.embedding(events, self.get_buffer("vectors"))  # [B, T, E]
        counts = functional.one_hot(events, self.counts.input_size).cumsum(dim=1).float()  # [B, T, V] up to each event
        last = torch.cat([self.order(vectors)[0][:, -1], self.counts(counts)[0][:, -1]], dim=1)  # [B, 2U]
        said: Tensor = self.out(last)
        return said


class SeriesLstm(nn.Module):
    """Two layers of LSTM over vectors, what comes next (Du et al. 2017, 3.2 and 5.1)."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, UNITS, num_layers=2, batch_first=True)
        self.out = nn.Linear(UNITS, columns)

    def forward(self, before: Tensor) -> Tensor:
        """Vectors [B, T, C] to the next one [B, C]."""
        said: Tensor = self.out(self.lstm(before)[0][:, -1])
        return said


class Attention(nn.Module):
    """Two layers of self-attention over embedded events and their places, what comes next."""

    def __init__(self, templates: int, length: int) -> None:
        super().__init__()
        self.events = nn.Embedding(FIRST + templates, UNITS, padding_idx=1)
        self.places = nn.Parameter(torch.randn(length, UNITS) * UNITS**-0.5)
        layer = nn.TransformerEncoderLayer(UNITS, HEADS, 2 * UNITS, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.out = nn.Linear(UNITS, templates)

    def forward(self, events: Tensor) -> Tensor:
        """Positions [B, T] to logits [B, templates]."""
        said: Tensor = self.out(self.layers(self.events(events) + self.places).mean(dim=1))
        return said
