"""Out of the running stack: a detection in, one notification out at a receiver of ours, resolved afterwards."""

import secrets
import time
import urllib.request
from collections.abc import Iterator

import pytest

from contracts.settings import AppSettings
from deploy.stack import status
from storage.broker import producer
from tests.paging import Pager, pager, telling
from tests.unit.test_exporter import detection

FOUND_SECONDS = 60.0
"""From the topic through exporter, Prometheus and Alertmanager: 12 s by their intervals."""
OVER_SECONDS = 120.0
"""The alert ends a minute after the newest detection."""


@pytest.fixture
def receiver(stack_settings: AppSettings) -> Iterator[Pager]:
    """The stack's own Alertmanager tells us, until the test ends."""
    address = next(part.address for part in status(stack_settings).parts if part.name == "alertmanager")
    file = stack_settings.home / "alertmanager" / "alertmanager.yml"
    before = file.read_text()
    with pager() as own:
        file.write_text(telling(own.url))
        _reload(address)
        yield own
        file.write_text(before)
        _reload(address)


def _reload(address: str) -> None:
    request = urllib.request.Request(f"{address}/-/reload", method="POST")
    assert urllib.request.urlopen(request, timeout=10).status == 200


@pytest.mark.timeout(400)
def test_a_detection_pages_once_and_is_resolved(stack_settings: AppSettings, receiver: Pager) -> None:
    service, now = f"paged-{secrets.token_hex(4)}", time.time_ns() // 1_000_000
    usual = detection().model_copy(
        update={"service": service, "topic": f"logs.{service}", "arrival_ms": now, "event_ms": now, "detected_ms": now}
    )
    found = [
        usual.model_copy(update={"id": secrets.token_hex(8), "offset": number, "line": "password=planted-secret"})
        for number in range(3)
    ]
    with producer(stack_settings) as out:
        for one in found:
            out.send(stack_settings.kafka.detections, one.model_dump_json().encode()).get(30)

    def mine(message: dict[str, object]) -> bool:
        return service in str(message)

    told = receiver.wait("anomalies", "firing", "LogCanaryAnomalyFound", FOUND_SECONDS)
    while not mine(told):
        told = receiver.wait("anomalies", "firing", "LogCanaryAnomalyFound", FOUND_SECONDS)
    assert [one["labels"]["service"] for one in told["alerts"]].count(service) == 1
    assert "planted-secret" not in str(told)
    over = receiver.wait("anomalies", "resolved", "LogCanaryAnomalyFound", OVER_SECONDS)
    while not mine(over):
        over = receiver.wait("anomalies", "resolved", "LogCanaryAnomalyFound", OVER_SECONDS)
    # Told of once, however many detections. Other services of this run may join the page or leave it.
    alone = [
        one
        for one in [*receiver.passed, told]
        if {each["labels"].get("service") for each in one["alerts"]} == {service}
    ]
    assert len([one for one in alone if one["status"] == "firing"]) <= 1
