"""Entry point of the images: Flink's two processes as one machine of many has them.

``python -m deploy.image jobmanager|taskmanager``: the configuration and command of the local stack, but with the
addresses of other machines. Everything else in the images is an entry point of the local stack as it is.
``python -m deploy.image jars FOLDER``: what the class path needs beside Flink, for an image with Flink's scripts.

Environment: ``JOBMANAGER`` (host name of the JobManager) and ``LOGCANARY_FLINK__CHECKPOINTS`` (a folder both see);
settings as everywhere.
"""

import os
import shutil
import socket
import sys
from pathlib import Path

from contracts.settings import AppSettings
from deploy import cluster
from deploy.classes import class_options
from deploy.java import find_java
from deploy.parts import Plan
from deploy.paths import DeployError
from deploy.ports import USUAL

ANY = "0.0.0.0"  # noqa: S104  (inside a container's own network)


def overrides(part: str, jobmanager: str) -> dict[str, str]:
    """Return what differs from the local stack's configuration: who listens where."""
    own = {"taskmanager.resource-id": socket.gethostname(), "taskmanager.host": socket.gethostname()}
    return {
        "jobmanager.rpc.address": jobmanager,
        "jobmanager.bind-host": ANY,
        "rest.address": jobmanager,
        "rest.bind-address": ANY,
        "taskmanager.bind-host": ANY,
        **(own if part == "taskmanager" else {}),
    }


def command(part: str, plan: Plan, jobmanager: str) -> list[str]:
    """Return the command of ``part``: that of the local stack with ``overrides``, open to other machines."""
    make = {"jobmanager": cluster.jobmanager, "taskmanager": cluster.taskmanager}[part](plan)
    make.prepare()
    plan.temporary(part).mkdir(parents=True, exist_ok=True)
    closed = class_options()
    words = [word for word in make.command() if word not in closed[1:]]  # Prometheus scrapes from another machine
    for name, value in overrides(part, jobmanager).items():
        words += ["-D", f"{name}={value}"]
    return words


def copy_jars(folder: Path) -> list[Path]:
    """Copy jars and our classes to ``folder`` under names that keep their order, and return what was written.

    Flink's scripts put the jars of a folder on the class path in the order of their names; ours must be first.
    """
    written = []
    for number, path in enumerate(cluster.own_class_path(find_java())):
        if path.is_dir():
            packed = shutil.make_archive(str(folder / f"0{number}-logcanary"), "zip", path)
            written.append(Path(packed).rename(folder / f"0{number}-logcanary.jar"))
        else:
            written.append(Path(shutil.copy(path, folder / f"0{number}-{path.name}")))
    return written


def main() -> int:
    """Become the process; returns only when it cannot."""
    if sys.argv[1:2] == ["jars"] and len(sys.argv) == 3:
        copy_jars(Path(sys.argv[2]))
        return 0
    settings = AppSettings()
    home = settings.home.absolute()
    (home / "logs").mkdir(parents=True, exist_ok=True)
    try:
        java = find_java()
        part = sys.argv[1]
        words = command(part, Plan(home, USUAL, java, settings), os.environ.get("JOBMANAGER", "jobmanager"))
    except (DeployError, IndexError, KeyError) as error:
        print(f"python -m deploy.image jobmanager|taskmanager|jars FOLDER: {error}", file=sys.stderr)
        return 1
    log = home / "logs" / f"{part}.log"
    print(f"{part} logs to {log}", flush=True)
    Path(log).touch()
    os.execve(words[0], words, {**os.environ, **cluster.environment(home, java)})  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    sys.exit(main())
