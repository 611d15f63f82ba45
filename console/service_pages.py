"""Pages of services: their bundles, whether those fit, trainings, budgets; lines pasted to be tried."""

import math
from typing import Annotated, Literal
from urllib.parse import quote

import numpy as np
from fastapi import Form, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from console import forms
from console.advice import seen
from console.audit import acting
from console.budgets import Preview, preview
from console.site import Author, Routes, Service, Site, Text
from console.trying import MOST_BYTES, try_lines
from contracts.bundle import Manifest
from contracts.records import BundlePointer
from contracts.retraining import RetrainingRequest
from contracts.service import ServiceName
from models.bundle import BundleError
from models.drift import EDGES, counts
from models.promotion import change_budget, make_live, roll_back
from models.registry import Registry
from training.background import start
from training.runs import Runs

SHOWN_RUNS = 10

Unit = Annotated[Literal["rate", "alerts-per-day"], Query()]
Amount = Annotated[float | None, Query(ge=0)]


class ServicePages:
    """Services, and what is done for them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.views: Routes = {
            "/ui/services": self.services,
            "/ui/health": self.health,
            "/ui/services/{service}": self.service,
            "/ui/services/{service}/runs": self.runs,
            "/ui/services/{service}/budget": self.budget_page,
            "/ui/try": self.try_page,
        }
        self.acts: Routes = {
            "/ui/services/{service}/retrain": self.retrain,
            "/ui/services/{service}/cancel": self.cancel,
            "/ui/services/{service}/promote": self.promote,
            "/ui/services/{service}/rollback": self.rollback,
            "/ui/services/{service}/budget": self.budget,
            "/ui/try": self.try_it,
        }

    def services(self, request: Request) -> Response:
        """Every service seen, those that need a training first."""
        pointers = self._site.reading.view.pointers
        look = self._site.pulse.look()
        names = seen(self._site.settings, pointers, look.services)
        rows = [(name, pointers.get(name), look.advice.get(name), look.services.get(name)) for name in names]
        rows.sort(key=lambda row: (not (row[2] and row[2].retrain), row[0]))
        return self._site.page(request, "services.html", rows=rows, look=look)

    def health(self, request: Request) -> Response:
        """The strip on top of the alerts, as the page asks for it again and again."""
        return self._site.page(request, "health.html", look=self._site.pulse.look())

    def service(self, request: Request, service: Service) -> Response:
        """One service: its bundle, whether that fits, its trainings."""
        pointer = self._site.reading.view.pointers.get(service)
        look = self._site.pulse.look()
        registry = self._registry()
        live = _manifest(registry, service, pointer.version)[0] if pointer else None
        versions = registry.versions(service)[::-1]
        return self._site.page(
            request,
            "service.html",
            service=service,
            pointer=pointer,
            advice=look.advice.get(service),
            vitals=look.services.get(service),
            course=self._site.pulse.course(service),
            look=look,
            runs=self._runs().newest(service, SHOWN_RUNS),
            distribution=distribution(live, self._site.store.surprises(service)) if live else [],
            models=[(version, *_manifest(registry, service, version)) for version in versions[:10]],
        )

    def runs(self, request: Request, service: Service) -> Response:
        """Its trainings alone, as the page asks for them again and again."""
        return self._site.page(request, "runs.html", service=service, runs=self._runs().newest(service, SHOWN_RUNS))

    def retrain(
        self, request: Request, service: Service, token: Text, author: Author = "", reason: Text = ""
    ) -> Response:
        """Train a service."""
        forms.check(request, token)
        author = acting(request, author, reason)
        start(self._site.settings, RetrainingRequest(service=service, author=author, reason=reason or "asked for"))
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
        return self._moved(make_live(self._site.settings, self._registry(), service, version, author, reason))

    def rollback(
        self, request: Request, service: Service, token: Text, author: Author = "", reason: Text = ""
    ) -> Response:
        """Go back to the bundle before."""
        forms.check(request, token)
        author = acting(request, author, reason)
        return self._moved(roll_back(self._site.settings, self._registry(), service, author, reason))

    def budget_page(self, request: Request, service: Service, unit: Unit = "rate", amount: Amount = None) -> Response:
        """What another budget would mean."""
        return self._site.page(
            request, "budget.html", service=service, unit=unit, amount=amount, seen=self.preview(service, unit, amount)
        )

    def preview(self, service: str, unit: str, amount: float | None) -> Preview:
        """What the last day would have been with another budget; None: with the one there is.

        Raises:
            HTTPException: 404: there is no live bundle.
        """
        pointer = self._site.reading.view.pointers.get(service)
        if pointer is None:
            raise HTTPException(404, f"{service} has no live bundle")
        rate, a_day = _budget(unit, amount)
        live = self._registry().load(service, pointer.version)
        return preview(self._site.store, live, rate=rate, alerts_per_day=a_day)

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
        means = (self._site.settings, self._registry(), service, author, reason or "budget")
        rate, a_day = _budget(unit, amount)
        return self._moved(change_budget(*means, rate=rate, alerts_per_day=a_day))

    def _moved(self, pointer: BundlePointer) -> Response:
        self._site.reading.accept(pointer)
        return self._to_service(pointer.service)

    def try_page(self, request: Request, service: Annotated[str, Query(max_length=201)] = "") -> Response:
        """Where lines are pasted."""
        return self._site.page(request, "try.html", service=service, lines="", trial=None)

    def try_it(
        self,
        request: Request,
        service: Annotated[ServiceName, Form()],
        lines: Annotated[str, Form(max_length=MOST_BYTES)],
        token: Text,
    ) -> Response:
        """What becomes of them."""
        forms.check(request, token)
        view = self._site.reading.view
        pointer = view.pointers.get(service)
        bundle = self._registry().load(service, pointer.version) if pointer else None
        trial = try_lines(lines, view.settings_of(service), view.templates.get(service, {}).values(), bundle)
        return self._site.page(request, "try.html", service=service, lines=lines, trial=trial)

    def _to_service(self, service: str) -> Response:
        return RedirectResponse(f"/ui/services/{quote(service)}", 303)

    def _runs(self) -> Runs:
        return Runs.of(self._site.settings)

    def _registry(self) -> Registry:
        return Registry.of(self._site.settings)


def distribution(live: Manifest, found: list[float]) -> list[tuple[str, float, int, list[str]]]:
    """How surprising windows were when a bundle was learnt, and findings are now.

    Args:
        live: the bundle.
        found: nats of findings.

    Returns:
        For each bin of ``models.drift.EDGES``: its nats in words, the share of held-back windows, how many findings,
        and which thresholds lie in it.
    """
    bars = {kind: live.metrics.get(f"threshold_{kind}_nats") for kind in ("session", "stream")} | live.bars
    now, rows = counts(np.array(found, np.float32)), []
    for low, high, share, count in zip((0.0, *EDGES), (*EDGES, math.inf), live.surprises, now, strict=False):
        words = f"{low:g} to {high:g}" if high < math.inf else f"{low:g} and more"
        here = [kind for kind, bar in bars.items() if bar is not None and low <= bar < high]
        rows.append((words, share, count, here))
    return rows


def _budget(unit: str, amount: float | None) -> tuple[float | None, float | None]:
    """The rate, and the alerts a day, of which one is given at most."""
    return (None, amount) if unit == "alerts-per-day" else (amount, None)


def _manifest(registry: Registry, service: str, version: str) -> tuple[Manifest | None, str]:
    """What a bundle says of itself, or why it cannot be read."""
    try:
        return registry.manifest(service, version), ""
    except BundleError as error:
        return None, str(error)
