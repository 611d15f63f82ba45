"""Names in Kafka and Flink that several parts agree on; free of Flink, so that the command line starts fast."""

import re

from contracts.settings import AppSettings


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
