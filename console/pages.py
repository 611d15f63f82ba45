"""The pages: alerts that need somebody, what is known of each, verdicts; services, their bundles and trainings.

Rendered on the server, complete without JavaScript; htmx brings news in without a reload. Everything from a line of a
log is escaped by the templates, and the content-security policy allows no script but the vendored one.
"""

import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, select_autoescape

from console import forms
from console.advice import ExporterError, advise_all, seen
from console.reading import Reading
from console.saying import Judge, Say
from console.store import PAGE, Row, Store, cursor
from console.store import Query as Asked
from console.trying import MOST_BYTES, try_lines
from contracts.bundle import Manifest
from contracts.records import BundlePointer, Detection, VerdictScope, VerdictValue
from contracts.retraining import RetrainingRequest
from contracts.service import ServiceName
from contracts.settings import AppSettings
from models.bundle import BundleError
from models.promotion import make_live, roll_back
from models.registry import Registry
from models.sentences import clock
from training.background import start
from training.runs import Runs

HERE = Path(__file__).parent
SHOWN_FINDINGS = 20
SHOWN_RUNS = 10
STATES = ("needs-review", "open", "escalated", "unsure", "confirmed", "false-positive", "expected")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DAY_MS = 86_400_000
EXPIRIES = {"": 0, "1d": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}

Text = Annotated[str, Form(max_length=500)]
Author = Annotated[str, Form(min_length=1, max_length=100)]


