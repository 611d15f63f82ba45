"""The job's graph, to be read from top to bottom: Kafka, frames, events, detections, Kafka.

    logs.* -> frames, keyed by partition -> parse -> keyed by bucket -> score -> detections
    parse -> lines that name a trace, of all services -> traces -> detections
    control -> broadcast to parse, score and traces
    parse, score -> statistics      parse -> deadletters, catalogue (back to control)

Lines are collected into frames in the JVM, by an operator of ours (``deploy/java``): a line's bytes go to Python once.
With Flink's own ways of doing so, Arrow batches of a pandas function or a window with ARRAY_AGG, the job takes more CPU
time (``ARCHITECTURE.md`` has the figures), and a batch is not bounded by its bytes.
"""

from typing import Any

from pyflink.common import Configuration, SimpleStringSchema, Types
from pyflink.datastream import (
    DataStream,
    KeyedStream,
    OutputTag,
    StreamExecutionEnvironment,
)
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink
from pyflink.datastream.state import MapStateDescriptor
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment
from pyflink.util.java_utils import get_j_env_configuration

from contracts.settings import AppSettings
from contracts.state import PARSER_STATE, SESSION_STATE, TRACE_STATE
from streaming.names import FRAME_BYTES, FRAME_LINES, job_name, kafka_properties, topic_pattern
from streaming.operators import (
    BYTES,
    CATALOGUE,
    DEADLETTERS,
    KEYED_BYTES,
    STATISTICS,
    TRACES,
    ParseOperator,
    ScoreOperator,
    TraceOperator,
)
from streaming.restore import named

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of lines that an instance of the source collects before it hands on all frames; ``flink.batch_milliseconds`` is
the bound on quiet streams."""
FETCH_BYTES = 16 * 1024 * 1024
"""What a broker hands over at once, over all partitions."""
POLL_RECORDS = 500
"""Lines the source takes at once; it holds four such portions, of 33 MB at most."""
BUNDLE_BATCHES = 4
BUNDLE_BATCHES_MS = 25
"""The operators behind it get batches: waiting for more of them would be latency and nothing else, and every service
waits behind a bundle that has begun."""
PACK_RECORDS = 500
PACK_BYTES = 256 * 1024
PACK_MS = 100
"""Bounds of a pack of control records, behind which lines wait. In a job of four instances that did nothing else,
20,000 records cost 6.5 s of Python's processor time one by one, and 0.35 to 0.7 s in packs (2026-11-24, busy)."""
RESTORE = "execution.state-recovery.path"
DROP = "execution.state-recovery.ignore-unclaimed-state"
DISCOVERY_MS = 3_000
"""A new topic is read after at most this long, from its first line."""


def configuration(settings: AppSettings, name: str) -> dict[str, str]:
    """What the job asks of Flink; the cluster's own configuration holds for all else."""
    flink = settings.flink
    options = {
        "pipeline.name": job_name(name),
        "pipeline.object-reuse": "true",
        "pipeline.generic-types": "false",
        "execution.checkpointing.interval": f"{flink.checkpoint_seconds * 1000:.0f} ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.min-pause": f"{flink.checkpoint_seconds * 500:.0f} ms",
        "execution.checkpointing.timeout": "2 min",
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "15 s",
        # With running numbers: one more query belongs behind the others, or what these keep cannot be restored.
        "table.exec.uid.generation": "ALWAYS",
        "table.local-time-zone": "UTC",
        "python.execution-mode": "process",
    }
    if flink.checkpoints:
        options["execution.checkpointing.dir"] = flink.checkpoints
    return options


