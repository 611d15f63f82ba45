"""Text to time: timestamps of a column to milliseconds since 1970 UTC, digit by digit over all rows at once.

A layout names the places of the numbers, such as ``yyyy-MM-dd HH:mm:ss``: ``yyyy`` or ``yy`` year, ``MM`` month,
``MMM`` month by name, ``dd`` day (a blank may stand for its first digit), ``HH`` ``mm`` ``ss``, ``SSS`` milliseconds,
and ``f`` for a fraction behind a dot or comma. Behind the last place may come a zone (``Z``, ``+01``, ``+0100``,
``+01:00``, a name of ``ZONE_NAMES``; a blank before it allowed). All other characters only hold the place. Without a
zone a time is taken as UTC.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

DAY_MS = 86_400_000
_WIDEST = 48  # bytes of a timestamp that are looked at; the longest known form has 36
_PLACES = re.compile(r"yyyy|yy|MMM|MM|dd|HH|mm|SSS|ss|f")
_NEEDED = frozenset(("HH", "mm", "ss"))
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {int.from_bytes(name.encode(), "big"): number for number, name in enumerate(_MONTH_NAMES, start=1)}
_DAYS_IN_MONTH = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

ZONE_NAMES = {
    "UTC": 0, "GMT": 0, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "WEST": 60, "BST": 60, "MSK": 180, "JST": 540,
    "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
}  # fmt: skip
"""Zones by name, minutes east of UTC. Of names that several zones have (CST, BST), what most logs mean by them."""

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class LayoutError(ValueError):
    """A layout's pattern cannot be used; the message says why."""


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a timestamp stand: (kind, first byte) by kind, and how long the fixed part is."""

    places: tuple[tuple[str, int], ...]
    fixed: int
    fraction: bool
    gap: int = -1
    """First byte that belongs to no number and may not be a digit, so that a long number is no time; -1: none."""


@cache
def layout(pattern: str) -> Layout:
    """Read a layout's pattern.

    >>> layout("HH:mm:ss").places
    (('HH', 0), ('mm', 3), ('ss', 6))

    Raises:
        LayoutError: It lacks the time of day, has a month without a day or a year without both, or says a number twice.
    """
    places = tuple((match.group(), match.start()) for match in _PLACES.finditer(pattern) if match.group() != "f")
    kinds = [kind for kind, _ in places]
    named = set(kinds)
    if not named >= _NEEDED:
        raise LayoutError(f"{pattern!r} says no time of day: HH, mm and ss are needed")
    if ("dd" in named) != bool(named & {"MM", "MMM"}) or (named & {"yyyy", "yy"} and "dd" not in named):
        raise LayoutError(f"{pattern!r} says half a date: use dd with MM or MMM, and yyyy or yy if the year is written")
    if len(kinds) != len(named) or named >= {"MM", "MMM"} or named >= {"yyyy", "yy"}:
        raise LayoutError(f"{pattern!r} says one number twice")
    taken = {at + step for kind, at in places for step in range(len(kind))}
    fixed = len(pattern.removesuffix("f").removesuffix("."))
    gap = next((at for at in range(fixed) if at not in taken), -1)
    return Layout(places, fixed, pattern.endswith("f"), gap)


ISO = layout("yyyy-MM-dd HH:mm:ss.f")


def possible(times: Ints, arrivals: Ints, known: Bools) -> Bools:
    """Say which times are to be believed: known, not before 1970, not more than a day after the arrival."""
    believed: Bools = known & (times >= 0) & (times <= arrivals + DAY_MS)
    return believed


def parse_times(values: pl.Series, form: Layout, arrivals: Ints) -> tuple[Ints, Bools]:
    """Read timestamps of one layout: ([n] ms, [n] whether it could be read).

    Where the layout has no year or no date, those that bring the time closest to its arrival are taken.
    """
    text, lengths = _columns(values)
    if len(text) < form.fixed:
        return arrivals.copy(), np.zeros(len(values), dtype=np.bool_)
    known = lengths >= form.fixed
    if form.gap >= 0:
        known &= text[form.gap] - np.uint8(48) > 9
    fields: dict[str, Ints] = {}
    for kind, at in form.places:
        fields[kind], fine = _month(text[at : at + 3]) if kind == "MMM" else _number(text[at : at + len(kind)])
        known &= fine
    hour, minute, second = fields["HH"], fields["mm"], fields["ss"]
    known &= (hour < 24) & (minute < 60) & (second <= 60)  # a leap second counts as the next minute's first
    clock = ((hour * 60 + minute) * 60 + second) * 1000
    if "SSS" in fields:
        clock += fields["SSS"]
    if form.fraction:
        clock += _fraction(text[form.fixed : form.fixed + 4], len(values))
    clock -= _zone(text, lengths, form.fixed)
    if "dd" not in fields:
        midnight = arrivals // DAY_MS * DAY_MS
        return _closest([midnight - DAY_MS + clock, midnight + clock, midnight + DAY_MS + clock], arrivals), known
    month = fields["MM"] if "MM" in fields else fields["MMM"]
    day = fields["dd"]
    known &= (month >= 1) & (month <= 12) & (day >= 1)
    known &= day <= _DAYS_IN_MONTH[np.where(known, month, 1)]
    if "yyyy" in fields or "yy" in fields:
        year = fields["yyyy"] if "yyyy" in fields else fields["yy"] + np.where(fields["yy"] < 70, 2000, 1900)
        known &= (month != 2) | (day < 29) | _leap(year)
        return _days(year, month, day) * DAY_MS + clock, known
    year = arrivals.astype("datetime64[ms]").astype("datetime64[Y]").astype(np.int64) + 1970
    candidates = [_days(year + shift, month, day) * DAY_MS + clock for shift in (-1, 0, 1)]
    return _closest(candidates, arrivals), known


def parse_any(values: pl.Series, arrivals: Ints) -> tuple[Ints, Bools]:
    """Read times of any common form: ISO 8601, a number of s, ms, us or ns since 1970 (by its size), ``_FORMS``."""
    times, known = parse_times(values, ISO, arrivals)
    if known.all():
        return times, known
    numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    size = np.abs(numbers)
    # 14 digits that begin with 19 or 20 are a date without separators: as milliseconds they were in the year 2600.
    numeric = np.isfinite(numbers) & (size < 1e20) & ((size < 1.9e13) | (size >= 2.1e13))
    # Seconds reach 1e11 in the year 5138, milliseconds 1e14 then: the size says the unit.
    to_ms = np.select([size < 1e11, size < 1e14, size < 1e17], [1e3, 1.0, 1e-3], 1e-6)
    epoch = np.where(numeric, numbers, 0.0) * to_ms
    times, known = np.where(numeric & ~known, np.floor(epoch).astype(np.int64), times), known | numeric
    rest = np.flatnonzero(~known & values.is_not_null().to_numpy())
    if len(rest):
        times[rest], known[rest] = _parse_forms(values[pl.Series(rest)], arrivals[rest])
    return times, known


def _parse_forms(values: pl.Series, arrivals: Ints) -> tuple[Ints, Bools]:
    """Read times of the less common forms, each by the first that fits it."""
    times, known = arrivals.copy(), np.zeros(len(values), dtype=np.bool_)
    text = _in_24_hours(values.str.strip_chars("[]( )"))
    for shape, form in _FORMS:
        rows = np.flatnonzero(text.str.contains(shape).fill_null(False).to_numpy() & ~known)
        if len(rows):
            times[rows], known[rows] = parse_times(text[pl.Series(rows)], form, arrivals[rows])
        if known.all():
            break
    return times, known


def _in_24_hours(text: pl.Series) -> pl.Series:
    """Write ``1:07:49 PM`` as ``13:07:49``, a month or day of one digit with a 0, and leave a weekday out."""
    text = text.str.replace(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +", "")
    text = text.str.replace(r"^([0-9])([/.])", "0$1$2").str.replace(r"^([0-9]{2}[/.])([0-9])([/.])", "${1}0$2$3")
    text = text.str.replace(r"^([A-Z][a-z]{2}) ([0-9])\b", "$1  $2").str.replace(r"([ T])([0-9]):", "${1}0$2:")
    if not text.str.contains(r"[0-9] ?[AaPp]\.?[Mm]\.?").any():
        return text
    for hour in range(1, 13):
        for half, in_24 in (("[Aa]", hour % 12), ("[Pp]", hour % 12 + 12)):
            clock = rf"\b{hour:02d}(:[0-9]{{2}}:[0-9]{{2}}(?:[.,][0-9]+)?) ?{half}\.?[Mm]\.?"
            text = text.str.replace(clock, f"{in_24:02d}#$1")  # the mark keeps an hour from being read again
    return text.str.replace("#", "", literal=True)


def _shape(pattern: str) -> str:
    """The expression of a layout's texts: digits in the places of numbers, all else as it stands."""
    places = {"MMM": "[A-Za-z]{3}", "dd": "[ 0-9][0-9]", "f": ""}
    parts, at = [], 0
    for place in _PLACES.finditer(pattern):
        parts += [re.escape(pattern[at : place.start()]), places.get(place[0], f"[0-9]{{{len(place[0])}}}")]
        at = place.end()
    return "^" + "".join(parts).removesuffix(re.escape("."))


