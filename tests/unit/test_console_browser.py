"""The pages in a real Chromium over a store filled by hand: by keyboard, without scripts, for screen readers."""

import socket
import threading

import pytest
import uvicorn

from console import advice, splitting
from console import lines as lines_module
from console.access import digest
from console.api import create
from console.pages import Pages
from contracts.records import Before, Deed, Expected, Template, TemplateName
from storage.control import ControlView
from tests.browser import chromium, faults, press_until
from tests.machine import wait_until
from tests.unit.test_console import alone
from tests.unit.test_console_pages import ALERT, SCRIPT, Reading, Store, Writer, found, record

BEFORE = (Before(template="b" * 16, text="came before"),)
DEED = Deed(at_ms=1, who="ada", role="admin", address="127.0.0.1", what="POST /ui/somewhere", status=303)
EXPECTED = (Expected(template="c" * 16, text="should have come", probability=0.71),)


TEMPLATE = f"/ui/services/web/templates/{'b' * 16}"
TOKEN = "the engineer's token"


@pytest.fixture
def site(request, tmp_path, monkeypatch):
    """The address of a console, and the reading behind it; with ``param`` true it asks who somebody is."""
    store = Store(tmp_path / "console.db")
    reading = Reading(store)
    settings = alone(tmp_path)
    if getattr(request, "param", False):
        (tmp_path / "people").write_text(f"ada admin {digest(TOKEN)}")
        web = settings.web.model_copy(update={"access_file": str(tmp_path / "people")})
        settings = settings.model_copy(update={"web": web})
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(create(settings, Pages(settings, store, reading)), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server")
    yield f"http://127.0.0.1:{port}", reading
    server.should_exit = True
    thread.join()
    store.close()


def test_an_alert_appears_and_is_settled_by_keyboard_alone(site):
    address, reading = site
    with chromium() as browser:
        page = browser.new_page()
        problems = []
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.goto(f"{address}/ui/alerts")
        page.evaluate("window.sameDocument = true")
        one = found(1, before=BEFORE, expected=EXPECTED, line=SCRIPT, headline=SCRIPT, level="ERROR")
        reading.store.add([one], {}, ControlView())
        page.wait_for_selector("tr.state-open")
        assert page.evaluate("window.sameDocument"), "it came without a reload"
        assert page.text_content("#waiting") == "1"
        press_until(page, "a[href^='/ui/alerts/web/']")
        page.keyboard.press("Enter")
        page.wait_for_selector("li.odd")
        assert page.text_content("li.odd code") == SCRIPT
        press_until(page, "button[value='false-positive']")
        page.keyboard.press("Enter")
        page.wait_for_selector(".said")
        assert page.text_content(".facts .state") == "false-positive"
        press_until(page, ".said button")
        page.keyboard.press("Enter")
        page.wait_for_selector(".undone")
        assert page.text_content(".facts .state") == "open"
        assert problems == []


def test_everything_works_without_scripts(site):
    address, reading = site
    reading.store.add([found(1, before=BEFORE), found(2, "d" * 16, service="pay")], {}, ControlView())
    with chromium(java_script_enabled=False) as browser:
        page = browser.new_page()
        page.goto(f"{address}/")
        page.fill("input[name=service]", "pay")
        page.click("text=Show")
        assert page.locator("tbody tr").count() == 1
        page.click("td.what a")
        page.fill("input[name=reason]", "as planned")
        page.click("button[value=expected]")
        assert page.text_content(".facts .state") == "expected"
        assert "as planned" in str(page.text_content(".said"))
        page.click(".said button")
        assert page.text_content(".facts .state") == "open"


@pytest.mark.parametrize("site", [True], indirect=True)
def test_somebody_signs_in_by_keyboard_judges_in_their_name_and_signs_out(site):
    address, reading = site
    reading.store.add([found(1, before=BEFORE)], {}, ControlView())
    with chromium(bypass_csp=True) as browser:
        page = browser.new_page()
        page.goto(f"{address}/ui/alerts/web/{'a' * 16}")
        assert "/ui/sign-in" in page.url
        assert faults(page) == []
        press_until(page, "input[name='secret']")
        page.keyboard.type("not this")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        press_until(page, "input[name='secret']")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("li.odd")  # where it was going
        page.click("button[value=unsure]")
        page.wait_for_selector(".said")
        assert "by ada" in str(page.text_content(".said"))
        reading.store.keep({"0-0": DEED}, {})
        page.goto(f"{address}/ui/audit")
        assert "POST /ui/somewhere" in str(page.text_content("main"))
        assert faults(page) == []
        page.click("text=Sign out")
        page.goto(f"{address}/ui/alerts")
        assert "/ui/sign-in" in page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_grave_fault(site, scheme, monkeypatch):
    address, reading = site
    monkeypatch.setattr(advice, "log_topics", lambda settings: ["logs.web"])
    one = found(1, before=BEFORE, expected=EXPECTED, level="ERROR", line="the line")
    reading.store.add([one, found(2, "d" * 16)], {}, ControlView())
    reading.put(Template(service="web", id="b" * 16, text="came <*>", example="came before"))
    reading.connected = True
    near = [record(n, f"2026-11-22 13:07:{10 + n},000 INFO a.B: line {n}".encode()) for n in range(4)]
    monkeypatch.setattr(lines_module, "read_at", lambda settings, wanted: near)
    monkeypatch.setattr(splitting, "newest_records", lambda settings, topic, count: [])
    reading.put(TemplateName(service="web", id="b" * 16, name="early"))
    with chromium(color_scheme=scheme, bypass_csp=True) as browser:
        page = browser.new_page()
        service = "/ui/services/web"
        below = (f"{service}/settings", f"{service}/templates", TEMPLATE, f"{TEMPLATE}/split?values=before")
        services = ("/ui/services", service, *below)
        for path in ("/ui/alerts", ALERT, *services, "/ui/try", "/ui/audit"):
            page.goto(f"{address}{path}")
            assert faults(page) == [], path
        page.goto(f"{address}/ui/alerts/web/{'a' * 16}")
        page.click("button[value=confirmed]")
        assert faults(page) == []
