"""Kills of all kinds at random moments, and the proof that nothing came of them.

    python -m tests.chaos.kills --kills 50 --lines 1000000 --seed 1 --json kills.json

It starts a stack of its own in a temporary folder (``--home`` names another), sends lines at a steady rate, and ends
one process after another with ``kill -9``, some before the stack has recovered from the one before. Then the archiver
sleeps for a minute (SIGSTOP), and HDFS for two. Afterwards the detections are those that the core alone makes of the
same lines, and those of a second, undisturbed job over the same topic; every line was scored, and stands in the archive
once; ``down`` leaves no process. The bundle stays the same; the parser goes on learning, since some lines have shapes
never seen before. One JSON object comes on standard output; the exit status is 1 where anything does not hold, and then
the folder stays.
"""

import argparse
import json
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contracts.records import BundlePointer, Settings, Statistic
from contracts.settings import AppSettings, ArchiveOptions, FlinkOptions
from deploy import jobs
from deploy.parts import get_json
from deploy.paths import DeployError
from deploy.stack import down, up
from models.registry import Registry
from storage.archive import list_files
from storage.broker import admin, ensure_topics, read_all
from storage.control import ControlWriter
from storage.files import open_files
from streaming.names import job_name
from streaming.stages import now_ms
from streaming.submit import cancel, list_jobs, submit
from tests.chaos import checks
from tests.chaos.expected import Expected, expect
from tests.chaos.orders import NOVEL_SHARE, Orders, bundle_for, options_of
from tests.chaos.strikes import TARGETS, ChaosError, Strikes, Struck, until
from tests.chaos.traffic import Follower, Sender
from tests.machine import patience, slowness

PARTITIONS = 4
WITHIN_SECONDS = 60.0
"""From a kill until what was killed is ready and the job scores new lines of every partition, on the machine that the
promise was made on (``tests.machine``). Where the next follows before anything has recovered, both have that time."""
DOUBLE_SHARE = 0.2
"""Kills that are followed by the next before anything has recovered."""
REST_SECONDS = (0.3, 8.0)
"""Between recovery and the next kill, at random."""
USUAL_SECONDS = 18.0
"""What a kill takes with its recovery, as a first guess: lines are spread over all of them."""
SLEEPS = {"archiver": 60.0, "hdfs": 120.0}
"""What sleeps after the kills, and for how many seconds: an archiver that others have taken over from, HDFS away."""
LAST_RATE = 20_000.0
"""Lines a second once the last kill is over."""
TRAINED_LINES = 20_000

Say = Callable[[str], None]


@dataclass
class Kill:
    """One kill and what came of it; seconds from the kill."""

    target: str
    at_seconds: float
    """Since the first."""
    ready_seconds: float = 0.0
    """Until what was killed ran again."""
    job_seconds: float = 0.0
    """Until new lines of all partitions were scored."""
    double: bool = False
    """The next came before anything had recovered; what came of both is noted with that one."""


@dataclass
class Report:
    """What a run has shown; ``problems`` is empty where everything holds."""

    seed: int
    lines: int
    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


