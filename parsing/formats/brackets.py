"""Headers whose parts stand in brackets: Kafka, Gunicorn, Elasticsearch, Envoy, Airflow."""

from parsing.formats._base import ISO, ISO_TIME, LEVEL, Example, Format

FORMATS = (
    Format(
        "log4j_brackets",
        rank=40,
        header=rf"\[(?P<time>{ISO})\] (?P<level>{LEVEL}) +",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22 13:07:49,123] INFO [BrokerServer id=1] Ready (kafka.server.BrokerServer)",
                "[BrokerServer id=1] Ready (kafka.server.BrokerServer)",
                time="2026-11-22T13:07:49.123",
                level="INFO",
            ),
        ),
    ),
    Format(
        "gunicorn",
        rank=41,
        header=rf"\[(?P<time>{ISO})\] \[[0-9]+\] \[(?P<level>{LEVEL})\] ",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22 14:07:49 +0100] [7] [INFO] Booting worker with pid: 7",
                "Booting worker with pid: 7",
                time="2026-11-22T13:07:49",
                level="INFO",
            ),
        ),
    ),
    Format(
        "elasticsearch",
        rank=42,
        header=rf"\[(?P<time>{ISO})\]\[(?P<level>{LEVEL}) *\]\[(?P<component>[^\] \n]+) *\] "
        r"(?:\[(?P<host>[^\]\n]*)\] ?)?",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22T13:07:49,123][WARN ][o.e.c.r.a.DiskThreshold ] [node-1] high disk watermark exceeded",
                "high disk watermark exceeded",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                host="node-1",
                component="o.e.c.r.a.DiskThreshold",
            ),
        ),
    ),
    Format(
        "envoy",
        rank=43,
        header=rf"\[(?P<time>{ISO})\]\[[0-9]+\]\[(?P<level>{LEVEL})\]\[(?P<component>[^\]\n]+)\] "
        r"(?:\[[^\] \n]+:[0-9]+\] )?",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22 13:07:49.123][1][warning][main] [source/server/server.cc:715] there is no limit",
                "there is no limit",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="main",
            ),
        ),
    ),
    Format(
        "airflow",
        rank=44,
        header=rf"\[(?P<time>{ISO})\] \{{(?P<component>[^}}:\n]+):[0-9]+\}} (?P<level>{LEVEL}) - ",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22T14:07:49.123+0100] {taskinstance.py:1332} INFO - Executing",
                "Executing",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="taskinstance.py",
            ),
        ),
    ),
)
