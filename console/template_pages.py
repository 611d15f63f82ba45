"""Pages of a service's catalogue: its templates, and what engineers say of them (``console.catalogue``)."""

from collections import Counter
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field

from console import forms
from console.audit import acting
from console.catalogue import CatalogueError, called, root_of, split_of, together_again, told_apart, united
from console.reading import put
from console.site import Author, Routes, Service, Site, Text
from console.splitting import SplitPreview, look
from contracts.records import Template, TemplateName
from contracts.service import SplitOptions
from storage.control import AnyControl

MOST_TEMPLATES = 500
Name = Annotated[str, Form(max_length=80)]
Where = Annotated[int, Query(ge=0, description="Which of the template's variables, from 0.")]
Values = Annotated[list[Annotated[str, Field(max_length=200)]], Query(max_length=51, description="To be told apart.")]

NOTHING: list[str] = []


def apart_words(template: str, place: int, values: list[str]) -> str:
    """A split in short, for the audit trail, which holds nothing of a line."""
    return f"{template} is told apart at its variable {place} by {len(values)} values"


class TemplatePages:
    """The catalogues of services."""

    def __init__(self, site: Site) -> None:
        self._site = site
        catalogue = "/ui/services/{service}/templates"
        one = f"{catalogue}/{{template}}"
        self.views: Routes = {catalogue: self.templates, one: self.template, f"{one}/split": self.split_page}
        self.acts: Routes = {
            catalogue: self.merge,
            f"{one}/name": self.name,
            f"{one}/split": self.split,
            f"{one}/split/undo": self.unsplit,
        }

    def templates(
        self, request: Request, service: Service, words: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        """A service's catalogue; words are looked for in texts and names."""
        view, wanted = self._site.reading.view, words.lower()
        every = view.templates.get(service, {}).values()
        known = [
            one
            for one in every
            if not wanted or wanted in one.text.lower() or wanted in view.name_of(service, one.id).lower()
        ]
        known.sort(key=lambda one: one.text)
        others = Counter(view.resolve(service, one.id) for one in known if one.alias_of)
        roots = [one for one in known if not one.alias_of]
        return self._site.page(
            request,
            "templates.html",
            service=service,
            words=words,
            count=len(roots),
            rows=[(one, view.name_of(service, one.id), others[one.id]) for one in roots[:MOST_TEMPLATES]],
        )

    def template(self, request: Request, service: Service, template: str) -> Response:
        """One template: its texts, what it is called, what it is told apart into."""
        view, root = self._site.reading.view, self._found(service, template)
        known = view.templates[service].values()
        others = [one for one in known if one.id != root.id and view.resolve(service, one.id) == root.id]
        return self._site.page(
            request,
            "template.html",
            service=service,
            one=root,
            called=view.name_of(service, root.id),
            others=others,
            split=split_of(view.settings_of(service), root.id),
            parts=[one for one in known if one.split_of == root.id],
        )

    def split_page(
        self, request: Request, service: Service, template: str, place: Where = 0, values: Values = NOTHING
    ) -> Response:
        """By what a template can be told apart, and which lines would go where."""
        wanted = [one for one in dict.fromkeys(values) if one]
        shown = self.preview(service, self._found(service, template).id, place, wanted)
        return self._site.page(request, "split.html", service=service, shown=shown, place=place, values=wanted)

    def preview(self, service: str, template: str, place: int, values: list[str]) -> SplitPreview:
        """Which of the newest lines would go where.

        Raises:
            CatalogueError: it is not there.
            BrokerUnreachableError: Kafka does not answer.
        """
        view = self._site.reading.view
        whole, known = root_of(view, service, template), view.templates[service].values()
        return look(self._site.settings, view.settings_of(service), known, whole, place, values)

    def merge(
        self, request: Request, service: Service, one: Text, other: Text, token: Text, author: Author = ""
    ) -> Response:
        """Make one template of two."""
        forms.check(request, token)
        acting(request, author, f"{one} and {other} are one")
        self.unite(service, one.strip(), other.strip())
        return RedirectResponse(f"/ui/services/{quote(service)}/templates", 303)

    def name(
        self, request: Request, service: Service, template: str, token: Text, name: Name = "", author: Author = ""
    ) -> Response:
        """Name a template; an empty name takes it away."""
        forms.check(request, token)
        acting(request, author, f"{template} is called {name!r}")
        self.call(service, template, name)
        return self._to_template(service, template)

    def split(
        self,
        request: Request,
        service: Service,
        template: str,
        place: Annotated[int, Form(ge=0)],
        token: Text,
        values: Annotated[list[str], Form(max_length=51)] = NOTHING,
        author: Author = "",
    ) -> Response:
        """Tell a template apart."""
        forms.check(request, token)
        acting(request, author, apart_words(template, place, values))
        self.part(service, template, place, [one for one in values if one])
        return self._to_template(service, template)

    def unsplit(self, request: Request, service: Service, template: str, token: Text, author: Author = "") -> Response:
        """Tell it apart no longer."""
        forms.check(request, token)
        acting(request, author, f"{template} is one again")
        self.join(service, template)
        return self._to_template(service, template)

    def part(self, service: str, template: str, place: int, values: list[str]) -> SplitOptions:
        """Tell a template apart by the values at one of its places, in place of how it was told apart before.

        Raises:
            CatalogueError: it is not there, has no such place, or the values cannot be used.
        """
        record, split = told_apart(self._site.reading.view, service, template, place, values)
        self._put(record)
        return split

    def join(self, service: str, template: str) -> SplitOptions:
        """Tell a template apart no longer; returns how it was.

        Raises:
            CatalogueError: it is not told apart.
        """
        record, before = together_again(self._site.reading.view, service, template)
        self._put(record)
        return before

    def unite(self, service: str, one: str, other: str) -> Template:
        """Say that two templates are one; it keeps a name that only one of them has.

        Raises:
            CatalogueError: one is not there, or they are one already.
        """
        view = self._site.reading.view
        record = united(view, service, one, other)
        names = [view.name_of(service, name) for name in (str(record.alias_of), record.id)]
        self._put(record)
        if names[1] and not names[0]:
            self._put(called(view, service, str(record.alias_of), names[1]))
        return record

    def call(self, service: str, template: str, name: str) -> TemplateName:
        """Name a template.

        Raises:
            CatalogueError: it is not there.
        """
        record = called(self._site.reading.view, service, template, name)
        self._put(record)
        return record

    def _found(self, service: str, template: str) -> Template:
        try:
            return root_of(self._site.reading.view, service, template)
        except CatalogueError as error:
            raise HTTPException(404, str(error)) from None

    def _to_template(self, service: str, template: str) -> Response:
        return RedirectResponse(f"/ui/services/{quote(service)}/templates/{quote(template)}", 303)

    def _put(self, record: AnyControl) -> None:
        put(self._site.settings, self._site.reading, record)
