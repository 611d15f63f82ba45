"""All pages, under ``/ui``, and what they are drawn with, under ``/static``."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from console.alert_pages import AlertPages
from console.people_pages import PeoplePages
from console.reading import Reading
from console.rendering import HERE
from console.service_pages import ServicePages
from console.settings_pages import SettingsPages
from console.site import Site, with_headers
from console.store import Store
from console.template_pages import TemplatePages
from contracts.settings import AppSettings


class Pages:
    """All pages over one store.

    Args:
        settings: where everything is.
        store: what is shown.
        reading: what fills it, and knows the control topic.
    """

    def __init__(self, settings: AppSettings, store: Store, reading: Reading) -> None:
        self.site = Site(settings, store, reading)
        self.alerts, self.services = AlertPages(self.site), ServicePages(self.site)
        self.templates, self.people = TemplatePages(self.site), PeoplePages(self.site)
        self.settings = SettingsPages(self.site)

    def add_to(self, app: FastAPI) -> None:
        """Serve them."""
        app.mount("/static", StaticFiles(directory=HERE / "static"))
        app.middleware("http")(with_headers)
        app.add_api_route("/", _first, methods=["GET"], include_in_schema=False, response_class=RedirectResponse)
        for group in (self.alerts, self.services, self.settings, self.templates, self.people):
            for methods, routes in (("GET", group.views), ("POST", group.acts)):
                for path, page in routes.items():
                    app.add_api_route(
                        path, page, methods=[methods], include_in_schema=False, response_class=HTMLResponse
                    )


def _first() -> Response:
    return RedirectResponse("/ui/alerts", 303)
