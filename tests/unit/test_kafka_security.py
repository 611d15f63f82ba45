"""TLS and SASL of Kafka as settings: both kinds of clients are told, and the password is in nothing that is printed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.settings import AppSettings, KafkaOptions
from deploy.own import settings_environment
from deploy.parts import Plan
from storage.broker import BrokerUnreachableError, security
from streaming.names import kafka_properties

SECRET = "correct horse"


@pytest.fixture
def kafka(tmp_path: Path) -> KafkaOptions:
    (tmp_path / "password").write_text(SECRET + "\n")
    return KafkaOptions(
        security_protocol="SASL_SSL",
        sasl_username='log"canary',
        sasl_password_file=str(tmp_path / "password"),
        ssl_cafile="/etc/ca.pem",
    )


def test_in_the_open_nothing_is_said() -> None:
    assert security(KafkaOptions()) == {}
    assert kafka_properties(AppSettings()) == {}


def test_python_clients_are_told(kafka: KafkaOptions) -> None:
    assert security(kafka) == {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/etc/ca.pem",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": 'log"canary',
        "sasl_plain_password": SECRET,
    }
    assert security(KafkaOptions(security_protocol="SSL")) == {"security_protocol": "SSL"}


def test_flinks_clients_are_told_where_the_password_is(kafka: KafkaOptions, tmp_path: Path) -> None:
    told = kafka_properties(AppSettings(kafka=kafka))
    assert told["security.protocol"] == "SASL_SSL"
    assert told["ssl.truststore.location"] == "/etc/ca.pem"
    assert told["sasl.jaas.config"].endswith(
        f'scram.ScramLoginModule required username="log\\"canary" password="${{secrets:{tmp_path}:password}}";'
    )
    plain = kafka.model_copy(update={"sasl_mechanism": "PLAIN", "security_protocol": "SASL_PLAINTEXT"})
    told = kafka_properties(AppSettings(kafka=plain))
    assert ".plain.PlainLoginModule " in told["sasl.jaas.config"]
    assert "ssl.truststore.location" not in told


def test_the_password_is_in_nothing_that_is_printed_or_handed_on(kafka: KafkaOptions, tmp_path: Path) -> None:
    settings = AppSettings(kafka=kafka)
    plan = Plan(
        tmp_path, dict.fromkeys(("kafka", "hdfs", "flink", "exporter", "prometheus", "console"), 1), None, settings
    )
    handed = [repr(settings), settings.model_dump_json(), kafka_properties(settings), settings_environment(plan)]
    assert SECRET not in str(handed)
    assert AppSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("missing", ["sasl_username", "sasl_password_file"])
def test_half_a_sign_in_is_refused(missing: str) -> None:
    whole = {"sasl_username": "x", "sasl_password_file": "/x"}
    del whole[missing]
    with pytest.raises(ValidationError, match=r"needs kafka\.sasl_username and kafka\.sasl_password_file"):
        KafkaOptions(security_protocol="SASL_SSL", **whole)


def test_a_password_that_cannot_be_read_is_named(kafka: KafkaOptions) -> None:
    gone = kafka.model_copy(update={"sasl_password_file": "/nowhere/password"})
    with pytest.raises(BrokerUnreachableError, match=r"kafka.sasl_password_file is /nowhere/password"):
        security(gone)
