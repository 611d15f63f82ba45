"""What another budget of false alarms would mean, before it is set: counted on the last day's findings.

seen = preview(store, bundle, rate=0.001)
seen.words          # "with a rate of 0.001 the last day would have had 14 alerts (31 findings), not 20 (57)"
"""

from console.store import Store
from contracts.base import Record
from models.adjusting import rate_of
from models.bundle import Bundle
from models.learning import LearnError


class Preview(Record):
    """A budget, and what the last day of a service's findings would have been with it."""

    rate: float
    """Share of normal sessions that may be raised."""
    alerts: int
    findings: int
    alerts_now: int
    findings_now: int
    """With the live bundle's budget."""
    at_least: bool
    """The budget is the more generous one: what it would raise beyond, nobody has kept."""

    @property
    def words(self) -> str:
        """In a sentence."""
        least = "at least " if self.at_least else ""
        return (
            f"with a rate of {self.rate:g} the last day would have had {least}{self.alerts:,} alerts "
            f"({self.findings:,} findings); as it is, {self.alerts_now:,} ({self.findings_now:,})"
        )


def preview(store: Store, live: Bundle, *, rate: float | None = None, alerts_per_day: float | None = None) -> Preview:
    """Count what a budget would have let through.

    Args:
        store: of the findings.
        live: the bundle they come from.
        rate: share of normal sessions that may be raised; None: the live bundle's.
        alerts_per_day: or so many, at the pace of what the bundle was learnt from.

    Raises:
        LearnError: alerts a day cannot be told for this bundle, or its scores are ranks.
    """
    if live.manifest.settings.detector.rule == "top_g":
        raise LearnError("findings by the rule top_g have ranks, not scores: nobody can say what another budget brings")
    service, agreed = live.manifest.service, live.manifest.settings.budget.false_alarm_rate
    if alerts_per_day is not None:
        rate = rate_of(live.manifest, alerts_per_day)
    wanted = agreed if rate is None else rate
    now = store.above(service, 0.0)
    alerts, findings = store.above(service, 1 - live.rate_each(wanted)) if wanted < agreed else now
    return Preview(
        rate=wanted,
        alerts=alerts,
        findings=findings,
        alerts_now=now[0],
        findings_now=now[1],
        at_least=wanted > agreed,
    )
