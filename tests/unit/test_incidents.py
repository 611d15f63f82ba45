"""Which alerts are one incident, where it began, and how it lives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_alerts import detection

from contracts.records import END_TEMPLATE
from models.alerts import by_incident, event_clocks, group
from models.grouping import FLOOD, NEW_MS, QUIET_MS, RESOLVED_MS
from models.incidents import Incidents, place_in_time
from models.tracing.watch import DAY_MS

MINUTE = 60_000


def found(number, at=None, letter=None, **changes):
    """A detection ``number`` minutes in, each about a template, a signature and a session of its own."""
    letter = letter or f"{number % 16:x}"
    own = {"signature": letter * 16, "template": letter * 16, "session": f"session-{number}"}
    return detection(number + 1, event_ms=number * MINUTE if at is None else at, **{**own, **changes})


def numbers(*some):
    """For each detection, in this order, the number of its incident as they were first met."""
    incidents = Incidents()
    ids = [incidents.take(one).id for one in sorted(some, key=place_in_time)]
    order = {one: number for number, one in enumerate(dict.fromkeys(ids))}
    by_id = dict(zip([one.id for one in sorted(some, key=place_in_time)], ids, strict=True))
    return [order[by_id[one.id]] for one in some]


def test_alerts_of_different_things_are_different_incidents():
    assert numbers(found(0), found(1), found(2)) == [0, 1, 2]


def test_one_alert_stays_in_its_incident_however_long_it_was_quiet():
    assert numbers(found(0, letter="a"), found(9_999, letter="a")) == [0, 0]


def test_what_two_detectors_say_of_one_template_is_one_incident():
    assert numbers(found(0, template="e" * 16), found(1, template="e" * 16)) == [0, 0]
    assert numbers(found(0, template=END_TEMPLATE), found(1, template=END_TEMPLATE)) == [0, 1]
    assert numbers(found(0, template="e" * 16), found(1, template="e" * 16, service="shop")) == [0, 1]


def test_what_is_raised_of_a_session_that_was_raised_before_joins_it():
    assert numbers(found(0, session="s"), found(1, session="s"), found(2)) == [0, 0, 1]
    assert numbers(found(0, session=""), found(1, session="")) == [0, 1]


def test_an_identifier_long_enough_to_be_one_ties_services_together():
    assert numbers(found(0, session="trace-4711"), found(1, session="trace-4711", service="shop")) == [0, 0]
    assert numbers(found(0, session="7"), found(1, session="7", service="shop")) == [0, 1]


def test_a_line_never_seen_before_is_a_cause_and_joins_only_what_began_in_its_session():
    error = {"unseen": True, "level": "ERROR"}
    assert numbers(found(0, session="s"), found(1, session="s", **error)) == [0, 0]
    assert numbers(found(0, letter="a"), found(1, letter="a", session="s"), found(2, session="s", **error)) == [0, 0, 1]
    assert numbers(found(0, letter="a"), found(1, letter="a", session="s"), found(2, session="s")) == [0, 0, 0]


def test_new_lines_that_speak_of_no_trouble_are_one_incident_for_a_day():
    day = DAY_MS // MINUTE
    first, second, third = (found(at, letter=one, unseen=True) for at, one in ((0, "a"), (day, "b"), (2 * day, "c")))
    assert numbers(first, second, third) == [0, 0, 1]
    assert numbers(found(0, unseen=True), found(1, unseen=True, service="shop")) == [0, 1]
    assert numbers(found(0, unseen=True), found(1, unseen=True, template_text="disk failed")) == [0, 1]
    assert numbers(found(0, unseen=True), found(1, unseen=True, level="WARN")) == [0, 1]
    assert numbers(found(0), found(1, unseen=True), found(2, unseen=True)) == [0, 1, 1]


def test_more_than_a_person_can_read_is_one_flood_that_says_so():
    many = [found(i, at=i * 1_000, signature=f"{i:016x}", template=f"{i + 99:016x}") for i in range(3 * FLOOD)]
    incidents = Incidents()
    taken = [incidents.take(one) for one in many]
    assert len({one.id for one in taken}) == FLOOD
    assert [one.flood for one in {one.id: one for one in taken}.values()] == [False] * (FLOOD - 1) + [True]
    later = found(30 * FLOOD, signature="f" * 16, template="f" * 16)
    assert not incidents.take(later).flood


@pytest.mark.parametrize(
    ("after", "life"),
    [(0, "new"), (QUIET_MS, "new"), (QUIET_MS + 1, "quiet"), (RESOLVED_MS, "quiet"), (RESOLVED_MS + 1, "resolved")],
)
def test_an_incident_that_rests_falls_silent_and_is_resolved(after, life):
    assert Incidents().take(found(3)).life(3 * MINUTE + after) == life


def test_an_incident_goes_on_escalates_and_comes_back():
    incidents = Incidents()
    for at in range(0, NEW_MS + 1, NEW_MS // 2):
        incident = incidents.take(found(at, at=at, letter="a", surprise=10.0))
    assert incident.life(NEW_MS + 1) == "ongoing"
    assert incidents.take(found(1, at=NEW_MS + 1, letter="a", surprise=20.0)).life(NEW_MS + 1) == "escalating"
    back = NEW_MS + 2 + RESOLVED_MS
    assert incidents.take(found(2, at=back, letter="a", surprise=10.0)).life(back) == "regressed"
    assert incident.life(back + NEW_MS) == "regressed"
    incidents.take(found(3, at=back + NEW_MS, letter="a", surprise=10.0))
    assert incident.life(back + NEW_MS + 1) == "ongoing"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 40), st.booleans()), max_size=30), st.data()
)
def test_incidents_are_parts_of_the_alerts_whatever_the_order_of_the_records(rows, data):
    some = [
        found(i, at=minute * MINUTE, letter=f"{letter:x}", session=f"order-{session}" * (session > 0), unseen=unseen)
        for i, (letter, session, minute, unseen) in enumerate(rows)
    ]
    alerts = group(some)
    assert group(data.draw(st.permutations(some))) == alerts
    whole = {alert.incident.id: alert.incident for alert in alerts}
    held = [key for incident in whole.values() for key in incident.alerts]
    assert sorted(held) == sorted((alert.service, alert.signature) for alert in alerts)
    for incident in whole.values():
        mine = [alert for alert in alerts if alert.incident == incident]
        assert incident.first_ms == min(alert.first_ms for alert in mine)
        assert incident.last_ms == max(alert.last_ms for alert in mine)
        assert incident.origin in incident.alerts
    listed = by_incident(alerts)
    assert [list(alert.incident.alerts).index((alert.service, alert.signature)) for alert in listed] == [
        place
        for incident in dict.fromkeys(alert.incident.id for alert in listed)
        for place in range(len(whole[incident].alerts))
    ]


def test_event_time_goes_on_from_the_newest_finding_as_the_clock_does():
    alerts = group([found(0, arrival_ms=10_000), found(7, arrival_ms=20_000), found(5, service="shop", arrival_ms=5)])
    assert event_clocks(alerts, 50_000) == {"pay": 7 * MINUTE + 30_000, "shop": 5 * MINUTE + 49_995}
    assert event_clocks(alerts, 0) == {"pay": 7 * MINUTE, "shop": 5 * MINUTE}
