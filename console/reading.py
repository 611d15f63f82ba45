"""Reads detections and control from Kafka into the store, from a thread of its own, for as long as the console runs.

with Reading(settings, store) as reading:
    reading.view                       # of the control topic, as far as it is read
"""

import logging
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from console.store import Store
from contracts.base import Record
from contracts.records import Deed, Detection, Verdict
from contracts.settings import AppSettings
from storage.broker import BrokerUnreachableError, KafkaError, consumer, ensure_topics, partitions_of
from storage.control import AnyControl, ControlView, ControlWriter, key_of, read_control

POLL_MILLISECONDS = 300
MOST_RECORDS = 500
"""Taken in at once: a page must not wait long for the store."""
AGAIN_SECONDS = 2.0

log = logging.getLogger("logcanary.console")


def put(settings: AppSettings, reading: "Reading", record: AnyControl) -> None:
    """Put a record on the control topic; pages know it at once."""
    with ControlWriter(settings) as control:
        control.put(record)
    reading.accept(record)


class Reading:
    """The reader.

    Args:
        settings: where Kafka is.
        store: what is fed.
    """

    def __init__(self, settings: AppSettings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.view = ControlView()
        self.connected = False
        """Whether Kafka answered last."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def __enter__(self) -> "Reading":
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except (KafkaError, BrokerUnreachableError) as error:
                self.connected = False
                log.warning("Kafka does not answer as it should, trying again: %s", error)
                self._over.wait(AGAIN_SECONDS)
        self._store.close()

    def _read(self) -> None:
        kafka = self._settings.kafka
        ensure_topics(self._settings)
        client: Any = consumer(self._settings, auto_offset_reset="earliest", max_poll_records=MOST_RECORDS)
        try:
            keys = partitions_of(client, [kafka.control, kafka.detections, kafka.audit])
            client.assign(keys)
            starts, ends, known = client.beginning_offsets(keys), client.end_offsets(keys), self._store.positions()
            # First what was said, it decides about the alerts; what is said meanwhile comes once more.
            self.view = read_control(self._settings)
            for key in keys:
                position = ends[key]
                if key.topic != kafka.control:  # a topic that was made anew begins again
                    position = known.get((key.topic, key.partition), 0)
                    position = position if starts[key] <= position <= ends[key] else starts[key]
                client.seek(key, position)
            self.connected = True
            while not self._over.is_set():
                self._take(client.poll(timeout_ms=POLL_MILLISECONDS))
        finally:
            client.close(autocommit=False, timeout_ms=5_000)

    def _take(self, batches: dict[Any, list[Any]]) -> None:
        kafka = self._settings.kafka
        for key, records in batches.items():
            if key.topic == kafka.control:
                self._control(records)
                continue
            position = {(key.topic, key.partition): records[-1].offset + 1}
            if key.topic == kafka.audit:
                self._store.keep({f"{key.partition}-{at}": deed for at, deed in _read(Deed, records)}, position)
            else:
                self._store.add([found for _, found in _read(Detection, records)], position, self.view)

    def _control(self, records: list[Any]) -> None:
        with self._lock:
            applied = [self.view.apply((one.key or b"").decode("utf-8", "replace"), one.value) for one in records]
        if said := [one for one in applied if isinstance(one, Verdict)]:
            self._store.say(said, self.view)

    def accept(self, record: AnyControl) -> None:
        """Take in what this console has just put on the control topic: it comes back behind all that waits to be read.

        It is taken in once more then, which changes nothing.
        """
        with self._lock:
            self.view.apply(key_of(record), record.model_dump_json().encode())
            if isinstance(record, Verdict):
                self._store.say([record], self.view)


_Read = TypeVar("_Read", bound=Record)


def _read(kind: type[_Read], records: list[Any]) -> Iterator[tuple[int, _Read]]:
    """Records of a topic with their offsets; what cannot be read is said and left out."""
    for one in records:
        try:
            yield one.offset, kind.model_validate_json(one.value or b"")
        except ValidationError as error:
            log.warning("%s.%s offset %d: %s", one.topic, one.partition, one.offset, error.error_count())
