"""Redaction: what is a secret goes, what is none stays, and no byte that is made of a line holds what was planted."""

import gzip
import json
import re
import string
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from console.api import create
from console.pages import Pages
from console.store import Store
from console.trying import try_lines
from contracts.records import Settings
from contracts.service import RedactKind, RedactOptions, ServiceSettings
from models.detect import Source, detect
from models.learning import fit_ngram, learn
from parsing.events import Events, Lines
from parsing.parser import Parser
from parsing.redaction import Redaction, RedactSettingsError, mark
from storage.archive import batch_of
from storage.control import ControlView, key_of
from streaming.archiver import Redactions, redacted
from streaming.buckets import Saved
from streaming.bundles import Bundles
from streaming.stages import ParseStage, ScoreStage, parse_safely
from tests.packing import pack
from tests.unit.test_archive_files import Line
from tests.unit.test_console import alone
from tests.unit.test_console_pages import Reading, Writer, form_of
from tests.unit.test_streaming_stages import APP, OPTIONS, T0, TOPIC, Shelf, order, pointer, text
from tests.unit.test_training import SETTINGS, dataset, orders
from training.dataset import build

ROOT = Path(__file__).parents[2]
ALL = Redaction.build(get_args(RedactKind))
CREDENTIALS = Redaction.build(["credentials"])
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmVk-1_x"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/IBAAKCAQEA\nx7gh==\n-----END RSA PRIVATE KEY-----"
P, B = mark("password"), mark("bearer")

EXAMPLES = [
    ("login password=hunter2 ok", f"login password={P} ok"),
    ("DB_PASSWORD: hunter2", f"DB_PASSWORD: {P}"),
    ("userPassword = 'hun ter2', x", f"userPassword = '{P}', x"),
    ('secret="hun ter2" x', f'secret="{P}" x'),
    ("--password hunter2 --dry-run", f"--password {P} --dry-run"),
    ("GET /x?api_key=abc&b=1 HTTP/1.1", f"GET /x?api_key={P} HTTP/1.1"),
    ("X-Api-Key: abc", f"X-Api-Key: {P}"),
    ("aws_secret_access_key=abc/d+e", f"aws_secret_access_key={P}"),
    ('"password"=>"abc"', f'"password"=>"{P}"'),
    ("{'passwd': 'abc def', 'u': 1}", f"{{'passwd': '{P}', 'u': 1}}"),
    ("\x1b[36mtoken\x1b[0m=hunter2 x", f"\x1b[36mtoken\x1b[0m={P} x"),
    (r"token\u003dabc", rf"token\u003d{P}"),
    ("postgres://bob:s3c@ret@db:5432/x", f"postgres://bob:{P}@db:5432/x"),
    ('{"password":"hun\\"ter2","u":1}', f'{{"password":"{P}","u":1}}'),
    ('{"password": 12345}', f'{{"password": "{P}"}}'),
    ('{"tokens":1,"token":["a","b"]}', f'{{"tokens":1,"token":"{P}"}}'),
    ('{"log":"{\\"secret\\":\\"a\\\\\\"b\\",\\"n\\":1}"}', f'{{"log":"{{\\"secret\\":\\"{P}\\",\\"n\\":1}}"}}'),
    ('{"m":"said \\"password=abc\\" ok"}', f'{{"m":"said \\"password={P}\\" ok"}}'),
    ("Authorization: Basic dXNlcjpw next", f"Authorization: {B} next"),
    ('curl -H "Authorization: Bearer abc" http://x', f'curl -H "Authorization: {B}" http://x'),
    ('Authorization: Digest username="x", response="abc"', f"Authorization: {B}"),
    ('{"Authorization":["Bearer abcd"],"x":1}', f'{{"Authorization":"{B}","x":1}}'),
    ("sent Bearer abcdefghij0123456789== twice", f"sent Bearer {B} twice"),
    (f"got {JWT}.", f"got {mark('jwt')}."),
    (f"key is {PEM} done", f"key is {mark('private-key')} done"),
    (json.dumps({"k": PEM, "n": 1}), json.dumps({"k": mark("private-key"), "n": 1})),
    ("id AKIAIOSFODNN7EXAMPLE used", f"id {mark('aws-key')} used"),
    ("push by ghp_abcdefghijklmnopqrstuvwxyz0123456789", f"push by {mark('api-key')}"),
    ("mail to bob.b@mail.example.org now", f"mail to {mark('email')} now"),
    ("paid by 4111 1111 1111 1111, 378282246310005", f"paid by {mark('card')}, {mark('card')}"),
]
UNTOUCHED = [
    "Failed password for root from 10.0.0.1 port 22 ssh2",
    '{"m":"Enter password:","level":"info"}',
    '{"m":"Enter password:"}',
    '{"password":null,"token":{"kind":"x"},"secret":""}',
    "081109 203518 INFO dfs.DataNode$PacketResponder: blk_-1608999687919862906 terminating",
    "key: 5, token 7, the secret of life",
    "Basic authentication and bearer tokens are supported",
    "paid by 4111 1111 1111 1112 on 1700000000000",
    "http://host:8080/path?x=1 and hdfs://name:8020/a@b",
]


