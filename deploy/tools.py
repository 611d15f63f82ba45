"""Tools that Debian packs (Prometheus with promtool, Alertmanager with amtool).

Those of the machine, else unpacked into the cache without root.

``python -m deploy.tools`` brings what is missing. The standard library is all it needs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.paths import DeployError, cache

PACKAGES = {
    "prometheus": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
}
"""Debian's packages and the programs we use of them."""

ALERTMANAGER_FILES = "usr/share/prometheus/alertmanager"
"""Where Debian's package has the templates without which Alertmanager does not start."""

MOVED = {"prometheus-alertmanager": (b"/usr/share/prometheus/alertmanager", b"/proc/self/cwd/./././/alertmanager")}
"""Absolute paths in programs, and what stands there after unpacking: Debian's Alertmanager opens its templates in
``/usr/share``, where nothing is without root; ours are in ``alertmanager/`` where it runs. Of the same length, so that
nothing else in the program moves."""


def find_tool(name: str) -> Path:
    """Return the program ``name``: of ``PATH``, or from the cache.

    Raises:
        DeployError: it is in neither.
    """
    if found := shutil.which(name):
        return Path(found)
    if (unpacked := _unpacked() / "usr" / "bin" / name).exists():
        return unpacked
    raise DeployError(f"{name} is neither on PATH nor in {unpacked.parent}: run `make setup`.")


def fetch(say: Callable[[str], None] = print) -> list[str]:
    """Unpack the packages of which a program is missing and return their names.

    Raises:
        DeployError: apt-get is missing or refuses, or an unpacked program does not run.
    """
    if os.environ.get("LOGCANARY_SKIP_TOOLS"):  # in an image, where Prometheus has one of its own
        return []
    wanted = [package for package, programs in PACKAGES.items() if not all(_has(name) for name in programs)]
    if not wanted:
        return []
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DeployError(f"{', '.join(wanted)} is missing and this machine has no apt-get: install it, then repeat.")
    with tempfile.TemporaryDirectory(prefix="logcanary-apt-") as folder:
        options = apt_options(Path(folder), wanted)
        say(f"Downloading {', '.join(wanted)}, {_bytes(options, wanted) / 1e6:.0f} MB, into {_unpacked()}")
        run(["apt-get", *options, "download", *wanted], cwd=folder)
        for file in sorted(Path(folder).glob("*.deb")):
            run(["dpkg-deb", "-x", str(file), str(_unpacked())], cwd=folder)
    for name in MOVED:
        _move_paths(name)
    for package in wanted:
        for name in PACKAGES[package]:
            run([str(find_tool(name)), "--version"], cwd=None)
    return wanted


def templates_of_alertmanager() -> list[Path]:
    """Return the templates to be put beside an unpacked Alertmanager's configuration; none where it is installed."""
    return sorted((_unpacked() / ALERTMANAGER_FILES).glob("*.tmpl"))


def _move_paths(name: str) -> None:
    file = _unpacked() / "usr" / "bin" / name
    if file.exists():
        file.write_bytes(file.read_bytes().replace(*MOVED[name]))


def _unpacked() -> Path:
    return cache() / "debian"


def _has(name: str) -> bool:
    try:
        find_tool(name)
    except DeployError:
        return False
    return True


def apt_options(folder: Path, packages: list[str]) -> list[str]:
    """Return options under which apt-get knows the packages: none, or lists of our own where the machine has none."""
    known = subprocess.run(["apt-get", "download", "--print-uris", *packages], capture_output=True, check=False)
    if known.returncode == 0:
        return []
    state, own_cache = folder / "state", folder / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (own_cache / "archives" / "partial").mkdir(parents=True)
    options = ["-o", f"Dir::State={state}", "-o", f"Dir::Cache={own_cache}"]
    options += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User="]
    run(["apt-get", *options, "update"], cwd=str(folder))
    return options


def _bytes(options: list[str], packages: list[str]) -> int:
    """Return the download's size; each line is ``'address' file size hash``."""
    text = run(["apt-get", *options, "download", "--print-uris", *packages], cwd=None)
    return sum(int(size) for size in re.findall(r"^'\S+' \S+ (\d+)", text, flags=re.MULTILINE))


def run(command: list[str], cwd: str | None) -> str:
    """Run a command and return what it prints.

    Raises:
        DeployError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        problem = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise DeployError(f"`{' '.join(command)}` failed: {problem[-1]}")
    return done.stdout


if __name__ == "__main__":
    try:
        fetch()
    except DeployError as error:
        sys.exit(str(error))
