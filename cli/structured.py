"""Parsed lines as the columns of Loghub's structured files, written batch by batch as CSV, JSON lines or Parquet."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Literal, Protocol

import polars as pl

from cli.shell import ProblemError
from parsing.events import template_hex
from parsing.masks import Masks
from parsing.params import parameters
from parsing.parser import Parsed

Kind = Literal["csv", "json", "parquet"]
SUFFIXES: dict[str, Kind] = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
TERMINATED = 128 + signal.SIGTERM

COLUMNS: dict[str, pl.DataType] = {
    "LineId": pl.Int64(),
    "Date": pl.String(),
    "Time": pl.String(),
    "Level": pl.String(),
    "Component": pl.String(),
    "Content": pl.String(),
    "EventId": pl.String(),
    "EventTemplate": pl.String(),
    "ParameterList": pl.List(pl.String()),
}
"""``LineId`` counts the lines of the source from 1, those that cannot be parsed too. ``Date`` and ``Time`` are UTC.
What a line does not say is empty."""


def structured(parsed: Parsed, masks: Masks) -> pl.DataFrame:
    """Return a batch that was parsed with its fields as ``COLUMNS``; the texts of templates are the newest."""
    fields, frame = parsed.fields, parsed.events.frame
    assert fields is not None
    if not frame.height:
        return pl.DataFrame(schema=COLUMNS)
    names = {template: template_hex(template) for template in parsed.events.templates}
    text = frame["template"].replace_strict(parsed.events.templates, return_dtype=pl.String)
    moment = pl.col("time").cast(pl.Datetime("ms"))
    dated = pl.lit(fields["dated"])
    return frame.select(
        LineId=pl.col("offset") + 1,
        Date=pl.when(dated).then(moment.dt.strftime("%Y-%m-%d")).otherwise(pl.lit("")),
        Time=pl.when(dated).then(moment.dt.strftime("%H:%M:%S%.3f")).otherwise(pl.lit("")),
        Level="level",
        Component=fields["component"],
        Content=fields["message"],
        EventId=pl.col("template").replace_strict(names, return_dtype=pl.String),
        EventTemplate=text,
        ParameterList=parameters(fields["message"], text, masks).lists(),
    )


class Writer(Protocol):
    """Takes batches of ``COLUMNS``."""

    def write(self, rows: pl.DataFrame) -> None:
        """Write a batch."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CsvWriter:
    """A header, then a row a line; ``ParameterList`` is a list in JSON."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._begun = out, False

    def write(self, rows: pl.DataFrame) -> None:
        """Write a batch."""
        lists = [json.dumps(texts, ensure_ascii=False) for texts in rows["ParameterList"].to_list()]
        plain = rows.with_columns(pl.Series("ParameterList", lists, dtype=pl.String))
        self._out.write(plain.write_csv(include_header=not self._begun).encode())
        self._begun = True

    def close(self) -> None:
        """Write the header where there was no row."""
        if not self._begun:
            self.write(pl.DataFrame(schema=COLUMNS))


class JsonWriter:
    """An object a line."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, rows: pl.DataFrame) -> None:
        """Write a batch."""
        self._out.write(rows.write_ndjson().encode())

    def close(self) -> None:
        """Nothing is left."""


class ParquetWriter:
    """A row group a batch, packed with Zstandard."""

    def __init__(self, out: IO[bytes]) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  (only where it is asked for)

        schema = pl.DataFrame(schema=COLUMNS).to_arrow().schema
        self._writer = pq.ParquetWriter(out, schema, compression="zstd")

    def write(self, rows: pl.DataFrame) -> None:
        """Write a batch."""
        self._writer.write_table(rows.to_arrow().cast(self._writer.schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


WRITERS: dict[Kind, type[CsvWriter] | type[JsonWriter] | type[ParquetWriter]] = {
    "csv": CsvWriter,
    "json": JsonWriter,
    "parquet": ParquetWriter,
}


@contextmanager
def whole_file(path: Path | None, flag: str) -> Iterator[IO[bytes]]:
    """Give a file that appears under its name when it is whole, or not at all; None is standard output.

    Raises:
        ProblemError: it cannot be written; names the flag.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        raise ProblemError(f"{flag} {path}: is no file that could be replaced; name a file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        try:
            out = part.open("wb")
        except OSError as error:
            raise ProblemError(f"{flag} {path}: cannot be written: {error.strerror}") from None
        with out:
            yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C, so that the half-written file goes."""
    raise SystemExit(TERMINATED)


def templates_csv(texts: dict[int, str], counts: dict[int, int]) -> str:
    """Write templates as Loghub's templates files have them, the commonest first."""
    order = sorted(texts, key=lambda template: (-counts[template], template))
    rows = {
        "EventId": [template_hex(template) for template in order],
        "EventTemplate": [texts[template] for template in order],
        "Occurrences": [counts[template] for template in order],
    }
    return pl.DataFrame(
        rows, schema={"EventId": pl.String, "EventTemplate": pl.String, "Occurrences": pl.Int64}
    ).write_csv()