class Chaos:
    """One run against a running stack.

    Args:
        settings: of the stack.
        service: a name nobody else uses; topic and job are called after it.
        seed: of the lines, the targets and the moments.
        say: told what goes on.
    """

    def __init__(self, settings: AppSettings, service: str, seed: int, say: Say = lambda words: None) -> None:
        self.settings, self.service, self.say = settings, service, say
        self.topic = f"{settings.kafka.log_prefix}{service}"
        self.trained = f"{service}-trained"
        self._seed = seed
        self._chance = random.Random(seed)
        self._bundle = bundle_for(service, self.topic, seed)
        self._strikes = Strikes(settings, service, self.trained, self._chance)
        self._began = time.monotonic()
        self._last = [-1] * PARTITIONS  # offsets of the last lines that can be scored
        self._asleep_seconds = 0.0  # in which there are to be lines, too

    def run(
        self, report: Report, kills: int, targets: Sequence[str] = TARGETS, sleeps: Mapping[str, float] | None = None
    ) -> None:
        """Send the report's lines while kills happen; check everything but what ``down`` leaves. The job runs on.

        Args:
            report: says the seed and how many lines; what has happened is noted in it.
            kills: how many.
            targets: of which parts.
            sleeps: parts that sleep afterwards, and for how many seconds.

        Raises:
            ChaosError: something does not come back, or lines are neither scored nor archived.
        """
        self._prepare()
        self._asleep_seconds = sum((sleeps or {}).values())
        rate = report.lines / ((kills + 1) * USUAL_SECONDS + self._asleep_seconds)
        orders = [Orders(self._seed, at, novel=NOVEL_SHARE) for at in range(PARTITIONS)]
        sender = Sender(self.settings, self.topic, orders, rate, report.lines)
        follower = Follower(self.settings, self.topic)
        submit(self.settings, self.service, re.escape(self.topic), start="earliest")
        try:
            follower.start()
            sender.start()
            until(lambda: min(follower.reached(PARTITIONS)) >= 0, "the first lines to be scored", sender.check)
            self._kill_all(report, list(self._choices(kills, targets)), sender, follower)
            self._sleep_all(report, sleeps or {}, sender, follower)
            self._judge(report, sender, follower)
        finally:
            self._strikes.close()
            sender.abandon()
            follower.stop()

    # -- before ------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """A topic, a bundle that is live, and lines of another service for the trainer."""
        ensure_topics(self.settings)
        trained_topic = f"{self.settings.kafka.log_prefix}{self.trained}"
        with admin(self.settings) as client:
            client.create_topics({topic: {"num_partitions": PARTITIONS} for topic in (self.topic, trained_topic)})
            client.wait_for_topics([self.topic, trained_topic])
        files = open_files(self.settings.hdfs)
        version = Registry(files, self.settings.hdfs.root).publish(self._bundle)
        files.close()
        pointer = BundlePointer(service=self.service, version=version, author="chaos", reason="chaos", moved_ms=1)
        with ControlWriter(self.settings) as control:
            control.put(*(Settings(settings=options_of(name)) for name in (self.service, self.trained)), pointer)
        orders = [Orders(self._seed, PARTITIONS + at, wrong=0, step_seconds=4) for at in range(PARTITIONS)]
        sender = Sender(self.settings, trained_topic, orders, LAST_RATE, TRAINED_LINES, keep=False)
        sender.start()
        sender.join()
        sender.check()

    # -- kills -------------------------------------------------------------------------------------------------------

    def _choices(self, kills: int, targets: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """What is killed, and whether the next follows at once; each target once before any comes again."""
        chosen: list[str] = []
        while len(chosen) < kills:
            chosen += self._chance.sample(targets, len(targets))
        for number, target in enumerate(chosen[:kills], 1):
            yield target, number < kills and self._chance.random() < DOUBLE_SHARE

    def _kill_all(self, report: Report, choices: list[tuple[str, bool]], sender: Sender, follower: Follower) -> None:
        self._began = time.monotonic()
        waiting: list[Struck] = []
        for done, (target, double) in enumerate(choices):

            def check(done: int = done) -> None:
                sender.check()
                self._spread(sender, done, len(choices) - done)

            time.sleep(self._chance.uniform(*REST_SECONDS))
            check()
            waiting.append(self._strikes.strike(target))
            kill = Kill(target, round(time.monotonic() - self._began, 1), double=double)
            report.kills.append(kill)
            if double:
                self.say(f"{done + 1}: {target}, and the next before it is back")
                continue
            self._recover(kill, waiting, follower, check)
            within = patience(WITHIN_SECONDS) * len(waiting)
            waiting = []
            self.say(
                f"{done + 1}: {target} back after {kill.ready_seconds:.1f} s, scoring after {kill.job_seconds:.1f} s; "
                f"{sender.count:,} lines sent"
            )
            if kill.job_seconds > within:
                said = f"{kill.job_seconds:.0f} s until all was well, not {within:.0f}"
                report.problems.append(f"kill {done + 1} ({target}): {said}")

    def _spread(self, sender: Sender, done: int, left: int) -> None:
        """Let the lines last for the kills that are left, with some to come after them.

        Asked again and again while something recovers: without new lines nobody could see that it has.
        """
        mean = (time.monotonic() - self._began) / done if done else USUAL_SECONDS
        assert sender.limit is not None
        seconds = mean * 1.2 * left + self._asleep_seconds + WITHIN_SECONDS / 2
        sender.rate = max(1.0, (sender.limit - sender.count) / seconds)

    def _recover(self, kill: Kill, waiting: list[Struck], follower: Follower, check: Callable[[], None]) -> None:
        """Wait until all that was killed is back, and all partitions go on; counted from the last kill."""
        first, last = waiting[0].killed_ms, waiting[-1].killed_ms
        what = " and ".join(one.target for one in waiting)
        until(lambda: all(one.is_back() for one in waiting), f"{what} to be back", check)
        ready = now_ms()
        kill.ready_seconds = round((ready - last) / 1000, 1)

        def scoring() -> int | None:
            # What a dying process has still said does not count, so only what was said after all were back does.
            return follower.progressed(follower.reached(PARTITIONS, first), ready)

        until(lambda: scoring() is not None, f"the job to go on after {what}", check)
        kill.job_seconds = round(((scoring() or ready) - last) / 1000, 1)
        follower.forget(ready)

    def _sleep_all(self, report: Report, sleeps: Mapping[str, float], sender: Sender, follower: Follower) -> None:
        """Let parts sleep while lines come; scoring needs none of them and goes on."""
        for name, seconds in sleeps.items():
            began = now_ms()
            with self._strikes.asleep(name):
                end = time.monotonic() + seconds
                before = follower.reached(PARTITIONS)
                while time.monotonic() < end:
                    sender.check()
                    time.sleep(1)
                if follower.progressed(before, began) is None:
                    report.problems.append(f"nothing was scored while {name} slept for {seconds:.0f} s")
            self.say(f"{name} slept for {seconds:.0f} s; {sender.count:,} lines sent")
            report.figures[f"{name}_slept_seconds"] = seconds

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _judge(self, report: Report, sender: Sender, follower: Follower) -> None:
        """Let everything come to its end and compare."""
        sender.rate = LAST_RATE
        until(lambda: not sender.is_alive(), "the last lines to be sent", sender.check)
        expected = expect(self.settings, options_of(self.service), self.topic, self._bundle, sender.sent)
        self.say(f"{sender.count:,} lines sent, {len(expected.detections):,} detections expected")
        for (partition, _), offsets in expected.scored.items():
            self._last[partition] = max(self._last[partition], int(offsets[-1]))
        until(lambda: follower.reached(PARTITIONS) == self._last, "the last lines to be scored")
        self._until_said(self.service)
        until(lambda: self._archived() == sum(expected.lines), "the archive to be complete")
        found, counts = self._outputs(expected)
        archive, files = checks.in_archive(self.settings, self.service, sender.sent)
        report.problems += [
            *checks.in_topic(self.settings, self.topic, sender.sent),
            *found,
            *archive,
            *checks.bundles_readable(self.settings),
            *self._one_job(),
        ]
        waits = sorted(kill.job_seconds for kill in report.kills if not kill.double)
        report.figures |= {
            "lines_sent": sender.count,
            **counts,
            "dead_letters": len(expected.dead),
            "archive_files": files,
            "seconds": round(time.monotonic() - self._began),
            "machine_slowness": round(slowness(), 1),
            "recovery_seconds_median": waits[len(waits) // 2] if waits else 0.0,
            "recovery_seconds_most": waits[-1] if waits else 0.0,
            "resubmissions": jobs.read_state(self.settings, self.service).resubmissions,
        }

    def _outputs(self, expected: Expected) -> tuple[list[str], dict[str, int]]:
        """Compare detections, dead letters and statistics with what was expected."""
        kafka = self.settings.kafka
        problems, counts = checks.detections(self._values(kafka.detections), self.topic, expected)
        problems += checks.dead_letters(self._values(kafka.deadletters), self.topic, expected)
        said = (Statistic.model_validate_json(value) for value in self._values(kafka.statistics))
        return [*problems, *checks.scored(said, self.topic, expected)], counts

    def _values(self, topic: str) -> Iterator[bytes]:
        return (record.value or b"" for record in read_all(self.settings, topic))

    def undisturbed(self, report: Report) -> None:
        """End the job, run a second one over the same topic with outputs of its own, and compare the detections."""
        names = {name: f"{self.service}.{name}" for name in ("detections", "statistics", "deadletters")}
        other = self.settings.model_copy(update={"kafka": self.settings.kafka.model_copy(update=names)})
        name = f"{self.service}-again"
        cancel(self.settings, self.service)
        ensure_topics(other)
        follower = Follower(other, self.topic)
        submit(other, name, re.escape(self.topic), start="earliest")
        follower.start()
        try:
            until(lambda: follower.reached(PARTITIONS) == self._last, "the undisturbed job to score everything")
            self._until_said(name)
        finally:
            follower.stop()
            cancel(other, name)
        disturbed, alone = self._ids(self.settings.kafka.detections), self._ids(other.kafka.detections)
        report.figures["detections_undisturbed"] = len(alone)
        if disturbed != alone:
            report.problems.append(
                f"an undisturbed job makes {len(alone - disturbed)} detections more and {len(disturbed - alone)} fewer"
            )

    def _ids(self, topic: str) -> set[str]:
        found = (json.loads(value) for value in self._values(topic))
        return {one["id"] for one in found if one["topic"] == self.topic}

    def _until_said(self, name: str) -> None:
        """Wait for two checkpoints of a job: its sinks have said by then what they had to say."""

        def completed() -> int:
            job = next(job.id for job in list_jobs(self.settings) if job.name == name)
            return int(get_json(f"{self.settings.flink.rest}/jobs/{job}/checkpoints")["counts"]["completed"])

        before = completed()
        until(lambda: completed() >= before + 2, f"two checkpoints of {name}")

    def _archived(self) -> int:
        files = open_files(self.settings.hdfs)
        try:
            listed = list_files(files, self.settings.hdfs.root, self.service)
            return sum(one.last - one.first + 1 for one in listed)
        finally:
            files.close()

    def _one_job(self) -> list[str]:
        """Two jobs of one name would score everything twice, and the ids would hide it."""
        known = get_json(f"{self.settings.flink.rest}/jobs/overview")["jobs"]
        running = [job["jid"] for job in known if job["name"] == job_name(self.service) and job["state"] == "RUNNING"]
        return [] if len(running) == 1 else [f"{len(running)} jobs called {self.service} run: {running}"]


def run_in(home: Path, kills: int, report: Report) -> None:
    """Start a stack, hurt it, check everything, stop it."""
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", file=sys.stderr, flush=True)

    options = {"flink": FlinkOptions(checkpoint_seconds=5.0), "archive": ArchiveOptions(roll_seconds=10)}
    asked = AppSettings(home=home.absolute(), **options)  # type: ignore[arg-type]
    try:
        settings = up(asked)
        say("the stack is up")
        chaos = Chaos(settings, f"chaos-{report.seed}-{secrets.token_hex(3)}", report.seed, say)
        chaos.run(report, kills, sleeps=SLEEPS)
        say("everything is compared; once more without kills")
        chaos.undisturbed(report)
    except (ChaosError, DeployError, RuntimeError) as error:
        report.problems.append(str(error))
    finally:
        down(asked)
    report.problems += checks.nothing_left(asked)


def main() -> int:
    """Run, print the JSON, return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the JSON goes there too")
    parser.add_argument("--home", type=Path, metavar="DIR", help="the stack's folder; else a temporary one")
    chosen = parser.parse_args()
    report = Report(chosen.seed, chosen.lines)
    print(f"this machine is {slowness():.1f} times slower than the one of the promises", file=sys.stderr, flush=True)
    home = chosen.home or Path(tempfile.mkdtemp(prefix="logcanary-chaos-"))
    run_in(home, chosen.kills, report)
    text = json.dumps({"holds": not report.problems, **asdict(report)}, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    for problem in report.problems:
        print(f"DOES NOT HOLD: {problem}", file=sys.stderr)
    if report.problems:
        print(f"The stack's logs are in {home / 'logs'}", file=sys.stderr)
    elif not chosen.home:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