@pytest.mark.parametrize(("line", "wanted"), EXAMPLES)
def test_a_secret_goes_and_the_rest_stays(line, wanted):
    assert ALL.text(line) == wanted
    assert ALL.text(wanted) == wanted


@pytest.mark.parametrize("line", UNTOUCHED)
def test_what_is_no_secret_stays(line):
    assert ALL.text(line) == line


def test_a_line_with_a_match_has_the_hint():
    """Every example is found by the quick search alone too, in a batch beside others."""
    lines = [line.encode() for line, _ in EXAMPLES]
    assert [ALL.lines(batch(line)).blob.decode() for line in lines] == [wanted for _, wanted in EXAMPLES]


def batch(*values):
    return Lines.from_list("shop", TOPIC, 0, range(len(values)), [0] * len(values), values)


KEYS = st.sampled_from(["password", "db.passwd", "API_KEY", "clientSecret", "refresh_token", "X-Api-Key", "pwd"])
BARE = st.text(st.characters(exclude_characters=" \t\r\n\"'\\", exclude_categories=["Cs"]), min_size=6, max_size=20)
WORDS = st.text(st.sampled_from(string.ascii_lowercase[:-1] + " :,{}[]=/"), max_size=20)  # no z: secrets have one


@bounds(deadline=None)
@given(WORDS, KEYS, st.sampled_from(["=", ":", " = ", ": ", "=> "]), BARE, WORDS)
def test_a_planted_password_is_never_left_in_text(before, key, equals, secret, after):
    planted = f"zq{secret}qz"
    for value in (planted, f'"{planted} {planted}"', f"'{planted} {planted}'"):
        done = CREDENTIALS.text(f"{before} {key}{equals}{value} {after}")
        assert "zq" not in done
        assert "qz" not in done
        assert CREDENTIALS.text(done) == done


@bounds(deadline=None)
@given(KEYS, st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(max_size=10), st.integers(0, 2))
@example("password", 'a"b\\', "\\", 2)
@example("password", "\\", '"', 1)
def test_json_stays_json_and_loses_the_secret_alone(key, secret, other, depth):
    other = re.sub("[a-zA-Z@]", "", other)  # no words of its own that a kind may find
    record = {"a": other, key: f"zq{secret}qz", "list": [other], "n": 5}
    wanted = {"a": other, key: P, "list": [other], "n": 5}
    for _ in range(depth):
        record, wanted = {"log": json.dumps(record)}, {"log": json.dumps(wanted)}
    done = CREDENTIALS.text(json.dumps(record))
    assert json.loads(done) == wanted
    assert CREDENTIALS.text(done) == done


PIECES = st.sampled_from(
    [one for pair in EXAMPLES for one in pair] + UNTOUCHED + ['"', "\\", "{", "password", "=", "'"]
)


