"""Which services a span calls between two of its lines: a call that is usual there and left no line."""

import numpy as np

from models.finished import mix
from models.tracing.shares import Counted, Outcomes, Shares, member
from models.tracing.traces import Traces


class Callees(Shares):
    """Context: two consecutive lines of a span. Outcome: the set of services called between them.

    Where a usual callee left no line and the caller went on as if it had, the callee is to blame.
    """

    name = "missing_callee"

    def outcomes(self, traces: Traces) -> Outcomes:
        """See ``Shares.outcomes``."""
        first, second, _ = traces.steps()
        lines = traces.lines
        called, step = traces.calls()
        services = traces.span_services[called]
        _, rows = np.unique(mix(step.astype(np.uint64), services.astype(np.uint64)), return_index=True)
        sets = np.zeros(len(first), dtype=np.uint64)
        np.add.at(sets, step[rows], member(services[rows].astype(np.uint64)))
        return Outcomes(
            lines.traces[first], lines.services[first], lines.templates[first], lines.templates[second], sets
        )

    def blamed(self, items: Counted, row: int, services: int) -> int:
        """The one callee that is missing from the usual set, else the caller."""
        missing = self._missing(items, row, services)
        return int(items.services[row]) if missing is None else missing

    def about(self, items: Counted, row: int) -> tuple[int, str, tuple[int, ...]]:
        """Between which lines."""
        return int(items.after[row]), self.name, (int(items.before[row]),)

    def _missing(self, items: Counted, row: int, services: int) -> int | None:
        usual = self.usual(items.contexts()[row])
        if usual is None:
            return None
        left_out = (usual - int(items.outcomes[row])) % 2**64
        found = np.flatnonzero(member(np.arange(services, dtype=np.uint64)) == np.uint64(left_out))
        return int(found[0]) if len(found) else None
