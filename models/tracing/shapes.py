"""The lines of a whole span as a bag: one more or one less than any span of its kind has."""

import numpy as np

from models.tracing.shares import Counted, Outcomes, Shares, member
from models.tracing.traces import Traces


class Shapes(Shares):
    """Context: the first line of a span. Outcome: the bag of its lines (a count vector)."""

    name = "span_shape"

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        lines, firsts = traces.lines, traces.firsts
        bags = np.zeros(len(firsts), dtype=np.uint64)
        if len(firsts):
            bags = np.add.reduceat(member(lines.templates[traces.order]), traces.starts[:-1])
        none = np.zeros(len(firsts), dtype=np.uint64)
        return Outcomes(lines.traces[firsts], lines.services[firsts], lines.templates[firsts], none, bags)

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """How the span began."""
        return int(items.before[row]), self.name, ()
