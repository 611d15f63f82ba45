"""What the exporter says of how bundles fit, as one advice a service: the same sentences on every page and command.

    advise_all(settings)["pay"].words       # "retrain: 12.0% of the events are of templates that ..."

The exporter has read all statistics since it began; who asks here needs none of them, only its ``/metrics``.
"""

import dataclasses
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import chain

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from contracts.base import Record
from contracts.records import BundlePointer
from contracts.service import ServiceName
from contracts.settings import AppSettings
from models.drift import SERIES, Advice, Signs, advise
from storage.broker import log_topics, service_of
from storage.control import read_control

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (what the exporter listens on is asked for on loopback)
SECONDS = 5.0
_FIELDS = {name: field for field, (name, _) in SERIES.items()}


class Watched(Record):
    """A service, and how it gets along with its bundle."""

    service: ServiceName
    live: str
    """Version of the live bundle; empty: there is none."""
    retrain: bool
    advice: str

    @classmethod
    def of(cls, service: str, pointer: BundlePointer | None, advice: Advice | None) -> "Watched":
        """What the control topic and the exporter say of a service."""
        return cls(
            service=service,
            live=pointer.version if pointer else "",
            retrain=bool(advice and advice.retrain),
            advice=advice.words if advice else "nothing is known of it yet",
        )


class ExporterError(ConnectionError):
    """The exporter does not answer; the message names the setting."""


def advise_all(settings: AppSettings) -> dict[str, Advice]:
    """The advice for each service that the exporter knows.

    Raises:
        ExporterError: it does not answer.
    """
    now = time.time_ns() // 1_000_000
    return {service: advise(signs, now) for service, signs in read_signs(scrape(settings)).items()}


def seen(settings: AppSettings, *known: Iterable[str]) -> list[str]:
    """All services, by name: those with a topic, and those that are known otherwise.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    topics = (service_of(settings.kafka, topic) for topic in log_topics(settings))
    return sorted({*filter(None, topics), *chain.from_iterable(known)})


def watched(settings: AppSettings) -> list[Watched]:
    """Every service seen, with its live bundle and one advice.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
        ExporterError: the exporter does not answer.
    """
    pointers, advice = read_control(settings).pointers, advise_all(settings)
    return [Watched.of(one, pointers.get(one), advice.get(one)) for one in seen(settings, pointers, advice)]


def read_signs(text: str) -> dict[str, Signs]:
    """The signs of each service in the exporter's text."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples(text, _FIELDS):
        scale = 1000 if sample.name.endswith("_seconds") else 1
        found.setdefault(sample.labels["service"], {})[_FIELDS[sample.name]] = sample.value * scale
    return {service: _signs(fields) for service, fields in found.items()}


def samples(text: str, names: Iterable[str]) -> Iterator[Sample]:
    """The samples of these names in the exporter's text; to read the others would take most of the time."""
    wanted = tuple(f"{name}{{" for name in names)
    lines = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(wanted))
    return chain.from_iterable(family.samples for family in text_string_to_metric_families(lines))


def _signs(fields: dict[str, float]) -> Signs:
    whole = {one.name for one in dataclasses.fields(Signs) if one.type is int}
    return Signs(**{name: round(value) if name in whole else value for name, value in fields.items()})  # type: ignore[arg-type]  # by name


def scrape(settings: AppSettings) -> str:
    """What the exporter has to say.

    Raises:
        ExporterError: it does not answer.
    """
    web = settings.web
    here = "127.0.0.1" if web.host in EVERYWHERE else web.host
    address = f"{(web.exporter_url or f'http://{here}:{web.exporter_port}').rstrip('/')}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310  (http or https alone)
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError) as error:
        raise ExporterError(
            f"the exporter does not answer at {address} (settings web.exporter_url, web.exporter_port): start it with "
            "`logcanary up`"
        ) from error
