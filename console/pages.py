"""The pages: alerts that need somebody, what is known of each, verdicts; services, their bundles and trainings.

Rendered on the server, complete without JavaScript; htmx brings news in without a reload. Everything from a line of a
log is escaped by the templates, and the content-security policy allows no script but the vendored one.
"""

import getpass
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Form, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from console import forms
from console.access import SESSION_COOKIE, Access
from console.advice import ExporterError, advise_all, seen
from console.audit import acting
from console.budgets import Preview, preview
from console.guard import SIGN_IN, SIGN_OUT
from console.reading import Reading
from console.rendering import HERE, render
from console.saying import Judge, Say
from console.store import PAGE, Row, Store, cursor
from console.store import Query as Asked
from console.trying import MOST_BYTES, try_lines
from contracts.bundle import Manifest
from contracts.records import BundlePointer, Deed, Detection, VerdictScope, VerdictValue
from contracts.retraining import RetrainingRequest
from contracts.service import ServiceName
from contracts.settings import AppSettings
from models.bundle import BundleError
from models.promotion import change_budget, make_live, roll_back
from models.registry import Registry
from training.background import start
from training.runs import Runs

SHOWN_FINDINGS = 20
SHOWN_RUNS = 10
MOST_TEMPLATES = 500
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
Service = Annotated[ServiceName, Path()]
Unit = Annotated[Literal["rate", "alerts-per-day"], Query()]
Amount = Annotated[float | None, Query(ge=0)]
Next = Annotated[str, Query(max_length=500)]
Author = Annotated[str, Form(max_length=100)]


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
        self.access = Access(settings.web)

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
            ("/ui/services/{service}/budget", self.budget_page),
            ("/ui/services/{service}/templates", self.templates),
            ("/ui/try", self.try_page),
            ("/ui/audit", self.audit),
            (SIGN_IN, self.sign_in_page),
        ):
            app.add_api_route(path, page, methods=["GET"], include_in_schema=False, response_class=HTMLResponse)
        for path, act in (
            ("/ui/detections/{detection}/verdict", self.verdict),
            ("/ui/detections/{detection}/undo", self.undo),
            ("/ui/services/{service}/retrain", self.retrain),
            ("/ui/services/{service}/cancel", self.cancel),
            ("/ui/services/{service}/promote", self.promote),
            ("/ui/services/{service}/rollback", self.rollback),
            ("/ui/services/{service}/budget", self.budget),
            (SIGN_IN, self.sign_in),
            (SIGN_OUT, self.sign_out),
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

    def alert(self, request: Request, service: Service, signature: str) -> Response:
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
        token: Text,
        author: Author = "",
        reason: Text = "",
        scope: Annotated[VerdictScope, Form()] = "template",
        expires: Annotated[str, Form()] = "",
    ) -> Response:
        """Say what a detection is."""
        forms.check(request, token)
        if expires not in EXPIRIES:
            raise HTTPException(422, f"expires: one of {', '.join(filter(None, EXPIRIES))}, or empty")
        author = acting(request, author, said(value, scope, reason))
        asked = Say(value=value, author=author, reason=reason, scope=scope, lasts_ms=EXPIRIES[expires])
        return self._back(self.judge.say(detection, asked, now_ms())[0])

    def undo(self, request: Request, detection: str, token: Text, author: Author = "") -> Response:
        """Take back what was said of a detection."""
        forms.check(request, token)
        author = acting(request, author, "taken back")
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

    def service(self, request: Request, service: Service) -> Response:
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

    def runs(self, request: Request, service: Service) -> Response:
        """Its trainings alone, as the page asks for them again and again."""
        return self._page(request, "runs.html", service=service, runs=self._runs().newest(service, SHOWN_RUNS))

    def retrain(
        self, request: Request, service: Service, token: Text, author: Author = "", reason: Text = ""
    ) -> Response:
        """Train a service."""
        forms.check(request, token)
        author = acting(request, author, reason)
        start(self._settings, RetrainingRequest(service=service, author=author, reason=reason or "asked for"))
        return self._to_service(service)

    def cancel(self, request: Request, service: Service, training: Text, token: Text, author: Author = "") -> Response:
        """Cancel a training."""
        forms.check(request, token)
        author = acting(request, author, f"cancel {training}")
        self._runs().cancel(service, training, author)
        return self._to_service(service)

    def promote(
        self, request: Request, service: Service, version: Text, token: Text, author: Author = "", reason: Text = ""
    ) -> Response:
        """Make a bundle live."""
        forms.check(request, token)
        author = acting(request, author, f"{version}: {reason}")
        return self._moved(make_live(self._settings, self._registry(), service, version, author, reason))

    def rollback(
        self, request: Request, service: Service, token: Text, author: Author = "", reason: Text = ""
    ) -> Response:
        """Go back to the bundle before."""
        forms.check(request, token)
        author = acting(request, author, reason)
        return self._moved(roll_back(self._settings, self._registry(), service, author, reason))

    def budget_page(self, request: Request, service: Service, unit: Unit = "rate", amount: Amount = None) -> Response:
        """What another budget would mean."""
        return self._page(
            request, "budget.html", service=service, unit=unit, amount=amount, seen=self.preview(service, unit, amount)
        )

    def preview(self, service: str, unit: str, amount: float | None) -> Preview:
        """What the last day would have been with another budget; None: with the one there is.

        Raises:
            HTTPException: 404: there is no live bundle.
        """
        pointer = self.reading.view.pointers.get(service)
        if pointer is None:
            raise HTTPException(404, f"{service} has no live bundle")
        rate, a_day = _budget(unit, amount)
        live = self._registry().load(service, pointer.version)
        return preview(self.store, live, rate=rate, alerts_per_day=a_day)

    def budget(
        self,
        request: Request,
        service: Service,
        unit: Annotated[Literal["rate", "alerts-per-day"], Form()],
        amount: Annotated[float, Form(ge=0)],
        token: Text,
        author: Author = "",
        reason: Text = "",
    ) -> Response:
        """Set another budget."""
        forms.check(request, token)
        author = acting(request, author, f"{amount:g} {unit}: {reason}")
        means = (self._settings, self._registry(), service, author, reason or "budget")
        rate, a_day = _budget(unit, amount)
        return self._moved(change_budget(*means, rate=rate, alerts_per_day=a_day))

    def templates(
        self, request: Request, service: Service, words: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        """A service's catalogue."""
        view = self.reading.view
        known = [one for one in view.templates.get(service, {}).values() if words.lower() in one.text.lower()]
        known.sort(key=lambda one: one.text)
        others = Counter(view.resolve(service, one.id) for one in known if one.alias_of)
        roots = [one for one in known if not one.alias_of]
        return self._page(
            request,
            "templates.html",
            service=service,
            words=words,
            count=len(roots),
            rows=[(one, others[one.id]) for one in roots[:MOST_TEMPLATES]],
        )

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

    # -- who asks ----------------------------------------------------------------------------------------------------

    def audit(self, request: Request, after: Annotated[str, Query(max_length=100)] = "") -> Response:
        """Who did what."""
        deeds, more = self.deeds(after)
        return self._page(request, "audit.html", deeds=deeds, more=more)

    def deeds(self, after: str) -> tuple[list[Deed], str]:
        """A page of what was done, and where the next begins; empty: there is none.

        Raises:
            HTTPException: 422: the cursor is none.
        """
        try:
            found = self.store.deeds(after, PAGE + 1)
        except ValueError:
            raise HTTPException(422, "after: this is no page's end; leave it out to begin anew") from None
        return [deed for _, deed in found[:PAGE]], found[PAGE - 1][0] if len(found) > PAGE else ""

    def sign_in_page(self, request: Request, next: Next = "") -> Response:
        """Where a token is typed in."""
        return self._page(request, "sign_in.html", following=next, wrong=False)

    def sign_in(self, request: Request, secret: Text, token: Text, next: Next = "") -> Response:
        """Begin a session."""
        forms.check(request, token)
        address = request.client.host if request.client else ""
        begun = self.access.sign_in(secret, address)
        if begun is None:
            response = self._page(request, "sign_in.html", following=next, wrong=True)
            response.status_code = 401
            return response
        request.state.person = self.access.person({}, {SESSION_COOKIE: begun}, address)
        response = RedirectResponse(_inside(next), 303)
        forms.remember(response, begun, SESSION_COOKIE, secure=self._secure(request))
        return response

    def sign_out(self, request: Request, token: Text) -> Response:
        """End the session."""
        forms.check(request, token)
        self.access.sign_out(request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    def _secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, to us or to the proxy before us."""
        address = request.client.host if request.client else ""
        told = request.headers.get("x-forwarded-proto") if self.access.is_proxy(address) else ""
        return "https" in (request.url.scheme, told)

    def _page(self, request: Request, name: str, **values: object) -> Response:
        browser, person = forms.visitor(request), getattr(request.state, "person", None)
        text = render(
            name,
            **values,
            token=forms.token(browser),
            person=person,
            may_act=person is not None and person.may("engineer"),
            me=(person.name if person else "") or user(),
            waiting=self.store.open_count(),
            now_ms=now_ms(),
        )
        response = HTMLResponse(text)
        forms.remember(response, browser, secure=self._secure(request))
        return response


def _budget(unit: str, amount: float | None) -> tuple[float | None, float | None]:
    """The rate, and the alerts a day, of which one is given at most."""
    return (None, amount) if unit == "alerts-per-day" else (amount, None)


def _inside(address: str) -> str:
    """Where to go after signing in: a page of ours, never another site's."""
    return address if re.fullmatch(r"/ui/[^\\\x00-\x1f]*", address) else "/ui/alerts"


def said(value: str, scope: str, reason: str) -> str:
    """A verdict in short, for the audit trail."""
    return f"{value} for this {scope}" + (f": {reason}" if reason else "")


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