def build(
    settings: AppSettings, name: str, topics: str, start: str, restore: str | None = None, drop: bool = False
) -> Any:  # noqa: ANN401
    """Build the job; returns the environment to be executed.

    Args:
        settings: where everything is.
        name: the job's name, unique among the jobs of a cluster.
        topics: regular expression of whole topic names.
        start: ``latest``, ``earliest``, ``committed`` or milliseconds since 1970 UTC; without meaning where the job is
            restored.
        restore: address of a savepoint or checkpoint; what the client was told to go on from is newer and wins.
        drop: state that this version has no operator for may be lost.
    """
    options = Configuration()
    for key, value in configuration(settings, name).items():
        options.set_string(key, value)
    env = StreamExecutionEnvironment.get_execution_environment(options)
    told = get_j_env_configuration(env._j_stream_execution_environment).toMap()
    again = Configuration()
    if restore and not told.get(RESTORE):
        again.set_string(RESTORE, restore)
    if drop:
        again.set_string(DROP, "true")
    env.configure(again)
    tables = StreamTableEnvironment.create(env)
    tables.get_config().set("python.fn-execution.bundle.size", str(BUNDLE_BATCHES))
    tables.get_config().set("python.fn-execution.bundle.time", str(BUNDLE_BATCHES_MS))
    frames = _frames(env, settings, name, topics, start)
    control = _control(tables, settings, name)
    json = settings.model_dump_json()

    events = _keyed(frames).connect(control).process(ParseOperator(json), KEYED_BYTES)
    detections = _keyed(events).connect(control).process(ScoreOperator(json), Types.STRING())

    # What they keep is known by the uid, and its format by the name.
    events.name(named("parse", PARSER_STATE)).uid("parse")
    detections.name(named("score", SESSION_STATE)).uid("score")

    found = _keyed(_side(events, TRACES)).connect(control).process(TraceOperator(json), Types.STRING())
    found.name(named("traces", TRACE_STATE)).uid("traces")

    _sink(settings, detections.union(found), settings.kafka.detections, "detections")
    statistics = _side(events, STATISTICS).union(_side(detections, STATISTICS))
    _sink(settings, statistics, settings.kafka.statistics, "statistics")
    _sink(settings, _side(events, DEADLETTERS), settings.kafka.deadletters, "deadletters")
    _catalogue(tables, settings, _side(events, CATALOGUE))
    return env


def _frames(env: StreamExecutionEnvironment, settings: AppSettings, name: str, topics: str, start: str) -> DataStream:
    """Lines as they come, as frames of one partition: rows of key and bytes."""
    jvm, limit = get_gateway().jvm, settings.flink.max_line_bytes
    properties = {
        "auto.offset.reset": "latest",
        "partition.discovery.interval.ms": str(DISCOVERY_MS),
        "max.poll.records": str(POLL_RECORDS),
        "fetch.max.bytes": str(FETCH_BYTES),
        # Read by a class of ours (deploy/java): Kafka is to keep no more of a line than shows that it is too long.
        "logcanary.value.bytes": str(limit + 1),
    }
    source = (
        jvm.org.apache.flink.connector.kafka.source.KafkaSource.builder()
        .setBootstrapServers(settings.kafka.bootstrap)
        .setGroupId(job_name(name))
        .setTopicPattern(jvm.java.util.regex.Pattern.compile(topic_pattern(settings, topics)))
        .setStartingOffsets(_starting(start))
        .setDeserializer(jvm.logcanary.LineDeserializer())
    )
    for key, value in (properties | kafka_properties(settings)).items():
        source.setProperty(key, value)
    no_watermarks = jvm.org.apache.flink.api.common.eventtime.WatermarkStrategy.noWatermarks()
    lines = env._j_stream_execution_environment.fromSource(source.build(), no_watermarks, "lines").uid("lines")
    operator = jvm.logcanary.FrameOperator(
        limit, FRAME_LINES, FRAME_BYTES, BATCH_BYTES, settings.flink.batch_milliseconds
    )
    return DataStream(lines.transform("frames", KEYED_BYTES.get_java_type_info(), operator).uid("frames"))


