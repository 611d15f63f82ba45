"""The HTTP interface: retraining, bundles, advice; what it does, the command line does in the same way.

    app = create(settings)

``GET /openapi.json`` describes all of it, with examples. Times are milliseconds since 1970 UTC.
"""

from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Annotated

from fastapi import FastAPI, Request, Response
from pydantic import Field

from console import alerts, audit
from console.access import Access
from console.advice import Watched, advise_all, watched
from console.guard import Guard
from console.pages import Pages
from console.problems import PROBLEM, install
from console.site import Service
from contracts.base import Record
from contracts.records import BundlePointer, Deed
from contracts.retraining import RetrainingRequest, Run, Wanted
from contracts.settings import AppSettings
from models.promotion import change_budget, make_live, roll_back
from models.registry import Registry
from storage.control import read_control
from storage.files import open_files
from training.background import start
from training.runs import Runs

Author = Annotated[str, Field(max_length=100, examples=["ada"])]
"""Who acts; those who are signed in may leave it out."""
Reason = Annotated[str, Field(max_length=500, examples=["after release 1.4"])]


class Promotion(Record):
    """Who moves a pointer, and why."""

    author: Author = ""
    reason: Reason = ""


class Budget(Record):
    """Another budget of false alarms: one of the three."""

    author: Author = ""
    reason: Reason = "budget"
    false_alarm_rate: float | None = Field(default=None, ge=0, le=0.5, examples=[0.001])
    """Share of normal sessions that may be raised."""
    alerts_per_day: float | None = Field(default=None, ge=0)
    bars: dict[str, float] = Field(default_factory=dict)
    """Thresholds by hand in nats, for ``session`` or ``stream``."""


class Asked(Wanted):
    """A training, as it is asked for here."""

    author: Author = ""


class Model(Record):
    """A bundle in the registry."""

    version: str
    live: bool


class Health(Record):
    """Whether the interface works."""

    status: str
    version: str


def create(settings: AppSettings, pages: Pages | None = None, put: Callable[[Deed], None] = audit.say) -> FastAPI:
    """Make the application.

    Args:
        settings: where Kafka, HDFS and the exporter are, and who may ask.
        pages: served with it; None: the interface alone.
        put: takes what was done, for the audit trail.
    """
    app = FastAPI(
        title="LogCanary",
        version=version_of("logcanary"),
        description=__doc__.partition("\n")[0],
        docs_url=None,  # their pages come from elsewhere
        redoc_url=None,
        responses={"4XX": PROBLEM},
    )
    app.add_middleware(Guard, access=pages.site.access if pages else Access(settings.web))
    app.add_middleware(audit.Audited, put=put)
    install(app)
    _health(app, settings)
    _services(app, settings)
    _retraining(app, settings)
    _models(app, settings)
    if pages is not None:
        alerts.add_to(app, pages)
        pages.add_to(app)
    return app


def _health(app: FastAPI, settings: AppSettings) -> None:
    @app.get("/healthz", tags=["health"])
    def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="ok", version=app.version)

    @app.get("/readyz", tags=["health"])
    def readyz() -> Health:
        """Whether Kafka and HDFS answer it; 503 where one does not."""
        read_control(settings)
        open_files(settings.hdfs).list(settings.hdfs.root)
        return Health(status="ready", version=app.version)


def _services(app: FastAPI, settings: AppSettings) -> None:
    @app.get("/services", tags=["services"])
    def services() -> list[Watched]:
        """Every service seen, with its live bundle and one advice."""
        return watched(settings)

    @app.get("/services/{service}", tags=["services"])
    def one_service(service: Service) -> Watched:
        """One of them."""
        return Watched.of(service, read_control(settings).pointers.get(service), advise_all(settings).get(service))


def _retraining(app: FastAPI, settings: AppSettings) -> None:
    @app.post("/services/{service}/retraining", status_code=202, tags=["retraining"])
    def retrain(request: Request, service: Service, asked: Asked, response: Response) -> Run:
        """Train a service from its archive, in a process of its own; 409 while it is being trained."""
        author = audit.acting(request, asked.author, asked.reason)
        run = start(settings, RetrainingRequest(service=service, **asked.model_dump() | {"author": author}))
        response.headers["Location"] = f"/services/{service}/retraining/{run.id}"
        return run

    @app.get("/services/{service}/retraining", tags=["retraining"])
    def trainings(service: Service) -> list[Run]:
        """The trainings of a service, the newest first."""
        return Runs.of(settings).newest(service)

    @app.get("/services/{service}/retraining/{training}", tags=["retraining"])
    def training(service: Service, training: str) -> Run:
        """How far a training is, or what came of it."""
        return Runs.of(settings).get(service, training)

    @app.delete("/services/{service}/retraining/{training}", status_code=202, tags=["retraining"])
    def cancel(request: Request, service: Service, training: str, author: Author = "") -> Run:
        """Cancel a training: it stops within seconds, and nothing is published."""
        author = audit.acting(request, author, f"cancel {training}")
        return Runs.of(settings).cancel(service, training, author)


def _models(app: FastAPI, settings: AppSettings) -> None:
    @app.get("/services/{service}/models", tags=["models"])
    def models(service: Service) -> list[Model]:
        """The bundles of a service, the newest last."""
        pointer = read_control(settings).pointers.get(service)
        live = pointer.version if pointer else ""
        return [Model(version=one, live=one == live) for one in Registry.of(settings).versions(service)]

    @app.post("/services/{service}/models/{version}/promotion", tags=["models"])
    def promote(request: Request, service: Service, version: str, asked: Promotion) -> BundlePointer:
        """Make a bundle live; 409 where the gate found it worse and no reason is given."""
        author = audit.acting(request, asked.author, f"{version}: {asked.reason}")
        return make_live(settings, Registry.of(settings), service, version, author, asked.reason)

    @app.post("/services/{service}/budget", tags=["models"])
    def budget(request: Request, service: Service, asked: Budget) -> BundlePointer:
        """Give the live bundle thresholds for another budget; nothing is learnt, nothing restarts."""
        author = audit.acting(request, asked.author, asked.reason)
        return change_budget(
            settings,
            Registry.of(settings),
            service,
            author,
            asked.reason,
            rate=asked.false_alarm_rate,
            alerts_per_day=asked.alerts_per_day,
            bars=asked.bars,
        )

    @app.post("/services/{service}/rollback", tags=["models"])
    def rollback(request: Request, service: Service, asked: Promotion) -> BundlePointer:
        """Make the bundle live again that was live before this one."""
        author = audit.acting(request, asked.author, asked.reason)
        return roll_back(settings, Registry.of(settings), service, author, asked.reason)
