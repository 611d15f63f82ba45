"""DeepLog's second model: what an event carries, not which event it is.

Du, Li, Zheng, Srikumar: DeepLog, CCS 2017, section 3.2: for each template a series of vectors, the time since the event
before and the values of the parameters; an LSTM foretells the next vector from those before it; its errors on held-back
time are taken for normally distributed, and an event far above them is strange. Theirs is one series of the whole log;
here each session has its own, of at most ``SERIES`` vectors back, so that a session is judged by itself, as by every
other model. Values enter as logarithms: gaps between lines of HDFS run from nothing to hours. What is no number (an
address, a name) says nothing here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from models.learning import HELD_BACK
from training.deep import Ints
from training.learner import TrainingError
from training.reconstructing import FEWEST
from training.simple import Line, Model, Numbers, Reason, ranked, strangest, until_raised

if TYPE_CHECKING:
    from torch import nn

    from training.datasets import Side
    from training.networks import Rows

SERIES = 10
"""Vectors before the one that is foretold: Du et al. 2017, 5.1."""
LEAST_SPREAD = 1e-3
"""Of a column, and of the errors of a template: what never changed is not infinitely strange when it does."""


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """The events of one template, with what came before each in its session."""

    places: Ints  # [n] of all events of the side
    vectors: Numbers  # [n, C]
    before: Numbers  # [n, back, C] the nearest last; 0, the mean, where there are fewer


class ParameterValues(Model):
    """The event of a session that carries what is farthest from what was foretold, in deviations of held-back errors.

    A template that is in no learnt session says nothing: that is the other model's concern.
    """

    name = "deeplog_values"
    draws = True
    needs = "values"

    def learn(self, lines: Sequence[Line]) -> None:
        """Refuse: numbers of templates carry no values.

        Raises:
            TrainingError: always.
        """
        raise TrainingError(f"{self.name} learns from what lines carry: give it a side with values (learn_side)")

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Refuse, too.

        Raises:
            TrainingError: always.
        """
        raise TrainingError(f"{self.name} judges what lines carry: give it a side with values (strangeness_of)")

    def learn_side(self, side: "Side") -> None:
        """Learn a network a template from all but the newest fifth of the sessions; that says how far errors go.

        Raises:
            TrainingError: the side has no values.
        """
        cut = int(len(side) * (1 - HELD_BACK)) if len(side) >= FEWEST else len(side)
        older, newer = side.take(range(cut)), side.take(range(cut, len(side)))
        learnt, held = _vectors(older), _vectors(newer)
        self._columns = {
            template: _Columns.of([learnt.vectors[place] for place in places], learnt.owners[places])
            for template, places in learnt.places.items()
        }
        self._nets: dict[int, nn.Module] = {}
        self._errors: dict[int, tuple[float, float]] = {}
        for template in self._columns:
            own, later = self._series(learnt, template), self._series(held, template)
            self._nets[template] = self._fit(own, later if len(later.places) else own)
            errors = self._off(template, later if len(later.places) else own)
            self._errors[template] = float(errors.mean()), max(float(errors.std()), LEAST_SPREAD)

    def strangeness_of(self, side: "Side") -> Numbers:
        """Deviations of the strangest event of each session above what held-back errors are on average: [n], from 0.

        Raises:
            TrainingError: the side has no values.
        """
        return strangest(len(side), _owners(side), self._each(side))

    def read_until_of(self, side: "Side", bar: float) -> Numbers:
        """Up to the first event above the bar: [n]."""
        return until_raised(side.lines, _owners(side), self._each(side) > bar)

    def why(self, session: "Side") -> list[Reason]:
        """The events that carry what was not foretold, by their deviations, and what they carry."""
        assert session.moments is not None
        assert session.values is not None
        (line,), (moments,), (values,) = session.lines, session.moments, session.values
        return ranked(
            Reason(f"event {place + 1}, after {gap / 1000:g} s{_told(carried)}: {self.called(event)}", deviation)
            for place, (event, gap, carried, deviation) in enumerate(
                zip(line, _gaps(moments), values, self._each(session).tolist(), strict=True)
            )
        )

    def _each(self, side: "Side") -> Numbers:
        """Of all events of a side: [e]."""
        carried = _vectors(side)
        deviations = np.zeros(len(carried.vectors))
        for template in self._columns.keys() & carried.places.keys():
            series = self._series(carried, template)
            mean, spread = self._errors[template]
            deviations[series.places] = np.maximum((self._off(template, series) - mean) / spread, 0)
        return deviations

    def _series(self, carried: "_Carried", template: int) -> Series:
        """The events of a template, scaled, each with those before it in its session."""
        columns, places = self._columns[template], np.array(carried.places.get(template, ()), dtype=np.int64)
        vectors = columns.scaled([carried.vectors[place] for place in places])
        before = np.zeros((len(places), columns.back, columns.count))
        owners = carried.owners[places]
        for back in range(1, min(columns.back, len(places) - 1) + 1):
            same = np.flatnonzero(owners[back:] == owners[:-back])
            before[same + back, -back] = vectors[same]
        return Series(places, vectors, before)

    def _off(self, template: int, series: Series) -> Numbers:
        """Mean square of what was not foretold: [n]."""
        import torch  # noqa: PLC0415  (it takes seconds to import)

        from training.networks import answers, square_loss  # noqa: PLC0415

        before, wanted = (torch.from_numpy(one).float() for one in (series.before, series.vectors))
        return square_loss(answers(self._nets[template], before), wanted).double().numpy()

    def _fit(self, learnt: Series, later: Series) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        columns = learnt.vectors.shape[1]
        return networks.fit(
            lambda: networks.SeriesLstm(columns), _rows(learnt), _rows(later), networks.square_loss, self.seed
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Columns:
    """The scale of a template's vectors."""

    mean: Numbers  # [C]
    spread: Numbers  # [C]
    back: int
    """Vectors looked back at: no more than a learnt session has."""

    @classmethod
    def of(cls, vectors: Sequence[tuple[float, ...]], owners: Ints) -> "_Columns":
        count = max(map(len, vectors))
        rows = _rectangle(vectors, count)
        known = np.maximum((~np.isnan(rows)).sum(axis=0), 1)
        mean = np.nansum(rows, axis=0) / known
        spread = np.sqrt(np.nansum((rows - mean) ** 2, axis=0) / known)
        longest = int(np.unique(owners, return_counts=True)[1].max())
        return cls(mean, np.maximum(spread, LEAST_SPREAD), min(SERIES, max(1, longest - 1)))

    @property
    def count(self) -> int:
        return len(self.mean)

    def scaled(self, vectors: Sequence[tuple[float, ...]]) -> Numbers:
        """[n, C]; what is missing is as the mean is."""
        return np.nan_to_num((_rectangle(vectors, self.count) - self.mean) / self.spread)


@dataclass(frozen=True, eq=False, slots=True)
class _Carried:
    """What the events of a side carry."""

    vectors: list[tuple[float, ...]]  # [e] logarithms: the time since the event before, then the values
    owners: Ints  # [e] the session of each
    places: dict[int, list[int]]  # of the events of each template


def _vectors(side: "Side") -> _Carried:
    if side.moments is None or side.values is None:
        raise TrainingError("These sessions have no values: their data set holds no raw lines")
    vectors: list[tuple[float, ...]] = []
    places: dict[int, list[int]] = {}
    for line, moments, values in zip(side.lines, side.moments, side.values, strict=True):
        for template, gap, carried in zip(line, _gaps(moments), values, strict=True):
            places.setdefault(template, []).append(len(vectors))
            vectors.append(tuple(_logarithms(gap, carried)))
    return _Carried(vectors, _owners(side), places)


def _gaps(moments: Sequence[int]) -> list[int]:
    """Milliseconds since the event before; the first waited for none."""
    return [0, *(after - before for before, after in pairwise(moments))]


def _logarithms(gap: float, carried: Sequence[float | None]) -> Iterator[float]:
    for value in chain([gap], carried):
        yield np.nan if value is None else float(np.sign(value) * np.log1p(abs(value)))


def _told(carried: Sequence[float | None]) -> str:
    numbers = [f"{value:g}" for value in carried if value is not None]
    return f", with {', '.join(numbers)}" if numbers else ""


def _owners(side: "Side") -> Ints:
    return np.repeat(np.arange(len(side)), [len(line) for line in side.lines])


def _rectangle(vectors: Sequence[tuple[float, ...]], count: int) -> Numbers:
    """[n, C]; a vector of another length (its template has widened since) is cut, or lacks its end."""
    rows = np.full((len(vectors), count), np.nan)
    for row, vector in enumerate(vectors):
        rows[row, : len(vector)] = vector[:count]
    return rows


def _rows(series: Series) -> "Rows":
    """Distinct series and what came, with how often."""
    import torch  # noqa: PLC0415

    from training.networks import Rows  # noqa: PLC0415

    flat = np.concatenate([series.before.reshape(len(series.places), -1), series.vectors], axis=1)
    distinct, counts = np.unique(flat, axis=0, return_counts=True)
    columns = series.vectors.shape[1]
    before = torch.from_numpy(distinct[:, :-columns].reshape(len(distinct), -1, columns)).float()
    return Rows((before,), torch.from_numpy(distinct[:, -columns:]).float(), torch.from_numpy(counts).float())
