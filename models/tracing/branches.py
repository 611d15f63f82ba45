"""What follows a line in its span, the span's end among it: a line that should have come and did not."""

import numpy as np

from models.sessions import END, PADDING
from models.tracing.shares import Counted, Outcomes, Shares
from models.tracing.traces import Traces


class Branches(Shares):
    """Context: a line of a span, or its beginning. Outcome: the next line, or the span's end."""

    name = "next_event"

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        first, second, _ = traces.steps()
        lines, spans = traces.lines, len(traces.parents)
        rows = np.concatenate([traces.firsts, first, traces.lasts])
        padding, end = np.full(spans, PADDING, dtype=np.uint64), np.full(spans, END, dtype=np.uint64)
        return Outcomes(
            lines.traces[rows],
            lines.services[rows],
            np.concatenate([padding, lines.templates[first], lines.templates[traces.lasts]]),
            np.zeros(len(rows), dtype=np.uint64),
            np.concatenate([lines.templates[traces.firsts], lines.templates[second], end]),
        )

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """What came instead of the usual line."""
        before, outcome = int(items.before[row]), int(items.outcomes[row])
        usual = self.usual(items.contexts()[row])
        reason = "ended_early" if outcome == END else "unexpected"
        return outcome, reason, tuple(one for one in (before, usual) if one)
