"""Kafka helpers: names of topics without a broker, the rest against the real one."""

import re
import secrets
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.settings import AppSettings, KafkaOptions
from storage import broker

KAFKA = KafkaOptions()


@pytest.mark.parametrize(
    ("topic", "service"),
    [
        ("logs.web", "web"),
        ("logs.web-1.eu_west", "web-1.eu_west"),
        ("logs.", None),
        ("logs.-web", None),
        ("metrics.web", None),
        ("logcanary.control", None),
    ],
)
def test_service_of(topic: str, service: str | None) -> None:
    assert broker.service_of(KAFKA, topic) == service


def test_own_topics_are_nobodys_lines_whatever_the_prefix() -> None:
    kafka = KafkaOptions(log_prefix="log")
    assert broker.service_of(kafka, "logcanary.detections") is None
    assert not re.match(broker.log_pattern(kafka), "logcanary.detections")
    assert broker.service_of(kafka, "logcanary.detections2") == "canary.detections2"
    assert re.match(broker.log_pattern(kafka), "logcanary.detections2")


@given(st.from_regex(r"(logs\.|log|x)?[a-zA-Z0-9._-]{0,20}", fullmatch=True))
def test_the_pattern_of_log_topics_means_what_service_of_says(topic: str) -> None:
    assert bool(re.match(broker.log_pattern(KAFKA), topic)) == (broker.service_of(KAFKA, topic) is not None)


def test_a_broker_that_is_not_there_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        settings = AppSettings(kafka=KafkaOptions(bootstrap=f"127.0.0.1:{taken.getsockname()[1]}"))
        for call in (broker.producer, broker.admin, broker.log_topics, broker.ensure_topics):
            with pytest.raises(broker.BrokerUnreachableError, match="LOGCANARY_KAFKA__BOOTSTRAP"):
                call(settings)


@pytest.mark.stack
def test_topics_are_made_once(stack_settings: AppSettings) -> None:
    broker.ensure_topics(stack_settings)
    assert broker.ensure_topics(stack_settings) == []
    control = stack_settings.kafka.control
    assert list(broker.end_offsets(stack_settings, [control])) == [(control, 0)]


@pytest.mark.stack
def test_everything_in_a_topic_is_read(stack_settings: AppSettings) -> None:
    topic = f"{stack_settings.kafka.log_prefix}test-{secrets.token_hex(4)}"
    sent: list[bytes | None] = [b"\x00\xff bytes", b"", None, "line ä".encode()]
    client = broker.producer(stack_settings)
    for value in sent:
        client.send(topic, key=b"key", value=value, headers=[("name", b"\xfe")])
    client.flush()
    client.close()
    records = list(broker.read_all(stack_settings, topic))
    assert [record.value for record in records] == sent
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert records[0].key == b"key"
    assert records[0].headers == [("name", b"\xfe")]
    assert broker.end_offsets(stack_settings, [topic, "no-such-topic"]) == {(topic, 0): 4}
    assert topic in broker.log_topics(stack_settings)
    assert list(broker.read_all(stack_settings, "no-such-topic")) == []
