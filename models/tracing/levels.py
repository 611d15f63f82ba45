"""The loudest level that a trace has in a service: trouble where the service has not been normal with it."""

import numpy as np

from models.finished import WARN
from models.sessions import Ids
from models.tracing.shares import Counted, Outcomes, Shares
from models.tracing.traces import Traces


class Levels(Shares):
    """Context: the service. Outcome: the loudest level of the trace there, anything below WARN being one."""

    name = "trace_level"
    is_trouble = True

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        lines = traces.lines
        rows = np.lexsort((-lines.levels, lines.services, traces.trace))
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (np.diff(traces.trace[rows]) != 0) | (np.diff(lines.services[rows]) != 0)
        rows = rows[new]
        levels = np.where(lines.levels[rows] >= WARN, lines.levels[rows], 0).astype(np.uint64)
        none = np.zeros(len(rows), dtype=np.uint64)
        return Outcomes(lines.traces[rows], lines.services[rows], none, none, levels)

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """The level is no template."""
        del items, row
        return 0, self.name, ()

    def signatures(self, items: Counted) -> Ids:
        """See ``Shares.signatures``: each outcome for itself."""
        return items.kinds()
