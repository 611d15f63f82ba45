"""What keeps a deployment alive, on real parts: train, score, a release, the advice, retrain by HTTP, swap, roll back.

A shop writes its log without a pause all the while; at the end not one of its lines was left out, or scored twice.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime

import pytest

from contracts.records import Settings
from contracts.retraining import RetrainingRequest
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from deploy.status import read_status
from models.registry import Registry
from storage.broker import admin, producer
from storage.control import ControlWriter, read_control
from storage.files import open_files
from streaming.submit import cancel, submit
from tests.browser import chromium, picture, press_until
from tests.e2e.test_whole_way import PROJECT, Topics, archived, logcanary
from tests.machine import patience, wait_until
from training import prepared
from training.background import start
from training.preparing import read_dataset
from training.runs import Runs

pytestmark = [pytest.mark.timeout(900)]

BUDGET = 0.01
BEFORE = [
    "order {} received from the customer",
    "stock of order {} reserved in hall 7",
    "payment of order {} was taken",
    "invoice written for order {}",
    "parcel packed in the warehouse, order {}",
    "sent: order {}",
]
AFTER = [
    "order {} received from the customer",
    "picking robot assigned, basket of order {} begun",
    "wallet charged: order {} settled by token",
    "voucher check found nothing to deduct, order {}",
    "invoice written for order {}",
    "drone 4 took over the box with order {}",
]


PICTURES = PROJECT / "docs" / "pictures"


def address(settings):
    return f"http://127.0.0.1:{settings.web.console_port}"


class Shop(threading.Thread):
    """Writes the lines of one order after another, those of an order to one partition."""

    def __init__(self, settings, topic):
        super().__init__()
        self._producer, self._topic = producer(settings, linger_ms=20), topic
        self.steps, self.sent, self.orders = BEFORE, 0, 0
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.1):
            for _ in range(20):
                self._order()
        self._producer.flush()
        self._producer.close()

    def _order(self):
        number, steps = 100_000 + self.orders, self.steps
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S},000"
        for step in steps:
            line = f"{now} INFO  shop: {step.format(number)}".encode()
            self._producer.send(self._topic, line, partition=number % 2)
        self.orders += 1
        self.sent += len(steps)

    def stop(self):
        self._over.set()
        self.join()


class Console:
    """The HTTP interface of the running stack."""

    def __init__(self, settings):
        self._base = address(settings)

    def __call__(self, method, path, body=None, headers=()):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method, headers=dict(headers))
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=patience(30)) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            is_problem = error.headers["Content-Type"] == "application/problem+json"
            return error.code, json.loads(error.read()) if is_problem else {}

    def over(self, service, training):
        """Wait until a training is over, and return its record."""
        path = f"/services/{service}/retraining/{training}"

        def ended():
            status, run = self("GET", path)
            return run if status == 200 and run["state"] not in ("queued", "running") else None

        return wait_until(ended, "the end of the training", 200)


@pytest.fixture(scope="module")
def service():
    return f"loop-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def console(stack_settings):
    return Console(stack_settings)


@pytest.fixture(scope="module")
def shop(stack_settings, service):
    """The shop, a job that reads its log, and what came of it."""
    options = ServiceSettings(
        service=service,
        session=SessionOptions(by="identifier", pattern=r"order ([0-9]+)", gap_seconds=2.0),
        detector=DetectorOptions(kind="ngram"),
        budget=BudgetOptions(false_alarm_rate=BUDGET),
    )
    with ControlWriter(stack_settings) as control:
        control.put(Settings(settings=options))
    client = admin(stack_settings)
    client.create_topics({f"logs.{service}": {"num_partitions": 2}}, wait_for_metadata=True)
    client.close()
    running = Shop(stack_settings, f"logs.{service}")
    running.start()
    submit(stack_settings, name="loop", topics=rf"logs\.{service}", start="earliest")
    topics = Topics(stack_settings)
    yield running, topics
    running.stop()
    topics.close()
    cancel(stack_settings, "loop")


def live(settings, service):
    return read_control(settings).pointers[service]


@pytest.fixture(scope="module")
def story():
    """What the tests before have come to; they build on each other in their order."""
    return {}


def test_a_first_bundle_is_asked_for_by_http(stack_settings, service, shop, console, story):
    _, topics = shop
    wait_until(lambda: archived(stack_settings, service) >= 6_000, "lines in the archive", 120)
    status, run = console("POST", f"/services/{service}/retraining", {"author": "ada", "reason": "first model"})
    assert status == 202
    # Who asks meanwhile is told who was first.
    status, problem = console("POST", f"/services/{service}/retraining", {"author": "bob"})
    assert (status, problem["training"]) == (409, run["id"])
    assert "is being trained already, by ada" in problem["detail"]
    first = console.over(service, run["id"])
    assert (first["state"], first["error"]) == ("done", "")
    assert (first["gate"]["live"], first["gate"]["failed"]) == ("", [])
    began = live(stack_settings, service)
    assert (began.version, began.author, began.reason) == (first["version"], "ada", "first model")
    wait_until(lambda: topics.scored(service, first["version"]) >= 5_000, "lines scored by the first bundle", 120)
    orders = topics.scored(service, first["version"]) / len(BEFORE)
    assert len({one.session for one in topics.detections(service)}) <= 2 * BUDGET * orders
    story |= {"first": first["version"], "began_ms": began.from_ms}


def test_after_a_release_alerts_appear_and_training_again_is_advised(stack_settings, service, shop, console, story):
    running, topics = shop
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address(stack_settings)}/ui/alerts?service={service}&state=needs-review")
        page.evaluate("window.sameDocument = true")
        running.steps, released_ms = AFTER, time.time_ns() // 1_000_000
        page.locator("tr.state-open", has_text="picking robot").first.wait_for()
        assert page.evaluate("window.sameDocument"), "they came without a reload"
        picture(page, PICTURES / "alerts.png")
        page.locator("tr.state-open", has_text="picking robot").first.locator("td.what a").click()
        page.wait_for_selector("li.odd")
        picture(page, PICTURES / "alert.png")

    def advised():
        found = console("GET", f"/services/{service}")[1]
        return found["retrain"] and "of templates that the bundle does not know since" in found["advice"]

    wait_until(advised, "the advice to train again", 120)
    told = json.loads(logcanary(stack_settings, "advice", "--service", service, "--json"))
    assert told[0]["retrain"]
    loud = {one.session for one in topics.detections(service) if one.arrival_ms >= released_ms}
    assert len(loud) > 50
    story["released_ms"] = released_ms


def test_what_an_engineer_calls_normal_does_not_return_until_it_is_undone(stack_settings, service, shop, story):
    _, topics = shop
    odd = next(one for one in topics.detections(service) if "wallet charged" in one.template_text)

    def like_it(since_ms):
        found = [one for one in topics.detections(service) if one.template == odd.template]
        return [one for one in found if one.arrival_ms > since_ms]

    with chromium(java_script_enabled=False) as browser:
        page = browser.new_page()
        page.goto(f"{address(stack_settings)}/ui/alerts/{service}/{odd.signature}")
        page.fill("input[name=reason]", "new in this release")
        page.click("button[value=false-positive]")
        assert page.text_content(".facts .state") == "false-positive"
        quiet_ms = time.time_ns() // 1_000_000 + 5_000  # every instance of the job has heard of it by then
        scored = topics.scored(service)
        wait_until(lambda: topics.scored(service) > scored + 15_000, "more such lines", 120)
        assert like_it(quiet_ms) == []
        undone_ms = time.time_ns() // 1_000_000
        page.click(".said button")
        assert page.text_content(".facts .state") == "open"
    wait_until(lambda: like_it(undone_ms), "what was undone to be raised again", 60)


def test_the_gate_compares_and_alarms_fall_back_inside_the_budget(stack_settings, service, shop, console, story):
    running, topics = shop
    enough = running.sent + 6_000
    wait_until(lambda: archived(stack_settings, service) >= enough, "lines of the release in the archive", 120)
    asked = {"author": "ada", "reason": "the release", "from_ms": story["released_ms"] + 1_000}
    status, run = console("POST", f"/services/{service}/retraining", asked)
    assert status == 202
    second = console.over(service, run["id"])
    assert (second["state"], second["error"]) == ("done", "")
    gate = second["gate"]
    assert (gate["live"], gate["failed"]) == (story["first"], [])
    assert gate["before"]["unknown"] > 0.5 > gate["candidate"]["unknown"]
    assert gate["before"]["raised"] > 10 * max(1, gate["candidate"]["raised"])
    assert live(stack_settings, service).version == second["version"]
    wait_until(lambda: topics.scored(service, second["version"]) >= 6_000, "lines scored by the second bundle", 120)
    orders = topics.scored(service, second["version"]) / len(AFTER)
    raised = {one.session for one in topics.detections(service) if one.bundle == second["version"]}
    assert len(raised) <= 2 * BUDGET * orders
    story["second"] = second["version"]


def test_back_again_and_not_one_line_was_left_out(stack_settings, service, shop, console, story):
    running, topics = shop
    status, _ = console("POST", f"/services/{service}/rollback", {"author": "bob", "reason": "a test said so"})
    assert status == 200
    back = live(stack_settings, service)
    assert (back.version, back.author) == (story["first"], "bob")
    before = topics.scored(service, back.version)
    wait_until(lambda: topics.scored(service, back.version) > before + 1_000, "lines scored by the first again", 60)
    running.stop()
    wait_until(lambda: topics.scored(service) >= running.sent, "every line scored", 120)
    records = [one for one in topics.statistics(service, "score") if one.lines]
    assert sum(one.lines for one in records) == running.sent
    assert max(one.newest_arrival_ms for one in records if not one.bundle) < story["began_ms"]
    assert {one.bundle for one in records} == {"", story["first"], story["second"]}


def test_the_cluster_prepares_what_one_machine_does(stack_settings, service, shop):
    running, _ = shop
    running.stop()
    wait_until(lambda: archived(stack_settings, service) == running.sent, "every line archived", 120)
    made = json.loads(
        logcanary(stack_settings, "prepare", "--name", "night", "--topics", rf"logs\.{service}", "--json")
    )
    request = RetrainingRequest(service=service, author="test", reason="here")
    here = read_dataset(stack_settings, request, read_control(stack_settings))
    assert made["services"] == [json.loads(prepared.as_json(prepared.count(service, here)))]
    assert made["services"][0]["lines"] == running.sent
    words = ("train", "--service", service, "--prepared", "night", "--json", "--insist")
    manifest = json.loads(logcanary(stack_settings, *words))
    assert (manifest["lines"], manifest["windows"]) == (running.sent, made["services"][0]["windows"])


class Browser:
    """Asks for pages and sends forms as a browser does, with its cookie."""

    def __init__(self, settings):
        self._base = address(settings)
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def page(self, path):
        with self._opener.open(self._base + path, timeout=patience(30)) as answer:
            return answer.read().decode()

    def send(self, path, page, **fields):
        token = re.search(r'name="token" value="([0-9a-f]{64})"', self.page(page))[1]
        data = urllib.parse.urlencode({"token": token, "author": "ada", **fields}).encode()
        with self._opener.open(self._base + path, data, timeout=patience(30)) as answer:
            return answer.read().decode()

    def rows(self, service):
        """The alerts of a service as the page lists them, without what changes by itself."""
        return re.findall(r'<tr class="state-.*?</tr>', self.page(f"/ui/alerts?service={service}"), re.DOTALL)


def test_the_page_shows_what_was_found_takes_verdicts_and_is_made_again_from_kafka(stack_settings, service, shop):
    running, topics = shop
    running.stop()
    browser = Browser(stack_settings)
    signatures = {one.signature for one in topics.detections(service)}
    wait_until(lambda: len(browser.rows(service)) == min(50, len(signatures)), "every alert on the page", 60)
    found = topics.detections(service)[0]
    alert = f"/ui/alerts/{service}/{found.signature}"
    said = {"value": "false-positive", "reason": "the release", "scope": "signature"}
    page = browser.send(f"/ui/detections/{found.id}/verdict", alert, **said)
    assert "false-positive" in page
    assert "the release" in page
    given = read_control(stack_settings).verdicts[service][found.template, found.id]
    assert (given.value, given.author, given.scope) == ("false-positive", "ada", "signature")
    assert sum("state-false-positive" in row for row in browser.rows(service)) == 1
    around = browser.page(f"/ui/detections/{found.id}/lines")
    assert re.search(rf'class="odd"[^>]*><td class="number">{found.offset}</td>', around), "the lines around it"
    done = f"POST /ui/detections/{found.id}/verdict"
    wait_until(lambda: done in browser.page("/ui/audit"), "what was done, by way of Kafka", 30)

    # The store is a projection: without it the same page is made again.
    before = browser.rows(service)
    store = stack_settings.home / "console"
    console = next(part for part in read_status(stack_settings.home).parts if part.name == "console")
    for file in store.iterdir():
        file.unlink()
    os.kill(console.pid, signal.SIGKILL)

    def same():
        try:
            return browser.rows(service) == before
        except OSError:
            return False

    wait_until(same, "the same page after the store was deleted", 120)
    browser.send(f"/ui/detections/{found.id}/undo", alert)
    assert read_control(stack_settings).verdicts[service][found.template, found.id].undone_by == "ada"
    assert not any("state-false-positive" in row for row in browser.rows(service))


def test_a_training_is_asked_for_watched_promoted_and_taken_back_on_the_page(stack_settings, service, shop):
    before = live(stack_settings, service)
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address(stack_settings)}/ui/services/{service}")
        press_until(page, "form[action$=retrain] button")
        page.keyboard.press("Enter")
        page.wait_for_selector("article.run-queued, article.run-running")
        page.wait_for_selector("article.run-running progress", timeout=patience(60) * 1000)
        picture(page, PICTURES / "training.png")
        page.locator("article.run").first.locator("h3", has_text="done").wait_for(timeout=patience(120) * 1000)
        trained = live(stack_settings, service)
        assert trained.version != before.version
        page.reload()
        picture(page, PICTURES / "service.png")
        page.locator("form[action$=rollback] button").click()
        page.wait_for_selector("text=roll back")
        assert live(stack_settings, service).version == before.version
        promote = page.locator(f"form[action$=promote]:has(input[value='{trained.version}'])")
        promote.locator("input[name=reason]").fill("after all")
        promote.locator("button").click()
        page.wait_for_selector("text=after all")
        assert live(stack_settings, service).version == trained.version
        page.locator("form[action$=rollback] button").click()
        page.wait_for_selector("text=roll back")
    assert live(stack_settings, service).version == before.version


# -- a trainer that is killed ----------------------------------------------------------------------------------------

KILLER = """
import os, signal, sys
from contracts.retraining import RetrainingRequest
from contracts.settings import AppSettings
from storage.control import ControlWriter
from storage.webhdfs import HdfsFiles
from training import trainer
from training.runs import Tracker

