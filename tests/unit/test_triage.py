"""``logcanary alerts``, ``verdict`` and ``explain ID`` over what is on the topics, without a broker."""

import json

import pytest
from test_alerts import detection
from test_cli import run

from cli import triage
from contracts.records import Expected
from storage.control import ControlView
from tests.control import writer_into


@pytest.fixture
def view(monkeypatch, tmp_path):
    """Three findings of one kind, one like it before, and a control topic that can be written to."""
    monkeypatch.chdir(tmp_path)
    likely = (Expected(template="c" * 16, text="disk <NUM> is fine", probability=0.9),)
    kind = {"template_text": "disk <NUM> is full", "line": "disk 7 is \x1b[31mfull", "expected": likely}
    found = [
        detection(1, template="d" * 16, signature="d" * 16, template_text="disk <NUM> is almost full"),
        *(detection(number, **kind, session=f"s{number}") for number in (2, 3, 4)),
    ]
    view = ControlView()

    monkeypatch.setattr("cli.triage.read_detections", lambda _state, service=None: found)
    monkeypatch.setattr("storage.control.read_control", lambda _: view)
    monkeypatch.setattr("storage.control.ControlWriter", writer_into(view))
    return view


def states(*flags):
    lines = run("alerts", "--all", "--json", *flags).stdout.splitlines()
    return {one["signature"][0]: one["state"] for one in map(json.loads, lines)}


def test_a_verdict_takes_the_rate_that_was_observed(view):
    done = run(
        "verdict", "aaaa", "expected", "--scope", "signature", "--expires", "7d", "--reason", "r", "--author", "ada"
    )
    assert done.exit_code == 0
    (said,) = view.verdicts["pay"].values()
    assert (said.scope, said.detector, said.accepted_per_hour, said.author) == ("signature", "deeplog", 3.0, "ada")
    assert said.expires_ms - said.given_ms == 7 * 86_400_000
    assert "not raised again by deeplog in this service for lines before" in done.stderr
    assert "but at 10 times 3 an hour" in done.stderr
    assert states() == {"a": "expected", "d": "open"}
    assert states("--state", "open") == {"d": "open"}
    assert "expected (signature until " in run("alerts", "--all").stdout


@pytest.mark.parametrize(
    ("args", "rate"),
    [(["false-positive"], 0.0), (["expected", "--rate", "0"], 0.0), (["false-positive", "--rate", "4"], 4.0)],
)
def test_a_rate_that_is_given_holds_and_a_false_positive_has_none(view, args, rate):
    assert run("verdict", "aaaa", *args).exit_code == 0
    assert [one.accepted_per_hour for one in view.verdicts["pay"].values()] == [rate]


def test_a_verdict_on_one_alert_covers_its_session_only(view):
    run("verdict", "0000000000000004", "expected", "--scope", "alert")
    assert [one.accepted_per_hour for one in view.verdicts["pay"].values()] == [1.0]
    assert states()["a"] == "open"


def test_what_was_said_is_shown_with_what_was_taken_back_and_replaced(view):
    run("verdict", "aaaa", "expected", "--reason", "first", "--author", "ada")
    assert run("verdict", "aaaa", "--undo", "--author", "bob").stderr.startswith("Taken back: expected on ")
    assert states()["a"] == "open"
    again = run("verdict", "aaaa", "--undo")
    assert (again.exit_code, "nothing is said of" in again.stderr) == (1, True)
    run("verdict", "aaaa", "confirmed", "--reason", "second", "--author", "cy")
    assert states()["a"] == "confirmed"
    shown = " ".join(run("alerts", "show", "aaaa").stdout.replace("│", " ").split())
    assert shown.index("expected (template) said by ada") < shown.index("taken back by bob") < shown.index("second")
    data = json.loads(run("alerts", "show", "aaaa", "--json").stdout)
    assert [one["undone_by"] for one in data["said"][0]["earlier"]] == ["bob"]


def test_similar_alerts_are_shown_with_what_was_said_of_them(view):
    run("verdict", "dddd", "confirmed", "--reason", "the disk was full indeed", "--author", "ada")
    shown = run("alerts", "show", "aaaa").stdout
    assert "Similar earlier alerts" in shown
    assert "the disk was full indeed" in " ".join(shown.split())
    data = json.loads(run("alerts", "show", "aaaa", "--json").stdout)
    assert [(one["signature"][0], one["state"]) for one in data["similar"]] == [("d", "confirmed")]


def test_a_detection_is_explained_without_escapes(view):
    done = run("explain", "aaaa")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    flat = " ".join(done.stdout.replace("│", " ").split())
    assert 'Expected "disk <NUM> is fine" (90 %).' in flat
    assert "This was found 3 times" in flat
    assert "- disk <NUM> is fine" in flat
    assert json.loads(run("explain", "aaaa", "--json").stdout)["parameters"] == []


def test_alerts_of_one_incident_are_listed_together_and_judged_at_once(view):
    lines = [json.loads(line) for line in run("alerts", "--json").stdout.splitlines()]
    assert [one["signature"][0] for one in lines] == ["a", "d"]
    assert len({one["incident"] for one in lines}) == 2
    assert {one["life"] for one in lines} <= {"new", "resolved", "quiet"}
    # One more, in the session of a finding of the kind.
    triage.read_detections(None).append(
        detection(9, template="e" * 16, signature="e" * 16, session="s4", headline="it ended")
    )
    listed = run("alerts").stdout
    assert listed.index("aaaaaaaa") < listed.index("└ eeeeeeee") < listed.index("dddddddd")
    assert "Other alerts of the incident" in run("alerts", "show", "eeee").stdout
    shown = json.loads(run("alerts", "show", "eeee", "--json").stdout)
    assert [one["signature"][0] for one in shown["incident"]] == ["e", "a"]
    assert [one["origin"][0] for one in shown["incident"]] == ["a", "a"]
    done = run("verdict", "eeee", "false-positive", "--incident", "--reason", "release 1.5")
    assert done.exit_code == 0
    assert done.stderr.count("takes it back") == 2
    assert states() == {"a": "false-positive", "e": "false-positive", "d": "open"}
    assert run("verdict", "eeee", "--incident", "--undo").exit_code == 0
    assert set(states().values()) == {"open"}
    assert "nothing is said of" in run("verdict", "eeee", "--incident", "--undo").stderr
