"""What the pages show and take, as JSON: alerts and verdicts, lines, budgets, templates, the audit trail."""

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import Field

from console.alert_pages import said
from console.audit import acting
from console.budgets import Preview
from console.pages import Pages
from console.saying import Say
from console.service_pages import Amount, Unit
from console.settings_pages import changed_words
from console.site import Service, now_ms
from console.splitting import SplitPreview
from console.store import PAGE, Row, cursor
from console.store import Query as Asked
from console.template_pages import NOTHING, Values, Where, apart_words
from console.tuning import Change, changes, usable
from contracts.base import Record
from contracts.records import Deed, Detection, Template, TemplateId, TemplateName, Verdict
from contracts.service import ServiceSettings, SplitOptions
from models.alerts import Alert


class Wished(Record):
    """A service's settings, as they are to be."""

    author: str = Field(default="", max_length=100)
    settings: dict[str, Any] = Field(
        examples=[{"session": {"by": "identifier"}, "budget": {"false_alarm_rate": 0.001}}]
    )
    """What differs from the defaults."""


class Listed(Record):
    """An alert in a list."""

    service: str
    signature: str
    state: str
    detector: str
    level: str
    headline: str
    count: int
    first_ms: int
    last_ms: int
    template: str
    name: str = ""
    """What engineers call the template."""

    @classmethod
    def of(cls, row: Row, name: str) -> "Listed":
        """A row of the store, and what its template is called."""
        return cls(name=name, **{field: getattr(row, field) for field in cls.model_fields if field != "name"})


class Page(Record):
    """Alerts by need, then by time."""

    alerts: tuple[Listed, ...]
    after: str = ""
    """Give it back to get the next page; empty: there is none."""


class Findings(Record):
    """Detections in the order in which they came."""

    detections: tuple[Detection, ...]
    after: int = 0
    """Give it back to get the next page; 0: there is none."""


class Known(Record):
    """What is known of an alert."""

    state: str
    count: int
    first_ms: int
    last_ms: int
    newest: Detection
    worst: Detection
    said: tuple[Verdict, ...]

    @classmethod
    def of(cls, alert: Alert) -> "Known":
        """An alert of the store."""
        return cls(**{name: getattr(alert, name) for name in cls.model_fields})


class Line(Record):
    """A line of a topic."""

    offset: int
    text: str


class Near(Record):
    """The lines around a finding."""

    source: str
    """``topic``, or ``archive`` where they have left the topic."""
    lines: tuple[Line, ...]


class Merge(Record):
    """Which template is the same as another."""

    other: TemplateId
    author: str = Field(default="", max_length=100, examples=["ada"])


class Called(Record):
    """What a template is to be called."""

    name: str = Field(max_length=80, examples=["disk is full"])
    """Empty: it has no name any more."""
    author: str = Field(default="", max_length=100, examples=["ada"])


class Apart(Record):
    """By what a template is told apart."""

    place: int = Field(ge=0, examples=[1])
    """Which of its variables, from 0."""
    values: tuple[str, ...] = Field(examples=[["full", "gone"]])
    """1 to 50 of them, of 1 to 200 characters each: lines that have one there get a template of their own."""
    author: str = Field(default="", max_length=100, examples=["ada"])


class Listing(Template):
    """A template of the catalogue with its name."""

    name: str = ""
    """What engineers call it."""


class Deeds(Record):
    """What was done in the console, the latest first."""

    deeds: tuple[Deed, ...]
    after: str = ""
    """Give it back to get the next page; empty: there is none."""


