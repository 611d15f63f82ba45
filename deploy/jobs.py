"""Flink jobs by name: what was asked for, how it is submitted, where it goes on after a crash.

A job is a file ``<home>/jobs/<name>.json``; what happened to it is beside it in ``<name>.state.json``. The keeper
(``deploy.keeper``) submits a job again whose JobManager has died; ``submit``, ``stop`` and ``list_jobs`` are for the
command line. One lock keeps two of them from submitting at once.

The job's program is ``streaming/job.py``, called with ``--name N --topics REGEX --start latest|earliest|MILLISECONDS
--settings FILE`` and the spec's own arguments; ``FILE`` is the JSON of ``AppSettings``.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field

from contracts.base import Record
from contracts.settings import AppSettings
from contracts.state import NOT_RESTORED
from deploy.cluster import client_configuration, client_environment, flink_class_path, java_options, logging_options
from deploy.java import find_java
from deploy.parts import get_json
from deploy.paths import PROJECT, DeployError
from deploy.status import JobStatus, replace_text

SUBMIT_SECONDS = 180.0
PROGRAM = "streaming/job.py"
GONE = ("FAILED", "UNKNOWN")
"""States after which a job is submitted again; *CANCELED* and *FINISHED* are somebody's wish."""


class JobSpec(Record):
    """What was asked for."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
    topics: str
    """Regular expression of whole topic names."""
    start: str = Field(default="latest", pattern=r"^(latest|earliest|[0-9]+)$")
    """Where a first start begins: the newest lines, the oldest, or those from a time on (milliseconds since 1970)."""
    arguments: tuple[str, ...] = ()
    """Further words for the job's program."""
    parallelism: int | None = None
    program: str = PROGRAM
    """The Python file of the job, within the project unless it is absolute."""
    wanted: bool = True
    """False once it was stopped; its state is kept for the next start."""


class JobState(Record):
    """What became of it."""

    job_ids: tuple[str, ...] = ()
    """Flink's ids, the newest last: checkpoints lie in folders of these names."""
    first_submitted_ms: int = 0
    """Lines from here on are the job's, if it dies before its first checkpoint."""
    resubmissions: int = 0
    restored_from: str = ""
    state: str = "SUBMITTING"
    problem: str = ""


def submit(settings: AppSettings, spec: JobSpec, fresh: bool = False) -> str:
    """Submit a job and return Flink's id of it; known by name, it goes on from its newest checkpoint.

    ``fresh`` forgets the checkpoints of an earlier job of that name.

    Raises:
        DeployError: a job of that name runs already, or Flink refuses.
    """
    with _lock(settings):
        running = current_state(settings, spec.name)
        if running not in (*GONE, "CANCELED", "FINISHED", ""):
            raise DeployError(
                f"Job {spec.name} is {running} already: stop it first with `logcanary job stop {spec.name}`."
            )
        before = read_state(settings, spec.name)
        if fresh:
            _path(settings, spec.name, "state.json").unlink(missing_ok=True)
        _write_spec(settings, spec, wanted=True)
        try:
            return _submit(settings, spec)
        except DeployError as error:
            # Nothing has begun: the keeper is not to try it again, and where the job was is not forgotten.
            _write_spec(settings, spec, wanted=False)
            if fresh:
                write_state(settings, spec.name, before.model_copy(update={"problem": str(error)[:500]}))
            raise


def resubmit(settings: AppSettings, spec: JobSpec) -> str:
    """Submit a job whose JobManager has died from its newest checkpoint, and return its new id.

    The settings are those it was submitted with, but for where Kafka, HDFS and Flink are.
    """
    with _lock(settings):
        # Whoever had the lock until now may have submitted or stopped it.
        if not read_spec(settings, spec.name).wanted or current_state(settings, spec.name) not in GONE:
            return (read_state(settings, spec.name).job_ids or ("",))[-1]
        job_id = _submit(settings_of(settings, spec.name), spec)
        state = read_state(settings, spec.name)
        write_state(settings, spec.name, state.model_copy(update={"resubmissions": state.resubmissions + 1}))
        return job_id


