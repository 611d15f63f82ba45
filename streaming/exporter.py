"""The exporter: what LogCanary's topics say, as metrics for Prometheus on ``/metrics``.

``Metrics`` turns records into numbers and knows neither Kafka nor HTTP; ``Exporter`` is the wiring. Counters count
every micro-batch and every detection once: a batch repeated after a crash is known by its offsets, a detection by its
id. Positions are committed, so what came while the exporter was down is counted when it is back.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from pydantic import ValidationError

from contracts.records import (
    BundlePointer,
    DeadLetter,
    Detection,
    OddReason,
    OverflowReason,
    Statistic,
    TemplateReason,
)
from contracts.service import SequenceKind
from contracts.settings import AppSettings
from storage.broker import (
    KafkaConsumer,
    KafkaError,
    OffsetAndMetadata,
    TopicPartition,
    admin,
    consumer,
    ensure_topics,
    partitions_of,
    service_of,
)
from storage.control import ControlView
from streaming.fitting import FitGauges, Fits
from streaming.trainings import Trainings
from streaming.watchdog import still_alive, stop_watching

GROUP = "logcanary-exporter"
DETECTORS = tuple(f"{kind}{end}" for kind in get_args(SequenceKind) for end in ("", ".end"))
"""Detectors whose series are there as 0 before their first detection."""
REASONS: tuple[str, ...] = get_args(DeadLetter.model_fields["reason"].annotation)
ODD_REASONS: tuple[str, ...] = get_args(OddReason)
OVERFLOW_REASONS: tuple[str, ...] = get_args(OverflowReason)
TEMPLATE_REASONS: tuple[str, ...] = get_args(TemplateReason)
ID_ROWS, ID_COLUMNS = 1 << 14, 8
"""Detection ids remembered, as a table of 1 MiB. What comes twice after a crash comes within the next 10,000, of which
one in 10 million finds that its id was forgotten (eight newer ones in its row)."""
LOOK_BACK = 2_000
"""Records per partition before the committed position that are looked at again at the start, without counting them:
they say how things stand, what was counted last, and which detections are known."""
LAG_SECONDS = 10.0
COMMIT_SECONDS = 10.0
POLL_MILLISECONDS = 500
LATENCY_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds; the target is 1."""

log = logging.getLogger("logcanary.exporter")


