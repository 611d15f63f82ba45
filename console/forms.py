"""Forms that another site cannot send: each carries a token that only a page of this console can know.

The token is a keyed hash of a random cookie. The cookie goes with requests from this site alone (SameSite=Strict), no
script can read it, and the key is made anew with each start; where either does not fit, the form is shown again.
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


def remember(response: Response, name: str) -> None:
    """Give the browser its name back."""
    response.set_cookie(COOKIE, name, httponly=True, samesite="strict", path="/")


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
