"""Sets everything up on a machine that has Python 3.11 or 3.12 and nothing else; run again, it has nothing to do.

``python deploy/setup.py [core|stream|all]``: the environment ``.venv`` from the lock of that name, and for the last
two the jars and Debian's tools. It is run by a Python without packages: the standard library must do.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[0] = str(PROJECT)  # instead of deploy/, whose files would hide packages

from deploy.paths import DeployError, cache, check_disk  # noqa: E402

VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "logcanary-setup.json"

KINDS = ("core", "stream", "all")
"""Each holds the one before: command line and core; online path and local stack; training and tests."""
DOWNLOAD_MB = {"core": 180, "stream": 800, "all": 3_600}
DISK_MB = {"core": 600, "stream": 1_200, "all": 7_000}
"""On Linux x86-64; most of the last is CUDA, which torch brings along."""
STACK_MB = 1_200
"""Jars, tools and the first data of the local stack."""
INSTALLERS = ("setuptools", "uv")
"""Installed by pip before the rest: pip alone takes minutes for what uv does in half of one."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main() -> int:
    """Set up and return the exit status; 1 when something the user can put right is wrong."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "all"
    started = time.monotonic()
    try:
        if kind not in KINDS:
            raise DeployError(f"{kind!r} is none of {', '.join(KINDS)}.")
        check_machine()
        changed = environment(kind)
        if kind != "core":
            changed |= downloads(kind)
    except DeployError as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 1
    if changed:
        say(f"Set up in {time.monotonic() - started:.0f} s: .venv/bin/logcanary works.")
    return 0


def check_machine() -> None:
    """Refuse what cannot work.

    Raises:
        DeployError: wrong system or Python.
    """
    if not sys.platform.startswith("linux"):
        raise DeployError(f"LogCanary's local set-up runs on Linux, this is {sys.platform}: use Docker Compose.")
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise DeployError(f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]} ({sys.executable}).")


def environment(kind: str) -> bool:
    """Bring ``.venv`` to the lock of ``kind`` and say whether there was anything to do."""
    found = installed()
    # Whoever has more than was asked for keeps it.
    kind = max(kind, str(found.get("kind", kind)), key=KINDS.index)
    wanted = {"kind": kind, "lock": fingerprint(kind), "place": str(PROJECT)}
    if found == wanted:
        return False
    check_disk(PROJECT, DISK_MB[kind])
    lock = PROJECT / "locks" / f"{kind}.txt"
    say(f"Installing {lock.relative_to(PROJECT)} into .venv: about {DOWNLOAD_MB[kind]} MB to download where they are")
    say(f"not in a cache yet, {DISK_MB[kind]} MB on disk.")
    STAMP.unlink(missing_ok=True)
    make_venv()
    install_installers(lock)
    uv = [str(VENV / "bin" / "uv"), "pip"]
    target = ["--python", str(PYTHON), "--no-build-isolation"]
    try:
        # Sync, not install: what an older lock had and this has not goes away. Bytecode at once: where nobody may write
        # it later (PYTHONDONTWRITEBYTECODE, an image's user), each Python of the job would compile 1,300 modules anew.
        run([*uv, "sync", *target, "--compile-bytecode", "--require-hashes", str(lock)])
    except DeployError:
        say("uv could not, now pip tries; it knows the machine's own settings for proxies and mirrors.")
        run([*pip(), "install", "--compile", "--no-build-isolation", "--no-deps", "--require-hashes", "-r", str(lock)])
    run([*uv, "install", *target, "--no-deps", "--offline", "--editable", str(PROJECT)])
    STAMP.write_text(json.dumps(wanted))
    return True


def installed() -> dict[str, object]:
    """Return what the last set-up wrote, or nothing where its Python does not run (a moved or half-made folder)."""
    if not (STAMP.is_file() and succeeds([PYTHON, "-c", ""])):
        return {}
    found: dict[str, object] = json.loads(STAMP.read_text())
    return found


def fingerprint(kind: str) -> str:
    """Return the hash of what decides the environment's contents."""
    files = [PROJECT / "locks" / f"{kind}.txt", PROJECT / "pyproject.toml"]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def make_venv() -> None:
    """Make ``.venv`` with pip in it, anew where it is of another Python version or broken.

    Raises:
        DeployError: this Python has no pip to give.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    if succeeds([PYTHON, "-c", f"import sys, pip; assert sys.version.startswith('{version}.')"]):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if succeeds([sys.executable, "-m", "venv", VENV]):
        return
    # Debian's Python without python3-venv cannot put pip into an environment, but may have one of its own.
    shutil.rmtree(VENV, ignore_errors=True)
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        raise DeployError(f"{sys.executable} has no pip (ensurepip): on Debian install python{version}-venv.")
    run([sys.executable, "-m", "venv", "--without-pip", str(VENV)])


def install_installers(lock: Path) -> None:
    """Install ``INSTALLERS`` by pip, in the versions and with the hashes of the lock."""
    blocks = re.split(r"\n(?=\S)", lock.read_text())
    wanted = [block for block in blocks if block.split("==")[0] in INSTALLERS]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(wanted))
        file.flush()
        quiet = ["--quiet", "--disable-pip-version-check"]
        run([*pip(), "install", *quiet, "--no-deps", "--require-hashes", "-r", file.name])


def pip() -> list[str]:
    """Return the command of the environment's pip, or of this Python's pip for it."""
    own = [str(PYTHON), "-m", "pip"]
    return own if succeeds([*own, "--version"]) else [sys.executable, "-m", "pip", "--python", str(PYTHON)]


def downloads(kind: str) -> bool:
    """Bring jars and tools into the cache and say whether there was anything to do."""
    command = "from deploy import prepare; import sys; sys.exit(prepare.main())"
    check_disk(cache(), STACK_MB)
    done = subprocess.run([PYTHON, "-c", command, kind], cwd=PROJECT, check=False)
    if done.returncode not in (0, 10):
        raise DeployError("the downloads are not complete.")
    return done.returncode == 10


def succeeds(command: list[str | Path]) -> bool:
    """Say whether a command runs and ends well; its output is nobody's business."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(command: list[str]) -> None:
    """Run a command with its output shown.

    Raises:
        DeployError: it fails.
    """
    if subprocess.run(command, check=False).returncode:
        raise DeployError(f"`{' '.join(command)}` failed; its last lines are above.")


if __name__ == "__main__":
    sys.exit(main())
