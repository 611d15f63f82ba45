"""The control topic: settings, catalogue, bundle pointers and verdicts, as one view and one writer.

    view = read_control(settings)
    view.verdicts["web"]                    # what engineers said; models/verdicts.py says what that covers
    with ControlWriter(settings) as control:
        control.put(Settings(settings=ServiceSettings(service="web")))

Keys are those that ``contracts.records`` documents; the functions ``..._key`` make them.
"""

import time
from types import TracebackType
from typing import Any

from pydantic import TypeAdapter

from contracts.bundle import Manifest
from contracts.records import (
    BundlePointer,
    Control,
    Marker,
    Move,
    Settings,
    Template,
    TemplateName,
    Training,
    TrainingOutcome,
    Verdict,
)
from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from storage.broker import producer, read_all

ACKNOWLEDGE_SECONDS = 30.0
"""How long a control record may wait for the broker before it counts as not written."""

SWAP_SECONDS = 5.0
"""From the move of a pointer to the first line that is scored by it: by then every operator knows of the move."""
MOVES_KEPT = 8
"""Earlier moves a pointer remembers; lines older than those are scored with the oldest of them."""

AnyControl = Template | TemplateName | BundlePointer | Verdict | Training | Settings | Marker

_records: TypeAdapter[AnyControl] = TypeAdapter(Control)


def settings_key(service: str) -> str:
    """Key of a service's settings."""
    return f"settings/{service}"


def bundle_key(service: str) -> str:
    """Key of a service's bundle pointer."""
    return f"bundle/{service}"


def template_key(service: str, template: str) -> str:
    """Key of a template of a service's catalogue."""
    return f"template/{service}/{template}"


def name_key(service: str, template: str) -> str:
    """Key of what a template is called."""
    return f"name/{service}/{template}"


def verdict_key(service: str, template: str, detection: str) -> str:
    """Key of the verdict on one detection."""
    return f"verdict/{service}/{template}/{detection}"


def training_key(service: str, training: str) -> str:
    """Key of how far a training is."""
    return f"training/{service}/{training}"


def marker_key(job: str) -> str:
    """Key of a job's submission marker."""
    return f"marker/{job}"


def key_of(record: AnyControl) -> str:
    """The key under which a record stands on the control topic."""
    match record:
        case Settings():
            key = settings_key(record.settings.service)
        case BundlePointer():
            key = bundle_key(record.service)
        case Template():
            key = template_key(record.service, record.id)
        case TemplateName():
            key = name_key(record.service, record.id)
        case Verdict():
            key = verdict_key(record.service, record.template, record.detection)
        case Training():
            key = training_key(record.service, record.id)
        case Marker():
            key = marker_key(record.job)
    return key


def moved_pointer(live: BundlePointer | None, made: Manifest, author: str, reason: str) -> BundlePointer:
    """The pointer that makes a bundle live, for lines that arrive from ``SWAP_SECONDS`` from now on.

    Args:
        live: the service's pointer so far.
        made: the bundle's manifest.
        author: who moves it.
        reason: and why.
    """
    now = time.time_ns() // 1_000_000
    before = [Move(version=live.version, from_ms=live.from_ms), *live.before] if live else []
    if len(before) > MOVES_KEPT:
        before = [*before[: MOVES_KEPT - 1], Move(version=before[MOVES_KEPT - 1].version, from_ms=0)]
    return BundlePointer(
        service=made.service,
        version=made.version,
        made_ms=made.created_ms,
        surprises=made.surprises,
        author=author,
        reason=reason,
        moved_ms=now,
        from_ms=now + int(SWAP_SECONDS * 1000),
        before=tuple(before),
    )


def decode(key: str, value: bytes) -> AnyControl:
    """A record of the control topic.

    Raises:
        ValueError: not a record, or one that belongs under another key.
    """
    record = _records.validate_json(value)
    if key_of(record) != key:
        raise ValueError(f"the record under {key!r} belongs under {key_of(record)!r}")
    return record