_FORMS = tuple(
    (_shape(pattern), layout(pattern))
    for pattern in (
        "yyyyMMddTHHmmss.f", "yyyyMMdd HH:mm:ss.f", "yyyyMMddHHmmss.f", "dd/MMM/yyyy:HH:mm:ss.f",
        "dd MMM yyyy HH:mm:ss.f", "dd-MMM-yyyy HH:mm:ss.f", "MMM dd, yyyy HH:mm:ss.f", "MMM dd, yyyy, HH:mm:ss.f",
        "MMM dd yyyy HH:mm:ss.f", "MMM dd HH:mm:ss yyyy", "MMM dd HH:mm:ss UTC yyyy", "MMM dd HH:mm:ss.f",
        "MM/dd/yyyy HH:mm:ss.f", "MM/dd/yyyy, HH:mm:ss.f", "dd/MM/yyyy HH:mm:ss.f", "dd.MM.yyyy HH:mm:ss.f",
        "dd.MM.yyyy, HH:mm:ss.f", "yy/MM/dd HH:mm:ss.f", "MM-dd HH:mm:ss.f", "MMdd HH:mm:ss.f", "HH:mm:ss.f",
    )
)  # fmt: skip
"""What is no ISO 8601, in the order in which it is tried: of 11/12/2026 the month is first where it may be."""


