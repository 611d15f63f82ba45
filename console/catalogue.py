"""An engineer's word on templates: two that mean the same become one, and one gets a name that people use.

    record = united(view, "pay", "3fa2...", "77b0...")      # put on the control topic, it is in force at once
    record = called(view, "pay", "3fa2...", "disk is full")

The job does the first by itself where two of its instances met one kind of line at a time: the larger id becomes an
alias of the smaller, lines of both come under that, and models, verdicts and alerts follow. Nothing takes it back:
lines that were counted together cannot be told apart. A name is for pages alone; an empty one takes it away.
"""

from contracts.records import Template, TemplateName
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


def root_of(view: ControlView, service: str, template: str) -> Template:
    """The template that an id stands for.

    Raises:
        CatalogueError: it is not there.
    """
    known = view.templates.get(service, {})
    if template not in known:
        raise CatalogueError(f"{service} has no template {template}")
    return known.get(view.resolve(service, template)) or known[template]
