"""One at a time: whoever comes second is told who is first, and the dead hold nothing."""

import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from storage.files import Files, LocalFiles
from storage.locks import STALE_MS, Holder, LockedError, lock

PATH = "/logcanary/registry/pay/training.lock"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return LocalFiles(tmp_path)


def left_behind(files: Files, holder: Holder) -> None:
    files.write(PATH, json.dumps(asdict(holder)).encode())


def held(files: Files) -> Holder:
    with lock(files, PATH, "nobody") as mine:
        return mine


def test_whoever_comes_second_is_told_who_is_first(files: Files) -> None:
    with lock(files, PATH, "ada"), pytest.raises(LockedError, match="held by ada") as told, lock(files, PATH, "bob"):
        pass
    assert told.value.holder.who == "ada"
    with lock(files, PATH, "bob"):
        pass
    assert not files.exists(PATH)


def test_it_is_given_back_when_the_block_fails(files: Files) -> None:
    with pytest.raises(ZeroDivisionError), lock(files, PATH, "ada"):
        raise ZeroDivisionError
    with lock(files, PATH, "bob"):
        pass


def test_of_many_at_once_one_gets_it(files: Files) -> None:
    start, release = threading.Barrier(8), threading.Event()
    got, refused = [], []

    def ask(number: int) -> None:
        start.wait()
        try:
            with lock(files, PATH, f"thread {number}"):
                got.append(number)
                release.wait(30)
        except LockedError:
            refused.append(number)
            if len(refused) == 7:
                release.set()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_a_lock_of_a_process_that_was_killed_is_taken(files: Files, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from storage.files import LocalFiles\n"
        "from storage.locks import lock\n"
        f"with lock(LocalFiles(Path(sys.argv[1])), {PATH!r}, 'ada'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert files.exists(PATH)
    with lock(files, PATH, "bob"):
        pass
    assert not files.leftovers("/logcanary/registry/pay")
    assert not files.list("/logcanary/registry/pay")


@pytest.mark.parametrize(("age_ms", "is_taken"), [(STALE_MS + 60_000, True), (STALE_MS - 60_000, False)])
def test_a_lock_of_another_machine_counts_until_it_is_stale(files: Files, age_ms: int, is_taken: bool) -> None:
    mine = held(files)
    left_behind(files, replace(mine, host="elsewhere", since_ms=mine.since_ms - age_ms, token="x", pid=1))
    if is_taken:
        with lock(files, PATH, "bob"):
            pass
    else:
        with pytest.raises(LockedError, match="on elsewhere"), lock(files, PATH, "bob"):
            pass


def test_what_was_taken_over_is_not_given_back_by_who_lost_it(files: Files) -> None:
    with lock(files, PATH, "ada") as ada:
        files.delete(PATH)
        left_behind(files, replace(ada, who="bob", token="another"))
    assert files.exists(PATH)
