"""The command line as a user meets it: help, exit codes, what goes to which stream, mistakes in one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.detecting import spread
from cli.main import app
from cli.problems import sentence
from cli.shell import Shell, to_json
from tests.machine import patience

ROOT = Path(__file__).parents[2]
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No settings, no stack and no colours but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("LOGCANARY_HOME", "LOGCANARY_CONFIG", "LOGCANARY_KAFKA__BOOTSTRAP", "FORCE_COLOR"):
        monkeypatch.setenv(name, "x")  # so that what the code sets is undone too
        monkeypatch.delenv(name)


def run(*args):
    return CliRunner().invoke(app, [str(word) for word in args])


def commands(command=None, path=()):
    command = command or typer.main.get_command(app)
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = {" ".join(path): command for path, command in commands()}


def log_of(path, lines=400, odd=True):
    said = [f"2026-01-31 08:{n // 60:02d}:{n % 60:02d} INFO app.Main - heartbeat {n} sent" for n in range(lines)]
    if odd:
        said[lines * 3 // 4] = "2026-01-31 09:00:00 ERROR app.Main - disk <b>sda</b> [red]is[/red] full \x1b[31m"
    path.write_text("\n".join(said) + "\n")
    return path


# -- help


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_help(path):
    done = run(*path.split(), "--help")
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output


@pytest.mark.parametrize("path", [path for path, command in ALL.items() if path and not hasattr(command, "commands")])
def test_every_verb_shows_an_example_of_itself(path):
    assert f"\n    logcanary {path}" in run(*path.split(), "--help").output


def test_help_groups_the_verbs():
    output = run("--help").output
    for word in ("detect", "up", "replay", "verdict", "train", "evaluate", "The local stack:", "Learning:"):
        assert word in output


def test_help_is_there_at_once():
    # The time of the process itself: what else runs on the machine must not decide.
    code = (
        "import os, runpy, sys; sys.argv = ['logcanary', '--help']\n"
        "try: runpy.run_module('cli.main', run_name='__main__')\n"
        "except SystemExit: print(sum(os.times()[:2]))"
    )
    done = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert min(float(one.stdout.splitlines()[-1]) for one in done) < 0.4


def test_a_misspelt_verb_is_offered_the_right_one():
    done = run("detekt")
    assert done.exit_code == 2
    assert "Did you mean 'detect'" in done.output


def test_version():
    assert re.fullmatch(r"logcanary \d+\.\d+\.\d+\n", run("--version").stdout)


# -- mistakes


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["alerts", "-o", "kafka.bootstrp=x"], "-o: kafka.bootstrp is not a setting"),
        (["alerts", "--config", "none.toml"], "--config names none.toml, which does not exist"),
        (["verdict", "abcd", "maybe"], "must be one of confirmed, false-positive, expected, unsure"),
        (["verdict", "abcd", "confirmed", "--undo"], "--undo takes a verdict back"),
        (["verdict", "abcd", "expected", "--scope", "world"], "must be one of alert, shape, signature, template"),
        (["verdict", "abcd", "expected", "--expires", "soon"], "must be a number with its unit, as 30m, 12h or 7d"),
        (["verdict", "abcd", "confirmed", "--expires", "7d"], "not with confirmed"),
        (["alerts", "--state", "loud"], "must be one of open, escalated"),
        (["explain", "none.log", "--line", "3"], "none.log does not exist"),
        (["explain", "a.log", "--line", "3", "--session", "x"], "--session and --line: give one of them"),
        (["explain", "a.log", "--line", "3", "--pattern", "("], "--pattern (: not a regular expression"),
        (["detect", "none.log"], "none.log does not exist"),
        (["detect", "."], ". is a folder"),
        (["replay", "none.log", "--service", "a"], "none.log does not exist"),
        (["replay", "x", "--service", "a", "--key", "user"], "--key user: must be session or none"),
        (["replay", "x", "--service", "a", "--rate", "1", "--speed", "2"], "--original, --speed and --rate exclude"),
        (["job", "submit", "--start", "yesterday"], "--start yesterday: expected a time like 2026-01-31"),
        (["job", "submit", "--topics", "["], "--topics [: not a regular expression"),
        (["train", "--service", "a", "--from", "monday"], "--from monday: expected a time like"),
        (["train", "--service", "a", "--from", "2026-02-01", "--to", "2026-01-01"], "is not before"),
        (["settings", "set", "pay", "none.toml"], "none.toml, which does not exist"),
        (["detect", "x", "--session", "["], "--session [: not a regular expression"),
    ],
)
def test_a_mistake_is_one_sentence_on_standard_error(args, words):
    done = run(*args)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("logcanary: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("session.by = 'identifier'", "session.pattern: needed where session.by is 'identifier'"),
        ("session = { by = 'identifier', pattern = '(x' }", "session.pattern: '(x' cannot be used: "),
        ("session.by = 'field'", "session.field: needed where session.by is 'field'"),
        ("session.field = 'traceId'", "session.field: says nothing where session.by is 'auto'"),
        ("format = 'mine'", "format: there is no 'mine'"),
    ],
)
def test_settings_that_no_parser_takes_reach_no_job(tmp_path, text, words):
    file = tmp_path / "pay.toml"
    file.write_text(text)
    done = run("settings", "set", "pay", str(file), "-o", f"kafka.bootstrap={NOWHERE}")
    assert done.exit_code == 1
    assert f"pay.toml: {words}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "verb", [["alerts"], ["alerts", "show", "ab"], ["verdict", "ab", "confirmed"], ["settings", "show"]]
)
def test_no_kafka_says_the_setting_and_the_address(verb, monkeypatch):
    monkeypatch.setattr("storage.broker.CONNECT_SECONDS", 0.5)
    done = run(*verb, "-o", f"kafka.bootstrap={NOWHERE}")
    assert done.exit_code == 1
    assert NOWHERE in done.stderr
    assert "kafka.bootstrap" in done.stderr


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("cli.files.read_text", broken)
    assert isinstance(run("detect", "x").exception, ZeroDivisionError)


def test_what_is_not_installed_names_the_extra():
    missing = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert "pip install '.[train]'" in sentence(missing, Shell())
    assert "make setup" in sentence(ModuleNotFoundError("x", name="pyflink.table"), Shell())
    assert sentence(ModuleNotFoundError("x", name="something"), Shell()) is None


def test_errors_of_other_rooms_are_sentences_already():
    from models.bundle import BundleError

    assert sentence(BundleError("bundle x is damaged"), Shell()) == "bundle x is damaged"


def test_hdfs_and_flink_name_their_settings():
    from urllib.error import URLError

    from requests.exceptions import ConnectionError as NoConnection

    assert "hdfs.url" in sentence(NoConnection("refused"), Shell())
    assert "flink.rest" in sentence(URLError("refused"), Shell())


def test_traceback_on_demand():
    assert "Traceback" in run("detect", "none.log", "--traceback").stderr


# -- detect


def test_detect_shows_the_line_as_text_never_as_markup_or_escapes(tmp_path):
    done = run("detect", log_of(tmp_path / "app.log"))
    assert done.exit_code == 0
    flat = " ".join(done.stdout.replace("│", " ").split())
    assert "1 kind of thing does not belong (1 line of 200)" in flat
    assert "[red]is[/red]" in flat
    assert "\\x1b[31m" in flat
    assert "\x1b" not in done.stdout
    assert "app.log:301" in flat
    assert "▶" in flat


def test_explain_shows_the_line_as_text_never_as_markup_or_escapes(tmp_path):
    done = run("explain", log_of(tmp_path / "app.log"), "--line", "301")
    assert done.exit_code == 0
    flat = " ".join(done.stdout.replace("│", " ").split())
    assert "which was never seen before" in flat
    assert "[red]is[/red]" in flat
    assert "\\x1b[31m" in flat
    assert "\x1b" not in done.stdout
    assert "app.log:301" in flat


def test_explain_json_is_one_object_on_standard_output(tmp_path):
    done = run("explain", log_of(tmp_path / "app.log"), "--line", "301", "--json")
    data = json.loads(done.stdout)
    assert (data["is_new"], data["place"]) == (True, "app.log:301")
    assert data["sentences"][0].startswith(("Expected ", "Nothing "))
    assert done.stdout.count("\n") == 1


def test_explain_of_a_file_asks_what_of_it(tmp_path):
    done = run("explain", log_of(tmp_path / "app.log"))
    assert done.exit_code == 1
    assert "app.log is a file: say what of it with --session ID or --line N" in done.stderr
    done = run("explain", tmp_path / "app.log", "--session", "none")
    assert "no line names a session 'none'" in done.stderr


def test_detect_has_nothing_to_say_about_a_quiet_log(tmp_path):
    done = run("detect", log_of(tmp_path / "app.log", odd=False))
    assert "Nothing stands out in 200 lines." in done.stdout


def test_detect_json_is_one_object_on_standard_output(tmp_path):
    for args in (["detect", log_of(tmp_path / "app.log"), "--json"], ["--json", "detect", tmp_path / "app.log"]):
        done = run(*args)
        data = json.loads(done.stdout)
        assert data["alerts"][0]["line_number"] == 301
        assert done.stdout.count("\n") == 1


def test_detect_html_is_whole_and_escaped(tmp_path):
    done = run("detect", log_of(tmp_path / "app.log"), "--html", tmp_path / "out.html")
    html = (tmp_path / "out.html").read_text()
    assert done.stdout == ""
    assert "out.html" in done.stderr
    assert "&lt;b&gt;sda&lt;/b&gt;" in html
    assert "<b>sda" not in html
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"<script|https?://|src=|<link", html)


def test_detect_html_that_cannot_be_written(tmp_path):
    done = run("detect", log_of(tmp_path / "app.log"), "--html", tmp_path / "none/out.html")
    assert done.exit_code == 1
    assert "--html" in done.stderr


def test_detect_takes_several_baseline_files_after_one_flag(tmp_path):
    old = [log_of(tmp_path / f"{name}.log", odd=False) for name in "ab"]
    done = run("detect", log_of(tmp_path / "new.log"), "--baseline", *old, "--json")
    data = json.loads(done.stdout)
    assert data["learnt"]["origin"] == "the baseline (a.log, b.log)"
    assert data["checked"]["lines"] == 400


def test_detect_takes_settings_from_a_file_and_names_mistakes(tmp_path):
    (tmp_path / "s.toml").write_text("budget.false_alarm_rate = 0.01\n")
    done = run("detect", log_of(tmp_path / "app.log"), "--settings", tmp_path / "s.toml", "--json")
    assert json.loads(done.stdout)["false_alarm_rate"] == 0.01
    (tmp_path / "s.toml").write_text("budget.rate = 0.01\n")
    assert "budget.rate is not a setting" in run("detect", "app.log", "--settings", tmp_path / "s.toml").stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"\x00\x01\x02", "binary"), (b"one line\n", "too little to learn what is normal")],
)
def test_detect_refuses_in_a_sentence(tmp_path, content, words):
    (tmp_path / "app.log").write_bytes(content)
    done = run("detect", "app.log")
    assert done.exit_code == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    ("args", "spread_out"),
    [
        (["a"], ["a"]),
        (["a", "--baseline", "b", "c"], ["a", "--baseline", "b", "--baseline", "c"]),
        (["--baseline", "b", "--json", "a"], ["--baseline", "b", "--json", "a"]),
        (["a", "--baseline=b", "c"], ["a", "--baseline=b", "c"]),
        (["a", "--baseline"], ["a", "--baseline"]),
    ],
)
def test_words_after_baseline(args, spread_out):
    assert spread(args) == spread_out


# -- streams and signals


def process(*args, **options):
    words = [sys.executable, "-m", "cli.main", *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A test run in the background ignores SIGINT, and a process started by it would inherit that.
    return subprocess.Popen(words, cwd=ROOT, preexec_fn=_heed_interrupts, **streams, **options)  # noqa: PLW1509


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_reader_that_leaves_is_no_mistake(tmp_path):
    log = log_of(tmp_path / "app.log")
    words = f"{sys.executable} -m cli.main detect {log} --json | head -c 10"
    done = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_ctrl_c_ends_with_130_and_a_word(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    running = process("detect", fifo)
    with running:
        with fifo.open("wb"):  # it reads now, and waits for more; polars has made reads go on after a signal
            time.sleep(0.5)
            running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=patience(30))
    assert (running.returncode, out) == (130, "")
    assert err == "Stopped by Ctrl-C.\n"


def test_no_color_where_it_is_not_wanted(tmp_path):
    log = log_of(tmp_path / "app.log")
    for variables, coloured in (({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
        with process("detect", log, env=os.environ | variables) as running:
            out, _ = running.communicate(timeout=patience(60))
        assert ("\x1b[31m" in out or "\x1b[1;31m" in out) is coloured


def test_json_of_anything():
    import numpy as np

    values = {"a": np.int64(1), "b": (1, 2), "c": Path("/x"), "d": {3}, "e": "é"}
    assert to_json(values) == '{"a": 1, "b": [1, 2], "c": "/x", "d": [3], "e": "é"}'
