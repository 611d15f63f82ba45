"""Every default mask: what it matches, and that nothing it nearly matches costs more than linear time."""

import gc
import time

import polars as pl
import pytest

from parsing.masks import DEFAULT_MASKS, Masks

EXAMPLES = (
    ("FRAME", "    at java.base/java.lang.Thread.run(Thread.java:829)"),
    ("UUID", "a3f1b2c4-0000-4abc-8def-001122334455"),
    ("URL", "://u:p@example.org:80/a-b/c?d=e&f=%20#g"),
    ("EMAIL", "first.last+tag-x@mail-1.example.co.uk"),
    ("TIME", "Sun, Jul  3, 10:05:25.123 CEST 2005"),
    ("TIME", "Mon, 22 Nov 2026 13:07:49 GMT"),
    ("TIME", "2026-11-22T13:07:49.123456+01:00"),
    ("TIME", "22/Nov/2026:13:07:49 +0000"),
    ("TIME", "13:07:49,123"),
    ("MAC", "00:1b:44:11:3a:b7"),
    ("IP", "2607:f140:6000:8:c6b3:1ff:fecd:467f"),
    ("IP", "fe80:1:2::1ff:fecd:0:1"),
    ("IP", "192.168.100.200:50010"),
    ("HOST", "a-b.c-d.proxy-1.cse.example.hk:5070"),
    ("HOST", "proxy-a-b-c.com:443"),
    ("PATH", "/v2/54f-a/servers_x.y/detail?x=1&y=%2F HTTP/1.1"),
    ("PATH", "C:\\Windows\\System32\\x-y.dll"),
    ("HEX", "0xdeadBEEF01"),
    ("SIZE", "12.5 MiB"),
    ("TIME", "23:59"),
    ("DURATION", "<10 sec"),
    ("NUM", "1,234_567.89"),
    ("SIZE", "12.5kB"),
    ("DURATION", "17.25ms"),
    ("ID", "_-1445144423722_0020_m_000000_0"),
    ("HEX", "abcdef0123456789abcdef"),
    ("HEX", "ABCDEF0123456789ABCDEF"),
)
"""One of each mask, in its order, with every part that its expression allows."""
KIB = 1024
MASKS = Masks.build()


def test_every_mask_has_an_example():
    assert [name for name, _ in EXAMPLES] == [name for name, _ in DEFAULT_MASKS]
    for (name, example), (_, pattern) in zip(EXAMPLES, DEFAULT_MASKS, strict=True):
        assert pl.Series([example]).str.contains(f"^(?:{pattern})$").item(), (name, example)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[f"{name}-{at}" for at, (name, _) in enumerate(EXAMPLES)])
def test_nothing_a_mask_nearly_matches_costs_more_than_linear_time(name, example):
    """Each beginning of a match, over and over: what an engine that tries again from every place would choke on."""
    beginnings = [example[:end] for end in range(1, len(example) + 1)]
    slow = [begin for begin in beginnings for between in ("", "!") if not linear(begin + between)]
    assert slow == []


def linear(piece):
    """Whether 64 KiB take at most 2.5 times as long as 32 KiB, in CPU time, the least of up to ten runs."""
    texts = [pl.Series([(piece * (size // len(piece) + 1))[:size] + "!"]) for size in (32 * KIB, 64 * KIB)]
    least = [float("inf"), float("inf")]
    for _ in range(10):
        for at, text in enumerate(texts):
            least[at] = min(least[at], seconds(text))
        # Half a millisecond is the clock's and the library's; quadratic time would be seconds.
        if least[1] <= 2.5 * least[0] + 0.0005:
            return True
    return False


def seconds(text):
    """CPU seconds without the collector's, which walks what all tests before have left."""
    gc.disable()
    try:
        start = time.process_time()
        text.str.replace_all(MASKS.alternation, "")
        return time.process_time() - start
    finally:
        gc.enable()