def stop(settings: AppSettings, name: str) -> bool:
    """Cancel a job and say whether it ran; its checkpoints stay, and a later ``submit`` goes on from them."""
    with _lock(settings):
        spec = read_spec(settings, name)
        _write_spec(settings, spec, wanted=False)
        state = read_state(settings, name)
        if current_state(settings, name) in (*GONE, "CANCELED", "FINISHED", ""):
            return False
        url = f"{settings.flink.rest}/jobs/{state.job_ids[-1]}"
        urllib.request.urlopen(urllib.request.Request(url, method="PATCH"), timeout=10).close()  # noqa: S310
        deadline = time.monotonic() + 60
        while current_state(settings, name) not in ("CANCELED", "FAILED", "FINISHED"):
            if time.monotonic() > deadline:
                raise DeployError(f"Job {name} does not stop: see {settings.flink.rest}.")
            time.sleep(0.2)
        return True


def list_jobs(settings: AppSettings) -> list[JobStatus]:
    """Return all jobs of this home, as the keeper or the last command saw them."""
    found = []
    for path in sorted(_folder(settings).glob("*.json")):
        if path.name.endswith(".state.json"):
            continue
        spec, state = JobSpec.model_validate_json(path.read_bytes()), read_state(settings, path.stem)
        found.append(
            JobStatus(
                name=spec.name,
                topics=spec.topics,
                state=state.state if spec.wanted else "STOPPED",
                job_id=state.job_ids[-1] if state.job_ids else "",
                resubmissions=state.resubmissions,
                restored_from=state.restored_from,
                problem=state.problem,
            )
        )
    return found


def read_spec(settings: AppSettings, name: str) -> JobSpec:
    """Return what was asked for under ``name``.

    Raises:
        DeployError: there is no such job; the message lists those there are.
    """
    path = _path(settings, name, "json")
    if not path.is_file():
        known = ", ".join(job.name for job in list_jobs(settings)) or "none"
        raise DeployError(f"There is no job {name!r}; there are: {known}.")
    return JobSpec.model_validate_json(path.read_bytes())


def read_state(settings: AppSettings, name: str) -> JobState:
    """Return what became of a job; empty for one that was never submitted."""
    path = _path(settings, name, "state.json")
    return JobState.model_validate_json(path.read_bytes()) if path.is_file() else JobState()


def write_state(settings: AppSettings, name: str, state: JobState) -> None:
    """Write down what became of a job."""
    replace_text(_path(settings, name, "state.json"), state.model_dump_json())


def current_state(settings: AppSettings, name: str) -> str:
    """Return Flink's word for the state of a job, *UNKNOWN* when Flink has forgotten it, empty if it never ran.

    Raises:
        DeployError: the JobManager does not answer.
    """
    state = read_state(settings, name)
    if not state.job_ids:
        return ""
    try:
        jobs = get_json(f"{settings.flink.rest}/jobs/overview", timeout=5.0)["jobs"]
    except (OSError, ValueError) as error:
        raise DeployError(f"Flink does not answer at {settings.flink.rest} (setting flink.rest): {error}.") from error
    return next((str(job["state"]) for job in jobs if job["jid"] == state.job_ids[-1]), "UNKNOWN")


def settings_of(settings: AppSettings, name: str) -> AppSettings:
    """Return the settings a job was last submitted with, at the addresses of ``settings``; those where it never was."""
    path = _path(settings, name, "settings")
    if not path.is_file():
        return settings
    known = AppSettings.model_validate_json(path.read_bytes())
    return known.model_copy(
        update={
            "home": settings.home,
            "kafka": known.kafka.model_copy(update={"bootstrap": settings.kafka.bootstrap}),
            "hdfs": known.hdfs.model_copy(update={"url": settings.hdfs.url}),
            "flink": known.flink.model_copy(update={"rest": settings.flink.rest}),
        }
    )


def newest_checkpoint(settings: AppSettings, job_ids: tuple[str, ...]) -> str | None:
    """Return the newest complete checkpoint of the newest job that has one, as an address.

    Complete is what has ``_metadata``, which is written last.
    """
    address = settings.flink.checkpoints or (settings.home.absolute() / "flink" / "checkpoints").as_uri()
    parts = urlsplit(address)
    if parts.scheme not in ("", "file"):
        return None
    root = Path(unquote(parts.path))
    for job_id in reversed(job_ids):
        complete = [path.parent for path in (root / job_id).glob("chk-*/_metadata")]
        if complete:
            return max(complete, key=lambda path: int(path.name.removeprefix("chk-"))).as_uri()
    return None


