"""Names and sizes several parts agree on in Kafka and Flink; free of Flink, so that the command line starts fast."""

import re

from contracts.settings import AppSettings

FRAME_LINES = 20_000
"""Lines in a frame at most: with 5,000 the job takes 20 % more CPU time, as it does more once a batch."""
FRAME_BYTES = 4 * 1024 * 1024
"""Bytes of lines in a frame: Flink writes a record of more than 5 MiB to a temporary file on its way between tasks."""


def job_name(name: str) -> str:
    """Flink's name of a job, and its consumer group.

    >>> job_name("main")
    'logcanary-main'
    """
    return f"logcanary-{name}"


def kafka_properties(settings: AppSettings) -> dict[str, str]:
    """What Flink's Kafka clients are told of TLS and SASL; nothing where brokers are spoken to in the open.

    The password is not among it: Kafka's client reads its file where it runs, on the workers, so that neither the job's
    graph nor Flink's page has it. Classes carry the prefix under which Flink's connector bundles Kafka.

    >>> kafka_properties(AppSettings())
    {}
    """
    kafka, bundled = settings.kafka, "org.apache.flink.kafka.shaded.org.apache.kafka.common"
    if kafka.security_protocol == "PLAINTEXT":
        return {}
    properties: dict[str, str] = {"security.protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL") and kafka.ssl_cafile:
        properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": kafka.ssl_cafile}
    if kafka.security_protocol.startswith("SASL"):
        kind = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        folder, _, file = kafka.sasl_password_file.rpartition("/")
        user = kafka.sasl_username.replace("\\", "\\\\").replace('"', '\\"')
        properties |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "config.providers": "secrets",
            "config.providers.secrets.class": f"{bundled}.config.provider.DirectoryConfigProvider",
            "sasl.jaas.config": f'{bundled}.security.{kind} required username="{user}"'
            f' password="${{secrets:{folder or "/"}:{file}}}";',
        }
    return properties


def topic_pattern(settings: AppSettings, topics: str) -> str:
    """The pattern a job subscribes to: whole names, never LogCanary's own topics."""
    kafka = settings.kafka
    own = "|".join(map(re.escape, kafka.own))
    return f"^(?!(?:{own})$)(?:{topics})$"