class Pages:
    """All pages over one store.

    Args:
        settings: where everything is.
        store: what is shown.
        reading: what fills it, and knows the control topic.
    """

    def __init__(self, settings: AppSettings, store: Store, reading: Reading) -> None:
        self._settings, self.store, self.reading = settings, store, reading
        self.judge = Judge(settings, store, reading)
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True), trim_blocks=True
        )
        self._templates.filters |= {"clock": clock, "ago": ago, "spark": spark, "bars": bars, "url": quote}

    def add_to(self, app: FastAPI) -> None:
        """Serve the pages under ``/ui``, and what they are drawn with under ``/static``."""
        app.mount("/static", StaticFiles(directory=HERE / "static"))
        app.middleware("http")(_with_headers)
        for path, page in (
            ("/", self.root),
            ("/ui/alerts", self.alerts),
            ("/ui/alerts/{service}/{signature}", self.alert),
            ("/ui/services", self.services),
            ("/ui/services/{service}", self.service),
            ("/ui/services/{service}/runs", self.runs),
            ("/ui/try", self.try_page),
        ):
            app.add_api_route(path, page, methods=["GET"], include_in_schema=False, response_class=HTMLResponse)
        for path, act in (
            ("/ui/detections/{detection}/verdict", self.verdict),
            ("/ui/detections/{detection}/undo", self.undo),
            ("/ui/services/{service}/retrain", self.retrain),
            ("/ui/services/{service}/cancel", self.cancel),
            ("/ui/services/{service}/promote", self.promote),
            ("/ui/services/{service}/rollback", self.rollback),
        ):
            app.add_api_route(path, act, methods=["POST"], include_in_schema=False, response_class=RedirectResponse)
        app.add_api_route(
            "/ui/try", self.try_it, methods=["POST"], include_in_schema=False, response_class=HTMLResponse
        )

    # -- alerts ------------------------------------------------------------------------------------------------------

    def root(self) -> Response:
        """The first page."""
        return RedirectResponse("/ui/alerts", 303)

    def alerts(
        self,
        request: Request,
        service: Annotated[str, Query(max_length=201)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        words: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[str, Query(max_length=300)] = "",
    ) -> Response:
        """Alerts by need, then by time; filters and page are in the address."""
        asked = Asked(service=service, state=state, words=words, after=after)
        rows = self.rows(asked)
        more = (
            urlencode({"service": service, "state": state, "words": words, "after": cursor(rows[PAGE - 1])})
            if len(rows) > PAGE
            else ""
        )
        return self._page(
            request,
            "alerts.html",
            rows=[(row, self.store.spark(row)) for row in rows[:PAGE]],
            hours=self.store.hours(),
            asked=asked,
            states=STATES,
            more=more,
            address=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
        )

    def rows(self, asked: Asked) -> list[Row]:
        """A page of alerts, and one more where another page follows.

        Raises:
            HTTPException: 422: the cursor is none.
        """
        try:
            return self.store.alerts(asked, PAGE + 1)
        except ValueError:
            raise HTTPException(422, "after: this is no page's end; leave it out to begin anew") from None

    def alert(self, request: Request, service: str, signature: str) -> Response:
        """What is known of one alert."""
        found = self.store.alert(service, signature, self.reading.view)
        if found is None:
            raise HTTPException(404, f"{service} has no alert {signature}")
        alert, members = found
        verdicts = self.reading.view.verdicts.get(service, {})
        said = [one for one in verdicts.values() if one.detection in {member.id for member in members}]
        return self._page(
            request,
            "alert.html",
            alert=alert,
            shown=alert.newest,
            others=members[:SHOWN_FINDINGS],
            said=sorted({one.detection: one for one in (*alert.said, *said)}.values(), key=lambda one: -one.given_ms),
            values=get_args(VerdictValue),
            scopes=get_args(VerdictScope),
            expiries=EXPIRIES,
        )

    def verdict(
        self,
        request: Request,
        detection: str,
        value: Annotated[VerdictValue, Form()],
        author: Author,
        token: Text,
        reason: Text = "",
        scope: Annotated[VerdictScope, Form()] = "template",
        expires: Annotated[str, Form()] = "",
    ) -> Response:
        """Say what a detection is."""
        forms.check(request, token)
        if expires not in EXPIRIES:
            raise HTTPException(422, f"expires: one of {', '.join(filter(None, EXPIRIES))}, or empty")
        asked = Say(value=value, author=author, reason=reason, scope=scope, lasts_ms=EXPIRIES[expires])
        return self._back(self.judge.say(detection, asked, now_ms())[0])

    def undo(self, request: Request, detection: str, author: Author, token: Text) -> Response:
        """Take back what was said of a detection."""
        forms.check(request, token)
        return self._back(self.judge.undo(detection, author, now_ms())[0])

    def _back(self, found: Detection) -> Response:
        return RedirectResponse(f"/ui/alerts/{quote(found.service)}/{found.signature}", 303)

    # -- services ----------------------------------------------------------------------------------------------------

    def services(self, request: Request) -> Response:
        """Every service seen, those that need a training first."""
        pointers = self.reading.view.pointers
        advice, problem = self._advice()
        names = seen(self._settings, pointers, advice)
        rows = [(name, pointers.get(name), advice.get(name)) for name in names]
        rows.sort(key=lambda row: (not (row[2] and row[2].retrain), row[0]))
        return self._page(request, "services.html", rows=rows, problem=problem)

    def service(self, request: Request, service: str) -> Response:
        """One service: its bundle, whether that fits, its trainings."""
        pointer = self.reading.view.pointers.get(service)
        advice, problem = self._advice()
        registry = self._registry()
        versions = registry.versions(service)[::-1]
        return self._page(
            request,
            "service.html",
            service=service,
            pointer=pointer,
            advice=advice.get(service),
            problem=problem,
            runs=self._runs().newest(service, SHOWN_RUNS),
            models=[(version, *_manifest(registry, service, version)) for version in versions[:10]],
        )

    def runs(self, request: Request, service: str) -> Response:
        """Its trainings alone, as the page asks for them again and again."""
        return self._page(request, "runs.html", service=service, runs=self._runs().newest(service, SHOWN_RUNS))

    def retrain(self, request: Request, service: str, author: Author, token: Text, reason: Text = "") -> Response:
        """Train a service."""
        forms.check(request, token)
        start(self._settings, RetrainingRequest(service=service, author=author, reason=reason or "asked for"))
        return self._to_service(service)

    def cancel(self, request: Request, service: str, training: Text, author: Author, token: Text) -> Response:
        """Cancel a training."""
        forms.check(request, token)
        self._runs().cancel(service, training, author)
        return self._to_service(service)

    def promote(
        self, request: Request, service: str, version: Text, author: Author, token: Text, reason: Text = ""
    ) -> Response:
        """Make a bundle live."""
        forms.check(request, token)
        return self._moved(make_live(self._settings, self._registry(), service, version, author, reason))

    def rollback(self, request: Request, service: str, author: Author, token: Text, reason: Text = "") -> Response:
        """Go back to the bundle before."""
        forms.check(request, token)
        return self._moved(roll_back(self._settings, self._registry(), service, author, reason))

    def _moved(self, pointer: BundlePointer) -> Response:
        self.reading.accept(pointer)
        return self._to_service(pointer.service)

    # -- try it ------------------------------------------------------------------------------------------------------

    def try_page(self, request: Request, service: Annotated[str, Query(max_length=201)] = "") -> Response:
        """Where lines are pasted."""
        return self._page(request, "try.html", service=service, lines="", trial=None)

    def try_it(
        self,
        request: Request,
        service: Annotated[ServiceName, Form()],
        lines: Annotated[str, Form(max_length=MOST_BYTES)],
        token: Text,
    ) -> Response:
        """What becomes of them."""
        forms.check(request, token)
        view = self.reading.view
        pointer = view.pointers.get(service)
        bundle = self._registry().load(service, pointer.version) if pointer else None
        trial = try_lines(lines, view.settings_of(service), view.templates.get(service, {}).values(), bundle)
        return self._page(request, "try.html", service=service, lines=lines, trial=trial)

    def _to_service(self, service: str) -> Response:
        return RedirectResponse(f"/ui/services/{quote(service)}", 303)

    def _advice(self) -> tuple[dict[str, Any], str]:
        try:
            return dict(advise_all(self._settings)), ""
        except ExporterError as error:
            return {}, str(error)

    def _runs(self) -> Runs:
        return Runs.of(self._settings)

    def _registry(self) -> Registry:
        return Registry.of(self._settings)

    def _page(self, request: Request, name: str, **values: object) -> Response:
        who = forms.visitor(request)
        text = self._templates.get_template(name).render(
            **values, token=forms.token(who), me=user(), waiting=self.store.open_count(), now_ms=now_ms()
        )
        response = HTMLResponse(text)
        forms.remember(response, who)
        return response


async def _with_headers(request: Request, follow: Callable[[Request], Any]) -> Response:
    response: Response = await follow(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _manifest(registry: Registry, service: str, version: str) -> tuple[Manifest | None, str]:
    """What a bundle says of itself, or why it cannot be read."""
    try:
        return registry.manifest(service, version), ""
    except BundleError as error:
        return None, str(error)


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def user() -> str:
    """The name of this machine's user, as a form proposes it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def ago(milliseconds: int, now: int) -> str:
    """How long ago a time was.

    >>> ago(0, 7_200_000)
    '2 h'
    """
    seconds = max(0, now - milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def bars(counts: list[int]) -> list[tuple[int, int, int]]:
    """Left edge, top and height of a bar for each count, 16 apart in a box 24 high.

    >>> bars([0, 2])
    [(0, 24, 0), (16, 0, 24)]
    """
    top = max(counts, default=0) or 1
    heights = [round(24 * count / top) for count in counts]
    return [(16 * number, 24 - height, height) for number, height in enumerate(heights)]


def spark(counts: list[int]) -> str:
    """The points of a line through counts, in a box of 96 by 20.

    >>> spark([0, 1, 2])
    '0,19 48,10 96,1'
    """
    top, step = max(counts, default=0) or 1, 96 / max(1, len(counts) - 1)
    return " ".join(f"{number * step:.0f},{19 - 18 * count / top:.0f}" for number, count in enumerate(counts))
