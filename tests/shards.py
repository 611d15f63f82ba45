"""Parsers of a service's partitions in this process, and the control topic between them, read when they are told to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.records import Template
from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.parser import Parsed, Parser


class Shards:
    """Some parsers of one service, and what they have told each other.

    Attributes:
        topic: every record written so far, oldest first.
        parsers: by partition.
    """

    def __init__(self, settings: ServiceSettings, number: int = 4) -> None:
        self.settings, self.service = settings, settings.service
        self.topic: list[Template] = []
        self.parsers = [Parser(settings) for _ in range(number)]
        self._read = [0] * number
        self._known: list[set[str]] = [set() for _ in range(number)]
        self._offsets = [0] * number

    def parse(self, partition: int, values: Sequence[bytes | None], arrival: int = 1_795_352_869_000) -> Parsed:
        """Parse further lines of a partition, and write what it tells."""
        n, first = len(values), self._offsets[partition]
        self._offsets[partition] += n
        offsets, arrivals = np.arange(first, first + n), np.full(n, arrival)
        lines = Lines.from_list(self.service, f"logs.{self.service}", partition, offsets, arrivals, list(values))
        parsed = self.parsers[partition].parse(lines)
        self.topic += parsed.new_templates
        return parsed

    def catch_up(self, partition: int, records: int | None = None, *, until: int | None = None) -> None:
        """Let a partition's parser read so many further records of the topic, or those before ``until``, or all."""
        first, last = self._read[partition], len(self.topic) if until is None else until
        if records is not None:
            last = min(first + records, last)
        for record in self.topic[first:last]:
            self.parsers[partition].adopt([record], news=record.id not in self._known[partition])
            self._known[partition].add(record.id)
        self._read[partition] = last

    def restart(self, partition: int) -> None:
        """Replace a parser by one that goes on from what it saved, and from the topic as it is."""
        again = Parser(self.settings)
        again.load(self.parsers[partition].dump())
        newest = {record.id: record for record in self.topic}.values()
        again.adopt(record for record in newest if record.partition == partition)
        again.adopt((record for record in newest if record.partition != partition), news=True)
        self._read[partition], self._known[partition] = len(self.topic), {record.id for record in self.topic}
        self.parsers[partition] = again

    def drain(self, line: bytes) -> None:
        """Go on until nobody has anything to tell any more; ``line`` is one that all of them know."""
        for _ in range(20):
            end = len(self.topic)
            for partition in range(len(self.parsers)):
                self.catch_up(partition)
                self.parse(partition, [line])
            if len(self.topic) == end:
                return
        raise AssertionError("the shards never stop telling each other something")

    def resolved(self, partition: int, templates: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """What a partition's parser uses instead of these ids, now."""
        distinct, where = np.unique(templates, return_inverse=True)
        roots = [self.parsers[partition]._miner.resolve(one) for one in distinct.tolist()]
        return np.array(roots, dtype=np.uint64)[where]
