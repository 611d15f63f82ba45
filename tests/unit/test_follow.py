"""Following a file: records are whole, rotation and truncation lose nothing, whatever the chunks."""

import re
import threading
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cli.follow import Records, ship
from tests.machine import patience

START = re.compile(rb"[0-9]")


@given(
    lines=st.lists(st.sampled_from([b"1 one", b"2 two", b"  at x", b"", b"Caused by: y"]), max_size=20),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_records_do_not_depend_on_the_chunks(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    whole = Records(START)
    expected = whole.feed(data) + whole.flush()
    pieces = Records(START)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[bytes] = []
    for first, last in pairwise(places):
        found += pieces.feed(data[first:last])
    assert found + pieces.flush() == expected
    assert b"\n".join(expected).replace(b"\n", b"") == data.replace(b"\n", b"")


def test_rotation_and_truncation_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    sent: list[bytes] = []
    stop, arrived = threading.Event(), threading.Condition()

    def send(record: bytes) -> None:
        with arrived:
            sent.append(record)
            arrived.notify_all()

    def wait_for(count: int) -> None:
        with arrived:
            assert arrived.wait_for(lambda: len(sent) >= count, timeout=patience(20)), sent

    thread = threading.Thread(target=ship, args=(path, send, stop, START))
    thread.start()
    try:
        path.write_bytes(b"1 first\n  at stack\n2 second\n")
        wait_for(2)
        path.rename(tmp_path / "server.log.1")
        path.write_bytes(b"3 after rotation\n")
        wait_for(3)
        path.write_bytes(b"4 t\n")
        wait_for(4)
    finally:
        stop.set()
        thread.join()
    assert sent == [b"1 first\n  at stack", b"2 second", b"3 after rotation", b"4 t"]
