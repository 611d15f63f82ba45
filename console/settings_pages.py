"""The page of a service's settings: what differs from the defaults, what a change would be, and the change."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from console import forms
from console.audit import acting
from console.reading import put
from console.site import Author, Routes, Service, Site, Text
from console.tuning import Change, SettingsError, changes, read, written
from contracts.records import Settings
from contracts.service import ServiceSettings

Written = Annotated[str, Form(max_length=20_000)]
Do = Annotated[Literal["look", "set"], Form()]


def changed_words(found: list[Change]) -> str:
    """A change in short, for the audit trail: names, no values, which may be expressions with somebody's data."""
    return f"settings: {', '.join(one.setting for one in found) or 'nothing'}"


class SettingsPages:
    """Settings of services."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.views: Routes = {"/ui/services/{service}/settings": self.settings}
        self.acts: Routes = {"/ui/services/{service}/settings": self.change}

    def settings(self, request: Request, service: Service) -> Response:
        """What differs from the defaults."""
        return self._page(request, service, written(self._site.reading.view.settings_of(service)))

    def change(
        self, request: Request, service: Service, token: Text, do: Do, settings: Written = "", author: Author = ""
    ) -> Response:
        """Say what a text would change, or set it."""
        forms.check(request, token)
        try:
            wanted = read(service, settings)
        except SettingsError as error:
            acting(request, author, "settings: refused")
            return self._page(request, service, settings, problem=str(error), status=422)
        found = changes(self._site.reading.view.settings_of(service), wanted)
        if do == "look":
            acting(request, author, f"a look at {changed_words(found)}")
            return self._page(request, service, settings, found=found)
        acting(request, author, changed_words(found))
        self.put(wanted)
        return RedirectResponse(f"/ui/services/{quote(service)}/settings", 303)

    def put(self, wanted: ServiceSettings) -> None:
        """Put a service's settings on the control topic."""
        put(self._site.settings, self._site.reading, Settings(settings=wanted))

    def _page(
        self,
        request: Request,
        service: str,
        text: str,
        *,
        found: list[Change] | None = None,
        problem: str = "",
        status: int = 200,
    ) -> Response:
        response = self._site.page(request, "settings.html", service=service, text=text, changes=found, problem=problem)
        response.status_code = status
        return response
