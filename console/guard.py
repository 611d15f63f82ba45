"""What every request has to pass before it is looked at: it comes from this machine, and is small.

Until the interface can tell who asks, it answers on loopback alone. A page of another site, open in a browser here, may
send requests to loopback too: so the name asked for must be one of loopback's (a name that an attacker's server
resolves to 127.0.0.1 is none), and what says that it comes from another page is refused.
"""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.problems import problem

MOST_BYTES = 64 * 1024
"""Of a request's body."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Refuses requests that are not from here, or too large, before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = _stranger(headers) or _too_large(headers)
        if refused is not None:
            await problem(*refused)(scope, receive, send)
            return
        await self._app(scope, _Metered(receive), send)


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


def _stranger(headers: dict[str, str]) -> tuple[int, str, str] | None:
    host = headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in LOOPBACK:
        return 403, "refused", f"this interface answers to 127.0.0.1 and localhost, not to {host[:100]!r}"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return 403, "refused", "the request comes from another site's page"
    return None


def _too_large(headers: dict[str, str]) -> tuple[int, str, str] | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return 413, "too large", f"a request's body has {MOST_BYTES:,} bytes at most"
    return None