def add_to(app: FastAPI, pages: Pages) -> None:
    """Serve alerts, and take verdicts."""

    @app.get("/alerts", tags=["alerts"])
    def alerts(
        service: Annotated[str, Query(max_length=201)] = "",
        state: Annotated[str, Query(max_length=20, examples=["needs-review"])] = "",
        words: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[str, Query(max_length=300)] = "",
    ) -> Page:
        """Alerts that need somebody first, the latest first; 50 at a time."""
        rows = pages.alerts.rows(Asked(service=service, state=state, words=words, after=after))
        name_of = pages.site.reading.view.name_of
        listed = tuple(Listed.of(row, name_of(row.service, row.template)) for row in rows[:PAGE])
        return Page(alerts=listed, after=cursor(rows[PAGE - 1]) if len(rows) > PAGE else "")

    @app.get("/alerts/{service}/{signature}", tags=["alerts"])
    def alert(service: Service, signature: str) -> Known:
        """What is known of one alert, with its newest and its worst finding."""
        found = pages.site.store.alert(service, signature, pages.site.reading.view)
        if found is None:
            raise HTTPException(404, f"{service} has no alert {signature}")
        return Known.of(found[0])

    @app.get("/detections", tags=["alerts"])
    def detections(
        service: Annotated[str, Query(max_length=201)] = "", after: Annotated[int, Query(ge=0)] = 0
    ) -> Findings:
        """Every detection with its evidence, 500 at a time; of one that came twice the more surprising."""
        found, more = pages.site.store.detections(service, after)
        return Findings(detections=tuple(found), after=more)

    @app.get("/services/{service}/verdicts", tags=["alerts"])
    def verdicts(service: Service) -> list[Verdict]:
        """What engineers said of a service's detections, the oldest first."""
        said = pages.site.reading.view.verdicts.get(service, {}).values()
        return sorted(said, key=lambda one: (one.given_ms, one.detection))

    @app.post("/detections/{detection}/verdict", tags=["alerts"])
    def say(request: Request, detection: str, asked: Say) -> Verdict:
        """Say what a detection is; it takes effect in the running job at once, and in the next training."""
        author = acting(request, asked.author, said(asked.value, asked.scope, asked.reason))
        return pages.alerts.judge.say(detection, asked.model_copy(update={"author": author}), now_ms())[1]

    @app.delete("/detections/{detection}/verdict", tags=["alerts"])
    def undo(request: Request, detection: str, author: Annotated[str, Query(max_length=100)] = "") -> Verdict:
        """Take back what was said of a detection."""
        author = acting(request, author, "taken back")
        return pages.alerts.judge.undo(detection, author, now_ms())[1]

    @app.get("/detections/{detection}/lines", tags=["alerts"])
    def lines(detection: str) -> Near:
        """The ten lines before and after a finding's, from its topic or the archive; without what is redacted."""
        near = pages.alerts.around(detection)[1]
        return Near(source=near.source, lines=tuple(Line(offset=at, text=text) for at, text in near.lines))

    @app.get("/services/{service}/budget", tags=["models"])
    def budget(service: Service, unit: Unit = "rate", amount: Amount = None) -> Preview:
        """What the last day's alerts would have been with another budget; without an amount: with the one there is."""
        return pages.services.preview(service, unit, amount)

    _templates(app, pages)
    _settings(app, pages)

    @app.get("/audit", tags=["audit"])
    def audit(after: Annotated[str, Query(max_length=100)] = "") -> Deeds:
        """Who did what, the latest first; 50 at a time; for admins."""
        deeds, more = pages.people.deeds(after)
        return Deeds(deeds=tuple(deeds), after=more)


def _settings(app: FastAPI, pages: Pages) -> None:
    @app.get("/services/{service}/settings", tags=["services"])
    def settings(service: Service) -> ServiceSettings:
        """The settings in force."""
        return pages.site.reading.view.settings_of(service)

    @app.put("/services/{service}/settings", tags=["services"])
    def set_them(request: Request, service: Service, asked: Wished) -> list[Change]:
        """Set them; what differs from before is answered. 422 where they cannot be used."""
        before = pages.site.reading.view.settings_of(service)
        wanted = usable(asked.settings | {"service": service})
        found = changes(before, wanted)
        acting(request, asked.author, changed_words(found))
        pages.settings.put(wanted)
        return found


def _templates(app: FastAPI, pages: Pages) -> None:
    @app.get("/services/{service}/templates", tags=["templates"])
    def templates(service: Service) -> list[Listing]:
        """A service's catalogue, aliases included."""
        view = pages.site.reading.view
        known = sorted(view.templates.get(service, {}).values(), key=lambda one: one.id)
        return [Listing(name=view.name_of(service, one.id), **one.model_dump()) for one in known]

    @app.post("/services/{service}/templates/{template}/merge", tags=["templates"])
    def merge(request: Request, service: Service, template: str, asked: Merge) -> Template:
        """Make one template of two, in the running job, models, verdicts and alerts; nothing takes it back."""
        acting(request, asked.author, f"{template} and {asked.other} are one")
        return pages.templates.unite(service, template, asked.other)

    @app.put("/services/{service}/templates/{template}/name", tags=["templates"])
    def name(request: Request, service: Service, template: str, asked: Called) -> TemplateName:
        """Name a template, as pages show it beside its text; an empty name takes it away."""
        acting(request, asked.author, f"{template} is called {asked.name!r}")
        return pages.templates.call(service, template, asked.name)

    @app.get("/services/{service}/templates/{template}/split", tags=["templates"])
    def preview(service: Service, template: str, place: Where = 0, values: Values = NOTHING) -> SplitPreview:
        """By what a template can be told apart, and which of the newest lines would go where."""
        return pages.templates.preview(service, template, place, values)

    @app.put("/services/{service}/templates/{template}/split", tags=["templates"])
    def split(request: Request, service: Service, template: str, asked: Apart) -> SplitOptions:
        """Tell a template apart by the values at one of its places, for lines from now on."""
        acting(request, asked.author, apart_words(template, asked.place, list(asked.values)))
        return pages.templates.part(service, template, asked.place, list(asked.values))

    @app.delete("/services/{service}/templates/{template}/split", tags=["templates"])
    def unsplit(
        request: Request, service: Service, template: str, author: Annotated[str, Query(max_length=100)] = ""
    ) -> SplitOptions:
        """Tell it apart no longer, for lines from now on; answers how it was."""
        acting(request, author, f"{template} is one again")
        return pages.templates.join(service, template)
