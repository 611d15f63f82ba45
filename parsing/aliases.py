"""Ids that stand for one template: classes of ids, each known by its smallest.

Two shards of a service that meet a new kind of line at the same time give it two ids. Once they know of each other, the
larger is an alias of the smaller. Links go from larger to smaller only, so there is no circle; and whatever the order
in which pairs are united, the classes, and what they are known by, come out the same.
"""

from dataclasses import dataclass, field

MAX_ALIASES = 100_000
"""Beyond it the oldest is forgotten: its template is then another one here, as it is where no alias came."""


@dataclass(eq=False, slots=True)
class Aliases:
    """Ids of templates and what to use instead, which is always smaller (a union-find, smallest first)."""

    links: dict[int, int] = field(default_factory=dict)
    """Oldest first."""

    def __contains__(self, template: int) -> bool:
        return template in self.links

    def resolve(self, template: int) -> int:
        """Return the id in use: the smallest of the template's class."""
        while (smaller := self.links.get(template, template)) < template:
            template = smaller
        return template

    def unite(self, one: int, other: int) -> tuple[int, int] | None:
        """Make two ids stand for one template; returns the new link, larger first, or None if they already did."""
        small, large = sorted((self.resolve(one), self.resolve(other)))
        if small == large:
            return None
        self.links[large] = small
        if len(self.links) > MAX_ALIASES:
            del self.links[next(iter(self.links))]
        return large, small
