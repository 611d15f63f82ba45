"""Findings to alerts and incidents, with an event clock moved by hand."""

from models.detector import Evidence
from models.grouping import EVERYWHERE, FLOOD, NEW_MS, QUIET_MS, RESOLVED_MS, Alerts
from models.tracing.blame import CallGraph
from models.tracing.findings import Finding
from models.tracing.watch import DAY_MS

WHY = Evidence("gap", "slow", "chance", ())
MINUTE = 60_000


class Calls(CallGraph):
    """The shop (0) calls the stock (1), which calls the store (2)."""

    def callers(self, service):
        return {1: {0}, 2: {1}}.get(service, set())


def finding(at, *, service=1, signature=5, nats=20.0, traces=(), detector="gap"):
    return Finding(detector, service, service, signature, at, nats, 10.0, 5, 9, 0.01, WHY, frozenset(traces))


def test_an_alert_lives_by_event_time():
    alerts = Alerts(Calls())
    (alert,) = alerts.take([finding(MINUTE)], MINUTE)
    assert alert.state(MINUTE) == "new"
    assert alerts.take([finding(NEW_MS)], NEW_MS) == [alert]
    assert alert.state(NEW_MS + 2 * MINUTE) == "ongoing"
    assert alert.state(NEW_MS + QUIET_MS + 1) == "quiet"
    alerts.take([finding(2 * NEW_MS, nats=41.0)], 2 * NEW_MS)
    assert alert.state(2 * NEW_MS) == "escalating"
    assert alert.worst.nats == 41.0
    assert alert.count == 3
    later = 2 * NEW_MS + RESOLVED_MS + 1
    assert alert.state(later) == "resolved"
    (again,) = alerts.take([finding(later)], later)
    assert again is not alert
    assert again.state(later) == "regressed"


def test_one_service_one_signature_or_the_same_traces_make_one_alert():
    alerts = Alerts(Calls())
    (alert,) = alerts.take([finding(0, traces=range(10))], 0)
    assert alerts.take([finding(1, signature=6, traces=range(4, 12), detector="next_event")], 1) == [alert]
    assert set(alert.evidence) == {"gap", "next_event"}
    (other,) = alerts.take([finding(2, signature=7, traces=range(50, 60))], 2)
    assert other is not alert
    (elsewhere,) = alerts.take([finding(3, service=2, traces=())], 3)
    assert elsewhere not in (alert, other)


def test_what_passes_an_error_on_makes_no_alert():
    alerts = Alerts(Calls())
    both = [finding(0, service=0, nats=90.0, traces=range(10)), finding(0, service=2, traces=range(9))]
    (alert,) = alerts.take(both, 0)
    assert alert.service == 2
    assert list(alert.passed_on) == [0]


def test_what_begins_together_is_one_incident_with_an_origin():
    alerts = Alerts(Calls())
    alerts.take([finding(0, service=0, traces=range(10))], 0)
    alerts.take([finding(MINUTE, service=2, traces=range(90, 99))], MINUTE)
    alerts.take([finding(60 * MINUTE, service=0, signature=8)], 60 * MINUTE)
    first, second = alerts.incidents()
    assert [alert.service for alert in first.alerts] == [2, 0]
    assert first.origin.service == 2
    assert [alert.service for alert in second.alerts] == [0]


def test_the_bar_rises_when_the_budget_is_spent_and_the_worst_still_comes():
    alerts = Alerts(Calls(), budget=2)
    begun = [alerts.take([finding(MINUTE * n, signature=n, nats=20.0 + n)], MINUTE * n) for n in range(2)]
    assert all(begun)
    assert alerts.take([finding(3 * MINUTE, signature=50, nats=19.0)], 3 * MINUTE) == []
    assert alerts.take([finding(4 * MINUTE, signature=51, nats=99.0)], 4 * MINUTE)
    assert alerts.take([finding(5 * MINUTE, signature=0, nats=15.0)], 5 * MINUTE) == begun[0]
    assert alerts.take([finding(DAY_MS * 2, signature=50, nats=19.0)], DAY_MS * 2)


def test_a_flood_is_one_alert():
    alerts = Alerts(CallGraph())
    touched = alerts.take([finding(0, service=n, signature=n) for n in range(3 * FLOOD)], 0)
    assert [alert.service for alert in touched] == [*range(FLOOD), EVERYWHERE]
    assert touched[-1].count == 2 * FLOOD
    (again,) = alerts.take([finding(MINUTE, service=200, signature=200)], MINUTE)
    assert again is touched[-1]
