"""Flink as two parts: a standalone JobManager and TaskManager from the PyPI package, started without its shell scripts.

The scripts start three or four short Java processes each; what they work out (memory, class path) is written down here.
"""

import importlib.util
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from contracts.settings import AppSettings
from deploy.classes import BEAM, class_options, our_classes
from deploy.jars import class_path
from deploy.java import Java, find_java
from deploy.parts import Part, Plan, answers, get_json
from deploy.paths import PROJECT, DeployError
from deploy.status import replace_text

_WRITING = threading.Lock()
"""Both parts write the configuration before they start, in threads of their own."""

RUNTIME = "org.apache.flink.runtime"

MEMORY_MB = {
    "framework.heap": 128,
    "task.heap": 768,
    "framework.off-heap": 128,
    "task.off-heap": 64,
    "network": 128,
    "managed": 256,
    "jvm-metaspace": 256,
    "jvm-overhead": 192,
}
"""The TaskManager's memory, 1.9 GB together; Python workers come on top, their memory is not Flink's to limit."""

SLOTS = 8
"""Several jobs of parallelism 2 side by side; slots cost nothing while they are free."""

HEARTBEAT_MS = {"interval": 2_000, "timeout": 10_000}
"""A dead TaskManager is noticed after 10 s at most (Flink's own: 50 s), a paused one is forgiven 5 beats."""

LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = file
appender.file.name = file
appender.file.type = RollingFile
appender.file.append = true
appender.file.fileName = ${sys:log.file}
appender.file.filePattern = ${sys:log.file}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 64MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


def flink_home() -> Path:
    """Return the folder of the PyPI distribution.

    Raises:
        DeployError: it is not installed.
    """
    found = importlib.util.find_spec("pyflink")
    if found is None or found.origin is None:
        raise DeployError("apache-flink is not installed (this is an installation of the core): run `make setup`.")
    return Path(found.origin).parent


def flink_python() -> Path:
    """Return the jar with Flink's side of Python.

    Raises:
        DeployError: it is not where it belongs.
    """
    for jar in (flink_home() / "opt").glob("flink-python*.jar"):
        return jar
    raise DeployError(f"{flink_home() / 'opt'} has no flink-python jar: reinstall apache-flink 2.2.1.")


def flink_class_path(java: Java) -> str:
    """Return the class path of JobManager, TaskManager and client: the distribution last, as in Flink's scripts."""
    jars = sorted((flink_home() / "lib").glob("*.jar"), key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))
    return ":".join(str(path) for path in [*own_class_path(java), *jars])


def own_class_path(java: Java) -> list[Path]:
    """Return what stands before the distribution: our classes, Flink's side of Python, the connector."""
    return [our_classes(java, flink_python()), flink_python(), *class_path("connector")]


def shipped_java_options() -> list[str]:
    """Return ``env.java.opts.all`` of the shipped configuration: the openings into the JDK that Flink needs."""
    for line in (flink_home() / "conf" / "config.yaml").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "all" and "--add-opens" in value:
            return value.split()
    raise DeployError("Flink's shipped conf/config.yaml has no env.java.opts.all: reinstall apache-flink 2.2.1.")


def java_options(java: Java) -> list[str]:
    """Return the options every Java process of Flink needs."""
    manager = ["-Djava.security.manager=allow"] if java.version > 17 else []
    return [*shipped_java_options(), *manager, "-XX:+IgnoreUnrecognizedVMOptions", *class_options()]


