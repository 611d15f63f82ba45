"""Bytes to text: the lines of a batch as one string column, and those that cannot be text set aside.

Nothing is copied where a batch is sound: the column is laid over the blob itself (Arrow's large binary layout). Colour
codes and other escapes of terminals are taken out before anything reads a line.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.records import DeadLetter
from parsing.events import Lines

Reason = Literal["null", "empty", "invalid_utf8"]

HEAD_BYTES = 1024
"""Bytes of a dead line that its letter carries (``contracts.records.DeadLetter.head``)."""
_BLANK = " \t\r\n"
_STRIPPED = pl.col("line").str.strip_chars_end(_BLANK)
# One select of several columns costs about what one operation on a Series does: what matters for small batches.
_PROBE = (_STRIPPED.alias("stripped"), _STRIPPED.str.len_bytes().fill_null(0).alias("size"))
_ESCAPE = "\x1b"
_ESCAPES = (
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])"  # CSI, OSC, two bytes (ECMA-48, section 5)
)
_T_AT = 10  # of the T in 2026-11-22T13:07:49Z
_LONGEST_CHARACTER = 4  # bytes of a UTF-8 character at most (RFC 3629)


@dataclass(frozen=True, eq=False, slots=True)
class Text:
    """The lines that can be parsed, in order.

    ``rows`` are their rows in the batch; ``line`` is the text as it arrived (cut to the limit), ``stripped`` is the
    same without escapes of terminals, and without blanks and line ends behind it. ``dead`` are the others with their
    reason, ``cut`` how many lines were cut to the limit.
    """

    rows: NDArray[np.int64]  # [m]
    line: pl.Series  # [m] string
    stripped: pl.Series  # [m] string
    starts: NDArray[np.uint16]  # [m] the first byte of ``stripped``, and the second times 256; what is not there is any
    dated: NDArray[np.bool_]  # [m] whether it begins as the timestamp of a container runtime (CRI) does
    newlines: bool  # whether any line has more than one line of text
    dead: list[tuple[int, Reason]]
    cut: int


def decode(lines: Lines, max_line_bytes: int) -> Text:
    """Turn a batch into text. Too long lines are cut and kept; null, blank and non-UTF-8 lines are dead."""
    lines, was_cut = _cut(lines, max_line_bytes)
    column = column_of(lines)
    probe = column.to_frame().select_seq(_PROBE)
    stripped = probe["stripped"]
    dead_rows = np.flatnonzero(probe["size"].to_numpy() == 0)
    starts = lines.starts()
    newlines = b"\n" in lines.blob
    if not len(dead_rows):
        return _text(lines.blob, np.arange(len(lines)), column, stripped, starts, newlines, [], was_cut)
    dead: list[tuple[int, Reason]] = []
    for row in dead_rows.tolist():
        if lines.lengths[row] < 0:
            dead.append((row, "null"))
        else:
            dead.append((row, "invalid_utf8" if column[row] is None else "empty"))
    rows = np.delete(np.arange(len(lines)), dead_rows)
    index = pl.Series("rows", rows)
    return _text(lines.blob, rows, column[index], stripped[index], starts, newlines, dead, was_cut)


def _text(
    blob: bytes,
    rows: NDArray[np.int64],
    line: pl.Series,
    stripped: pl.Series,
    starts: NDArray[np.int64],
    newlines: bool,
    dead: list[tuple[int, Reason]],
    cut: int,
) -> Text:
    """Put together what the lines' first bytes say, looked up in the blob: cheaper than an expression over all."""
    begins, ends = starts[rows], starts[rows + 1]
    if _ESCAPE.encode() in blob:
        stripped = stripped.str.replace_all(_ESCAPES, "").str.strip_chars_end(_BLANK)
        blob, bounds = _bytes_of(stripped)
        begins, ends = bounds[:-1], bounds[1:]
    dated = _at(blob, begins + _T_AT) == ord("T")
    if dated.any():
        dated &= (ends - begins > _T_AT) & (_at(blob, begins) - np.uint8(ord("0")) <= 9)
    return Text(rows, line, stripped, _pairs_at(blob, begins), dated, newlines, dead, cut)