@bounds(deadline=None)
@given(st.lists(PIECES | st.text(max_size=6), max_size=4), st.sampled_from([" ", "", '"', ", "]))
def test_what_was_redacted_stays(parts, joint):
    once = CREDENTIALS.text(joint.join(parts))
    assert CREDENTIALS.text(once) == once


VALUES = st.none() | st.binary(max_size=12) | PIECES.map(str.encode) | st.just(b"\xff password=zqhunterqz \xfe")


@bounds(deadline=None)
@given(st.lists(VALUES, max_size=12))
def test_lines_are_as_many_as_before_and_each_is_as_if_it_were_alone(values):
    done = ALL.lines(batch(*values))
    assert [done.line(row) is None for row in range(len(values))] == [value is None for value in values]
    assert [done.line(row) for row in range(len(done))] == [ALL.lines(batch(value)).line(0) for value in values]
    assert b"zqhunterqz" not in done.blob


def test_without_secrets_nothing_is_made_anew(data_dir):
    lines = gzip.decompress((data_dir / "loghub/OpenSSH/OpenSSH_2k.log.gz").read_bytes()).split(b"\n")
    given_ = batch(*lines)
    assert CREDENTIALS.lines(given_) is given_
    assert Redaction.build(()).lines(batch(b"password=hunter2")).blob == b"password=hunter2"


def test_a_cut_line_loses_its_last_word_and_is_cut_no_more_than_before():
    lines = Lines("shop", TOPIC, 0, np.arange(2), np.zeros(2, np.int64), b"see AKIAIOSFODNNpassword=x y",
                  np.array([16, 12]), np.array([999, 12]))  # fmt: skip
    done = CREDENTIALS.lines(lines)
    assert done.blob == f"see {mark('cut')}password={P} y".encode()
    assert (done.original_lengths - done.lengths).tolist() == [983, 0]


def test_patterns_of_its_own():
    own = RedactOptions(name="badge", pattern="badge [0-9]{3}")
    redaction = Redaction.build(["email", own, RedactOptions(name="seat", pattern="(?i)SEAT(?P<a>[a-z])")])
    assert redaction.text("badge 123 at seatB, Password=x") == f"{mark('badge')} at {mark('seat')}, Password=x"
    both = Redaction.build(
        [own, RedactOptions(name="a", pattern="(?P<x>q)"), RedactOptions(name="b", pattern="(?P<x>z)")]
    )
    assert both.lines(batch(b"no", b"qz")).blob == f"no{mark('a')}{mark('b')}".encode()


@pytest.mark.parametrize("pattern", ["(?=x)y", r"(a)\1", "(", "a*"])
def test_a_pattern_that_cannot_be_used_is_refused_by_its_name(pattern):
    wanted = ServiceSettings(service="pay", redact=({"name": "badge", "pattern": pattern},))
    with pytest.raises(RedactSettingsError, match=r"^redact: badge: "):
        Parser(wanted)


# -- every way out -----------------------------------------------------------------------------------------------------

SECRET = "zqhunterTwoqz"
PLANTED = [
    f"2024-05-01 10:00:00 INFO login with password={SECRET} failed",
    f'{{"time":"2024-05-01T10:00:00Z","message":"got in","password":"{SECRET}"}}',
    f'{{"message":"broken, "token":"{SECRET}"',
    f'{{"log":"{{\\"msg\\":\\"hello\\",\\"secret\\":\\"{SECRET}\\"}}\\n","stream":"stdout"}}',
    f"2024-05-01 10:00:00 INFO trace_id={7:032x} api_key={SECRET}",
    f"GET http://bob:{SECRET}@host/x",
    "x" * (APP.flink.max_line_bytes - 4) + f" {SECRET}",
    "x" * APP.flink.max_line_bytes + f" password={SECRET}",
]
BYTES = [*(line.encode() for line in PLANTED), b"\xff\xfe password=" + SECRET.encode(), None, b""]
REDACTING = OPTIONS.model_copy(update={"redact": ("credentials",)})
HALF = b"zqhu"


