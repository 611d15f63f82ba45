"""An engineer's word on templates: two that mean the same become one, one is told apart into several, or gets a name.

    record = united(view, "pay", "3fa2...", "77b0...")      # put on the control topic, it is in force at once
    record = called(view, "pay", "3fa2...", "disk is full")
    record = told_apart(view, "pay", "3fa2...", 1, ["full", "gone"])

The job does the first by itself where two of its instances met one kind of line at a time: the larger id becomes an
alias of the smaller, lines of both come under that, and models, verdicts and alerts follow. Nothing takes it back. A
name is for pages alone; an empty one takes it away. What is told apart is a setting of the service (``splits``), for
lines from then on, and can be taken back.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from contracts.records import Settings, Template, TemplateName
from contracts.service import ServiceSettings, SplitOptions
from parsing.apart import places
from storage.control import ControlView


class CatalogueError(Exception):
    """Nothing can be said of these templates; the message says why."""


def united(view: ControlView, service: str, one: str, other: str) -> Template:
    """The record that makes one template of two.

    Args:
        view: of the control topic.
        service: whose.
        one: a template's id, or an alias of it,
        other: and another's.

    Raises:
        CatalogueError: one of them is not there, or they are one already.
    """
    roots = sorted({root_of(view, service, name).id for name in (one, other)})
    if len(roots) == 1:
        raise CatalogueError(f"{one} and {other} are one template already")
    return view.templates[service][roots[1]].model_copy(update={"alias_of": roots[0], "reason": "merged"})


def called(view: ControlView, service: str, template: str, name: str) -> TemplateName:
    """The record that names a template.

    Args:
        view: of the control topic.
        service: whose.
        template: its id, or an alias of it.
        name: of 80 characters at most, blanks aside; empty: none any more.

    Raises:
        CatalogueError: it is not there.
    """
    return TemplateName(service=service, id=root_of(view, service, template).id, name=" ".join(name.split()))


def told_apart(
    view: ControlView, service: str, template: str, place: int, values: Sequence[str]
) -> tuple[Settings, SplitOptions]:
    """The settings under which a template is told apart, and what is new in them; in place of how it was before.

    Args:
        view: of the control topic.
        service: whose.
        template: its id, or an alias of it.
        place: which of its variables, from 0.
        values: what gets a template of its own.

    Raises:
        CatalogueError: it is not there, has no such variable, or the values are none, too many or too long.
    """
    root = root_of(view, service, template)
    if place >= len(places(root.text)):
        raise CatalogueError(f"{root.text!r} has no variable number {place}, counted from 0")
    try:
        split = SplitOptions(template=root.id, text=root.text, place=place, values=tuple(dict.fromkeys(values)))
    except ValidationError:
        raise CatalogueError("values: 1 to 50 of them, of 1 to 200 characters each") from None
    settings = view.settings_of(service)
    before = split_of(settings, root.id)
    splits = tuple(split if one is before else one for one in settings.splits)
    return _with(settings, splits if before else (*splits, split)), split


def together_again(view: ControlView, service: str, template: str) -> tuple[Settings, SplitOptions]:
    """The settings under which a template is no longer told apart, and how it was.

    Raises:
        CatalogueError: it is not told apart.
    """
    settings, root = view.settings_of(service), view.resolve(service, template)
    before = split_of(settings, root)
    if before is None:
        raise CatalogueError(f"{template} is not told apart")
    return _with(settings, tuple(one for one in settings.splits if one is not before)), before


def split_of(settings: ServiceSettings, template: str) -> SplitOptions | None:
    """How a template is told apart; None: it is not."""
    return next((one for one in settings.splits if one.template == template), None)


def _with(settings: ServiceSettings, splits: tuple[SplitOptions, ...]) -> Settings:
    try:
        return Settings(settings=ServiceSettings.model_validate(settings.model_dump() | {"splits": splits}))
    except ValidationError:
        raise CatalogueError("splits: 100 templates of a service can be told apart") from None


def root_of(view: ControlView, service: str, template: str) -> Template:
    """The template that an id stands for.

    Raises:
        CatalogueError: it is not there.
    """
    known = view.templates.get(service, {})
    if template not in known:
        raise CatalogueError(f"{service} has no template {template}")
    return known.get(view.resolve(service, template)) or known[template]
