"""A real Chromium for tests of the pages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, sync_playwright

from deploy.browser import find
from tests.machine import patience

QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--no-sandbox"]
QUIET += ["--disable-component-update", "--disable-sync"]
GRAVE = ("serious", "critical")


@contextmanager
def chromium(**options: object) -> Iterator[BrowserContext]:
    """A browser with nothing in it; ``options`` are Playwright's for a context."""
    program, environment = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET, env=os.environ | environment)
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(patience(30) * 1000)
        try:
            yield context
        finally:
            context.close()
            browser.close()


def press_until(page: Page, wanted: str, key: str = "Tab", most: int = 200) -> None:
    """Press a key until what has the focus fits a selector: as somebody without a mouse gets there."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", wanted):
            return
    raise AssertionError(f"{wanted} is not reached by pressing {key} {most} times")


def faults(page: Page) -> list[str]:
    """Grave faults of accessibility that axe finds on a page."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']} ({len(one['nodes'])})" for one in found if one["impact"] in GRAVE]


def picture(page: Page, file: Path) -> None:
    """Write what is seen, where ``LOGCANARY_PICTURES`` asks for it: a test does not change the documentation."""
    if os.environ.get("LOGCANARY_PICTURES"):
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file, full_page=True)