def taught(bundle=None):
    view = ControlView()
    for record in (Settings(settings=REDACTING), *([pointer(bundle.manifest.version)] if bundle else ())):
        view.apply(key_of(record), record.model_dump_json().encode())
    return view


def frame(lines):
    n = len(lines)
    limit = APP.flink.max_line_bytes
    cut = [line and line[: limit + 1] for line in lines]  # as the source hands them on
    ((_, key, data),) = pack([TOPIC] * n, np.zeros(n, np.int64), np.arange(n), np.arange(n) + T0, cut, limit)
    return key, data


def found_in(values):
    """What the stages make of lines: parsed, scored, and the detections among them."""
    normal = text(order(number) for number in range(400))
    lines = Lines.from_list("shop", TOPIC, 0, range(len(normal)), [0] * len(normal), normal)
    bundle = learn(build([lines], OPTIONS).material, OPTIONS, fit_ngram, created_ms=T0)
    view = taught(bundle)
    parse, score = ParseStage(APP, view), ScoreStage(APP, view, Bundles(Shelf(bundle)))
    out = parse.parse(*frame(values), lambda: None)
    scored = [score.score(key, events, lambda: Saved(b"", [])) for key, events in out.events]
    return out, [found for one in scored for found in one.detections], scored


def test_no_stage_hands_on_a_planted_secret():
    out, detections, scored = found_in(BYTES)
    assert [letter.reason for letter in out.dead] == ["invalid_utf8", "null", "empty"]
    assert P in out.dead[0].head
    assert len(detections) >= len(PLANTED) - 2
    assert out.traces
    assert out.state
    records = [*out.dead, out.statistic, *out.templates, *detections, *(one for s in scored for one in s.statistics)]
    # Events are compressed between operators: what is in them is what their frames say.
    events = b"".join(Events.from_bytes(data).frame.write_ndjson().encode() for _, data in out.events)
    kept = b"".join(one.whole or b"" for one in scored) + b"".join(out.traces)
    parser = Parser(REDACTING)
    parser.load(out.state)
    assert not [text for text in map(str, parser._miner.stock.entries.values()) if "zqhu" in text]
    for data in (events, kept, *(record.model_dump_json().encode() for record in records)):
        assert HALF not in data


def test_a_fault_of_ours_does_not_quote_the_line(monkeypatch):
    def fails(self, lines):
        raise ValueError(f"cannot read {lines.blob.decode()}")

    parser = Parser(REDACTING)
    monkeypatch.setattr(Parser, "parse", fails)
    (letter,) = parse_safely(parser, batch(PLANTED[0].encode())).dead
    assert P in letter.head
    assert P in letter.detail
    assert SECRET not in letter.model_dump_json()
    monkeypatch.setattr(Redaction, "lines", fails)
    (letter,) = parse_safely(parser, batch(PLANTED[0].encode())).dead
    assert (letter.head, letter.detail) == ("", "ValueError")


def test_training_never_learns_it():
    options = SETTINGS.model_copy(update={"redact": ("credentials",), "detector": OPTIONS.detector})
    lines = orders(range(100, 500))
    lines[50:50] = [line.encode() for line in PLANTED[:6]]
    data = dataset(lines, options)
    bundle = learn(data.material, options, fit_ngram, created_ms=T0)
    assert any(P in template.text or P in template.example for template in data.found)
    assert HALF not in b"".join(template.model_dump_json().encode() for template in data.found)
    assert HALF not in repr(data.material).encode()
    assert HALF not in b"".join(bundle.files().values())


def test_the_quick_ways_in_do_not_show_it():
    options = ServiceSettings(service="files", redact=("credentials",))
    lines = [f"2024-05-01 10:00:{i % 60:02d} INFO order {i} received".encode() for i in range(300)]
    lines[200:200] = [line.encode() for line in PLANTED[:6]]
    report = detect([Source("app.log", lines)], [], options, learn=0.5)
    said = json.dumps(report.data(), default=str)
    assert P in said
    assert "zqhu" not in said
    trial = try_lines("\n".join(PLANTED[:6]), options)
    assert P in repr(trial)
    assert "zqhu" not in repr(trial)