def _pairs_at(blob: bytes, places: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Return the byte at each place, and the one behind it times 256: [m]. Behind the last byte is none."""
    if len(blob) < 2 or not len(places):
        return _at(blob, places).astype(np.uint16)
    pairs: NDArray[np.uint16] = np.ndarray((len(blob) - 1,), dtype="<u2", buffer=blob, strides=(1,))
    found = pairs.take(places, mode="clip")
    if places[-1] == len(blob) - 1:
        found[-1] = blob[-1]
    return found


def _bytes_of(text: pl.Series) -> tuple[bytes, NDArray[np.int64]]:
    """Return the bytes of all strings one after another (and one more), and where each begins and the last ends."""
    arrow = text.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_utf8())
    _, bounds, data = arrow.buffers()
    return data.to_pybytes() + b" ", np.frombuffer(bounds, dtype=np.int64)[arrow.offset : arrow.offset + len(text) + 1]


def plain(text: pl.Series) -> pl.Series:
    """Take escapes of terminals out of lines that were inside of JSON, which hides them from ``decode``."""
    if not text.str.contains(_ESCAPE, literal=True).any():
        return text
    return text.str.replace_all(_ESCAPES, "").str.strip_chars_end(_BLANK)


def _at(blob: bytes, places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the bytes at these places, the last one for those behind it: [m]."""
    if not len(places):
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(blob, dtype=np.uint8).take(places, mode="clip")


def dead_letters(lines: Lines, dead: list[tuple[int, Reason]]) -> list[DeadLetter]:
    """Write the letters of dead lines, in offset order."""
    starts = lines.starts()
    letters = []
    for row, reason in dead:
        start, length = int(starts[row]), max(0, int(lines.lengths[row]))
        detail = ""
        if reason == "invalid_utf8":
            try:
                lines.blob[start : start + length].decode()
            except UnicodeDecodeError as error:
                detail = f"byte {error.start}: {error.reason}"
        letters.append(
            DeadLetter(
                service=lines.service,
                topic=lines.topic,
                partition=lines.partition,
                offset=int(lines.offsets[row]),
                arrival_ms=int(lines.arrivals[row]),
                reason=reason,
                detail=detail,
                head=lines.blob[start : start + min(length, HEAD_BYTES)].decode("utf-8", "backslashreplace"),
            )
        )
    return letters


def _cut(lines: Lines, limit: int) -> tuple[Lines, int]:
    """Cut lines to ``limit`` bytes, and say how many were cut here or at the source.

    A cut may fall inside a character; its bytes go too, or the whole line would not be UTF-8.
    """
    too_long = lines.lengths > limit
    cut = too_long
    if lines.original_lengths is not None:
        cut = cut | (lines.original_lengths > lines.lengths)
    if not cut.any():
        return lines, 0
    starts = lines.starts()
    lengths = lines.lengths.copy()
    for row in np.flatnonzero(cut).tolist():
        start = int(starts[row])
        end = start + min(int(lengths[row]), limit)
        lengths[row] = end - start - _broken_tail(lines.blob[max(start, end - _LONGEST_CHARACTER) : end])
    kept = np.maximum(lengths, 0)
    whole = np.maximum(lines.lengths, 0)
    # Which bytes stay: each line's first ``kept``; runs of kept and dropped bytes alternate.
    stays = np.repeat(np.tile(np.array([True, False]), len(lengths)), np.column_stack([kept, whole - kept]).ravel())
    blob = np.frombuffer(lines.blob, dtype=np.uint8)[stays].tobytes()
    return (
        Lines(lines.service, lines.topic, lines.partition, lines.offsets, lines.arrivals, blob, lengths),
        int(np.count_nonzero(cut)),
    )


def _broken_tail(tail: bytes) -> int:
    """Count the bytes of an unfinished UTF-8 character at the end of a line that was cut."""
    for back in range(1, len(tail) + 1):
        byte = tail[-back]
        if byte & 0xC0 == 0x80:  # a continuation byte: the character began further left
            continue
        expected = 1 if byte < 0x80 else 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4
        return back if expected > back else 0
    return 0


def column_of(lines: Lines) -> pl.Series:
    """Lay a string column over the blob; null where a record has no value or is not UTF-8."""
    n = len(lines)
    starts = lines.starts()
    null = lines.lengths < 0
    blob, validity = lines.blob, None
    if not blob.isascii():
        invalid = _invalid(lines, starts)
        if invalid.any():
            # Polars takes the column without looking at it: not even under a null may lie what is not UTF-8.
            null |= invalid
            data = np.frombuffer(blob, dtype=np.uint8) * np.repeat(~invalid, np.diff(starts))
            blob = data.tobytes()
    nulls = int(np.count_nonzero(null))
    if nulls:
        validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    buffers = [validity, pa.py_buffer(starts), pa.py_buffer(blob)]
    return pl.Series("line", pl.from_arrow(pa.Array.from_buffers(pa.large_utf8(), n, buffers, nulls)))


def _invalid(lines: Lines, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which lines are not UTF-8: [n]."""
    invalid = np.zeros(len(lines), dtype=np.bool_)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(lines.blob)]
    try:
        pa.Array.from_buffers(pa.large_utf8(), len(lines), buffers).validate(full=True)
    except pa.ArrowInvalid:  # says which line was the first only
        pass
    else:
        return invalid
    data = np.frombuffer(lines.blob, dtype=np.uint8)
    beyond = np.concatenate([[0], np.cumsum(data >= 0x80)])  # bytes beyond ASCII before each place
    for row in np.flatnonzero(beyond[starts[1:]] > beyond[starts[:-1]]).tolist():
        invalid[row] = not _is_utf8(lines.blob[starts[row] : starts[row + 1]])
    return invalid


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
