"""What becomes of a step, how often, and whether lately something else does: the core of the detectors of traces.

A detector of traces says of each finished trace what became of what (``outcomes``): after *this* line of a span came
*that* line, the span called *these* services, it held *these* lines. Counted are traces, never lines: a loop that runs
a hundred times in one request is one observation. What was learnt is, for each context, the share of traces in which
each outcome came; strange is an outcome that is rare there and lately comes in a greater share of traces.

How much greater is told by the likelihood ratio of two shares against one (Wilks 1938): with ``k`` of ``n`` traces
lately and ``k0`` of ``n0`` before, and the pooled share ``q = (k + k0) / (n + n0)``,

    nats = n KL(k / n | q) + n0 KL(k0 / n0 | q)

whose chance under one share is about ``exp(-nats) / sqrt(4 pi nats)``. Where little was learnt the pooled share is near
the newest one and nothing is strange: a cold start needs no warm-up to be set.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector, Evidence, Numbers, Part
from models.finished import mix
from models.sessions import Flags, Ids, Ints
from models.tracing.columns import Columnar
from models.tracing.traces import Traces

ANY = np.uint64(2**64 - 1)
"""Outcome of the row that counts how many traces reached a context at all."""
RARE = 0.02
"""An outcome of more than one in fifty of a context's traces is a way that things go, however much its share moves."""
LEAST_TRACES = 4
"""Requests that an outcome must have touched: two or three may be of one user, or chance."""
MEMORY = 1_000
"""Traces of a context that are remembered; beyond, all counts of the context are halved, so that old ways are left
behind after a release."""
MAX_PAIRS = 200_000
"""Outcomes of contexts remembered; the rarest of the longest list are forgotten first."""
_SEED = np.uint64(0x13198A2E03707344)


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """What became of the steps of finished traces: [n]. A trace may hold one outcome several times."""

    traces: Ids  # hash of the trace id
    services: Ints
    before: Ids  # what the context is: a template, or 0
    after: Ids  # what else it is: a template, or 0
    outcomes: Ids

    def contexts(self) -> Ids:
        """[n] hash of the context."""
        return _contexts(self.services, self.before, self.after)


