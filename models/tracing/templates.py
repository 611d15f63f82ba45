"""New and rare templates of a service, counted by the traces that hold them."""

import numpy as np

from models.sessions import Ids
from models.tracing.shares import Counted, Outcomes, Shares
from models.tracing.traces import Traces


class Templates(Shares):
    """Context: the service. Outcome: a template that the trace holds there."""

    name = "trace_template"

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        none = np.zeros(len(traces.lines), dtype=np.uint64)
        return Outcomes(traces.lines.traces, traces.lines.services, none, none, traces.lines.templates)

    def signatures(self, items: Counted) -> Ids:
        """See ``Shares.signatures``: each outcome for itself."""
        return items.kinds()
