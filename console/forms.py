"""Forms that another site cannot send: each carries a token that only a page of this console can know.

The token is a keyed hash of a random cookie. No script can read the cookie, and forms of other sites go without it
(SameSite=Lax: a link from a notification brings it along); the key is made anew with each start.
"""

import hashlib
import hmac
import secrets

from fastapi import HTTPException, Request, Response

COOKIE = "logcanary"
_KEY = secrets.token_bytes(32)


def visitor(request: Request) -> str:
    """Who asks, as a random name of the browser; a new one where it has none."""
    found = request.cookies.get(COOKIE, "")
    return found if len(found) == 43 else secrets.token_urlsafe(32)


def remember(response: Response, name: str, cookie: str = COOKIE, *, secure: bool = False) -> None:
    """Give the browser its name, or another secret, back.

    Args:
        response: what it is sent with.
        name: the secret.
        cookie: under which name.
        secure: whether the browser speaks TLS: then it never sends the cookie in the open.
    """
    response.set_cookie(cookie, name, httponly=True, samesite="lax", path="/", secure=secure)


def token(name: str) -> str:
    """What a form of this browser carries."""
    return hmac.new(_KEY, name.encode(), hashlib.sha256).hexdigest()


def check(request: Request, given: str) -> None:
    """Refuse a form that is not from a page of ours.

    Raises:
        HTTPException: 403.
    """
    if not hmac.compare_digest(token(request.cookies.get(COOKIE, "")), given):
        raise HTTPException(403, "the form is out of date or not from this page: go back, reload it, send it again")
