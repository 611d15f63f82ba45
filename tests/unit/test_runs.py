"""Records of trainings: one whole record at any moment, cancelling, and what became of those that were killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts.retraining import RetrainingRequest
from contracts.settings import AppSettings, HdfsOptions
from models.learning import Passed
from storage.archive import ArchiveFile
from storage.broker import BrokerUnreachableError
from storage.files import open_files
from tests.machine import wait_until
from training import runs as module
from training import trainer
from training.background import BusyError, start
from training.learner import TrainingError
from training.preparing import missing, sampled
from training.runs import CancelledError, Runs, Tracker, UnknownRunError

ASKED = RetrainingRequest(service="pay", author="ada", reason="why not")
HOUR = 3_600_000


@pytest.fixture
def settings(tmp_path: Path) -> AppSettings:
    return AppSettings(home=tmp_path / "home", hdfs=HdfsOptions(url=tmp_path.as_uri(), root="/logcanary"))


@pytest.fixture
def runs(settings: AppSettings) -> Runs:
    return Runs(open_files(settings.hdfs), settings.hdfs.root)


def test_a_training_is_followed_from_the_request_to_its_end(settings, runs):
    run = runs.begin(ASKED)
    assert (runs.get("pay", run.id).state, runs.active("pay").id) == ("queued", run.id)
    with Tracker(settings, run) as track:
        assert runs.get("pay", run.id).state == "running"
        track.update(total=100)
        track.stage("read")
        track.read(40)
        track.stage("learn")
        track.say(Passed(3, 30, 0.5))
        wait_until(lambda: runs.get("pay", run.id).epoch == 3, "the record of the third pass")
        seen = runs.get("pay", run.id)
        assert (seen.stage, seen.done, seen.total, seen.epochs, seen.loss) == ("learn", 40, 100, 30, 0.5)
        assert seen.message == "Pass 3 of at most 30: held-back surprise 0.5000 nats an event"
        assert seen.seconds_left is not None
        track.update(state="done", version="20260101T000000-0123abcd")
    ended = runs.get("pay", run.id)
    assert (ended.state, ended.version, ended.error) == ("done", "20260101T000000-0123abcd", "")
    assert ended.ended_ms >= ended.started_ms > 0
    assert runs.active("pay") is None


def test_what_goes_wrong_is_written_down(settings, runs):
    run = runs.begin(ASKED)
    with pytest.raises(TrainingError), Tracker(settings, run):
        raise TrainingError("nothing is archived")
    assert (runs.get("pay", run.id).state, runs.get("pay", run.id).error) == ("failed", "nothing is archived")


def test_a_cancelled_training_stops_where_it_is(settings, runs):
    run = runs.begin(ASKED)

    def work(track: Tracker) -> None:
        runs.cancel("pay", run.id, "bob")
        while True:
            track.read(1)

    with pytest.raises(CancelledError, match="cancelled by bob"), Tracker(settings, run) as track:
        work(track)
    assert (runs.get("pay", run.id).state, runs.get("pay", run.id).error) == ("cancelled", "cancelled by bob")
    with pytest.raises(TrainingError, match="is cancelled already"):
        runs.cancel("pay", run.id, "bob")


def test_what_is_cancelled_before_it_begins_does_not_begin(settings, runs):
    run = runs.begin(ASKED)
    runs.cancel("pay", run.id, "bob")
    assert (runs.get("pay", run.id).state, runs.active("pay")) == ("cancelled", None)
    with pytest.raises(CancelledError, match="cancelled by bob"), Tracker(settings, run):
        raise AssertionError("it began")
    assert (runs.get("pay", run.id).state, runs.get("pay", run.id).error) == ("cancelled", "cancelled by bob")


def test_ctrl_c_is_a_cancel(settings, runs):
    run = runs.begin(ASKED)
    with pytest.raises(KeyboardInterrupt), Tracker(settings, run):
        raise KeyboardInterrupt
    assert runs.get("pay", run.id).state == "cancelled"


def test_a_killed_training_is_lost_at_once_here_and_after_a_minute_elsewhere(settings, runs):
    run = runs.begin(ASKED)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    runs.put(run.model_copy(update={"state": "running", "pid": child.pid, "host": os.uname().nodename}))
    assert runs.get("pay", run.id).state == "running"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert runs.get("pay", run.id).state == "lost"
    silent = time.time_ns() // 1_000_000 - module.LOST_MS - 1
    elsewhere = run.model_copy(update={"state": "running", "pid": 1, "host": "elsewhere"})
    runs.put(elsewhere)
    assert runs.get("pay", run.id).state == "running"
    runs.put(elsewhere.model_copy(update={"updated_ms": silent}))
    assert runs.get("pay", run.id).state == "lost"


def test_only_the_newest_are_kept_and_strange_names_are_none(settings, runs, monkeypatch):
    monkeypatch.setattr(module, "SHOWN", 3)
    made = [runs.begin(ASKED).id for _ in range(5)]
    assert {run.id for run in runs.newest("pay")} <= set(made)
    assert len(runs.newest("pay")) == 3
    assert runs.newest("other") == []
    for name in ("../../etc", "", "20260101T000000-0123abcd"):
        with pytest.raises(UnknownRunError, match="logcanary trainings list"):
            runs.get("pay", name)


def test_a_reader_never_finds_half_a_record(settings, runs):
    run = runs.begin(ASKED)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, settings.model_dump_json(), run.model_dump_json()], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    seen = [runs.get("pay", run.id).done for _ in range(200)]
    writer.kill()
    writer.communicate()
    assert seen == sorted(seen)
    assert runs.get("pay", run.id).done >= seen[-1] > 0


WRITER = """
import sys, time
from contracts.retraining import Run
from contracts.settings import AppSettings
from storage.files import open_files
from training.runs import Runs
settings, run = AppSettings.model_validate_json(sys.argv[1]), Run.model_validate_json(sys.argv[2])
runs = Runs(open_files(settings.hdfs), settings.hdfs.root)
for done in range(1, 1_000_000):
    runs.put(run.model_copy(update={"done": done}))
    if done == 1:
        print("ready", flush=True)
    time.sleep(0.001)
