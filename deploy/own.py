"""LogCanary's own processes as parts: exporter, archiver and the keeper of jobs."""

import importlib.util
import os
import sys
from dataclasses import replace

from deploy.parts import Part, Plan, answers, listens
from deploy.paths import PROJECT


def exporter(plan: Plan) -> Part:
    """Return the process behind ``/metrics``."""
    return replace(
        _own(plan, "exporter", "streaming.exporter"),
        waits_for=("kafka",),
        ready=lambda: answers(f"{plan.url('exporter')}/metrics"),
        port=plan.ports["exporter"],
        address=f"{plan.url('exporter')}/metrics",
    )


def console(plan: Plan) -> Part:
    """Return the process behind the pages and the HTTP interface; on loopback where it knows nobody by name."""
    part, port, web = _own(plan, "console", "console.serving"), plan.ports["console"], plan.settings.web
    # Who signed the certificate is the browsers' business: here it is enough that somebody listens.
    ready = (lambda: listens(port)) if web.tls_certificate else (lambda: answers(f"{plan.url('console')}/healthz"))
    return replace(
        part,
        waits_for=("kafka", "hdfs"),
        ready=ready,
        port=port,
        address=f"{'https' if web.tls_certificate else 'http'}://{plan.address('console')}",
        environment=part.environment | ({} if web.asks else {"LOGCANARY_WEB__HOST": "127.0.0.1"}),
    )


def archiver(plan: Plan) -> Part:
    """Return the process that writes the archive; it may end its open files when it is told to stop."""
    return replace(_own(plan, "archiver", "streaming.archiver"), waits_for=("kafka", "hdfs"), stop_seconds=30.0)


def keeper(plan: Plan) -> Part:
    """Return the process that submits jobs again when their JobManager has died."""
    return replace(_own(plan, "jobs", "deploy.keeper"), waits_for=("kafka", "jobmanager", "taskmanager"))


def installed(module: str) -> bool:
    """Say whether a module of LogCanary is there."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def settings_environment(plan: Plan) -> dict[str, str]:
    """Return the settings given to ``up``, with the stack's addresses, as environment.

    The environment wins over settings files, so that the stack's own processes see what ``up`` saw, flags included.
    """
    variables = {"LOGCANARY_HOME": str(plan.home)}
    for section, options in plan.settings.model_dump(mode="json").items():
        if isinstance(options, dict):
            # What nobody has set is none: an environment knows strings only.
            told = {name: value for name, value in options.items() if value is not None}
            variables |= {f"LOGCANARY_{section}__{name}".upper(): str(value) for name, value in told.items()}
    return variables | {
        "LOGCANARY_KAFKA__BOOTSTRAP": plan.address("kafka"),
        "LOGCANARY_HDFS__URL": plan.url("hdfs"),
        "LOGCANARY_FLINK__REST": plan.url("flink"),
        "LOGCANARY_WEB__EXPORTER_PORT": str(plan.ports["exporter"]),
        "LOGCANARY_WEB__CONSOLE_PORT": str(plan.ports["console"]),
        "LOGCANARY_WEB__PROMETHEUS_PORT": str(plan.ports["prometheus"]),
    }


def _own(plan: Plan, name: str, module: str) -> Part:
    settings = {
        **settings_environment(plan),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
        # A line of the log is there when it was said.
        "PYTHONUNBUFFERED": "1",
    }
    return Part(
        name=name,
        command=lambda: [sys.executable, "-m", module],
        log=plan.logs / f"{name}.out",
        ready=lambda: True,
        environment=settings,
    )