def environment(home: Path, java: Java) -> dict[str, str]:
    """Return the environment of Flink's processes, which their Python workers inherit."""
    flink = flink_home()
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        "FLINK_HOME": str(flink),
        "FLINK_CONF_DIR": str(conf_dir(home)),
        "FLINK_LIB_DIR": str(flink / "lib"),
        "FLINK_OPT_DIR": str(flink / "opt"),
        "FLINK_PLUGINS_DIR": str(home / "flink" / "plugins"),
        "FLINK_LOG_DIR": str(home / "logs"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # The worker's start script asks for plain `python`.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "JAVA_HOME": str(java.home),
        # Batches of megabytes that come and go would otherwise leave glibc's heaps, one a thread, large for ever.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),
        # A worker is one of many that share the cores: threads of its own cost more than they bring.
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def conf_dir(home: Path) -> Path:
    """Return the folder of the stack's Flink configuration."""
    return home / "flink" / "conf"


def checkpoints(plan: Plan) -> str:
    """Return the address checkpoints are written to."""
    return plan.settings.flink.checkpoints or (plan.home / "flink" / "checkpoints").as_uri()


def configuration(plan: Plan) -> dict[str, Any]:
    """Return Flink's configuration."""
    interval = f"{plan.settings.flink.checkpoint_seconds * 1000:.0f} ms"
    memory = {f"taskmanager.memory.{name}.size": f"{size}m" for name, size in MEMORY_MB.items()}
    for name in ("network", "jvm-overhead"):
        size = memory.pop(f"taskmanager.memory.{name}.size")
        memory |= {f"taskmanager.memory.{name}.min": size, f"taskmanager.memory.{name}.max": size}
    return {
        **memory,
        "taskmanager.cpu.cores": float(os.cpu_count() or 1),
        "taskmanager.numberOfTaskSlots": SLOTS,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        # One name for every start: the JobManager drops the dead one as soon as its successor registers.
        "taskmanager.resource-id": "taskmanager",
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": plan.ports["flink-rpc"],
        "jobmanager.bind-host": "127.0.0.1",
        "blob.server.port": plan.ports["flink-blobs"],
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": plan.ports["flink"],
        "rest.bind-port": plan.ports["flink"],
        "parallelism.default": plan.settings.flink.parallelism,
        "heartbeat.interval": HEARTBEAT_MS["interval"],
        "heartbeat.timeout": HEARTBEAT_MS["timeout"],
        # The two processes start together: whoever is first asks again soon.
        "cluster.registration.error-delay": "500 ms",
        "cluster.registration.refused-registration-delay": "1 s",
        "cluster.registration.max-timeout": "2 s",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "15 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 2.0,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "2 min",
        "state.backend.type": "hashmap",
        "execution.checkpointing.interval": interval,
        "execution.checkpointing.min-pause": "1 s",
        "execution.checkpointing.timeout": "2 min",
        "execution.checkpointing.dir": checkpoints(plan),
        "execution.checkpointing.num-retained": 3,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.tolerable-failed-checkpoints": 100,
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # Flink's own 1 s would be the latency of a quiet stream.
        "python.fn-execution.bundle.time": 100,
        "classloader.parent-first-patterns.additional": BEAM,
        "metrics.reporters": "prom",
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
    }


def write_configuration(plan: Plan) -> None:
    """Write ``conf/``, and ``plugins/`` with the one plugin that is used."""
    conf = conf_dir(plan.home)
    lines = [f"{key}: {value}" for key, value in configuration(plan).items()]
    plugin = plan.home / "flink" / "plugins" / "metrics-prometheus"
    with _WRITING:
        conf.mkdir(parents=True, exist_ok=True)
        # Replaced as a whole: the other part may be reading them.
        replace_text(conf / "config.yaml", "\n".join(lines) + "\n")
        replace_text(conf / "log4j.properties", LOGGING)
        shutil.copytree(flink_home() / "plugins" / "metrics-prometheus", plugin, dirs_exist_ok=True)


def logging_options(home: Path, name: str) -> list[str]:
    """Return the options that send a Java process's log to ``logs/<name>.log``."""
    properties = conf_dir(home) / "log4j.properties"
    return [f"-Dlog.file={home / 'logs' / f'{name}.log'}", f"-Dlog4j.configurationFile=file:{properties}"]


def client_configuration(settings: AppSettings) -> None:
    """Write what Flink's client needs beside the address of the cluster, where no local stack has written it."""
    conf = conf_dir(settings.home.absolute())
    conf.mkdir(parents=True, exist_ok=True)
    (settings.home.absolute() / "logs").mkdir(exist_ok=True)
    if not (conf / "config.yaml").exists():
        (conf / "config.yaml").write_text(f"python.executable: {sys.executable}\n")
        (conf / "log4j.properties").write_text(LOGGING)


def client_environment(settings: AppSettings) -> dict[str, str]:
    """Return the environment of Flink's client."""
    return environment(settings.home.absolute(), find_java())


def jobmanager(plan: Plan) -> Part:
    """Return the JobManager with its REST interface."""
    metrics = plan.ports["jobmanager-metrics"]

    def command() -> list[str]:
        # It runs no tasks: the simple compiler halves its start.
        jvm = ["-Xmx448m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        jvm += [*plan.jvm("jobmanager"), *java_options(plan.java), *logging_options(plan.home, "jobmanager")]
        words = [str(plan.java.binary), *jvm]
        words += ["-cp", flink_class_path(plan.java), f"{RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"]
        words += ["--configDir", str(conf_dir(plan.home)), "-D", f"metrics.reporter.prom.port={metrics}"]
        return [*words, "-D", f"io.tmp.dirs={plan.temporary('jobmanager')}"]

    return Part(
        name="jobmanager",
        command=command,
        log=plan.logs / "jobmanager.log",
        ready=lambda: answers(f"{plan.url('flink')}/overview"),
        port=plan.ports["flink"],
        address=plan.url("flink"),
        environment=environment(plan.home, plan.java),
        prepare=lambda: write_configuration(plan),
        stop_seconds=8.0,
    )


def taskmanager(plan: Plan) -> Part:
    """Return the TaskManager; its Python workers are its children and die with it."""
    metrics = plan.ports["taskmanager-metrics"]
    # The JobManager goes on listing a dead TaskManager for a while: a new one shows by its address.
    addresses = {"last": "", "now": ""}

    def prepare() -> None:
        write_configuration(plan)
        addresses["last"] = addresses["now"]

    def ready() -> bool:
        listed = get_json(f"{plan.url('flink')}/taskmanagers")["taskmanagers"]
        addresses["now"] = str(listed[0]["path"]) if listed else ""
        return bool(listed) and addresses["now"] != addresses["last"] and listed[0]["slotsNumber"] == SLOTS

    def command() -> list[str]:
        heap = MEMORY_MB["framework.heap"] + MEMORY_MB["task.heap"]
        direct = MEMORY_MB["framework.off-heap"] + MEMORY_MB["task.off-heap"] + MEMORY_MB["network"]
        jvm = [f"-Xmx{heap}m", f"-Xms{heap}m", f"-XX:MaxDirectMemorySize={direct}m"]
        jvm += [f"-XX:MaxMetaspaceSize={MEMORY_MB['jvm-metaspace']}m", "-XX:+UseG1GC"]
        jvm += [*plan.jvm("taskmanager"), *java_options(plan.java), *logging_options(plan.home, "taskmanager")]
        words = [str(plan.java.binary), *jvm]
        words += ["-cp", flink_class_path(plan.java), f"{RUNTIME}.taskexecutor.TaskManagerRunner"]
        words += ["--configDir", str(conf_dir(plan.home)), "-D", f"metrics.reporter.prom.port={metrics}"]
        return [*words, "-D", f"io.tmp.dirs={plan.temporary('taskmanager')}"]

    return Part(
        name="taskmanager",
        command=command,
        log=plan.logs / "taskmanager.log",
        ready=ready,
        port=metrics,
        address=plan.url("taskmanager-metrics"),
        environment=environment(plan.home, plan.java),
        prepare=prepare,
        uses=("jobmanager",),
        # Without its JobManager it would go on emitting under a job nobody remembers.
        dies_with=("jobmanager",),
        stop_seconds=8.0,
    )