"""


def test_two_engineers_do_not_train_a_service_twice(settings, runs):
    run = runs.begin(ASKED)
    with pytest.raises(BusyError, match=f"wait for training {run.id}, or cancel it") as busy:
        start(settings, ASKED.model_copy(update={"author": "bob"}))
    assert busy.value.run.id == run.id


# -- which files are read --------------------------------------------------------------------------------------------


def file(hour: int, first: int, last: int, partition: int = 0) -> ArchiveFile:
    path = f"/logcanary/archive/service=pay/hour=20260101T{hour:02d}/x.parquet"
    return ArchiveFile("logs.pay", partition, first, last, path, 1, 0)


def test_of_very_many_lines_whole_hours_are_left_out_evenly_and_none_of_the_newest_fifth():
    archived = [file(hour, hour * 100, hour * 100 + 99) for hour in range(20)]
    chosen = sampled(archived, 1_200)
    hours = [one.first // 100 for one in chosen]
    assert hours[-4:] == [16, 17, 18, 19]
    assert hours[:-4] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert sampled(archived, 0) == sampled(archived, 2_000) == archived


def test_what_was_asked_for_and_is_not_there_is_said():
    archived = [file(10, 0, 99), file(11, 150, 199), file(10, 0, 9, partition=1)]
    start_ms = 1_767_225_600_000  # 2026-01-01
    said = list(missing(archived, start_ms))
    assert said[0] == "The archive begins at 2026-01-01 10:00 UTC, later than asked"
    assert said[1].startswith("50 lines are missing in 1 places")
    assert list(missing([file(10, 0, 99), file(11, 100, 199)], start_ms + 10 * HOUR)) == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "promoted"),
        (TrainingError("nothing is archived"), "failed"),
        (CancelledError("cancelled by ada"), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        ("worse", "refused"),
    ],
)
def test_whoever_counts_is_told_what_came_of_a_training(settings, runs, monkeypatch, error, outcome):
    told = []

    class Writer(contextlib.nullcontext):
        def __enter__(self):
            return SimpleNamespace(put=told.append)

    monkeypatch.setattr(trainer, "ControlWriter", lambda settings: Writer())
    if error == "worse":
        error = trainer.WorseError(SimpleNamespace(version="v", service="pay"), ["it raises more"])
    run = runs.begin(RetrainingRequest(service="pay", author="ada"))
    with contextlib.suppress(TrainingError, KeyboardInterrupt), trainer._counted(settings, run):
        if error:
            raise error
    assert [(one.service, one.id, one.outcome) for one in told] == [("pay", run.id, "asked"), ("pay", run.id, outcome)]


def test_a_training_goes_on_though_nobody_can_be_told_of_it(settings, runs, monkeypatch):
    def away(settings):
        raise BrokerUnreachableError("Kafka does not answer")

    monkeypatch.setattr(trainer, "ControlWriter", away)
    with trainer._counted(settings, runs.begin(RetrainingRequest(service="pay", author="ada"))):
        pass
