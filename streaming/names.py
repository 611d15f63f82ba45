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


def topic_pattern(settings: AppSettings, topics: str) -> str:
    """The pattern a job subscribes to: whole names, never LogCanary's own topics."""
    kafka = settings.kafka
    own = "|".join(re.escape(topic) for topic in (kafka.detections, kafka.statistics, kafka.deadletters, kafka.control))
    return f"^(?!(?:{own})$)(?:{topics})$"
