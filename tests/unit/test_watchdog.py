"""A process that hangs ends itself and says where it hung."""

import subprocess
import sys
from pathlib import Path

from tests.machine import patience

PROJECT = Path(__file__).resolve().parents[2]
HANGS = """
import threading
from streaming.watchdog import still_alive
still_alive(0.2)
def hanging_here():
    threading.Event().wait()
hanging_here()
"""
LIVES = """
import time
from streaming.watchdog import still_alive, stop_watching
for _ in range(8):
    still_alive(0.5)
    time.sleep(0.1)
stop_watching()
time.sleep(0.6)
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=patience(30), check=False
    )


def test_a_hanging_process_exits_and_prints_its_stacks() -> None:
    done = run(HANGS)
    assert done.returncode == 1
    assert "hanging_here" in done.stderr


def test_a_process_that_goes_on_is_left_alone() -> None:
    assert run(LIVES).returncode == 0