def command(settings: AppSettings, spec: JobSpec, job_id: str, restore: str | None, start: str) -> list[str]:
    """Return the command line of Flink's client that submits the job under an id of ours and returns."""
    client_configuration(settings)
    jvm = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    jvm += [f"-Djava.io.tmpdir={settings.home.absolute() / 'tmp' / 'client'}"]
    words = [
        str(find_java().binary),
        *jvm,
        *java_options(find_java()),
        *logging_options(settings.home.absolute(), "client"),
    ]
    words += ["-cp", flink_class_path(find_java()), "org.apache.flink.client.cli.CliFrontend", "run", "--detached"]
    rest = urlsplit(settings.flink.rest)
    words += ["--jobmanager", f"{rest.hostname}:{rest.port or 8081}"]
    words += ["--parallelism", str(spec.parallelism or settings.flink.parallelism)]
    words += [f"-D$internal.pipeline.job-id={job_id}"]
    words += ["--fromSavepoint", restore] if restore else []
    words += ["-pyclientexec", sys.executable, "-pyexec", sys.executable, "-py", str(PROJECT / spec.program)]
    words += ["--name", spec.name, "--topics", spec.topics, "--start", start]
    return [*words, "--settings", str(_path(settings, spec.name, "settings")), *spec.arguments]


def _write_spec(settings: AppSettings, spec: JobSpec, wanted: bool) -> None:
    replace_text(_path(settings, spec.name, "json"), spec.model_copy(update={"wanted": wanted}).model_dump_json())


def _submit(settings: AppSettings, spec: JobSpec) -> str:
    state = read_state(settings, spec.name)
    restore = newest_checkpoint(settings, state.job_ids)
    first = state.first_submitted_ms or time.time_ns() // 1_000_000
    # Dead before its first checkpoint, it starts at the lines it was first meant to see, not at those new by now.
    start = str(first) if state.first_submitted_ms and spec.start == "latest" else spec.start
    state = state.model_copy(
        update={"first_submitted_ms": first, "restored_from": restore or "", "state": "SUBMITTING"}
    )
    # Written down before Flink knows it: who is killed in between would otherwise leave a job that nobody finds, and
    # the next to submit it would make two of it.
    job_id = secrets.token_hex(16)
    asked = state.model_copy(update={"job_ids": (*state.job_ids, job_id)[-20:]})
    write_state(settings, spec.name, asked)
    replace_text(_path(settings, spec.name, "settings"), settings.model_dump_json())
    try:
        _run_client(settings, command(settings, spec, job_id, restore, start))
    except DeployError as error:
        if not _is_known(settings, job_id):
            write_state(settings, spec.name, state.model_copy(update={"problem": str(error)[:500]}))
            raise
    write_state(settings, spec.name, asked.model_copy(update={"state": "RUNNING", "problem": ""}))
    return job_id


def _is_known(settings: AppSettings, job_id: str) -> bool:
    """Say whether Flink has a job; one that does not answer has forgotten all."""
    try:
        return any(
            job["jid"] == job_id for job in get_json(f"{settings.flink.rest}/jobs/overview", timeout=5.0)["jobs"]
        )
    except (OSError, ValueError):
        return False


def _run_client(settings: AppSettings, words: list[str]) -> None:
    """Run Flink's client until it says that the cluster has the job."""
    temporary = settings.home.absolute() / "tmp" / "client"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env={**os.environ, **client_environment(settings), "TMPDIR": str(temporary)},
            timeout=SUBMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeployError(f"Flink's client did not come back within {SUBMIT_SECONDS:.0f} s.") from None
    if re.search(r"JobID ([0-9a-f]{32})", done.stdout) is None:
        log = settings.home.absolute() / "logs" / "client.out"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{done.stdout}\n{done.stderr}")
        if refused := re.search(f"{NOT_RESTORED}(.*)", done.stdout):
            raise DeployError(f"The job cannot go on from {refused[1].strip()}")
        telling = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if "rror" in line]
        raise DeployError(
            f"Flink did not take the job: {(telling or ['no reason given'])[-1][:300]} (all of it in {log})."
        )


@contextlib.contextmanager
def _lock(settings: AppSettings) -> Iterator[None]:
    with (_folder(settings) / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _folder(settings: AppSettings) -> Path:
    folder = settings.home.absolute() / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _path(settings: AppSettings, name: str, ending: str) -> Path:
    return _folder(settings) / f"{name}.{ending}"
