"""An engineer's word on templates: two that mean the same become one.

    record = united(view, "pay", "3fa2...", "77b0...")      # put on the control topic, it is in force at once

The job does the same by itself where two of its instances met one kind of line at a time: the larger id becomes an
alias of the smaller, lines of both come under that, and models, verdicts and alerts follow. Nothing takes it back:
lines that were counted together cannot be told apart.
"""

from contracts.records import Template
from storage.control import ControlView


class CatalogueError(Exception):
    """Two templates cannot become one; the message says why."""


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
    known = view.templates.get(service, {})
    if missing := [name for name in (one, other) if name not in known]:
        raise CatalogueError(f"{service} has no template {missing[0]}")
    roots = sorted({view.resolve(service, one), view.resolve(service, other)})
    if len(roots) == 1:
        raise CatalogueError(f"{one} and {other} are one template already")
    return known[roots[1]].model_copy(update={"alias_of": roots[0], "reason": "merged"})