class ControlView:
    """What the control topic says after the records applied so far; later records win, tombstones take back.

    Attributes:
        settings: by service.
        pointers: the live bundle, by service.
        verdicts: by service, then by (template, detection).
        templates: the catalogue, by service, then by template id.
        names: what templates are called, likewise.
        trainings: how far each is, by service, then by id.
        markers: submissions, by job.
        broken: records that could not be read and changed nothing.
    """

    def __init__(self) -> None:
        self.settings: dict[str, ServiceSettings] = {}
        self.pointers: dict[str, BundlePointer] = {}
        self.verdicts: dict[str, dict[tuple[str, str], Verdict]] = {}
        self.templates: dict[str, dict[str, Template]] = {}
        self.names: dict[str, dict[str, str]] = {}
        self.trainings: dict[str, dict[str, TrainingOutcome]] = {}
        self.markers: dict[str, Marker] = {}
        self.broken = 0
        self.revisions: dict[str, int] = {}
        """How often what verdicts cover has changed, by service: verdicts and aliases."""

    def apply(self, key: str, value: bytes | None) -> AnyControl | None:
        """Take one record in; returns it, or None for a tombstone or a record that cannot be read (counted)."""
        if value is None:
            self._remove(key)
            return None
        try:
            record = decode(key, value)
        except ValueError:  # ValidationError is one
            self.broken += 1
            return None
        match record:
            case Settings():
                self.settings[record.settings.service] = record.settings
            case BundlePointer():
                self.pointers[record.service] = record
            case Template():
                self.templates.setdefault(record.service, {})[record.id] = record
                if record.alias_of is not None:
                    self._revise(record.service)
            case TemplateName():
                self.names.setdefault(record.service, {})[record.id] = record.name
            case Verdict():
                self.verdicts.setdefault(record.service, {})[record.template, record.detection] = record
                self._revise(record.service)
            case Training():
                self.trainings.setdefault(record.service, {})[record.id] = record.outcome
            case Marker():
                self.markers[record.job] = record
        return record

    def _remove(self, key: str) -> None:
        match key.split("/"):
            case ["settings", service]:
                self.settings.pop(service, None)
            case ["bundle", service]:
                self.pointers.pop(service, None)
            case ["template", service, template]:
                self.templates.get(service, {}).pop(template, None)
            case ["name", service, template]:
                self.names.get(service, {}).pop(template, None)
            case ["verdict", service, template, detection]:
                self.verdicts.get(service, {}).pop((template, detection), None)
                self._revise(service)
            case ["training", service, training]:
                self.trainings.get(service, {}).pop(training, None)
            case ["marker", *job]:
                self.markers.pop("/".join(job), None)
            case _:
                self.broken += 1

    def _revise(self, service: str) -> None:
        self.revisions[service] = self.revisions.get(service, 0) + 1

    def resolve(self, service: str, template: str) -> str:
        """The id in use for a template: that which its aliases lead to, each to a smaller one."""
        known = self.templates.get(service, {})
        while (
            (record := known.get(template)) is not None and record.alias_of is not None and record.alias_of < template
        ):
            template = record.alias_of
        return template

    def name_of(self, service: str, template: str) -> str:
        """What engineers call a template; empty: nothing."""
        names = self.names.get(service)
        return names.get(self.resolve(service, template), "") or names.get(template, "") if names else ""

    def settings_of(self, service: str) -> ServiceSettings:
        """A service's settings, or the defaults where none were given."""
        return self.settings.get(service) or ServiceSettings(service=service)


def read_control(settings: AppSettings) -> ControlView:
    """The control topic as it is now; empty where there is none yet.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    view = ControlView()
    for record in read_all(settings, settings.kafka.control):
        view.apply((record.key or b"").decode("utf-8", "replace"), record.value)
    return view


class ControlWriter:
    """Writes to the control topic and waits until every replica has it.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """

    def __init__(self, settings: AppSettings) -> None:
        self._topic = settings.kafka.control
        self._producer: Any = producer(settings)

    def put(self, *records: AnyControl) -> None:
        """Write records; when it returns they are written.

        Raises:
            kafka.errors.KafkaError: the broker did not take one within ``ACKNOWLEDGE_SECONDS``.
        """
        self._send([(key_of(record), record.model_dump_json().encode()) for record in records])

    def delete(self, *keys: str) -> None:
        """Take keys back (a tombstone each)."""
        self._send([(key, None) for key in keys])

    def _send(self, pairs: list[tuple[str, bytes | None]]) -> None:
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        for future in [self._producer.send(self._topic, key=key.encode(), value=value) for key, value in pairs]:
            future.get(timeout=max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """Give the connection back."""
        self._producer.close()

    def __enter__(self) -> "ControlWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