def _starting(start: str) -> Any:  # noqa: ANN401
    """Where a job that restores nothing begins; a topic that appears later is read from its first line."""
    flink = get_gateway().jvm.org.apache.flink
    offsets = flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer
    if start == "committed":  # partitions of which nothing is committed begin at their newest lines
        latest = flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetResetStrategy.LATEST
        return offsets.committedOffsets(latest)
    if start in ("latest", "earliest"):
        return offsets.latest() if start == "latest" else offsets.earliest()
    return offsets.timestamp(int(start))


def _control(tables: StreamTableEnvironment, settings: AppSettings, name: str) -> Any:  # noqa: ANN401
    """The control topic from its start, for every instance: packs of records (``streaming/frames.py``)."""
    options = {
        "connector": "kafka",
        "topic": settings.kafka.control,
        "scan.startup.mode": "earliest-offset",
        "properties.bootstrap.servers": settings.kafka.bootstrap,
        "properties.group.id": f"{job_name(name)}-control",
        **{f"properties.{key}": value for key, value in kafka_properties(settings).items()},
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }
    tables.execute_sql(f"CREATE TABLE `control` (`k` BYTES, `v` BYTES) WITH ({_options(options)})")
    rows = Types.ROW([BYTES, BYTES])
    stream = tables.to_append_stream(tables.sql_query("SELECT `k`, `v` FROM `control`"), rows)
    operator = get_gateway().jvm.logcanary.ControlOperator(PACK_RECORDS, PACK_BYTES, PACK_MS)
    packed = stream._j_data_stream.transform("control-packs", BYTES.get_java_type_info(), operator)
    # Each instance reads the topic itself when it opens; the state is there because a broadcast must have one.
    return DataStream(packed.uid("control-packs")).broadcast(MapStateDescriptor("control", Types.STRING(), BYTES))


def _keyed(stream: DataStream) -> KeyedStream:
    """Key rows of (key, bytes) by their key, in the JVM: ``key_by`` would send every byte through Python once more."""
    selector = get_gateway().jvm.KeyByKeySelector()
    key_type = Types.ROW([Types.STRING()]).get_java_type_info()
    return KeyedStream(stream._j_data_stream.keyBy(selector, key_type), BYTES, stream)


def _side(stream: DataStream, tag: OutputTag) -> DataStream:
    return stream.get_side_output(tag)


def _sink(settings: AppSettings, stream: DataStream, topic: str, name: str) -> None:
    """At least once: what is written twice after a crash has the same id, or the same offsets, both times."""
    serializer = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(topic)
        .set_value_serialization_schema(SimpleStringSchema())
        .build()
    )
    builder = (
        KafkaSink.builder()
        .set_bootstrap_servers(settings.kafka.bootstrap)
        .set_record_serializer(serializer)
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    )
    for key, value in kafka_properties(settings).items():
        builder = builder.set_property(key, value)
    stream.sink_to(builder.build()).name(name).uid(f"{name}-sink")


def _catalogue(tables: StreamTableEnvironment, settings: AppSettings, templates: DataStream) -> None:
    """Templates go back to the control topic under their keys, which PyFlink's own sink cannot write."""
    options = {
        "connector": "kafka",
        "topic": settings.kafka.control,
        "properties.bootstrap.servers": settings.kafka.bootstrap,
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": "at-least-once",
        **{f"properties.{key}": value for key, value in kafka_properties(settings).items()},
    }
    tables.execute_sql(f"CREATE TABLE `catalogue` (`k` STRING, `v` STRING) WITH ({_options(options)})")
    tables.create_temporary_view("templates", templates)
    statements = tables.create_statement_set()
    statements.add_insert_sql("INSERT INTO `catalogue` SELECT `k`, `v` FROM `templates`")
    statements.attach_as_datastream()


def _options(options: dict[str, str]) -> str:
    return ", ".join(f"'{key}' = '{_quoted(value)}'" for key, value in options.items())


def _quoted(value: str) -> str:
    return value.replace("'", "''")
