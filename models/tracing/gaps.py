"""The time between two lines of a span, less what its callees took of it: steps that lately take long."""

import numpy as np

from models.detector import Numbers
from models.finished import mix
from models.sessions import Flags, Ids, Ints
from models.tracing.shares import ANY, Compared, Counted, Outcomes, Shares
from models.tracing.traces import Traces

BINS_AN_OCTAVE = 4
"""Gaps are told apart by a fifth of their length."""
BINS = 80
"""Up to ten minutes."""
SLOW_SHARE = 0.01
"""A gap is slow where no more than this share of those learnt was as long,"""
MARGIN = 2
"""and it is longer than those by this many bins (1.4 times): drifts of some milliseconds are no news."""
LEAST_GAPS = 100
"""Learnt gaps of a step below which its longest hundredth is not known."""


class Gaps(Shares):
    """Context: two consecutive lines of a span. Outcome: the bin of the longest gap between them in the trace.

    All slow gaps of a step speak together, on one of their rows.
    """

    name = "gap"

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        first, second, _ = traces.steps()
        lines = traces.lines
        called, step = traces.calls()
        own = lines.times[second] - lines.times[first]
        np.subtract.at(own, step, lines.times[traces.lasts[called]] - lines.times[traces.firsts[called]])
        bins = bins_of(own)
        # Only the longest gap of a trace counts: one outcome a trace.
        key = mix(mix(lines.templates[first], lines.templates[second]), lines.traces[first])
        key = mix(key, lines.services[first].astype(np.uint64))
        by_length = np.argsort(-bins, kind="stable")
        _, kept = np.unique(key[by_length], return_index=True)
        rows = by_length[kept]
        first, second = first[rows], second[rows]
        return Outcomes(
            lines.traces[first],
            lines.services[first],
            lines.templates[first],
            lines.templates[second],
            bins[rows].astype(np.uint64),
        )

    def compared(self, items: Counted) -> Compared:
        """Gaps that are slow for their step, on one row of each step; nothing on others."""
        contexts = items.contexts()
        bounds = self._bounds(contexts)
        rows = np.flatnonzero((items.outcomes != ANY) & (items.outcomes.astype(np.float64) >= bounds))
        distinct, heads, of_row = np.unique(contexts[rows], return_index=True, return_inverse=True)
        hits, learnt = np.zeros(len(items)), np.zeros(len(items))
        sums = np.bincount(of_row.reshape(-1), weights=items.hits[rows], minlength=len(distinct))
        hits[rows[heads]] = sums
        known = np.isin(self._contexts, distinct) & (self._outcomes != ANY)
        place = np.searchsorted(distinct, self._contexts[known])
        as_slow = self._outcomes[known].astype(np.float64) >= bounds[rows[heads]][place]
        before = np.bincount(place, weights=self._hits[known] * as_slow, minlength=len(distinct))
        learnt[rows[heads]] = before
        trials = self._learnt(contexts, np.full(len(items), ANY))
        return Compared(hits, items.trials.astype(np.float64), learnt, trials)

    def odd(self, items: Counted) -> Flags:
        """[n] Whether a row is of slow gaps."""
        bounds = self._bounds(items.contexts())
        slow: Flags = (items.outcomes.astype(np.float64) >= bounds) & (items.outcomes != ANY)
        return slow

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """The line that came late, and the one before it."""
        return int(items.after[row]), "slow", (int(items.before[row]),)

    def _bounds(self, contexts: Ids) -> Numbers:
        """[n] the lowest slow bin of each context; infinite where too little is known."""
        distinct, inverse = np.unique(contexts, return_inverse=True)
        bounds = np.full(len(distinct), np.inf)
        known = np.flatnonzero((self._outcomes != ANY) & np.isin(self._contexts, distinct))
        if len(known):
            place = np.searchsorted(distinct, self._contexts[known])
            counts = np.zeros((len(distinct), BINS))
            counts[place, self._outcomes[known].astype(np.int64)] = self._hits[known]
            above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # gaps at least as long
            long = above > SLOW_SHARE * above[:, :1]
            highest = BINS - 1 - long[:, ::-1].argmax(axis=1)
            bounds = np.where(above[:, 0] >= LEAST_GAPS, highest + MARGIN, np.inf)
        of_row: Numbers = bounds[inverse.reshape(-1)]
        return of_row


def bins_of(gaps: Ints) -> Ints:
    """The bin of each gap (ms): 0 below 1 ms, then four to an octave."""
    return np.minimum(np.where(gaps > 0, np.log2(np.maximum(gaps, 1)) * BINS_AN_OCTAVE + 1, 0), BINS - 1).astype(int)
