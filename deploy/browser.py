"""Chromium, in which the tests drive the pages: the machine's, else Debian's, unpacked into the cache without root.

    program, environment = find()

Debian's package leans on some two dozen others; those that the machine lacks are unpacked beside it.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy import tools
from deploy.paths import DeployError, cache

PACKAGE = "chromium"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio", "usr/lib/chromium")


def find() -> tuple[Path, dict[str, str]]:
    """Return Chromium's program, and the environment in which it finds its libraries.

    Raises:
        DeployError: there is none.
    """
    if found := shutil.which(PACKAGE):
        return Path(found), {}
    program = _unpacked() / "usr" / "lib" / PACKAGE / PACKAGE
    if not program.exists():
        raise DeployError(f"{PACKAGE} is neither on PATH nor in {_unpacked()}: run `make setup`.")
    return program, {"LD_LIBRARY_PATH": os.pathsep.join(str(_unpacked() / folder) for folder in LIBRARIES)}


def fetch(say: Callable[[str], None] = print) -> bool:
    """Unpack Chromium where it is missing; says whether there was anything to do.

    Raises:
        DeployError: apt-get is missing or refuses, or what was unpacked does not run.
    """
    if os.environ.get("LOGCANARY_SKIP_TOOLS") or shutil.which(PACKAGE) or _unpacked().is_dir():
        return False
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DeployError(f"{PACKAGE} is missing and this machine has no apt-get: install it, then repeat.")
    with tempfile.TemporaryDirectory(prefix="logcanary-apt-") as folder:
        options = tools.apt_options(Path(folder), [PACKAGE])
        plan = tools.run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", PACKAGE], cwd=None)
        wanted = re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)
        say(f"Downloading {PACKAGE} for the tests of the pages, {len(wanted)} packages, 120 MB, into {_unpacked()}")
        tools.run(["apt-get", *options, "download", *wanted], cwd=folder)
        _unpacked().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_unpacked().parent) as half:
            for file in sorted(Path(folder).glob("*.deb")):
                tools.run(["dpkg-deb", "-x", str(file), f"{half}/root"], cwd=folder)
            Path(half, "root").rename(_unpacked())
    program, environment = find()
    done = subprocess.run([program, "--version"], env=os.environ | environment, capture_output=True, check=False)
    if done.returncode:
        shutil.rmtree(_unpacked())
        raise DeployError(f"the unpacked {PACKAGE} does not run: {done.stderr.decode().strip()[-300:]}")
    return True


def _unpacked() -> Path:
    return cache() / PACKAGE
