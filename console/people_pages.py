"""Pages about people: signing in and out, and who did what."""

import re
from typing import Annotated

from fastapi import HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from console import forms
from console.access import SESSION_COOKIE
from console.guard import SIGN_IN, SIGN_OUT
from console.site import Routes, Site, Text
from console.store import PAGE
from contracts.records import Deed

Next = Annotated[str, Query(max_length=500)]


class PeoplePages:
    """Who asks, and who did what."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.views: Routes = {"/ui/audit": self.audit, SIGN_IN: self.sign_in_page}
        self.acts: Routes = {SIGN_IN: self.sign_in, SIGN_OUT: self.sign_out}

    def audit(self, request: Request, after: Annotated[str, Query(max_length=100)] = "") -> Response:
        """Who did what."""
        deeds, more = self.deeds(after)
        return self._site.page(request, "audit.html", deeds=deeds, more=more)

    def deeds(self, after: str) -> tuple[list[Deed], str]:
        """A page of what was done, and where the next begins; empty: there is none.

        Raises:
            HTTPException: 422: the cursor is none.
        """
        try:
            found = self._site.store.deeds(after, PAGE + 1)
        except ValueError:
            raise HTTPException(422, "after: this is no page's end; leave it out to begin anew") from None
        return [deed for _, deed in found[:PAGE]], found[PAGE - 1][0] if len(found) > PAGE else ""

    def sign_in_page(self, request: Request, next: Next = "") -> Response:
        """Where a token is typed in."""
        return self._site.page(request, "sign_in.html", following=next, wrong=False)

    def sign_in(self, request: Request, secret: Text, token: Text, next: Next = "") -> Response:
        """Begin a session."""
        forms.check(request, token)
        address = request.client.host if request.client else ""
        begun = self._site.access.sign_in(secret, address)
        if begun is None:
            response = self._site.page(request, "sign_in.html", following=next, wrong=True)
            response.status_code = 401
            return response
        request.state.person = self._site.access.person({}, {SESSION_COOKIE: begun}, address)
        response = RedirectResponse(_inside(next), 303)
        forms.remember(response, begun, SESSION_COOKIE, secure=self._site.secure(request))
        return response

    def sign_out(self, request: Request, token: Text) -> Response:
        """End the session."""
        forms.check(request, token)
        self._site.access.sign_out(request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response


def _inside(address: str) -> str:
    """Where to go after signing in: a page of ours, never another site's."""
    return address if re.fullmatch(r"/ui/[^\\\x00-\x1f]*", address) else "/ui/alerts"