point = sys.argv[1]

def die(*words, **more):
    os.kill(os.getpid(), signal.SIGKILL)

def dies_at(path_end):
    write = HdfsFiles.write
    def killed(self, path, data):
        if path.endswith(path_end):
            die()
        write(self, path, data)
    return killed

if point == "reading": Tracker.read = die
elif point == "learning": trainer.learn = die
elif point == "comparing": trainer.compare = die
elif point == "half a bundle": HdfsFiles.write = dies_at("/manifest.json")
elif point == "before the pointer": ControlWriter.put = die
settings = AppSettings.model_validate_json(sys.argv[2])
trainer.train(settings, RetrainingRequest.model_validate_json(sys.argv[3]))
"""
POINTS = ("reading", "learning", "comparing", "half a bundle", "before the pointer")


def test_a_killed_trainer_leaves_no_half_bundle_and_moves_no_pointer(stack_settings, service, shop, console):
    running, _ = shop
    running.stop()
    files = open_files(stack_settings.hdfs)
    registry, runs = Registry(files, stack_settings.hdfs.root), Runs(files, stack_settings.hdfs.root)
    pointer, whole = live(stack_settings, service), set(registry.versions(service))
    request = RetrainingRequest(service=service, author="ada", reason="killed", insist=True)
    for point in POINTS:
        words = [sys.executable, "-c", KILLER, point, stack_settings.model_dump_json(), request.model_dump_json()]
        done = subprocess.run(words, cwd=PROJECT, check=False, timeout=patience(120), capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, (point, done.stderr)
        assert live(stack_settings, service) == pointer, point
        found = set(registry.versions(service))
        assert found == whole or point == "before the pointer", point
        for version in found:
            registry.load(service, version)
        assert runs.newest(service)[0].state == "lost", point
    # A later try succeeds, though the killed ones held the lock.
    run = start(stack_settings, request)
    assert console.over(service, run.id)["state"] == "done"
    assert live(stack_settings, service).version == runs.get(service, run.id).version


def test_what_cannot_be_done_is_said_and_the_live_bundle_stays(stack_settings, service, shop, console):
    pointer = live(stack_settings, service)
    status, run = console("POST", f"/services/nobody-{secrets.token_hex(3)}/retraining", {"author": "ada"})
    assert status == 202
    assert "nothing is archived for service" in console.over(run["request"]["service"], run["id"])["error"]
    far = {"author": "ada", "from_ms": 4_000_000_000_000}
    status, run = console("POST", f"/services/{service}/retraining", far)
    assert console.over(service, run["id"])["state"] == "failed"
    for method, path, body, code in [
        ("POST", f"/services/{service}/retraining", {}, 422),
        ("POST", f"/services/{service}/retraining", {"author": "ada", "from_ms": "soon"}, 422),
        ("POST", "/services/..%2F..%2Fetc/retraining", {"author": "ada"}, 404),
        ("POST", f"/services/{service}/models/20200101T000000-00000000/promotion", {"author": "ada"}, 422),
        ("GET", f"/services/{service}/retraining/20200101T000000-00000000", None, 404),
        ("DELETE", f"/services/{service}/retraining/{run['id']}?author=ada", None, 409),
        ("GET", "/nowhere", None, 404),
    ]:
        assert console(method, path, body)[0] == code, path
    assert live(stack_settings, service) == pointer


def test_one_template_is_nothing_to_learn_from(stack_settings, console):
    plain = f"plain-{secrets.token_hex(4)}"
    sender = producer(stack_settings)
    for number in range(300):
        sender.send(f"logs.{plain}", f"2026-01-01 00:00:00,000 INFO  beat: alive for {number} seconds".encode())
    sender.flush()
    sender.close()
    wait_until(lambda: archived(stack_settings, plain) == 300, "every line archived", 60)
    status, run = console("POST", f"/services/{plain}/retraining", {"author": "ada"})
    assert status == 202
    ended = console.over(plain, run["id"])
    assert (ended["state"], ended["version"]) == ("failed", "")
    assert "all 300 lines are of one template" in ended["error"]
    assert plain not in read_control(stack_settings).pointers


def test_hdfs_that_dies_in_the_middle_ends_a_training_with_a_sentence(stack_settings, service, shop, console):
    pointer = live(stack_settings, service)
    status, run = console("POST", f"/services/{service}/retraining", {"author": "ada"})
    assert status == 202
    path = f"/services/{service}/retraining/{run['id']}"
    wait_until(lambda: console("GET", path)[1].get("stage") == "read", "the training to read", 60)
    parts = {part.name: part.pid for part in read_status(stack_settings.home).parts}
    os.kill(parts["hdfs"], signal.SIGKILL)
    wait_until(lambda: console("GET", path)[0] == 200, "HDFS to be back", 120)
    ended = console.over(service, run["id"])
    # It may have read all it needed before; what counts is that nothing is half done.
    assert ended["state"] in ("failed", "lost", "done")
    now = live(stack_settings, service)
    assert now == pointer if ended["state"] != "done" else now.version == ended["version"]
    again = RetrainingRequest(service=service, author="ada", reason="once more", insist=True)
    later = console.over(service, start(stack_settings, again).id)
    assert (later["state"], later["error"]) == ("done", "")


def test_a_pointer_to_a_bundle_that_is_gone_is_no_obstacle(stack_settings, service, shop, console):
    pointer, files = live(stack_settings, service), open_files(stack_settings.hdfs)
    registry = Registry(files, stack_settings.hdfs.root)
    assert files.delete(registry.folder(service, pointer.version), recursive=True)
    status, problem = console(
        "POST", f"/services/{service}/models/{pointer.version}/promotion", {"author": "ada", "reason": "again"}
    )
    assert (status, problem["detail"].startswith("there is no bundle at")) == (422, True)
    request = RetrainingRequest(service=service, author="ada", reason="the old one is gone")
    ended = console.over(service, start(stack_settings, request).id)
    assert (ended["state"], ended["gate"]["live"]) == ("done", "")
    assert live(stack_settings, service).version == ended["version"]


def test_a_training_is_cancelled_by_who_did_not_begin_it(stack_settings, service, shop, console):
    pointer = live(stack_settings, service)
    status, run = console("POST", f"/services/{service}/retraining", {"author": "ada"})
    assert status == 202
    # Its process has to import its libraries first: it hears of this with its first look.
    status, _ = console("DELETE", f"/services/{service}/retraining/{run['id']}?author=bob")
    assert status == 202
    ended = console.over(service, run["id"])
    assert (ended["state"], ended["error"]) == ("cancelled", "cancelled by bob")
    assert live(stack_settings, service) == pointer
    assert os.path.exists(stack_settings.home / "logs" / f"training-{run['id']}.log")
