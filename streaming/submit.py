r"""Jobs on the Flink cluster: submit and wait until they run, list, cancel, stop with a savepoint.

    job = submit(settings, name="main", topics=r"logs\..*", start="latest")
    stop(settings, "main")                     # the next submit goes on from this savepoint

A job is found by its name or by Flink's id of it.
"""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from contracts.base import Record
from contracts.records import Marker
from contracts.settings import AppSettings
from deploy import jobs
from deploy.jobs import PROGRAM, JobSpec
from deploy.paths import DeployError
from storage.broker import ensure_topics
from storage.control import ControlWriter
from streaming.names import job_name

RUNNING_SECONDS = 120.0
"""From the submission until all operators run; each starts a Python worker."""
SAVEPOINT_SECONDS = 120.0
ENDED = ("CANCELED", "FAILED", "FINISHED")


class Job(Record):
    """One of LogCanary's jobs as the cluster sees it."""

    name: str
    state: str
    """Flink's word: ``RUNNING``, ``RESTARTING``, ``CANCELED``, ..."""
    topics: str
    """Empty where it was submitted from another home."""
    id: str
    seconds: float
    """How long it has been in the cluster."""


def submit(
    settings: AppSettings,
    name: str,
    topics: str,
    start: str = "latest",
    from_savepoint: str | None = None,
    arguments: tuple[str, ...] = (),
    allow_non_restored_state: bool = False,
    program: str = PROGRAM,
) -> str:
    """Submit a job, wait until it runs, and return Flink's id of it.

    Args:
        settings: where everything is.
        name: unique among the cluster's jobs.
        topics: regular expression of whole topic names.
        start: where a first start begins: ``latest``, ``earliest`` or milliseconds since 1970 UTC.
        from_savepoint: address to go on from; empty: from nothing; None: where the job of this name was stopped, or its
            newest checkpoint, or from nothing if it never ran.
        arguments: further words for ``streaming/job.py``.
        allow_non_restored_state: lose state that this version has no operator for, instead of refusing.
        program: the job's Python file, within the project unless it is absolute.

    Raises:
        DeployError: a job of that name runs, what it is to go on from does not fit (said before it is submitted), Flink
            refuses it or does not get it to run.
        BrokerUnreachableError: Kafka does not answer.
    """
    ensure_topics(settings)
    with ControlWriter(settings) as control:
        control.put(Marker(job=name, submitted_ms=time.time_ns() // 1_000_000))
    kept = _savepoint_file(settings, name)
    if from_savepoint is None and kept.is_file():
        from_savepoint = kept.read_text().strip()
    words = (*arguments, "--restore", from_savepoint) if from_savepoint else arguments
    words = (*words, "--allow-non-restored-state") if allow_non_restored_state else words
    spec = JobSpec(name=name, topics=topics, start=start, arguments=words, program=program)
    job = jobs.submit(settings, spec, fresh=from_savepoint is not None)
    wait_until_running(settings, job)
    kept.unlink(missing_ok=True)
    return job


def run_batch(settings: AppSettings, name: str, topics: str, program: str) -> float:
    """Submit a job that ends by itself, wait until it has, and return how many seconds it took.

    Args:
        settings: where everything is.
        name: unique among the cluster's jobs.
        topics: regular expression of whole topic names.
        program: the job's Python file, within the project.

    Raises:
        DeployError: a job of that name runs, Flink refuses it, or it failed; the message has the reason.
    """
    began = time.monotonic()
    job = jobs.submit(settings, JobSpec(name=name, topics=topics, program=program), fresh=True)
    try:
        while (state := _rest(settings, f"/jobs/{job}")["state"]) not in ENDED:
            time.sleep(0.2)
    finally:
        jobs.stop(settings, name)  # the keeper is not to run it again, and Ctrl-C ends it
    if state != "FINISHED":
        raise DeployError(f"Job {name} is {state}: {_why(settings, job)}")
    return time.monotonic() - began


def wait_until_running(settings: AppSettings, job: str, seconds: float = RUNNING_SECONDS) -> None:
    """Wait until all operators of a job run.

    Raises:
        DeployError: it failed, or does not run in time; the message has the reason.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = _rest(settings, f"/jobs/{job}")
        if all(vertex["status"] == "RUNNING" for vertex in found["vertices"]):
            return
        if found["state"] in ENDED:
            break
        time.sleep(0.1)
    raise DeployError(f"The job does not run: {_why(settings, job)} (see {settings.flink.rest}/#/job/running/{job})")


def list_jobs(settings: AppSettings) -> list[Job]:
    """Return the cluster's LogCanary jobs, the newest first, of each name only the newest.

    Raises:
        DeployError: the JobManager does not answer.
    """
    topics = {job.name: job.topics for job in jobs.list_jobs(settings)}
    prefix = job_name("")
    found: dict[str, Job] = {}
    for job in sorted(_rest(settings, "/jobs/overview")["jobs"], key=lambda job: -int(job["start-time"])):
        name = str(job["name"]).removeprefix(prefix)
        if job["name"] != name and name not in found:
            found[name] = Job(
                name=name,
                state=job["state"],
                topics=topics.get(name, ""),
                id=job["jid"],
                seconds=job["duration"] / 1000,
            )
    return list(found.values())


def cancel(settings: AppSettings, name: str) -> None:
    """Cancel a job (by name or id) at once; a later ``submit`` goes on from its newest checkpoint.

    Raises:
        DeployError: there is no such job, or it does not stop.
    """
    job = _find(settings, name)
    if any(known.name == job.name for known in jobs.list_jobs(settings)):
        jobs.stop(settings, job.name)
        return
    _rest(settings, f"/jobs/{job.id}", method="PATCH")
    _wait_for_end(settings, job.id)


def stop(settings: AppSettings, name: str) -> str:
    """Stop a job (by name or id) with a savepoint and return its address; a later ``submit`` goes on from it.

    Raises:
        DeployError: there is no such job, it does not run, or the savepoint fails; the job then still runs.
    """
    job = _find(settings, name)
    if job.state != "RUNNING":
        raise DeployError(f"Job {job.name} is {job.state}: only a running job can be stopped with a savepoint.")
    target = {"targetDirectory": savepoints(settings), "drain": False}
    trigger = _rest(settings, f"/jobs/{job.id}/stop", target)["request-id"]
    deadline = time.monotonic() + SAVEPOINT_SECONDS
    while time.monotonic() < deadline:
        answer = _rest(settings, f"/jobs/{job.id}/savepoints/{trigger}")
        if answer["status"]["id"] == "COMPLETED":
            return _stopped(settings, job, answer["operation"])
        time.sleep(0.2)
    raise DeployError(f"No savepoint of job {job.name} within {SAVEPOINT_SECONDS:.0f} s; the job runs on.")


def _stopped(settings: AppSettings, job: Job, operation: dict[str, Any]) -> str:
    if "failure-cause" in operation:
        reason = str(operation["failure-cause"].get("stack-trace", "")).partition("\n")[0]
        raise DeployError(f"The savepoint of job {job.name} failed, the job runs on: {reason}")
    address = str(operation["location"])
    kept = _savepoint_file(settings, job.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(address)  # Flink deletes the checkpoints of a job that it was asked to finish
    _wait_for_end(settings, job.id)
    if any(known.name == job.name for known in jobs.list_jobs(settings)):
        jobs.stop(settings, job.name)  # the keeper is not to bring it back
    return address


def savepoints(settings: AppSettings) -> str:
    """Address of the folder of savepoints: beside the checkpoints."""
    checkpoints = settings.flink.checkpoints or (settings.home.absolute() / "flink" / "checkpoints").as_uri()
    return f"{checkpoints.rstrip('/')}/savepoints"


def _savepoint_file(settings: AppSettings, name: str) -> Path:
    return settings.home.absolute() / "jobs" / f"{name}.savepoint"


def _find(settings: AppSettings, name: str) -> Job:
    found = list_jobs(settings)
    for job in found:
        if name in (job.name, job.id):
            return job
    raise DeployError(f"There is no job {name!r}; there are: {', '.join(job.name for job in found) or 'none'}.")


def _wait_for_end(settings: AppSettings, job: str) -> None:
    deadline = time.monotonic() + RUNNING_SECONDS
    while _rest(settings, f"/jobs/{job}")["state"] not in ENDED:
        if time.monotonic() > deadline:
            raise DeployError(f"Job {job} does not end: see {settings.flink.rest}.")
        time.sleep(0.1)


def _why(settings: AppSettings, job: str) -> str:
    entries = _rest(settings, f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
    if not entries:
        return f"its operators did not start within {RUNNING_SECONDS:.0f} s"
    causes = [line for line in str(entries[0]["stacktrace"]).splitlines() if line.startswith("Caused by")]
    return (causes or [str(entries[0]["exceptionName"])])[-1][:500]


def _rest(settings: AppSettings, path: str, body: object = None, method: str | None = None) -> Any:  # noqa: ANN401
    """Ask Flink's REST interface; raises DeployError where it does not answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{settings.flink.rest}{path}", data, method=method)  # noqa: S310  (our setting)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        message = f"Flink does not answer {path} at {settings.flink.rest} (setting flink.rest): {error}"
        raise DeployError(message) from error
