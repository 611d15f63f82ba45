"""What all pages share: what they are made from, how one is sent, and with which headers.

Rendered on the server, complete without JavaScript; htmx brings news in without a reload. Everything from a line of a
log is escaped by the templates, and the content-security policy allows no script but the vendored one.
"""

import getpass
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Form, Path, Request
from fastapi.responses import HTMLResponse, Response

from console import forms
from console.access import Access
from console.reading import Reading
from console.rendering import render
from console.store import Store
from console.vitals import Pulse
from contracts.service import ServiceName
from contracts.settings import AppSettings

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Text = Annotated[str, Form(max_length=500)]
Author = Annotated[str, Form(max_length=100)]
Service = Annotated[ServiceName, Path(description="A topic's name after its prefix.", examples=["pay"])]

Routes = dict[str, Callable[..., Response]]
"""Address -> what answers it."""


class Site:
    """What pages are made from.

    Args:
        settings: where everything is.
        store: what is shown.
        reading: what fills it, and knows the control topic.
    """

    def __init__(self, settings: AppSettings, store: Store, reading: Reading) -> None:
        self.settings, self.store, self.reading = settings, store, reading
        self.access, self.pulse = Access(settings.web), Pulse(settings)

    def secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, to us or to the proxy before us."""
        address = request.client.host if request.client else ""
        told = request.headers.get("x-forwarded-proto") if self.access.is_proxy(address) else ""
        return "https" in (request.url.scheme, told)

    def page(self, request: Request, name: str, **values: object) -> Response:
        """A page, and the cookie that its forms need."""
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
            name_of=self.reading.view.name_of,
        )
        response = HTMLResponse(text)
        forms.remember(response, browser, secure=self.secure(request))
        return response


async def with_headers(request: Request, follow: Callable[[Request], Any]) -> Response:
    """Answer with the headers that keep a page to itself."""
    response: Response = await follow(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def user() -> str:
    """The name of this machine's user, as a form proposes it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
