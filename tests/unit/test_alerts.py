"""Grouping of detections into alerts, and what an id means."""

import pytest

from contracts.records import Before, Detection, Escalation, Verdict
from models.alerts import DetectionNotFoundError, group, resolve, similar


def detection(number, signature="a" * 16, **changes):
    values = {
        "id": f"{number:016x}",
        "signature": signature,
        "service": "pay",
        "detector": "deeplog",
        "kind": "event",
        "topic": "logs.pay",
        "partition": 0,
        "offset": number,
        "arrival_ms": 1000 + number,
        "event_ms": 1000 + number,
        "detected_ms": 2000,
        "session": "s1",
        "line": f"line {number}",
        "level": "INFO",
        "template": "b" * 16,
        "template_text": "line <*>",
        "score": 0.999,
        "threshold": 0.995,
        "surprise": float(number),
        "rank": 5,
        "expected": (),
        "before": (),
        "bundle": "20260101T000000-00000000",
        "headline": f"headline {number}",
    }
    return Detection(**{**values, **changes})


def verdict(found, value="expected", given_ms=1, **changes):
    return Verdict(
        service=found.service,
        detection=found.id,
        template=found.template,
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        session=found.session,
        event_ms=found.event_ms,
        arrival_ms=found.arrival_ms,
        value=value,
        reason="because",
        author="ada",
        given_ms=given_ms,
        **changes,
    )


def test_detections_of_one_signature_are_one_alert():
    alerts = group([detection(3), detection(9), detection(5), detection(7, signature="c" * 16)])
    assert [(alert.signature[0], alert.count, alert.first_ms, alert.last_ms) for alert in alerts] == [
        ("a", 3, 1003, 1009),
        ("c", 1, 1007, 1007),
    ]
    assert alerts[0].newest.offset == 9
    assert alerts[0].state == "open"


def test_the_headline_is_the_worst_finding():
    alert = group([detection(1, surprise=20.0), detection(2, surprise=3.0)])[0]
    assert alert.headline == "headline 1"
    assert alert.newest.offset == 2


def test_a_detection_that_comes_twice_counts_once_and_the_later_copy_holds():
    alert = group([detection(1, headline="first"), detection(1, headline="second")])[0]
    assert alert.count == 1
    assert alert.headline == "second"


def test_order_of_the_input_does_not_matter():
    found = [detection(number, signature=str(number % 3) * 16) for number in range(30)]
    assert group(found) == group(reversed(found))


def test_the_newest_verdict_decides_and_covers_the_template_in_its_service():
    one, other = detection(1), detection(2, service="shop", signature="d" * 16)
    said = [
        verdict(one, "confirmed", given_ms=5),
        verdict(one, "false-positive", given_ms=9),
        verdict(one, "unsure", 7),
    ]
    states = {alert.service: alert.state for alert in group([one, other], said)}
    assert states == {"pay": "false-positive", "shop": "open"}


def test_nothing_makes_no_alert():
    assert group([]) == []


@pytest.mark.parametrize("name", ["00000000000000aa", "00000000000000AA", " 00000000000000aa ", "00000000000000a"])
def test_a_detection_is_found_by_its_id_or_a_beginning(name):
    found = [detection(0xAA), detection(0xBB)]
    assert resolve(found, name).offset == 0xAA


@pytest.mark.parametrize("name", ["cccccccccccccccc", "cc", "c"])
def test_an_alert_means_its_newest_detection(name):
    found = [detection(1), detection(2, signature="c" * 16), detection(9, signature="c" * 16)]
    assert resolve(found, name).offset == 9


def test_an_id_wins_over_a_beginning():
    exact = detection(1, signature="f" * 16)
    assert resolve([exact, detection(2, signature=f"{1:016x}")], f"{1:016x}") == exact


def test_a_beginning_that_fits_several_names_some():
    with pytest.raises(DetectionNotFoundError, match=r"fits 2 of them \(0000000000000001, 0000000000000002\)"):
        resolve([detection(1), detection(2)], "0000")


@pytest.mark.parametrize("name", ["abc", "", "  "])
def test_what_fits_nothing_says_where_to_look(name):
    with pytest.raises(DetectionNotFoundError, match="logcanary alerts"):
        resolve([detection(1)], name)


def test_of_two_detections_on_one_line_the_more_surprising_holds_whichever_came_first():
    mild, strong = detection(1, headline="mild", surprise=3.0), detection(1, headline="strong", surprise=9.0)
    for found in ([mild, strong], [strong, mild]):
        (alert,) = group(found)
        assert (alert.count, alert.headline) == (1, "strong")


def test_a_verdict_on_a_session_settles_an_alert_only_when_all_its_sessions_are_settled():
    one, other = detection(1), detection(2, session="s2")
    said = [verdict(other, scope="alert")]
    assert [alert.state for alert in group([one, other], said)] == ["open"]
    assert [alert.state for alert in group([one, other], [*said, verdict(one, scope="alert")])] == ["expected"]


def test_an_alert_is_open_again_when_the_verdict_has_expired_and_says_what_was_said():
    (alert,) = group([detection(1), detection(500)], [verdict(detection(1), expires_ms=1400)])
    assert (alert.state, [one.value for one in alert.said]) == ("open", ["expected"])
    (alert,) = group([detection(1), detection(300)], [verdict(detection(1), expires_ms=1400)])
    assert alert.state == "expected"


def test_an_alert_that_came_too_often_after_the_verdict_is_escalated():
    loud = detection(2, escalated=Escalation(per_hour=100, accepted_per_hour=10.0))
    assert [alert.state for alert in group([detection(1), loud], [verdict(detection(1), given_ms=1)])] == ["escalated"]
    # Said once more after it: accepted as it is.
    assert [alert.state for alert in group([detection(1), loud], [verdict(detection(1), given_ms=3000)])] == [
        "expected"
    ]


def test_a_verdict_covers_what_is_an_alias_of_its_template():
    other = detection(1, template="c" * 16)
    (alert,) = group([other], [verdict(detection(2))], lambda service, template: "b" * 16)
    assert alert.state == "expected"


def test_an_undone_verdict_leaves_an_alert_open_and_is_still_told():
    (alert,) = group([detection(1)], [verdict(detection(1), "unsure", undone_ms=5, undone_by="bob")])
    assert (alert.state, [one.undone_by for one in alert.said]) == ("open", ["bob"])


def test_similar_alerts_are_earlier_ones_of_like_words_the_likest_first():
    def about(number, text, **changes):
        return detection(number, signature=f"{number:016x}", template=f"{number:016x}", template_text=text, **changes)

    found = [
        about(1, "disk <*> is full now"),
        about(2, "disk <*> is full"),
        about(3, "disk <*> is gone again after all"),
        about(4, "disk <*> is full", kind="end"),
        about(5, "disk <*> is full", event_ms=9000),
        about(6, "disk <*> is full on <*>", service="shop"),
    ]
    alerts = group(found)
    mine = next(alert for alert in alerts if alert.newest.offset == 2)
    before_mine = next(alert for alert in alerts if alert.newest.offset == 6)
    assert [alert.newest.offset for alert in similar(mine, alerts)] == [1]
    assert [alert.newest.offset for alert in similar(before_mine, alerts)] == [2, 1]


def test_ends_are_alike_by_what_came_before():
    def end(number, *texts):
        before = tuple(Before(template="c" * 16, text=text) for text in texts)
        return detection(number, signature=f"{number:016x}", kind="end", before=before)

    alerts = group([end(1, "a", "b"), end(2, "c"), end(3, "a", "b")])
    assert [alert.newest.offset for alert in similar(alerts[0], alerts)] == [1]
