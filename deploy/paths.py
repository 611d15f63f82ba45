"""Where the project, its downloads and the local stack's files are."""

import os
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The folder with the rooms; LogCanary runs from its checkout or image."""


class DeployError(Exception):
    """Something the user can put right; the message is one sentence that says how."""


def cache() -> Path:
    """Return the folder of downloads, shared by every checkout: ``LOGCANARY_CACHE``, or ``~/.cache/logcanary``."""
    chosen = os.environ.get("LOGCANARY_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "logcanary"


def check_disk(folder: Path, megabytes: int) -> None:
    """Refuse to start what would fill the disk.

    Raises:
        DeployError: there is less room than ``megabytes``.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    if free < megabytes:
        raise DeployError(f"{folder} has {free:.0f} MB free, {megabytes} MB are needed: make room there.")
