"""The local stack: what dies comes back, what is stopped is gone, what was written stays."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from contracts.settings import AppSettings
from deploy.jobs import JobSpec, list_jobs, stop, submit
from deploy.parts import get_json
from deploy.paths import PROJECT
from deploy.processes import marked
from deploy.stack import down, is_up, log_path, status, up
from deploy.status import JobStatus, PartStatus
from storage.broker import end_offsets, producer
from storage.files import open_files
from tests.machine import patience, wait_until

DATA_PARTS = {"kafka", "hdfs", "jobmanager", "taskmanager", "prometheus", "alertmanager"}


def part(settings: AppSettings, name: str) -> PartStatus:
    return next(part for part in status(settings).parts if part.name == name)


def job(settings: AppSettings, name: str) -> JobStatus:
    return next(job for job in list_jobs(settings) if job.name == name)


def kill(settings: AppSettings, name: str) -> PartStatus:
    """Kill a part and wait until it is ready again."""
    before = part(settings, name)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: part(settings, name).restarts > before.restarts, f"the death of {name} is noticed", 5)
    wait_until(lambda: part(settings, name).state == "ready", f"{name} is ready again", 60)
    return before


def test_every_part_runs_on_loopback(stack_settings: AppSettings) -> None:
    found = status(stack_settings, memory=True)
    assert found.state == "running"
    assert {part.name for part in found.parts} >= DATA_PARTS
    for each in found.parts:
        assert each.state == "ready", each
        assert each.memory_mb is not None
        assert each.memory_mb > 5
        assert log_path(stack_settings, each.name).parent == stack_settings.home / "logs"
    for process in marked(stack_settings.home):
        listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        for address in listening:
            assert address.ip.removeprefix("::ffff:") == "127.0.0.1", (process.cmdline()[-3:], address)


def test_prometheus_scrapes_every_part(stack_settings: AppSettings) -> None:
    web = f"http://127.0.0.1:{stack_settings.web.prometheus_port}"

    def all_up() -> bool:
        found = get_json(f"{web}/api/v1/query?query=up")["data"]["result"]
        return len(found) == 5 and all(series["value"][1] == "1" for series in found)

    wait_until(all_up, "exporter, JobManager, TaskManager, Prometheus and Alertmanager are scraped", 30)
    names = get_json(f"{web}/api/v1/label/__name__/values")["data"]
    assert "flink_taskmanager_Status_JVM_Memory_Heap_Used" in names
    assert get_json(f"{web}/api/v1/rules")["data"]["groups"], "no rules are loaded"


def test_up_again_changes_nothing(stack_settings: AppSettings) -> None:
    before = [part.pid for part in status(stack_settings).parts]
    assert up(stack_settings) == stack_settings
    assert [part.pid for part in status(stack_settings).parts] == before


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "kafka", "hdfs", "taskmanager"])
def test_what_is_killed_starts_again(stack_settings: AppSettings, name: str) -> None:
    before = kill(stack_settings, name)
    after = part(stack_settings, name)
    assert after.last_exit == "SIGKILL"
    assert after.pid != before.pid
    assert after.address == before.address
    if name == "hdfs":
        open_files(stack_settings.hdfs).make("/after-the-kill")


def test_arrival_is_the_brokers_clock(stack_settings: AppSettings) -> None:
    client = producer(stack_settings)
    answer = client.send(f"logs.clock-{secrets.token_hex(4)}", b"a line", timestamp_ms=1_000).get(timeout=30)
    assert abs(answer.timestamp / 1000 - time.time()) < 30
    client.close()


@pytest.mark.timeout(600)
def test_a_job_goes_on_from_its_newest_checkpoint(stack_settings: AppSettings) -> None:
    spec = JobSpec(name="restorable", topics="none", program=str(PROJECT / "tests" / "e2e" / "restorable_job.py"))
    first = submit(stack_settings, spec)
    rest = stack_settings.flink.rest

    def checkpoints(job_id: str) -> int:
        return int(get_json(f"{rest}/jobs/{job_id}/checkpoints")["counts"]["completed"])

    try:
        wait_until(lambda: checkpoints(first), "a checkpoint", 120)
        workers = [process for process in marked(stack_settings.home, "taskmanager") if "python" in process.name()]
        kill(stack_settings, "jobmanager")
        # Not the new id: it is written down before Flink has the job.
        wait_until(
            lambda: job(stack_settings, "restorable").resubmissions == 1, "the keeper submits the job again", 150
        )
        wait_until(lambda: not any(map(psutil.Process.is_running, workers)), "orphaned Python workers end", 10)
        again = job(stack_settings, "restorable")
        assert again.job_id != first
        assert first in again.restored_from
        wait_until(lambda: checkpoints(again.job_id), "a checkpoint of the job's second life", 120)
        restored = get_json(f"{rest}/jobs/{again.job_id}/checkpoints")["latest"]["restored"]["external_path"]
        assert restored.rstrip("/").split("/")[-1] == again.restored_from.split("/")[-1]
        # The source counts in its state: it has not begun at 1 again.
        out = (stack_settings.home / "logs" / "taskmanager.out").read_text()
        numbers = [int(number) for number in re.findall(r"restorable (\d+)", out)]
        assert numbers.count(1) <= 1
        assert max(numbers) > 20
    finally:
        stop(stack_settings, "restorable")
    assert job(stack_settings, "restorable").state == "STOPPED"


@pytest.mark.timeout(400)
def test_down_leaves_nothing_and_up_finds_the_data(stack_settings: AppSettings) -> None:
    topic, path = f"logs.kept-{secrets.token_hex(4)}", f"/kept/{secrets.token_hex(4)}"
    client = producer(stack_settings)
    client.send(topic, b"a line").get(timeout=30)
    client.close()
    open_files(stack_settings.hdfs).write(path, b"content")
    home = stack_settings.home
    assert down(stack_settings) is True
    assert marked(home) == []
    assert not is_up(home)
    assert status(stack_settings).state == "stopped"
    assert not (home / "stack.toml").exists()
    assert up(stack_settings) == stack_settings, "the addresses are the same again"
    assert end_offsets(stack_settings, [topic]) == {(topic, 0): 1}
    assert open_files(stack_settings.hdfs).read(path) == b"content"


@pytest.mark.timeout(400)
def test_what_a_killed_supervisor_leaves_is_ended_by_up(stack_settings: AppSettings) -> None:
    supervisor = status(stack_settings).supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not is_up(stack_settings.home), "the supervisor's lock is free", 5)
    left = marked(stack_settings.home)
    assert len(left) >= len(DATA_PARTS)
    found = status(stack_settings)
    assert found.state == "failed"
    assert "supervisor is gone" in found.error
    assert up(stack_settings) == stack_settings
    assert not any(process.is_running() for process in left)


def test_an_interrupted_up_leaves_nothing(tmp_path: Path, stack_settings: AppSettings) -> None:
    code = "import signal, sys; from contracts.settings import AppSettings; from deploy.stack import up\n"
    # As in a terminal; a test run in the background ignores interrupts, and its children with it.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); up(AppSettings(home=sys.argv[1]))"
    starting = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(marked(tmp_path)) > 2, "some parts start", 30)
    starting.send_signal(signal.SIGINT)
    assert starting.wait(patience(60)) != 0
    assert marked(tmp_path) == []
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    assert urllib.request.urlopen(stack_settings.flink.rest, timeout=5).status == 200, "the other stack goes on"