@dataclass(frozen=True, eq=False, slots=True)
class Counted(Columnar):
    """Traces by context and outcome: [n]. Each context has a row of outcome ``ANY`` too."""

    ids = frozenset({"before", "after", "outcomes"})

    services: Ints
    before: Ids
    after: Ids
    outcomes: Ids
    hits: Ints  # traces with this outcome
    trials: Ints  # traces that reached the context
    closed: Ints  # end of the time counted, ms

    def __len__(self) -> int:
        return len(self.services)

    def groups(self) -> Ids:
        """See ``Columns.groups``: each row for itself."""
        return mix(self.kinds(), self.closed.astype(np.uint64))

    def kinds(self) -> Ids:
        """[n] hash of context and outcome."""
        return mix(self.contexts(), self.outcomes)

    def contexts(self) -> Ids:
        """[n] hash of the context."""
        return _contexts(self.services, self.before, self.after)

    @classmethod
    def of(cls, outcomes: Outcomes, closed: int) -> Self:
        """Count the traces of outcomes."""
        contexts = outcomes.contexts()
        tried = _firsts(mix(contexts, outcomes.traces))
        happened = _firsts(mix(mix(contexts, outcomes.outcomes), outcomes.traces))
        rows = np.concatenate([tried, happened])
        kinds = np.concatenate([np.full(len(tried), ANY), outcomes.outcomes[happened]])
        return cls._summed(
            outcomes.services[rows], outcomes.before[rows], outcomes.after[rows], kinds, np.ones(len(rows)), closed
        )

    @classmethod
    def total(cls, parts: Iterable[Self], closed: int) -> Self:
        """Add counts of several times up: of traces that are not the same."""
        whole = cls.joined(parts)
        return cls._summed(whole.services, whole.before, whole.after, whole.outcomes, whole.hits, closed)

    @classmethod
    def _summed(
        cls, services: Ints, before: Ids, after: Ids, outcomes: Ids, hits: NDArray[np.generic], closed: int
    ) -> Self:
        contexts = _contexts(services, before, after)
        _, rows, inverse = np.unique(mix(contexts, outcomes), return_index=True, return_inverse=True)
        sums = np.bincount(inverse.reshape(-1), weights=hits.astype(np.float64)).astype(np.int64)
        _, of_context = np.unique(contexts[rows], return_inverse=True)
        is_any = outcomes[rows] == ANY
        trials = np.zeros(int(of_context.max()) + 1 if len(rows) else 0, dtype=np.int64)
        trials[of_context[is_any]] = sums[is_any]
        return cls(
            services[rows],
            before[rows],
            after[rows],
            outcomes[rows],
            sums,
            trials[of_context],
            np.full(len(rows), closed, dtype=np.int64),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Compared:
    """What lately came of each context beside what came before: [n]."""

    hits: Numbers
    trials: Numbers
    learnt_hits: Numbers
    learnt_trials: Numbers

    def nats(self) -> Numbers:
        """Minus the logarithm of the chance of so great a share, where it is a rare outcome's and grew; else 0."""
        share = _share(self.hits, self.trials)
        usual = _share(self.learnt_hits, self.learnt_trials)
        pooled = _share(self.hits + self.learnt_hits, self.trials + self.learnt_trials)
        ratio = _weighed(self.trials, share, pooled) + _weighed(self.learnt_trials, usual, pooled)
        odd = (share > usual) & (usual <= RARE) & (self.hits >= LEAST_TRACES) & (self.learnt_trials > 0)
        return np.where(odd, ratio + 0.5 * np.log(np.maximum(4 * np.pi * ratio, 1.0)), 0.0)


class Shares(Detector[Counted]):
    """Strangeness: nats of the likelihood ratio above. The state is one count for each context and outcome."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: Ids = np.zeros(0, dtype=np.uint64)  # rising; hash of context and outcome
        self._contexts: Ids = np.zeros(0, dtype=np.uint64)
        self._outcomes: Ids = np.zeros(0, dtype=np.uint64)
        self._services: Ints = np.zeros(0, dtype=np.int64)
        self._hits: Numbers = np.zeros(0, dtype=np.float64)

    @abstractmethod
    def outcomes(self, traces: Traces) -> Outcomes:
        """What became of the steps of these traces. Depends on each trace alone, and teaches nothing."""

    def learn(self, items: Counted) -> None:
        """See ``Detector.learn``."""
        for closed in np.unique(items.closed).tolist():
            rows = np.flatnonzero(items.closed == closed)
            self._add(
                items.contexts()[rows], items.outcomes[rows], items.services[rows], items.hits[rows].astype(np.float64)
            )

    def compared(self, items: Counted) -> Compared:
        """What each row counts beside what was learnt of its outcome."""
        contexts = items.contexts()
        return Compared(
            items.hits.astype(np.float64),
            items.trials.astype(np.float64),
            self._learnt(contexts, items.outcomes),
            self._learnt(contexts, np.full(len(items), ANY)),
        )

    def strangeness(self, items: Counted) -> Numbers:
        """See ``Detector.strangeness``."""
        return np.where(items.outcomes == ANY, 0.0, self.compared(items).nats())

    def explain(self, items: Counted, row: int) -> Evidence:
        """The share of traces lately, and before."""
        all_ = self.compared(items)
        observed = float(_share(all_.hits, all_.trials)[row])
        usual = float(_share(all_.learnt_hits, all_.learnt_trials)[row])
        template, reason, related = self.about(items, row)
        return Evidence(self.name, reason, "chance", (Part(template, observed, usual),), related=related)

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """The template that a row is about (0: none), the reason as a word, and related templates."""
        return int(items.outcomes[row]), self.name, (int(items.before[row]),) if items.before[row] else ()

    def blamed(self, items: Counted, row: int, services: int) -> int:
        """Which of ``services`` services a row speaks against."""
        del services
        return int(items.services[row])

    def odd(self, items: Counted) -> Flags:
        """[n] Whether a row is of an outcome that is rare in its context, seen before or not."""
        compared = self.compared(items)
        odd: Flags = (compared.learnt_hits <= RARE * compared.learnt_trials) & (items.outcomes != ANY)
        return odd

    def signatures(self, items: Counted) -> Ids:
        """[n] What a finding on a row is about: rows with equal ones make one alert. Here, the context."""
        return items.contexts()

    def usual(self, context: np.uint64) -> int | None:
        """The outcome that most traces of a context have."""
        rows = np.flatnonzero((self._contexts == context) & (self._outcomes != ANY))
        return int(self._outcomes[rows[self._hits[rows].argmax()]]) if len(rows) else None

    def known(self, services: int) -> Ints:
        """How many outcomes of each of the services 0 to ``services`` - 1 are known."""
        known: Ints = np.bincount(self._services[self._outcomes != ANY], minlength=services)
        return known

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        self._add(other._contexts, other._outcomes, other._services, other._hits)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return {
            "contexts": self._contexts,
            "outcomes": self._outcomes,
            "services": self._services,
            "hits": self._hits,
        }

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        contexts, outcomes = columns["contexts"].astype(np.uint64), columns["outcomes"].astype(np.uint64)
        services, hits = columns["services"].astype(np.int64), columns["hits"].astype(np.float64)
        if len({len(contexts), len(outcomes), len(services), len(hits)}) != 1:
            raise ValueError("columns of different lengths")
        self._keys = self._contexts = self._outcomes = np.zeros(0, dtype=np.uint64)
        self._services, self._hits = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64)
        self._add(contexts, outcomes, services, hits)

    def _add(self, contexts: Ids, outcomes: Ids, services: Ints, hits: Numbers) -> None:
        if not len(contexts):
            return
        keys = np.concatenate([self._keys, mix(contexts, outcomes)])
        self._keys, rows, inverse = np.unique(keys, return_index=True, return_inverse=True)
        self._contexts = np.concatenate([self._contexts, contexts])[rows]
        self._outcomes = np.concatenate([self._outcomes, outcomes])[rows]
        self._services = np.concatenate([self._services, services])[rows]
        weights = np.concatenate([self._hits, hits])
        self._hits = np.bincount(inverse.reshape(-1), weights=weights).astype(np.float64)
        self._forget()

    def _forget(self) -> None:
        full = self._contexts[(self._outcomes == ANY) & (self._hits > MEMORY)]
        if len(full):
            self._hits[np.isin(self._contexts, full)] *= 0.5
        if len(self._keys) > MAX_PAIRS:
            kept = np.sort(np.argsort(-self._hits, kind="stable")[:MAX_PAIRS])
            self._keys, self._contexts, self._outcomes = self._keys[kept], self._contexts[kept], self._outcomes[kept]
            self._services, self._hits = self._services[kept], self._hits[kept]

    def _learnt(self, contexts: Ids, outcomes: Ids) -> Numbers:
        if not len(self._keys):
            return np.zeros(len(contexts))
        keys = mix(contexts, outcomes)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._hits[places], 0.0)


def member(values: Ids) -> Ids:
    """What a value adds to the hash of a set or a bag, which is the sum of its members'; sums wrap around."""
    return mix(values, np.full(len(values), _SEED))


def _contexts(services: Ints, before: Ids, after: Ids) -> Ids:
    return mix(mix(services.astype(np.uint64), before), after)


def _firsts(hashes: Ids) -> Ints:
    """Rows of the first of each."""
    _, rows = np.unique(hashes, return_index=True)
    return np.sort(rows)


def _share(hits: Numbers, trials: Numbers) -> Numbers:
    return np.divide(hits, trials, out=np.zeros(len(hits)), where=trials > 0)


def _weighed(trials: Numbers, p: Numbers, q: Numbers) -> Numbers:
    """So many times the divergence of a coin that falls with chance ``p`` from one with ``q``: nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(p > 0, p * np.log(p / q), 0.0)
        tails = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
        return np.where(trials > 0, np.maximum(trials * (heads + tails), 0.0), 0.0)
