"""Pages of a service's catalogue: its templates, and what engineers say of them (``console.catalogue``)."""

from collections import Counter
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from console import forms
from console.audit import acting
from console.catalogue import CatalogueError, called, root_of, united
from console.site import Author, Routes, Service, Site, Text
from contracts.records import Template, TemplateName
from storage.control import ControlWriter

MOST_TEMPLATES = 500
Name = Annotated[str, Form(max_length=80)]


class TemplatePages:
    """The catalogues of services."""

    def __init__(self, site: Site) -> None:
        self._site = site
        catalogue = "/ui/services/{service}/templates"
        self.views: Routes = {catalogue: self.templates, f"{catalogue}/{{template}}": self.template}
        self.acts: Routes = {catalogue: self.merge, f"{catalogue}/{{template}}/name": self.name}

    def templates(
        self, request: Request, service: Service, words: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        """A service's catalogue; words are looked for in texts and names."""
        view, wanted = self._site.reading.view, words.lower()
        every = [(one, view.name_of(service, one.id)) for one in view.templates.get(service, {}).values()]
        known = [(one, name) for one, name in every if wanted in one.text.lower() or wanted in name.lower()]
        known.sort(key=lambda row: row[0].text)
        others = Counter(view.resolve(service, one.id) for one, _ in known if one.alias_of)
        roots = [(one, name) for one, name in known if not one.alias_of]
        return self._site.page(
            request,
            "templates.html",
            service=service,
            words=words,
            count=len(roots),
            rows=[(one, name, others[one.id]) for one, name in roots[:MOST_TEMPLATES]],
        )

    def template(self, request: Request, service: Service, template: str) -> Response:
        """One template: its texts, what it is called."""
        view = self._site.reading.view
        try:
            root = root_of(view, service, template)
        except CatalogueError as error:
            raise HTTPException(404, str(error)) from None
        known = view.templates[service].values()
        others = [one for one in known if one.id != root.id and view.resolve(service, one.id) == root.id]
        return self._site.page(
            request,
            "template.html",
            service=service,
            one=root,
            called=view.name_of(service, root.id),
            others=others,
        )

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
        return RedirectResponse(f"/ui/services/{quote(service)}/templates/{quote(template)}", 303)

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

    def _put(self, record: Template | TemplateName) -> None:
        with ControlWriter(self._site.settings) as control:
            control.put(record)
        self._site.reading.accept(record)