def test_the_pages_show_no_secret(tmp_path, monkeypatch):
    store = Store(tmp_path / "console.db")
    reading = Reading(store)
    said = Settings(settings=REDACTING)
    reading.view.apply(key_of(said), said.model_dump_json().encode())
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    detections = found_in(BYTES)[1]
    store.add(detections, {("d", 0): 1}, reading.view)
    app = alone(tmp_path)
    with TestClient(create(app, Pages(app, store, reading)), base_url="http://127.0.0.1:8080") as client:
        token = form_of(client, "/ui/try?service=shop")
        page = client.post("/ui/try", data={"token": token, "service": "shop", "lines": "\n".join(PLANTED[:6])}).text
        # What was typed stands in its field again; what came of it is behind.
        answer = re.sub(r"<textarea.*?</textarea>", "", page, flags=re.DOTALL)
        assert "redacted:password" in answer
        assert "zqhu" not in answer
        alerts = client.get("/ui/alerts").text
        shown = [client.get(path).text for path in set(re.findall(r'href="(/ui/alerts/[^"?]+)"', alerts))]
        assert "redacted:password" in "".join(shown)
        for page in (alerts, *shown, *(client.get(f"/ui/{path}").text for path in ("services", "services/shop"))):
            assert "zqhu" not in page
    store.close()


# -- the archive -------------------------------------------------------------------------------------------------------


def test_the_archive_is_redacted_line_by_line_and_nothing_else_changes():
    records = [Line(n, value=value, key=b"password=k", headers=[("a", b"1")]) for n, value in enumerate(BYTES)]
    whole = batch_of(TOPIC, 0, records)
    done = redacted(whole, CREDENTIALS)
    assert done.schema == whole.schema
    for name in set(whole.schema.names) - {"value"}:
        assert done[name].equals(whole[name])
    values = done["value"].to_pylist()
    assert values[-3:] == [b"\xff\xfe password=" + P.encode(), None, b""]
    assert not [value for value in values[:6] + values[7:] if HALF in (value or b"")]
    plain = batch_of(TOPIC, 0, [Line(0), Line(1, value=None)])
    assert redacted(plain, CREDENTIALS) is plain


def test_the_archive_is_told_by_the_control_topic(monkeypatch):
    known = Redactions(APP)
    monkeypatch.setattr(known, "_read_on", lambda: None)

    def say(**options):
        record = Settings(settings=ServiceSettings(service="shop", **options))
        known.apply(key_of(record), record.model_dump_json().encode())

    say(redact=("credentials",))
    assert known.of("shop") is None
    say(redact=("credentials",), redact_archive=True)
    assert known.of("shop") == CREDENTIALS
    assert known.of("other") is None
    known.apply("settings/shop", b"{")
    known.apply("bundle/shop", None)
    assert known.of("shop") == CREDENTIALS
    known.apply("settings/shop", None)
    assert known.of("shop") is None


# -- notifications -----------------------------------------------------------------------------------------------------


def test_alerts_and_notifications_have_no_line():
    """Labels of an alert come from metrics, none of which has a line; its words are the rules' own."""
    allowed = {"service", "job", "job_name", "instance", "integration", "topic"}
    for path in (ROOT / "deploy" / "prometheus").glob("*.rules.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                said = " ".join([*rule.get("annotations", {}).values(), *rule.get("labels", {}).values()])
                assert set(re.findall(r"\$labels\.(\w+)", said)) <= allowed, rule
    template = (ROOT / "deploy" / "alertmanager" / "logcanary.tmpl").read_text()
    used = set(re.findall(r"\.(?:Labels|Annotations|CommonLabels|CommonAnnotations)\.(\w+)", template))
    assert used == {"summary", "description", "runbook_url", "service", "kind"}
    assert "generatorURL" not in template
