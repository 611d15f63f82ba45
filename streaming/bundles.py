"""Which bundle scores which line: the moves of a service's pointer as a timeline, and the scorers that it names.

    bundles = Bundles(registry)
    for part, versions in portions(events, pointer):
        live = bundles.of(service, versions, catalogue)      # live.scorer, live.version, live.refused

A move is in force from a stated time of arrival on. Kafka's clock gives each line its arrival once and for all, so that
time is an offset in each partition, and a line that is read again after a crash meets the bundle it met before.

A bundle that is damaged or too new is refused: the one before it counts, and a sentence says why. A store that is away
refuses nothing: to score with the bundle before would judge lines by what does not count for them, and differently once
they are read again. It is waited for, and where it stays away the error goes up: Flink starts the job anew until the
store answers. All services of the job stand still for so long, and none loses a line: they wait in Kafka.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from contracts.records import BundlePointer, Template
from models.bundle import Bundle
from models.scorer import Scorer
from parsing.events import Events
from storage.files import StorageError

RETRY_SECONDS = 15.0
"""A bundle that was refused is tried again after this long: its files may have been put right."""
PATIENCE_SECONDS = 20.0
"""How long a store that is away is waited for: a short outage costs less so than a start of the job. A checkpoint waits
meanwhile, and has two minutes."""
ASK_AGAIN_SECONDS = 1.0
"""Between two attempts."""
SCORERS_KEPT = 2
"""Of a service: the one in force, and the one before for the lines that arrived before the move."""


def versions_at(pointer: BundlePointer | None, arrival_ms: int) -> tuple[str, ...]:
    """The versions a line that arrived then may be scored with: the first that can be had counts.

    The first is the newest move's that was in force by then; those before it follow, newest first, for the case that
    it is refused. Empty: no move was in force yet.
    """
    return tuple(dict.fromkeys(version for version, from_ms in _moves(pointer) if from_ms <= arrival_ms))


def _moves(pointer: BundlePointer | None) -> list[tuple[str, int]]:
    """Version and time of each move, newest first."""
    if pointer is None:
        return []
    return [(pointer.version, pointer.from_ms), *((move.version, move.from_ms) for move in pointer.before)]


def portions(events: Events, pointer: BundlePointer | None) -> Iterator[tuple[Events, tuple[str, ...]]]:
    """Cut a batch, in order, where the versions that count change; mostly it stays whole."""
    arrivals = events.column("arrival")
    froms = np.array(sorted(from_ms for _, from_ms in _moves(pointer)), dtype=np.int64)
    stage = np.searchsorted(froms, arrivals, side="right")
    bounds = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist(), len(events)]
    for start, stop in pairwise(bounds):
        part = events if len(bounds) == 2 else events.slice(start, stop)
        yield part, versions_at(pointer, int(arrivals[start]))


class BundleSource(Protocol):
    """Where bundles come from: ``models.registry.Registry`` is one."""

    def load(self, service: str, version: str) -> Bundle:
        """The bundle of this service and version.

        Raises:
            StorageError: The store is away, which says nothing about the bundle.
            Exception: Anything else: the bundle is refused.
        """


@dataclass(frozen=True, slots=True)
class Live:
    """What a line is scored with."""

    scorer: Scorer | None = None
    version: str = ""
    window: int = 0
    """Events of history the bundle's model looks at."""
    refused: str = ""
    """Why the bundle that the pointer names is not in force."""


class Bundles:
    """The scorers of all services, made when a version is first asked for.

    ``patience`` is how long, in seconds, a store that is away is waited for.
    """

    def __init__(self, source: BundleSource, patience: float = PATIENCE_SECONDS) -> None:
        self._source = source
        self._patience = patience
        self._live: dict[str, dict[str, Live]] = {}  # service -> version, used last at the end
        self._refused: dict[tuple[str, str], tuple[str, float]] = {}  # why, and when to try again

    def of(self, service: str, versions: Sequence[str], catalogue: Mapping[str, Template]) -> Live:
        """The first of these versions that can be had, with the reason why one before it cannot.

        A new scorer learns the texts of the ``catalogue``, so that it can name the events before a finding.

        Raises:
            StorageError: The store stays away, so that nobody can say which bundle counts.
        """
        refused = ""
        for version in versions:
            live = self._known(service, version) or self._load(service, version, catalogue)
            if live is not None:
                return replace(live, refused=refused) if refused else live
            refused = refused or self._refused[service, version][0]
        return Live(refused=refused)

    def alias(self, entry: Template) -> None:
        """Tell the scorers in use of an alias: lines they know by one id come under another from now on."""
        for live in self._live.get(entry.service, {}).values():
            if live.scorer is not None and entry.alias_of is not None:
                live.scorer.alias(int(entry.id, 16), int(entry.alias_of, 16))

    def _known(self, service: str, version: str) -> Live | None:
        scorers = self._live.get(service, {})
        live = scorers.pop(version, None)
        if live is not None:
            scorers[version] = live
        return live

    def _load(self, service: str, version: str, catalogue: Mapping[str, Template]) -> Live | None:
        if time.monotonic() < self._refused.get((service, version), ("", 0.0))[1]:
            return None
        try:
            bundle = self._fetch(service, version)
            scorer = Scorer(bundle)
            scorer.adopt({int(template, 16): entry.text for template, entry in catalogue.items()})
            aliases = sorted((int(one.id, 16), int(one.alias_of, 16)) for one in catalogue.values() if one.alias_of)
            for template, root in [*reversed(aliases), *aliases]:  # links go to smaller ids: so chains are followed
                scorer.alias(template, root)
        except StorageError:
            raise
        except Exception as error:  # whatever is wrong with a bundle, the stream and the old bundle go on
            self._refuse(service, version, str(error))
            return None
        self._refused.pop((service, version), None)
        scorers = self._live.setdefault(service, {})
        scorers[version] = live = Live(scorer, version, bundle.manifest.window)
        while len(scorers) > SCORERS_KEPT:
            del scorers[next(iter(scorers))]
        return live

    def _fetch(self, service: str, version: str) -> Bundle:
        """Load a bundle; while the store is away, ask again for as long as there is patience."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._source.load(service, version)
            except StorageError as error:
                if time.monotonic() + ASK_AGAIN_SECONDS > deadline:
                    raise StorageError(
                        f"bundle {version} of {service} cannot be read, its lines wait in Kafka: {error} "
                        "(Where the store answers and this bundle alone is lost, delete its folder in the registry: "
                        "the bundle before it then counts.)"
                    ) from error
            time.sleep(ASK_AGAIN_SECONDS)  # a store that comes back tells nobody

    def refuse(self, service: str, version: str, error: Exception) -> Live:
        """Take a scorer that raised out of force; returns what is left: nothing, and why."""
        self._live[service].pop(version, None)
        self._refuse(service, version, f"scoring failed: {type(error).__name__}: {error}")
        return Live(refused=self._refused[service, version][0])

    def _refuse(self, service: str, version: str, why: str) -> None:
        self._refused[service, version] = f"{version}: {why}", time.monotonic() + RETRY_SECONDS
