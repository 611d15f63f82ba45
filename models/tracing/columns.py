"""Dataclasses whose fields are columns of one length: taken from, put together, and saved by their names."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.sessions import Ints


class Columnar:
    """A frozen dataclass of columns [n]: unsigned ids of 64 bits, and signed numbers."""

    __slots__ = ()
    ids: ClassVar[frozenset[str]]
    """The fields that hold ids; the others hold numbers."""

    def take(self, rows: Ints) -> Self:
        """These rows, in their order."""
        return type(self)(*(column[rows] for column in self.columns().values()))

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All columns by their names."""
        return {name: getattr(self, name) for name in self._kinds()}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]], under: str = "") -> Self:
        """What ``columns`` gave; ``under`` is what stands before their names.

        Raises:
            ValueError, KeyError: One is missing, or their lengths differ.
        """
        made: list[Any] = [columns[f"{under}{name}"].astype(kind) for name, kind in cls._kinds().items()]
        if len({len(column) for column in made}) != 1:
            raise ValueError(f"columns of {cls.__name__} of different lengths")
        return cls(*made)

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Parts one after another, as they are; of none, no rows."""
        some = [part.columns() for part in parts]
        kinds = cls._kinds().items()
        return cls(*(np.concatenate([np.zeros(0, kind), *(one[name] for one in some)]) for name, kind in kinds))

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        return {one.name: np.uint64 if one.name in cls.ids else np.int64 for one in fields(cls)}  # type: ignore[arg-type]
