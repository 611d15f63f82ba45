"""What every request has to pass before it is looked at: who asks and what they may, from which page, how large it is.

Where the console does not ask who somebody is, it answers on loopback alone. A page of another site, open in a browser
here, may send requests to loopback too: so the name asked for must be one of loopback's (a name that an attacker's
server resolves to 127.0.0.1 is none), and what says that it comes from another page is refused.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.access import Access, AccessError, Person, TooManyTriesError
from console.problems import answer
from contracts.settings import Role

MOST_BYTES = 64 * 1024
"""Of a request's body."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SIGN_IN = "/ui/sign-in"
SIGN_OUT = "/ui/sign-out"
OPEN = re.compile(r"/healthz|/readyz|/static/.*|" + SIGN_IN)
"""Needs nobody's name."""
LOOKING = frozenset({SIGN_OUT, "/ui/try"})
"""Forms that change nothing for others."""
ADMINS = re.compile(r"(/ui)?/audit")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SECRETS = frozenset({"token", "access_token", "authorization", "api_key"})
"""Words before which an address carries a token: addresses are kept in logs and histories."""


class Refusal(NamedTuple):
    """Why a request is not looked at."""

    status: int
    title: str
    detail: str
    headers: dict[str, str] = {}  # noqa: RUF012  (a tuple's default is never changed)


def needed(method: str, path: str) -> Role:
    """The role that a request asks for: whoever looks is a viewer, whoever changes something an engineer."""
    if ADMINS.fullmatch(path):
        return "admin"
    return "viewer" if method in SAFE or path in LOOKING else "engineer"


class Guard:
    """Refuses requests from elsewhere, from strangers, or too large, before anything reads them.

    Args:
        app: what comes behind it; finds the ``Person`` who asks in the scope's state.
        access: knows people.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._strange(request) or _too_large(request)
        if refused is None:
            person, refused = self._who(request)
            request.state.person = person
        if refused is not None:
            await self._refuse(request, refused)(scope, receive, send)
            return
        await self._app(scope, _Metered(receive), send)

    def _who(self, request: Request) -> tuple[Person | None, Refusal | None]:
        """Who asks, and why they may not."""
        if OPEN.fullmatch(request.url.path):
            return None, None
        headers, address = request.headers, request.client.host if request.client else ""
        try:
            person = self._access.person(headers, request.cookies, address)
        except TooManyTriesError as error:
            return None, Refusal(429, "too many tries", str(error), {"Retry-After": str(error.seconds)})
        except AccessError as error:
            return None, Refusal(503, "access", str(error))
        if person is None:
            told = "say who you are: a token as Authorization: Bearer, or sign in at /ui/sign-in"
            return None, Refusal(401, "not signed in", told, {"WWW-Authenticate": "Bearer"})
        role = needed(request.method, request.url.path)
        if not person.may(role):
            return person, Refusal(403, "not allowed", f"this is for {role}s; {person.name} is {person.role}")
        return person, None

    def _strange(self, request: Request) -> Refusal | None:
        """Why a request is not from one of our own pages or from somebody who meant it."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._access.asks and urlsplit(f"//{host}").hostname not in LOOPBACK:
            return Refusal(403, "refused", f"this interface answers to 127.0.0.1 and localhost, not to {host[:100]!r}")
        # A proxy that speaks TLS for us hides the scheme; where nobody is asked for a name, there is none.
        schemes = ("http", "https") if self._access.asks else (request.url.scheme,)
        if origin is not None and origin not in {f"{scheme}://{host}" for scheme in schemes}:
            return Refusal(403, "refused", "the request comes from another site's page")
        if request.method not in SAFE and request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return Refusal(403, "refused", "the request comes from another site's page")
        if SECRETS & {name.lower() for name, _ in parse_qsl(request.url.query, keep_blank_values=True)}:
            return Refusal(
                400, "refused", "an address carries no token: logs keep it; send it as Authorization: Bearer"
            )
        return self._forged(request)

    def _forged(self, request: Request) -> Refusal | None:
        name, address = self._access.proxy_header, request.client.host if request.client else ""
        if name and name in request.headers and not self._access.is_proxy(address):
            return Refusal(403, "refused", f"{name} counts from web.proxy_addresses only")
        return None

    def _refuse(self, request: Request, why: Refusal) -> Response:
        page = request.method in SAFE and "text/html" in request.headers.get("accept", "")
        if why.status == 401 and page:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{SIGN_IN}?next={quote(request.url.path + query, safe='')}", 303)
        response = answer(request, why.status, why.title, why.detail)
        response.headers.update(why.headers)
        return response


class _Metered:
    """A body that ends the request where it grows beyond the limit, whatever its header said."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message


def _too_large(request: Request) -> Refusal | None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return Refusal(413, "too large", f"a request's body has {MOST_BYTES:,} bytes at most")
    return None
