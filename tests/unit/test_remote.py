"""``logcanary alerts``, ``verdict``, ``services`` by the console's HTTP interface: the same words as from Kafka."""

import json
import socket
import threading

import pytest
import uvicorn
from test_alerts import detection
from test_cli import run

from cli import remote
from cli.shell import ProblemError
from console import advice, api
from console.access import digest
from console.pages import Pages
from contracts.records import Template
from contracts.settings import WebOptions
from models import promotion
from models.drift import Advice
from storage.control import ControlView
from tests.control import writer_into
from tests.machine import wait_until
from tests.unit.test_console import alone
from tests.unit.test_console_pages import Reading, Store, Writer, live
from training.runs import Runs

TOKEN = "a token that nobody else may see"
KIND = {"template_text": "disk <NUM> is full", "line": "disk 7 is full"}
FOUND = [
    detection(1, template="d" * 16, signature="d" * 16, template_text="disk <NUM> is almost full"),
    *(detection(number, **KIND, session=f"s{number}") for number in (2, 3, 4)),
    detection(5, **KIND, service="web", session="other"),
]


@pytest.fixture(params=[False, True], ids=["open", "with a token"])
def site(request, tmp_path, monkeypatch):
    """The flags that name a console over these findings, and what it has read."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "console.db")
    reading, settings = Reading(store), alone(tmp_path)
    if request.param:
        (tmp_path / "people").write_text(f"ada engineer {digest(TOKEN)}\n")
        settings = settings.model_copy(update={"web": WebOptions(access_file=str(tmp_path / "people"))})
        monkeypatch.setenv("LOGCANARY_TOKEN", TOKEN)
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reading.put(Template(service="pay", id="a" * 16, text="disk <NUM> is full"))
    store.add(FOUND, {}, reading.view)
    app = api.create(settings, Pages(settings, store, reading))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server")
    yield ["-o", f"web.url=http://127.0.0.1:{port}/"], reading
    server.should_exit = True
    thread.join()
    store.close()


@pytest.fixture
def topics(monkeypatch):
    """The same findings as from Kafka."""
    view = ControlView()

    read = [type("Record", (), {"value": one.model_dump_json().encode()}) for one in FOUND]
    monkeypatch.setattr("storage.broker.read_all", lambda settings, topic: read)
    monkeypatch.setattr("storage.control.read_control", lambda settings: view)
    monkeypatch.setattr("storage.control.ControlWriter", writer_into(view))
    return view


def both(flags, *words):
    """What a verb prints with a console, and without; they are the same."""
    over_http, direct = run(*words, *flags), run(*words)
    assert over_http.exit_code == direct.exit_code == 0, over_http.stderr + direct.stderr
    assert over_http.stdout == direct.stdout
    assert TOKEN not in over_http.stdout + over_http.stderr
    return direct.stdout


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_alerts_are_the_same_however_they_are_asked_for(site, topics, json_too):
    flags, _ = site
    assert both(flags, "alerts", *json_too).count("headline") >= 3
    assert "other" not in both(flags, "alerts", "--service", "pay", *json_too)
    assert "similar" in both(flags, "alerts", "show", f"{3:016x}", *json_too).lower()


def test_a_verdict_goes_to_the_console_and_is_taken_back(site, topics, monkeypatch):
    flags, reading = site
    monkeypatch.setattr("storage.control.ControlWriter", None)  # Kafka is not written to
    words = ("--scope", "signature", "--expires", "7d", "--reason", "release")
    done = run("verdict", f"{3:016x}", "expected", *words, *flags, "--json")
    assert done.exit_code == 0, done.stderr
    (said,) = reading.view.verdicts["pay"].values()
    assert (said.value, said.scope, said.reason) == ("expected", "signature", "release")
    assert said.accepted_per_hour == 3.0, "the rate that was observed"
    assert said.expires_ms - said.given_ms == 7 * 86_400_000
    assert json.loads(done.stdout)["given_ms"] == said.given_ms
    assert said.author == ("ada" if "LOGCANARY_TOKEN" in remote.os.environ else said.author) != ""
    lines = run("alerts", "-s", "pay", "--all", "--json", *flags).stdout.splitlines()
    states = [json.loads(line)["state"] for line in lines]
    assert sorted(states) == ["expected", "open"]
    assert run("verdict", f"{3:016x}", "--undo", *flags).stderr.startswith("Taken back: expected on ")
    assert next(iter(reading.view.verdicts["pay"].values())).undone_ms


def test_services_are_listed(site, monkeypatch):
    flags, _ = site
    known = {"pay": Advice(retrain=True, reasons=("the templates are unknown",))}
    monkeypatch.setattr(advice, "advise_all", lambda settings: known)
    monkeypatch.setattr(advice, "read_control", lambda settings: ControlView())
    monkeypatch.setattr(advice, "log_topics", lambda settings: ["logs.web"])
    assert "the templates are unknown" in both(flags, "services")
    rows = json.loads(both(flags, "services", "--json"))
    assert [(one["service"], one["retrain"]) for one in rows] == [("pay", True), ("web", False)]


def test_bundles_are_listed_and_moved(site, tmp_path, monkeypatch):
    flags, reading = site
    first = live(reading, tmp_path).manifest.version
    for module in (api, promotion):
        monkeypatch.setattr(module, "read_control", lambda settings: reading.view)
    monkeypatch.setattr(promotion, "ControlWriter", lambda settings: Writer(reading))
    asked = ("-s", "shop", *flags)
    rows = json.loads(run("models", "list", "--json", *asked).stdout)
    assert rows == [{"service": "shop", "version": first, "live": True}]
    assert json.loads(run("models", "budget", "--rate", "0.001", "--json", *asked).stdout)["reason"] == "budget"
    second = reading.view.pointers["shop"]
    assert second.version != first
    assert second.author == ("ada" if "LOGCANARY_TOKEN" in remote.os.environ else second.author) != ""
    assert first in run("models", "rollback", "--reason", "too many", *asked).stderr
    assert (reading.view.pointers["shop"].version, reading.view.pointers["shop"].reason) == (first, "too many")
    assert second.version in run("models", "promote", second.version[:-1], "--reason", "back", *asked).stderr
    assert reading.view.pointers["shop"].version == second.version
    assert run("models", "promote", "2020", *asked).exit_code == 1


def test_trainings_are_asked_for_followed_and_cancelled(site, tmp_path, monkeypatch):
    flags, _ = site
    runs = Runs.of(alone(tmp_path))
    begun = []

    def start(settings, request):
        begun.append(runs.begin(request))
        return begun[-1]

    monkeypatch.setattr(api, "start", start)
    asked = ("-s", "pay", *flags)
    done = run("train", "--reason", "release", "--most-lines", "1000", "--detach", *asked)
    assert done.stdout.strip() == begun[0].id, done.stderr
    assert (begun[0].request.reason, begun[0].request.most_lines) == ("release", 1000)
    (listed,) = json.loads(run("trainings", "list", "--json", *asked).stdout)
    assert listed["id"] == begun[0].id
    assert run("trainings", "cancel", *asked).exit_code == 0
    who = runs.cancelled_by(begun[0])
    assert who == ("ada" if "LOGCANARY_TOKEN" in remote.os.environ else who) != ""
    for state, version, code in (("done", "20260101T000000-00000000", 0), ("failed", "", 1)):
        monkeypatch.setattr(
            api,
            "start",
            lambda *_, state=state, version=version: begun[0].model_copy(update={"state": state, "version": version}),
        )
        told = run("train", *asked)
        assert (told.exit_code, told.stdout.strip()) == (code, version)


@pytest.mark.parametrize("site", [True], indirect=True)
def test_what_the_console_refuses_is_told_in_its_words(site, monkeypatch):
    flags, _ = site
    for token in ("wrong", ""):
        monkeypatch.setenv("LOGCANARY_TOKEN", token)
        done = run("alerts", *flags)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "say who you are" in " ".join(done.stderr.split())
    named = run("verdict", f"{3:016x}", "confirmed", "--author", "bob", *flags)
    assert named.exit_code == 1


def test_the_token_is_read_from_its_file_and_never_sent_in_the_open(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("LOGCANARY_TOKEN", "another")
    console = remote.Remote(WebOptions(url="https://console.example", token_file=str(tmp_path / "token")))
    assert console._token == TOKEN
    for url, file, words in (
        ("http://console.example", str(tmp_path / "token"), "https only"),
        ("https://console.example", str(tmp_path / "none"), "No such file"),
    ):
        with pytest.raises(ProblemError, match=words) as error:
            remote.Remote(WebOptions(url=url, token_file=file)).ask("GET", "/alerts")
        assert TOKEN not in str(error.value)


def test_a_redirect_is_not_followed_with_the_token(monkeypatch):
    """Whoever answers must not be able to send the token on to somebody else."""
    came = []

    def serve(listening, answer):
        connection, _ = listening.accept()
        with connection:
            came.append(connection.recv(4096))
            connection.sendall(answer)

    monkeypatch.setenv("LOGCANARY_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        there = f"http://127.0.0.1:{second.getsockname()[1]}/"
        answer = f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        thread = threading.Thread(target=serve, args=(first, answer.encode()))
        thread.start()
        with pytest.raises(ProblemError, match="302"):
            remote.Remote(WebOptions(url=f"http://127.0.0.1:{first.getsockname()[1]}")).ask("GET", "/alerts")
        thread.join()
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.accept()
    assert len(came) == 1


def test_a_console_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("alerts", "-o", "web.url=http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "the console does not answer at http://127.0.0.1:9 (setting web.url)" in " ".join(done.stderr.split())