class RecentIds:
    """The newest of many 64-bit ids, in a table whose size never changes: an exporter runs for months.

    Args:
        rows: A power of two; an id's row is its last bits.
        columns: Ids of a row, the newest first; one more drops the oldest.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._ids = np.zeros((rows, columns), dtype=np.uint64)
        self._ids.fill(0)  # its memory is taken now, not page by page as ids come

    def add(self, number: int) -> bool:
        """Remember an id; say whether it is new. 0 stands for an empty place and is never new."""
        row = self._ids[number % len(self._ids)]
        one = np.uint64(number)
        if (row == one).any() or not number:
            return False
        row[1:] = row[:-1].copy()
        row[0] = one
        return True


class Metrics:
    """All metrics of LogCanary, fed with records.

    Args:
        registry: where they are registered; one of its own where none is given.
        wall: the time of day in seconds since 1970 UTC.
    """

    def __init__(self, registry: CollectorRegistry | None = None, wall: Callable[[], float] = time.time) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing here needs
        self.registry = registry or CollectorRegistry()
        self._wall = wall
        self._counted: dict[tuple[str, str, int, int], int] = {}
        self._ids = RecentIds(ID_ROWS, ID_COLUMNS)
        self._templates: dict[str, dict[tuple[str, int], tuple[int, bool]]] = {}
        self._sessions: dict[str, dict[int, int]] = {}
        self._newest: dict[tuple[str, str], float] = {}
        self._in_force: dict[str, tuple[str, int]] = {}
        self._pointers: dict[str, BundlePointer] = {}
        self._fits, self._fit_gauges, self._trainings = Fits(), FitGauges(self.registry), Trainings(self.registry)
        self._known, self._shown = set[str](), dict[str, set[str]]()

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"logcanary_{name}", help_, ("service", *labels), registry=self.registry)

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"logcanary_{name}", help_, labels or ("service",), registry=self.registry)

        self.lines = counter("lines", "Lines parsed.")
        self.bytes = counter("bytes", "Bytes of the lines parsed.")
        self.cut = counter("cut_lines", "Lines cut to the length limit for parsing; whole in the archive.")
        self.deadletters = counter("deadletters", "Lines that could not be parsed.", "reason")
        self.odd = counter("odd_lines", "Lines scored although something about them is off.", "reason")
        self.new_templates = counter("new_templates", "Templates seen for the first time.")
        self.template_changes = counter("template_changes", "Templates announced to the catalogue.", "reason")
        self.overflow = counter("overflow_lines", "Lines that share one template for lack of room.", "reason")
        self.forgotten = counter("forgotten_texts", "Texts whose template is remembered no more.")
        self.scored = counter("scored_lines", "Lines scored by a bundle.")
        self.windows = counter("windows", "Windows scored, from memory or computed by the model.", "outcome")
        self.whole_sessions = counter("whole_sessions", "Ended sessions, by what became of them as a whole.", "outcome")
        self.unknown, self.reworded = (
            counter("unknown_events", "Events whose template the bundle does not know."),
            counter("reworded_events", "Of these, those of one that it knows in other words."),
        )
        self.detections = counter("detections", "Detections, each counted once.", "detector")
        self.late = counter(
            "late_detections", "Detections on lines scored long after their arrival; they page nobody.", "detector"
        )
        self.suppressed = counter("suppressed", "Findings not raised because of a verdict.")
        self.seconds = counter("operator_seconds", "Time spent in the operators of a stage.", "stage")
        self.templates = gauge("templates", "Templates known.")
        self.paused = gauge("learning_paused", "1 while a partition of the service learns no template, else 0.")
        self.sessions = gauge("open_sessions", "Open sessions.")
        self.newest_arrival = gauge("newest_arrival_timestamp_seconds", "Arrival of the newest line scored or parsed.")
        self.newest_event = gauge("newest_event_timestamp_seconds", "Time inside the newest line scored or parsed.")
        self.newest_detection = gauge("newest_detection_timestamp_seconds", "When a detection was last counted.")
        self.heartbeat = gauge(
            "last_statistics_timestamp_seconds", "When a stage last finished a micro-batch.", "stage"
        )
        self.bundle_created = gauge("bundle_created_timestamp_seconds", "When the bundle in force was made.")
        self.bundle_in_force = gauge("bundle_in_force", "1 while a bundle scores the service's lines, else 0.")
        self.bundle_refused = gauge("bundle_refused", "1 while the live pointer's bundle failed its checks, else 0.")
        self.bundle_pending = gauge("bundle_pending", "1 while scoring goes on by another bundle than the pointer's.")
        self.bundle_moved = gauge("bundle_pointer_moved_timestamp_seconds", "When the live pointer was moved last.")
        self.archive_lag = gauge("archive_lag_lines", "Lines in Kafka that are not archived yet.")
        self.archive_margin = gauge(
            "archive_margin_ratio",
            "Share of the lines in Kafka between its oldest and the archive's position; at 0 retention eats lines"
            " that were not archived. 1 while retention has deleted nothing.",
        )
        self.archived = gauge("archived_lines", "Lines archived so far, as the committed offsets say.")
        self.scoring_lag = gauge("scoring_lag_lines", "Lines in Kafka that are not scored (not parsed) yet.")
        self.latency = Histogram(
            "logcanary_line_to_score_seconds",
            "Time from a line's arrival in Kafka to its score, of the newest line of each micro-batch.",
            ("service",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.broken = Counter(
            "logcanary_exporter_broken_records",
            "Records of LogCanary's topics that could not be read.",
            ("topic",),
            registry=self.registry,
        )
        for topic in ("statistics", "detections", "control"):
            self.broken.labels(topic)

    def know(self, service: str) -> None:
        """Show a service's counters as 0 before anything happens: a rate cannot see a counter that begins at 1."""
        if service in self._known:
            return
        self._known.add(service)
        for metric in (
            self.lines,
            self.bytes,
            self.cut,
            self.new_templates,
            self.forgotten,
            self.scored,
            self.unknown,
            self.reworded,
            self.suppressed,
        ):
            metric.labels(service)
        for reason in REASONS:
            self.deadletters.labels(service, reason)
        for reason in ODD_REASONS:
            self.odd.labels(service, reason)
        for reason in TEMPLATE_REASONS:
            self.template_changes.labels(service, reason)
        for reason in OVERFLOW_REASONS:
            self.overflow.labels(service, reason)
        self.paused.labels(service)
        self._trainings.know(service)
        for outcome in ("remembered", "computed"):
            self.windows.labels(service, outcome)
        for detector in DETECTORS:
            self.detections.labels(service, detector)
            self.late.labels(service, detector)
        for stage in ("parse", "score"):
            self.seconds.labels(service, stage)
        for state in (self.bundle_in_force, self.bundle_refused, self.bundle_pending):
            state.labels(service)
        self.latency.labels(service)

    def statistic(self, record: Statistic, counts: bool = True) -> None:
        """Take in what an operator did with a micro-batch.

        Args:
            record: what it did.
            counts: false for a record that was counted in an earlier life; it only says how things stand.
        """
        self.know(record.service)
        fresh = self._fresh(record)
        if counts and fresh > 0:
            self._count(record, fresh)
        if fresh > 0:
            self._fits.scored(record)
        self._state(record)

    def _fresh(self, record: Statistic) -> float:
        """The share of a micro-batch that was not counted before: after a crash batches come again, cut differently."""
        if record.lines == 0:
            return 1.0  # a timer's work; it has no offsets of its own
        key = (record.stage, record.topic, record.partition, record.bucket)
        counted = self._counted.get(key, -1)
        self._counted[key] = max(counted, record.last_offset)
        new = record.last_offset - max(counted, record.first_offset - 1)
        return min(1.0, max(0, new) / max(1, record.last_offset - record.first_offset + 1))

    def _count(self, record: Statistic, share: float) -> None:
        service = record.service

        def add(metric: Counter, number: float, *labels: str) -> None:
            if number:
                metric.labels(service, *labels).inc(round(number * share))

        if record.stage == "parse":
            add(self.lines, record.lines)
            add(self.bytes, record.bytes)
            add(self.cut, record.cut)
            add(self.new_templates, record.new_templates)
            add(self.forgotten, record.forgotten)
            for reason, number in record.changes.items():
                add(self.template_changes, number, reason)
            for reason, number in record.overflow.items():
                add(self.overflow, number, reason)
            for reason, number in record.dead.items():
                add(self.deadletters, number, reason)
            for reason, number in record.odd.items():
                add(self.odd, number, reason)
        else:
            if record.bundle:
                add(self.scored, record.lines)
            add(self.windows, record.windows_remembered, "remembered")
            add(self.windows, record.windows - record.windows_remembered, "computed")
            add(self.whole_sessions, record.sessions_judged, "judged")
            add(self.whole_sessions, record.sessions_passed, "passed")
            add(self.whole_sessions, record.sessions_learnt, "learnt")
            add(self.unknown, record.unknown)
            add(self.reworded, record.reworded)
            add(self.suppressed, record.suppressed)
            if record.lines:
                self.latency.labels(service).observe(max(0, record.emitted_ms - record.newest_arrival_ms) / 1000)
        self.seconds.labels(service, record.stage).inc(max(0.0, record.seconds))

    def _state(self, record: Statistic) -> None:
        service = record.service
        self._latest(self.heartbeat, record.stage, record.emitted_ms)
        if record.lines:
            self._latest(self.newest_arrival, service, record.newest_arrival_ms)
            self._latest(self.newest_event, service, record.newest_event_ms)
        if record.stage == "parse":
            known = self._templates.setdefault(service, {})
            known[record.topic, record.partition] = record.templates, record.paused
            self.templates.labels(service).set(max(templates for templates, _ in known.values()))
            self.paused.labels(service).set(any(paused for _, paused in known.values()))
            return
        buckets = self._sessions.setdefault(service, {})
        buckets[record.bucket] = record.sessions
        self.sessions.labels(service).set(sum(buckets.values()))
        self._in_force[service] = (record.bundle, record.emitted_ms)
        self.bundle_in_force.labels(service).set(bool(record.bundle))
        self.bundle_refused.labels(service).set(bool(record.bundle_refused))
        created = bundle_time(record.bundle)
        if created is not None:
            self.bundle_created.labels(service).set(created)
        self._pending(service)

    def _latest(self, metric: Gauge, label: str, milliseconds: int) -> None:
        """Move a timestamp forward, never back: replayed and late records must not."""
        key = (metric._name, label)
        if milliseconds / 1000 > self._newest.get(key, 0.0):
            self._newest[key] = milliseconds / 1000
            metric.labels(label).set(milliseconds / 1000)

    def detection(self, record: Detection, counts: bool = True) -> None:
        """Take in a detection; one whose id is known is not counted again."""
        self.know(record.service)
        if not self._ids.add(int(record.id, 16)):
            return
        if counts and record.late:
            self.late.labels(record.service, record.detector).inc()
        elif counts:
            self.detections.labels(record.service, record.detector).inc()
            self._fits.alarm(record.service, round(self._wall() * 1000))
            # The time of counting, not of detecting: what was found while the exporter was down is news too.
            self.newest_detection.labels(record.service).set(self._wall())

    def control(self, view: ControlView) -> None:
        """Take in what the control topic says of services and bundles."""
        for service in {*view.settings, *view.pointers, *view.templates, *view.trainings}:
            self.know(service)
        self._trainings.control(view)
        self._pointers = dict(view.pointers)
        self._fits.control(view, round(self._wall() * 1000))
        for service, pointer in view.pointers.items():
            self.bundle_moved.labels(service).set(pointer.moved_ms / 1000)
            self._pending(service)

    def fit(self) -> None:
        """Show how each service's bundle fits it now."""
        now = round(self._wall() * 1000)
        for service, signs in self._fits.signs(now).items():
            self.know(service)
            self._fit_gauges.show(service, signs, now)

    def _pending(self, service: str) -> None:
        pointer, (version, at_ms) = self._pointers.get(service), self._in_force.get(service, ("", 0))
        # A service without lines since the move cannot have taken the bundle up.
        pending = pointer is not None and at_ms > max(pointer.moved_ms, pointer.from_ms) and version != pointer.version
        self.bundle_pending.labels(service).set(pending)

    def lags(
        self,
        services: Mapping[str, str],
        starts: Mapping[tuple[str, int], int],
        ends: Mapping[tuple[str, int], int],
        archived: Mapping[tuple[str, int], int],
    ) -> None:
        """Take in how far Kafka, the archive and the job are.

        Args:
            services: the service of each log topic.
            starts: the oldest offset in Kafka, by (topic, partition).
            ends: the offset after the newest.
            archived: the offset after the last archived one; missing where nothing was.
        """
        lag: dict[str, int] = dict.fromkeys(services.values(), 0)
        done: dict[str, int] = dict.fromkeys(services.values(), 0)
        margin: dict[str, float] = dict.fromkeys(services.values(), 1.0)
        unscored: dict[str, int] = {}
        newest = self._newest_offsets(ends)
        for (topic, partition), end in ends.items():
            service, start = services[topic], starts[topic, partition]
            position = archived.get((topic, partition), 0)
            lag[service] += max(0, end - max(start, position))
            done[service] += archived.get((topic, partition), 0)
            if start and position < end:
                margin[service] = min(margin[service], max(0, position - start) / (end - start))
            stages = newest.get((topic, partition), {})
            # Where nothing is scored for lack of a bundle, what is parsed says how far the job is.
            scored = stages.get("score", stages.get("parse"))
            if scored is not None:
                unscored[service] = unscored.get(service, 0) + max(0, end - 1 - scored)
        for service in lag:
            self.know(service)
        self._show(self.archive_lag, lag)
        self._show(self.archived, done)
        self._show(self.archive_margin, margin)
        self._show(self.scoring_lag, unscored)

    def _newest_offsets(self, ends: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], dict[str, int]]:
        """The newest offset each stage is known to have done, by (topic, partition)."""
        newest: dict[tuple[str, int], dict[str, int]] = {}
        for key, offset in list(self._counted.items()):
            stage, topic, partition, _ = key
            if offset >= ends.get((topic, partition), offset + 1):
                del self._counted[key]  # the topic was deleted and made anew: its offsets begin again
                continue
            stages = newest.setdefault((topic, partition), {})
            stages[stage] = max(stages.get(stage, -1), offset)
        return newest

    def _show(self, metric: Gauge, values: Mapping[str, float]) -> None:
        """Set a gauge for these services, and take it away from those that have no topic any more."""
        for service, number in values.items():
            metric.labels(service).set(number)
        for service in self._shown.get(metric._name, set()) - values.keys():
            metric.remove(service)
        self._shown[metric._name] = set(values)


