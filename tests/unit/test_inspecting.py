"""``inspect`` and ``parse``: what they find, what they write, and that what they write comes back."""

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.configuration import service_settings
from cli.inspection import inspect_lines, settled
from cli.main import app
from cli.shell import Shell, hoist
from cli.sources import Source
from cli.structured import COLUMNS, CsvWriter, JsonWriter, ParquetWriter
from contracts.service import ServiceSettings
from parsing.parser import Parser
from storage.broker import Record

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""That a process of ours may take where other work has the machine."""
HEAD = "081109 203615 148 INFO dfs.DataNode: "


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No settings, no stack and no colours but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    for name in ("LOGCANARY_HOME", "LOGCANARY_CONFIG", "LOGCANARY_KAFKA__BOOTSTRAP", "FORCE_COLOR"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def run(*args):
    return CliRunner().invoke(app, [str(word) for word in args])


def blocks(n=600):
    """Lines of blocks, three each, with lines that are off in some way."""
    said = [f"{HEAD}Receiving block blk_{i // 3} of size {i} from /10.0.0.{i % 9}" for i in range(n)]
    said[7] = HEAD + "disk [red]is[/red] full \x1b[31m"
    said[8] = ""
    said[9] = "nothing in front"
    return [line.encode() for line in said] + [b"\xff\xfe broken"]


def log_of(path, lines):
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def found_in(*args):
    done = run("inspect", *args, "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


# -- inspect


def test_inspect_says_how_a_log_is_read(tmp_path):
    data = found_in(log_of(tmp_path / "app.log", blocks()))
    assert data["lines"] == 601
    assert data["format"] == {"name": "hdfs_v1", "lines": 598, "share": round(598 / 601, 4)}
    assert data["formats"]["raw"] == 1
    assert data["time"]["first_ms"] == data["time"]["last_ms"] == 1226262975000
    fields = {one["field"]: one for one in data["fields"]}
    assert fields["level"]["common"] == [["INFO", 598]]
    masks = {one["mask"]: (one["count"], one["values"], one["example"]) for one in data["masks"]}
    assert masks["ID"] == (597, 200, "0")
    assert masks["NUM"] == (597, 597, "0")
    assert masks["IP"][:2] == (597, 9)
    assert data["sessions"] == {
        "rule": "block",
        "lines": 597,
        "share": round(597 / 601, 4),
        "ids": 200,
        "lines_per_id": 2.98,
        "example": "blk_0",
    }
    assert [one["rule"] for one in data["session_candidates"]] == ["block"]
    first, *others = data["templates"]
    assert (first["count"], first["template"]) == (597, "Receiving block blk_<ID> of size <NUM> from /<IP>")
    assert first["example"] == HEAD + "Receiving block blk_0 of size 0 from /10.0.0.0"
    assert sum(one["count"] for one in others) == 2
    assert data["guards"]["dead"] == {"empty": 1, "invalid_utf8": 1}
    assert data["guards"]["odd"] == {"no_time": 1}
    assert (data["guards"]["cut"], data["guards"]["overflow"]) == (0, 0)


def test_a_format_of_ones_own_is_named_and_said_to_fit(tmp_path):
    lines = [f"web-{n % 2}|31.01.2026 08:00:{n:02d}|INFO| seat {n} taken".encode() for n in range(60)]
    log_of(tmp_path / "web.log", lines)
    (tmp_path / "web.toml").write_text(
        "format_pattern = '(?P<host>[^|]+)\\|(?P<time>[^|]+)\\|(?P<level>\\w+)\\| '\n"
        'format_time = "dd.MM.yyyy HH:mm:ss"\n'
    )
    data = json.loads(run("inspect", "web.log", "--settings", "web.toml", "--json").stdout)
    assert data["format"] == {"name": "pattern", "lines": 60, "share": 1.0}
    hosts = next(one for one in data["fields"] if one["field"] == "host")
    assert hosts["common"] == [["web-0", 30], ["web-1", 30]]  # of equals the first by name, in every run


def test_inspect_shows_foreign_text_as_text(tmp_path):
    done = run("inspect", log_of(tmp_path / "app.log", blocks()))
    assert done.exit_code == 0
    flat = " ".join(done.stdout.split())
    assert "format hdfs_v1, fits 100 %; 1 raw" in flat
    assert "off 1 empty, 1 invalid_utf8, 1 no_time" in flat
    assert "[red]is[/red]" in flat
    assert "\\x1b[31m" in flat
    assert "\x1b" not in done.stdout
    assert "more templates" not in flat
    assert "2 more templates: --top 0 shows all." in run("inspect", "app.log", "--top", "1").stdout


def test_long_lines_are_counted_as_cut(tmp_path):
    data = found_in(log_of(tmp_path / "app.log", [b"a" * 70_000, b"b"]))
    assert data["guards"]["cut"] == 1


def test_inspect_opens_what_is_packed_or_wrapped(tmp_path):
    lines = blocks()
    plain = found_in(log_of(tmp_path / "app.log", lines))
    (tmp_path / "app.log.gz").write_bytes(gzip.compress((tmp_path / "app.log").read_bytes()))
    (tmp_path / "app.log.zst").write_bytes(zstandard.ZstdCompressor().compress((tmp_path / "app.log").read_bytes()))
    for packed in ("app.log.gz", "app.log.zst"):
        assert found_in(packed) == plain | {"source": packed}
    records = [json.dumps({"log": line.decode(), "stream": "stdout"}).encode() for line in lines[10:600]]
    wrapped = found_in(log_of(tmp_path / "app.jsonl", records))
    assert wrapped["wrappings"] == {"json": 590}
    assert wrapped["format"]["name"] == "hdfs_v1"
    assert wrapped["templates"][0]["template"] == plain["templates"][0]["template"]


def test_limit_is_the_first_lines_of_a_file(tmp_path):
    data = found_in(log_of(tmp_path / "app.log", blocks()), "--limit", "5")
    assert data["lines"] == data["templates"][0]["count"] == 5


def test_limit_reaches_over_batches(tmp_path):
    assert found_in(log_of(tmp_path / "app.log", blocks(25_000)), "--limit", "20000")["lines"] == 20_000


def test_no_session_is_given_where_none_is_found(tmp_path):
    lines = [f"{HEAD}only once blk_{i}".encode() for i in range(50)]
    data = found_in(log_of(tmp_path / "app.log", lines))
    assert (data["sessions"]["rule"], data["sessions"]["lines"]) == ("none", 0)
    assert data["session_candidates"][0]["lines_per_id"] == 1.0


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"session": {"by": "identifier", "pattern": r'from /(\d+\.)"\'\\'}, "masks": [{"name": "A", "pattern": "x\n"}]},
    ],
)
def test_written_settings_are_taken_back(tmp_path, own):
    """What ``--write`` writes is read by ``settings set``, and reads the log as before."""
    given_ = ServiceSettings(service="files", **own)
    (tmp_path / "own.toml").write_text(_toml(given_))
    log = log_of(tmp_path / "app.log", blocks())
    done = run("inspect", log, "--write", "pay.toml", "--settings", "own.toml", "--json")
    assert "settings set SERVICE pay.toml" in done.stderr
    data = json.loads(done.stdout)
    again = service_settings("pay", tmp_path / "pay.toml")
    assert again.format == "hdfs_v1"
    assert again.masks == given_.masks
    if own:
        assert again.session == given_.session
    first = Source("app.log", again, file=log)
    pinned, _ = settled(again, next(first.batches(Shell(), None)))
    assert pinned == again
    parser = Parser(again)
    events = parser.parse(next(first.batches(Shell(), None))).events
    assert int((events.frame["session"] != "").sum()) == data["sessions"]["lines"]
    assert found_in(log, "--settings", "pay.toml")["templates"] == data["templates"]


def _toml(given_):
    import tomli_w

    return tomli_w.dumps(given_.model_dump(mode="json", exclude_defaults=True, exclude={"service"}))


def test_a_topics_lines_are_read_partition_by_partition():
    values = blocks()
    records = tuple(
        Record("logs.pay", row % 2, 100 + row, 1_795_352_869_000, None, value, []) for row, value in enumerate(values)
    )
    source = Source("logs.pay", ServiceSettings(service="pay"), records=(*records, records[0]._replace(value=None)))
    found = inspect_lines(source.name, source.settings, source.batches(Shell(), None)).data()
    assert found["lines"] == 602
    assert found["guards"]["dead"] == {"empty": 1, "invalid_utf8": 1, "null": 1}
    assert found["sessions"]["rule"] == "block"
    assert "service" in found["settings"]


# -- parse


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_parse_writes_loghubs_columns(tmp_path):
    done = run("parse", log_of(tmp_path / "app.log", blocks()), "--csv", "--templates", "t.csv")
    assert done.exit_code == 0
    rows = rows_of(done.stdout)
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0] | {"EventId": ""} == {
        "LineId": "1",
        "Date": "2008-11-09",
        "Time": "20:36:15.000",
        "Level": "INFO",
        "Component": "dfs.DataNode",
        "Content": "Receiving block blk_0 of size 0 from /10.0.0.0",
        "EventId": "",
        "EventTemplate": "Receiving block blk_<ID> of size <NUM> from /<IP>",
        "ParameterList": '["0", "0", "10.0.0.0"]',
    }
    numbers = [int(row["LineId"]) for row in rows]
    assert numbers == [number for number in range(1, 602) if number not in (9, 601)]
    bare = rows[8]
    assert (bare["Date"], bare["Time"], bare["Level"], bare["Content"]) == ("", "", "", "nothing in front")
    assert "2 lines left out, which cannot be parsed: 1 empty, 1 invalid_utf8." in done.stderr
    listed = rows_of((tmp_path / "t.csv").read_text())
    assert (listed[0]["EventId"], listed[0]["Occurrences"]) == (rows[0]["EventId"], "597")
    assert {row["EventId"]: row["EventTemplate"] for row in listed} == {
        row["EventId"]: row["EventTemplate"] for row in rows
    }


def test_every_line_of_a_file_has_its_template_as_all_lines_made_it(tmp_path):
    log = log_of(tmp_path / "app.log", [b"user anna left", b"user bert left"])
    rows = rows_of(run("parse", log).stdout)
    assert [(row["EventTemplate"], row["ParameterList"]) for row in rows] == [
        ("user <*> left", '["anna"]'),
        ("user <*> left", '["bert"]'),
    ]


def test_all_formats_hold_the_same(tmp_path):
    log = log_of(tmp_path / "app.log", blocks(25_000))
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        done = run("parse", log, "--out", name)
        assert done.exit_code == 0
        assert done.stdout == ""
    parquet = pl.read_parquet(tmp_path / "a.parquet")
    assert dict(parquet.schema) == COLUMNS
    assert parquet.height == 24_999
    assert pl.read_ndjson(tmp_path / "a.jsonl", schema=COLUMNS).equals(parquet)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = [row | {"ParameterList": json.loads(row["ParameterList"])} for row in csv.DictReader(file)]
    assert pl.DataFrame(rows).cast({"LineId": pl.Int64}).equals(parquet)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "\r",
        "\n",
        "a\r\nb",
        '"',
        ",",
        " a ",
        "\x00",
        "\x1b[31m",
        "\x85",
        "\ufeffa",
        "=1+1",
        "\\",
        "''",
        "null",
        "NaN",
        "",
    ]
)


@given(st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=3)), max_size=6))
@settings(max_examples=200, deadline=None)
def test_control_characters_come_back(values):
    frame = pl.DataFrame(
        [
            {**dict.fromkeys(COLUMNS, ""), "LineId": row, "Content": text, "ParameterList": texts}
            for row, (text, texts) in enumerate(values)
        ],
        schema=COLUMNS,
    )
    for kind in (CsvWriter, JsonWriter, ParquetWriter):
        out = io.BytesIO()
        writer = kind(out)
        writer.write(frame[:2])
        writer.write(frame[2:])
        writer.close()
        out.seek(0)
        if kind is CsvWriter:
            rows = rows_of(out.getvalue().decode())
            assert [(row["Content"], json.loads(row["ParameterList"])) for row in rows] == values
            again = pl.read_csv(out, infer_schema=False) if rows else frame
            assert again["Content"].to_list() == frame["Content"].to_list()
        elif kind is JsonWriter:
            found = [json.loads(line) for line in out.getvalue().decode().removesuffix("\n").split("\n") if line]
            assert [(row["Content"], row["ParameterList"]) for row in found] == values
        else:
            assert pl.read_parquet(out).equals(frame)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["parse", "app.log", "--json", "--csv"], "--json, --csv and --parquet exclude each other"),
        (["parse", "app.log", "--out", "none/a.csv"], "--out none/a.csv: cannot be written"),
        (["parse", "app.log", "--out", "."], "--out .: is no file that could be replaced"),
        (["parse", "none.log"], "none.log does not exist"),
        (["inspect", "none/app"], "none/app does not exist"),
        (["inspect", "a b"], "a b does not exist, and cannot be a service's name"),
        (["inspect", "."], ". is a folder"),
        (["parse", "empty.log.gz"], "empty.log.gz is empty"),
        (["inspect", "empty.log.gz"], "empty.log.gz is empty"),
        (["inspect", "zeros.log"], "zeros.log is a binary file"),
        (["inspect", "app.log", "--write", "none/a.toml"], "--write none/a.toml: cannot be written"),
        (["inspect", "pay", "-o", "kafka.bootstrap=127.0.0.1:1"], "there is no file pay, and no telling whether"),
        (["inspect", "app.log", "--settings", "none.toml"], "none.toml, which does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, args, words):
    monkeypatch.setattr("storage.broker.CONNECT_SECONDS", 0.2)
    log_of(tmp_path / "app.log", blocks(20))
    log_of(tmp_path / "zeros.log", [b"\x00\x00"])
    (tmp_path / "empty.log.gz").write_bytes(gzip.compress(b""))
    done = run(*args)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("logcanary: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "bad.log.gz").write_bytes(gzip.compress(b"\n".join(blocks(200_000)))[:-2_000])
    done = run("parse", "bad.log.gz", "--out", "out.csv")
    assert done.exit_code == 1
    assert "is damaged" in done.stderr
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.log.gz", "out.csv"]


# -- streams and signals


def process(*args, **options):
    words = [sys.executable, "-m", "cli.main", *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=ROOT, preexec_fn=_heed_interrupts, **streams, **options)  # noqa: PLW1509


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_read_once(packed):
    data = b"\n".join(blocks())
    with process("parse", "-", "--json", stdin=subprocess.PIPE) as running:
        out, err = running.communicate(gzip.compress(data) if packed else data, timeout=SECONDS)
    assert running.returncode == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 599
    assert rows[0]["ParameterList"] == ["0", "0", "10.0.0.0"]


def test_a_pipe_is_read_once(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with process("parse", fifo, "--json") as running:
        fifo.write_bytes(b"\n".join(blocks()))
        out, err = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, err
    assert out.count(b"\n") == 599


def test_inspect_takes_standard_input():
    with process("inspect", "-", "--json", stdin=subprocess.PIPE) as running:
        out, _ = running.communicate(b"\n".join(blocks()), timeout=SECONDS)
    assert json.loads(out)["lines"] == 601


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_half_written_file(tmp_path, number, code):
    with process("parse", "-", "--out", tmp_path / "a.csv", stdin=subprocess.PIPE) as running:
        running.stdin.write(b"\n".join(blocks(40_000)))
        running.stdin.flush()
        (part,) = wait_for(lambda: [path for path in tmp_path.iterdir() if path.stat().st_size])
        assert part.name != "a.csv"
        running.send_signal(number)  # it waits for more lines now
        _, err = running.communicate(timeout=SECONDS)
    assert running.returncode == code, err
    assert list(tmp_path.iterdir()) == []


def wait_for(what):
    """Look until something is there: a process says no sooner that it has begun to write."""
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_flag_o_stays_a_setting():
    assert hoist(["parse", "a", "-o", "kafka.bootstrap=x", "--out", "b"])[:2] == ["-o", "kafka.bootstrap=x"]
