"""The contract of detectors: two verbs, ``learn`` and ``score``, on columns of finished things.

What is judged is a batch of *items*: finished sessions (``models.finished``), minutes of a service, spans. A detector
says how strange each item is, in a unit of its own; what held-back normal time had of it makes a score that all
detectors share: one minus the share of normal items at least as strange, in [0, 1], high = anomalous.

    detector = CountVector()
    detector.learn(normal)                  # any number of times: what was learnt before stays learnt
    detector.calibrate(held_back)           # normal items it has not learnt
    scores = detector.score(items)          # [n]
    why = detector.explain(items, row)      # as data, with what was learnt when it was scored

To add a detector: a file with a subclass of ``Detector``, and a line in ``models.detectors``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.calibration import Tail
from models.encoding import StateError, pack, unpack
from models.sessions import Ids, Ints

Numbers = NDArray[np.float64]


class Columns(Protocol):
    """A batch of items in the order in which they were over."""

    def __len__(self) -> int:
        """Items of the batch."""

    @property
    def closed(self) -> Ints:
        """[n] Event time at which each item was known to be over, ms since 1970 UTC."""

    def take(self, rows: Ints) -> Self:
        """Return the items of these rows, in their order."""

    def groups(self) -> Ids:
        """[n] Items of one group, as the states of one session, count once when it is asked how strange normal gets."""

    def kinds(self) -> Ids:
        """[n] Items of one kind are alike, though not equal: what a release makes all new sessions be."""


C = TypeVar("C", bound=Columns)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing about an item: what there was of it, and what there usually is, in the evidence's unit."""

    template: int
    """0 where it is not about a template."""
    observed: float
    usual: float
    subject: str = ""
    """What it is about where that is no template: a service, a caller, a level."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a detector finds an item strange."""

    detector: str
    reason: str
    """A word of the detector's own list: ``new_template``, ``missing``, ``ended_early``, ``slow``, ``burst``."""
    unit: str
    """Of the parts: ``events``, ``ms``, ``chance``, ``nats``."""
    parts: tuple[Part, ...]
    """What weighed most first; at most ``MAX_PARTS``."""
    event: int = -1
    """Number of the event within the item, from 0; -1: the whole item."""
    related: tuple[int, ...] = ()
    """Templates that help to understand: the nearest known one, what stood before, where it stopped."""


MAX_PARTS = 8
"""Of an evidence: as many as a person reads."""


class Detector(ABC, Generic[C]):
    """What learns from normal items and says how strange new ones are.

    Everything learnt is in ``state`` and bounded by what the class says; learning in other batches gives the same
    state. Nothing depends on the order of what ``score`` is asked, and asking teaches nothing.
    """

    name: ClassVar[str]
    """Of its findings and its state; never changed."""
    format: ClassVar[int] = 1
    """Of its state: raised with every change of what ``columns`` gives."""
    is_share: ClassVar[bool] = False
    """The strangeness is itself minus the logarithm of a share or chance, nats: no item is rarer."""
    aspect: ClassVar[str]
    """What it looks at: ``content``, ``order``, ``end``, ``time``. Two that look at one thing are one voice."""
    is_trouble: ClassVar[bool] = False
    """What it finds is trouble, not news: it is never taken for a release, however often it comes."""

    def __init__(self) -> None:
        self.tail = Tail()

    # -- what a detector says ------------------------------------------------------------------------------------

    @abstractmethod
    def learn(self, items: C) -> None:
        """Take in normal items, in the order of time."""

    @abstractmethod
    def strangeness(self, items: C) -> Numbers:
        """How strange each item is: [n], at least 0, higher = stranger, in a unit of its own; finite."""

    @abstractmethod
    def explain(self, items: C, row: int) -> Evidence:
        """Say why the item of a row is as strange as it is."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take over what another shard learnt."""

    @abstractmethod
    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All that was learnt, as named columns of numbers."""

    @abstractmethod
    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """Replace what was learnt by what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """

    # -- what all have in common ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make what stays as it is once something was calibrated by it, of what was learnt until now."""

    def calibrate(self, items: C) -> None:
        """Take in normal items that were not learnt: how strange does normal get?"""
        self.settle()
        self.tail.add(worst_of_groups(self.strangeness(items), items.groups()))

    def rarity(self, items: C) -> Numbers:
        """Minus the logarithm of the share of normal items at least as strange: [n] nats."""
        return self.rarity_of(self.strangeness(items))

    def rarity_of(self, strangeness: Numbers) -> Numbers:
        """The same of strangenesses: [n] in, [n] nats out; 0 before anything was held back."""
        rarity = self.tail.rarity(strangeness)
        return np.minimum(rarity, strangeness) if self.is_share else rarity

    def score(self, items: C) -> Numbers:
        """[n] in [0, 1], high = anomalous; comparable between detectors. 0 before anything was held back."""
        return -np.expm1(-self.rarity(items))

    def dump(self) -> bytes:
        """Encode all that was learnt, with the calibration."""
        tail = {f"tail.{name}": column for name, column in self.tail.columns().items()}
        return pack(self.name, self.format, self.columns() | tail)

    def load(self, data: bytes) -> None:
        """Replace all that was learnt by what ``dump`` wrote.

        Raises:
            StateError: The bytes are damaged, of another detector or of another format.
        """
        columns = unpack(data, self.name, self.format)
        try:
            self.tail = Tail.of({name[5:]: column for name, column in columns.items() if name.startswith("tail.")})
            self.restore({name: column for name, column in columns.items() if not name.startswith("tail.")})
        except (ValueError, KeyError) as error:
            raise StateError(f"state of {self.name} does not fit: {error}") from error


def held_back_figures(before: Numbers, after: Numbers, kinds: Ids) -> Numbers:
    """How strange held-back items count as: [n, detectors], from before they were learnt and from after.

    What is learnt as normal must not look strange afterwards: the figure from after counts at least. From before, a
    kind of items counts once, with its highest figure: many new items of one kind are one alarm to a person, and a
    burst of them must not spend the budget of all time. (On HDFS, 90 % learnt, 13 copied blocks of one night among
    1,386 blinded every detector of counts: recall 0 where it is 1 so.)
    """
    distinct, first, where = np.unique(kinds, return_index=True, return_inverse=True)
    highest = np.zeros((len(distinct), before.shape[1]))
    np.maximum.at(highest, where.reshape(-1), before)
    figures = after.copy()
    figures[first] = np.maximum(figures[first], highest)
    return figures


def worst_of_groups(figures: Numbers, groups: Ids) -> Numbers:
    """The highest figure of each group, in the order in which the groups' last items came.

    >>> worst_of_groups(np.array([3.0, 1.0, 2.0]), np.array([7, 9, 7], dtype=np.uint64))
    array([1., 3.])
    """
    distinct, last = np.unique(groups[::-1], return_index=True)
    worst = np.full(len(distinct), -np.inf)
    np.maximum.at(worst, np.searchsorted(distinct, groups), figures)
    return worst[np.argsort(-last)]