def _columns(values: pl.Series) -> tuple[Bytes, Ints]:
    """Return the first bytes of each string, place by place ([widest, n], zero behind the end), and the lengths [n]."""
    arrow = (values.fill_null("") if values.null_count() else values).to_arrow(compat_level=pl.CompatLevel.oldest())
    if not pa.types.is_large_string(arrow.type):
        arrow = arrow.cast(pa.large_utf8())
    _, offsets, data = arrow.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[arrow.offset : arrow.offset + len(values) + 1]
    starts, lengths = ends[:-1], ends[1:] - ends[:-1]
    longest = int(lengths.max(initial=0))
    if longest == 0:
        return np.zeros((0, len(values)), dtype=np.uint8), lengths
    flat = np.frombuffer(data, dtype=np.uint8)[: int(ends[-1])]
    if longest <= _WIDEST and int(lengths.min()) == longest:
        return np.ascontiguousarray(flat[int(starts[0]) :].reshape(len(values), longest).T), lengths
    width = min(longest, _WIDEST)
    padded = np.concatenate([flat, np.zeros(width, dtype=np.uint8)])
    text = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, width)[starts].T)
    text[np.arange(width)[:, None] >= lengths] = 0
    return text, lengths


def _number(digits: Bytes) -> tuple[Ints, Bools]:
    """Read a number from its digits' bytes [width, n]; a blank may stand for the first."""
    values = digits - np.uint8(48)  # wraps around: what is below "0" becomes large
    values[0][digits[0] == ord(" ")] = 0
    fine: Bools = (values <= 9).all(axis=0)
    number = values[0].astype(np.int64)
    for digit in values[1:]:
        number = number * 10 + digit
    return number, fine


