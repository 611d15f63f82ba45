"""Kafka as a part: one node in KRaft mode, broker and controller in one."""

import subprocess
import uuid
from base64 import urlsafe_b64encode

from deploy.jars import class_path
from deploy.parts import Part, Plan, speaks_kafka
from deploy.paths import DeployError

SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
# Arrival is the broker's clock: archive slots and latencies do not depend on the clocks of producers.
log.message.timestamp.type=LogAppendTime
auto.create.topics.enable=true
num.partitions=1
# Room for a line far over the 64 KiB that are parsed: the archive keeps it whole.
message.max.bytes=10485760
log.segment.bytes=268435456
log.retention.hours=168
log.retention.bytes=8589934592
# One node cannot replicate, and a single machine has no use for 50 partitions of offsets.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
"""

# The layout is the one Kafka's own archive ships.
LOGGING = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 64MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


def broker(plan: Plan) -> Part:
    """Return Kafka; its topics are in ``<home>/kafka/data``."""
    folder = plan.home / "kafka"
    java = str(plan.java.binary)
    jars = ":".join(str(jar) for jar in class_path("kafka"))
    log = plan.logs / "kafka.log"
    # The heap is taken whole at the start: touched bit by bit it grows for hours (from 367 to 458 MiB within an hour's
    # soak at 25,000 lines/s), which looks like a leak and would be missed where there is no room for it.
    heap = ("-Xmx512m", "-Xms512m", "-XX:+AlwaysPreTouch")
    options = (*heap, "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", *plan.jvm("kafka"))

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = SERVER.format(
            broker=plan.address("kafka"), controller=plan.address("kafka-controller"), data=folder / "data"
        )
        (folder / "server.properties").write_text(text)
        (folder / "log4j2.properties").write_text(LOGGING.format(log=log))
        if not (folder / "data" / "meta.properties").exists():
            _format(java, jars, plan)

    return Part(
        name="kafka",
        command=lambda: [
            java,
            *options,
            f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
            "-cp",
            jars,
            "kafka.Kafka",
            str(folder / "server.properties"),
        ],
        log=log,
        ready=lambda: speaks_kafka(plan.ports["kafka"]),
        port=plan.ports["kafka"],
        address=plan.address("kafka"),
        prepare=prepare,
    )


def _format(java: str, jars: str, plan: Plan) -> None:
    """Give the empty data folder its cluster id, as KRaft demands."""
    folder = plan.home / "kafka"
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = (java, "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.tools.StorageTool", "format", "--standalone")
    done = subprocess.run(
        # One word: an id may begin with a hyphen.
        [*tool, f"--cluster-id={cluster}", "-c", str(folder / "server.properties")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DeployError(f"Kafka's data folder {folder / 'data'} could not be set up: {done.stderr.strip()[-500:]}")