def bundle_time(version: str) -> float | None:
    """When a bundle was made, in seconds since 1970 UTC, from its version (``YYYYMMDDTHHMMSS-hash``)."""
    try:
        return datetime.strptime(version[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class Exporter:
    """Feeds ``Metrics`` from Kafka.

    Args:
        settings: where Kafka is.
        metrics: what to feed.
        alive: called at the start of every round.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """

    def __init__(self, settings: AppSettings, metrics: Metrics, alive: Callable[[], None] = lambda: None) -> None:
        self._settings, self._metrics, self._alive = settings, metrics, alive
        self._view = ControlView()
        self._committed: dict[TopicPartition, int] = {}
        self._lag_at = self._commit_at = 0.0
        ensure_topics(settings)
        self._client: KafkaConsumer = consumer(
            settings, group_id=GROUP, auto_offset_reset="earliest", max_poll_records=5_000
        )
        self._admin: Any = admin(settings)
        self._begin()

    def run(self, stop: threading.Event) -> None:
        """Feed until ``stop`` is set."""
        try:
            while not stop.is_set():
                self.step()
        finally:
            self._commit()
            self._client.close(autocommit=False, timeout_ms=5_000)
            self._admin.close()

    def step(self) -> None:
        """One round: new records, and every few seconds the lags and a commit."""
        self._alive()
        try:
            for key, records in self._client.poll(timeout_ms=POLL_MILLISECONDS).items():
                self._take(key, records)
            if time.monotonic() >= self._lag_at:
                self._lags()
                self._metrics.fit()
                self._lag_at = time.monotonic() + LAG_SECONDS
            if time.monotonic() >= self._commit_at:
                self._commit()
                self._commit_at = time.monotonic() + COMMIT_SECONDS
        except KafkaError as error:
            log.warning("Kafka does not answer as it should, trying again: %s", error)
            time.sleep(1.0)

    def _begin(self) -> None:
        """Start a little before what was counted last; at the very first start nothing before now is counted."""
        kafka = self._settings.kafka
        keys = partitions_of(self._client, [kafka.statistics, kafka.detections, kafka.control])
        starts, ends = self._client.beginning_offsets(keys), self._client.end_offsets(keys)
        self._client.assign(keys)
        for key in keys:
            if key.topic == kafka.control:
                self._client.seek(key, starts[key])
                continue
            committed = self._client.committed(key)
            self._committed[key] = ends[key] if committed is None else min(committed, ends[key])
            self._client.seek(key, max(starts[key], self._committed[key] - LOOK_BACK))

    def _take(self, key: TopicPartition, records: list[Any]) -> None:
        kafka, metrics = self._settings.kafka, self._metrics
        if key.topic == kafka.control:
            broken = self._view.broken
            for record in records:
                self._view.apply((record.key or b"").decode("utf-8", "replace"), record.value)
            metrics.control(self._view)
            metrics.broken.labels("control").inc(self._view.broken - broken)
            return
        for record in records:
            counts = record.offset >= self._committed[key]
            try:
                if key.topic == kafka.statistics:
                    metrics.statistic(Statistic.model_validate_json(record.value or b""), counts)
                else:
                    metrics.detection(Detection.model_validate_json(record.value or b""), counts)
            except ValidationError as error:
                if counts:
                    log.warning(
                        "%s.%s offset %d: %s", key.topic, key.partition, record.offset, str(error).partition("\n")[0]
                    )
                    metrics.broken.labels("statistics" if key.topic == kafka.statistics else "detections").inc()

    def _lags(self) -> None:
        settings = self._settings
        services = {topic: service_of(settings.kafka, topic) for topic in self._client.topics()}
        named = {topic: service for topic, service in services.items() if service is not None}
        keys = partitions_of(self._client, named)
        group = settings.archive.group
        archived = self._admin.list_group_offsets({group: None}).get(group, {})
        self._metrics.lags(
            named,
            self._client.beginning_offsets(keys) if keys else {},
            self._client.end_offsets(keys) if keys else {},
            {key: entry.offset for key, entry in archived.items() if entry.offset >= 0},
        )

    def _commit(self) -> None:
        """Commit what was counted; a failed commit is made up for by the next."""
        positions = {key: max(self._committed[key], self._client.position(key) or 0) for key in self._committed}
        try:
            self._client.commit({key: OffsetAndMetadata(at, "", -1) for key, at in positions.items()}, timeout_ms=5_000)
        except KafkaError as error:
            log.info("positions could not be committed: %s", error)


def run(settings: AppSettings, stop: threading.Event) -> None:
    """Serve ``/metrics`` on ``web.host:web.exporter_port`` and feed it until ``stop`` is set.

    Raises:
        BrokerUnreachableError: Kafka does not answer at the start.
        OSError: the port is taken; the message names the setting.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = Metrics(registry)
    web = settings.web
    try:
        server, thread = start_http_server(web.exporter_port, web.host, registry)
    except OSError as error:
        raise OSError(
            f"the exporter cannot listen on {web.host}:{web.exporter_port} ({error.strerror}): "
            "set web.exporter_port (LOGCANARY_WEB__EXPORTER_PORT) to a free port"
        ) from error
    try:
        Exporter(settings, metrics, still_alive).run(stop)
    finally:
        stop_watching()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Run the exporter until SIGTERM or Ctrl-C (``python -m streaming.exporter``)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(AppSettings(), stop)


if __name__ == "__main__":
    main()