def _month(letters: Bytes) -> tuple[Ints, Bools]:
    """Read a month from its three letters' bytes [3, n], in any case."""
    first, second, third = (letters | 0x20).astype(np.int64)
    keys = (first << 16) | (second << 8) | third
    month = np.zeros(len(keys), dtype=np.int64)
    for key, number in _MONTHS.items():
        month[keys == key] = number
    return month, month > 0


def _fraction(text: Bytes, n: int) -> Ints:
    """Read a dot or comma and up to three digits [up to 4, n] as ms; further digits are dropped."""
    ms = np.zeros(n, dtype=np.int64)
    if not len(text):
        return ms
    going = (text[0] == ord(".")) | (text[0] == ord(","))
    for digit, weight in zip(text[1:] - np.uint8(48), (100, 10, 1), strict=False):
        going &= digit <= 9
        ms += np.where(going, digit, 0).astype(np.int64) * weight
    return ms


def _zone(text: Bytes, lengths: Ints, fixed: int) -> Ints | int:
    """Read the offset from UTC at the end, in ms; 0 where there is none."""
    behind = text[fixed:]
    if len(behind) < 3:
        return 0
    offset: Ints | int = 0
    if ((behind == ord("+")) | (behind == ord("-"))).any():
        offset = _numeric_zone(text, lengths, fixed)
    if ((behind == ord("T")) | (behind == ord("K"))).any():  # all names end so but UTC
        offset = offset + _named_zone(text, lengths, fixed)
    return offset


def _numeric_zone(text: Bytes, lengths: Ints, fixed: int) -> Ints:
    offset = np.zeros(len(lengths), dtype=np.int64)
    everyone = np.arange(len(lengths))
    for back, minutes_at in ((6, 4), (5, 3), (3, 0)):  # +01:00, +0100, +01
        at = lengths - back
        inside = (at >= fixed) & (lengths <= len(text))
        sign = text[np.where(inside, at, 0), everyone]
        rows = np.flatnonzero(inside & ((sign == ord("+")) | (sign == ord("-"))))
        if not len(rows):
            continue
        tail = np.stack([text[at[rows] + step, rows] for step in range(back)])
        hours, fine = _number(tail[1:3])
        minutes = np.zeros_like(hours)
        if minutes_at:
            minutes, fine_too = _number(tail[minutes_at : minutes_at + 2])
            fine &= fine_too
        fine &= (hours < 24) & (minutes < 60)
        east = np.where(sign[rows] == ord("+"), 1, -1)
        offset[rows[fine]] = (east * (hours * 60 + minutes) * 60_000)[fine]
    return offset


def _named_zone(text: Bytes, lengths: Ints, fixed: int) -> Ints:
    offset = np.zeros(len(lengths), dtype=np.int64)
    everyone = np.arange(len(lengths))
    for name, minutes in ZONE_NAMES.items():
        at = lengths - len(name)
        same = (at >= fixed) & (lengths <= len(text)) & (minutes != 0)
        for step, letter in enumerate(name.encode()):
            if not same.any():
                break
            same &= text[np.where(same, at + step, 0), everyone] == letter
        offset[same] = minutes * 60_000
    return offset


def _leap(year: Ints) -> Bools:
    leap: Bools = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return leap


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Count the days from 1970-01-01 (Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*)."""
    shifted = year - (month <= 2)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: Ints = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
    return days


def _closest(candidates: list[Ints], arrivals: Ints) -> Ints:
    """Return, row by row, the candidate closest to the arrival, the earlier of two."""
    table = np.stack(candidates)
    best = np.abs(table - arrivals).argmin(axis=0)
    closest: Ints = table[best, np.arange(len(arrivals))]
    return closest
