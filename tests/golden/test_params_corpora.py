"""Real corpora: template and parameters are every line again, and every variable of a template is found."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.masks import Masks
from parsing.miner import RESERVED
from parsing.params import parameters, restored
from parsing.parser import Parser

ARRIVAL = 1_795_352_869_000  # 2026-11-22: after every line of the corpora
SYSTEMS = 16


def check(lines: list[bytes], form: str) -> int:
    """Parse lines and put them together again; returns how many there were."""
    n = len(lines)
    batch = Lines.from_list("pay", "logs.pay", 0, np.arange(n), np.full(n, ARRIVAL), lines)
    parsed = Parser(ServiceSettings(service="pay", format=form), fields=True).parse(batch)
    assert parsed.fields is not None
    messages, line = parsed.fields["message"], parsed.events.frame["line"].str.strip_chars_end(" \t\r\n")
    templates = parsed.events.frame["template"].replace_strict(parsed.events.templates, return_dtype=pl.String)
    found = parameters(messages, templates, Masks.build())
    back = restored(templates, found)
    assert back.equals(messages)
    headers = line.str.slice(0, line.str.len_chars() - messages.str.len_chars())
    assert (headers + back).equals(line)
    assert form != "raw" or set(headers) == {""}
    slots = pl.DataFrame({"row": pl.int_range(len(messages), dtype=pl.UInt32, eager=True)}).join(
        found.frame.group_by("row").agg("slot"), on="row", how="left", maintain_order="left"
    )["slot"]
    variables = templates.str.count_matches(r"<(?:[A-Z][A-Z0-9_]*|\*|\.\.\.)>")
    filled = slots.list.drop_nulls().list.n_unique().fill_null(0)
    own = (parsed.events.frame["template"] >= RESERVED) & (filled != variables)
    assert pl.DataFrame({"line": messages, "template": templates}).filter(own).rows() == []
    return n


@pytest.mark.parametrize("form", ["auto", "raw"])
def test_loghub(data_dir: Path, form: str) -> None:
    logs = sorted((data_dir / "loghub").glob("*/*_2k.log.gz"))
    assert len(logs) == SYSTEMS
    for log in logs:
        assert check(gzip.decompress(log.read_bytes()).removesuffix(b"\n").split(b"\n"), form) == 2000


@pytest.mark.parametrize("form", ["auto", "raw"])
def test_hdfs(data_dir: Path, form: str) -> None:
    lines = gzip.decompress((data_dir / "hdfs" / "hdfs.log.gz").read_bytes()).removesuffix(b"\n").split(b"\n")
    assert check(lines[::8], form) > 20_000
