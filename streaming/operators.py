"""The three operators of the job: Flink's elements, state and timers mapped onto the stages.

What only the workers need is imported when an operator opens: Flink's client, which merely ships these classes, starts
two seconds sooner.
"""

# PyFlink ships no types: what it hands in is Any at this edge.
# ruff: noqa: PLC0415
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedBroadcastProcessFunction, OutputTag, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

if TYPE_CHECKING:
    from streaming.buckets import Saved
    from streaming.stages import ScoreOutput
    from streaming.traces import TraceOutput

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
KEYED_BYTES = Types.ROW([Types.STRING(), BYTES])
"""What goes between operators: key and encoded batch."""
KEYED_JSON = Types.ROW_NAMED(["k", "v"], [Types.STRING(), Types.STRING()])

STATISTICS = OutputTag("statistics", Types.STRING())
DEADLETTERS = OutputTag("deadletters", Types.STRING())
TRACES = OutputTag("traces", KEYED_BYTES)
CATALOGUE = OutputTag("catalogue", KEYED_JSON)

TRACES_KEY = "traces"
"""Of all lines that name a trace: one instance sees those of all services."""

Emitted = Iterator[Any]


class ParseOperator(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """Frames to events, keyed by topic and partition."""

    def __init__(self, settings: str) -> None:
        self._json = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Read what is known before the first line: the control topic up to its end."""
        from contracts.settings import AppSettings
        from storage.control import key_of, read_control
        from streaming.frames import unpack_control
        from streaming.stages import ParseStage

        self._key_of, self._unpack = key_of, unpack_control
        settings = AppSettings.model_validate_json(self._json)
        self._stage = ParseStage(settings, read_control(settings))
        self._state = runtime_context.get_state(ValueStateDescriptor("parser", BYTES))

    def process_element(self, value: Any, ctx: Any) -> Emitted:  # noqa: ANN401
        """Parse one frame."""
        out = self._stage.parse(ctx.get_current_key(), bytes(value), self._state.value)
        for key, events in out.events:
            yield Row(key, events)
        for lines in out.traces:
            yield TRACES, Row(TRACES_KEY, lines)
        yield STATISTICS, out.statistic.model_dump_json()
        for letter in out.dead:
            yield DEADLETTERS, letter.model_dump_json()
        for template in out.templates:
            yield CATALOGUE, Row(self._key_of(template), template.model_dump_json())
        if out.state is not None:
            self._state.update(out.state)

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterable[Any]:  # noqa: ANN401
        """Take in a pack of control records."""
        for key, record in self._unpack(bytes(value)):
            self._stage.control(key, record)
        return ()


class ScoreOperator(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """Events to detections, keyed by service and session bucket."""

    def __init__(self, settings: str) -> None:
        self._json = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Read what is known before the first batch: the control topic up to its end."""
        from contracts.settings import AppSettings
        from models.registry import Registry
        from storage.control import read_control
        from storage.files import open_files
        from streaming.buckets import Saved
        from streaming.bundles import Bundles
        from streaming.frames import unpack_control
        from streaming.stages import ScoreStage

        self._make_saved, self._unpack = Saved, unpack_control
        settings = AppSettings.model_validate_json(self._json)
        bundles = Bundles(Registry(open_files(settings.hdfs), settings.hdfs.root))
        self._stage = ScoreStage(settings, read_control(settings), bundles)
        self._whole = runtime_context.get_state(ValueStateDescriptor("sessions", BYTES))
        self._changes = runtime_context.get_list_state(ListStateDescriptor("session-changes", BYTES))
        self._timers: dict[str, int] = {}

    def process_element(self, value: Any, ctx: Any) -> Emitted:  # noqa: ANN401
        """Score one batch of events."""
        key = ctx.get_current_key()
        yield from self._emit(key, self._stage.score(key, bytes(value), self._saved), ctx)

    def on_timer(self, timestamp: int, ctx: Any) -> Emitted:  # noqa: ANN401
        """End sessions that have gone quiet."""
        key = ctx.get_current_key()
        if self._timers.get(key, 0) <= timestamp:
            self._timers.pop(key, None)
        yield from self._emit(key, self._stage.expire(key, self._saved), ctx)

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterable[Any]:  # noqa: ANN401
        """Take in a pack of control records."""
        for key, record in self._unpack(bytes(value)):
            self._stage.control(key, record)
        return ()

    def _saved(self) -> "Saved":
        return self._make_saved(
            bytes(self._whole.value() or b""), [bytes(change) for change in self._changes.get() or ()]
        )

    def _emit(self, key: str, out: "ScoreOutput", ctx: Any) -> Emitted:  # noqa: ANN401
        if out.whole is not None:
            self._whole.update(out.whole)
            self._changes.clear()
        elif out.change is not None:
            self._changes.add(out.change)
        if out.look_again_ms and key not in self._timers:
            self._timers[key] = out.look_again_ms
            ctx.timer_service().register_processing_time_timer(out.look_again_ms)
        for detection in out.detections:
            yield detection.model_dump_json()
        for statistic in out.statistics:
            yield STATISTICS, statistic.model_dump_json()


class TraceOperator(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """Lines of all services that name a trace to detections, under one key."""

    def __init__(self, settings: str) -> None:
        self._json = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Read what is known before the first batch: the control topic up to its end."""
        from contracts.settings import AppSettings
        from storage.control import read_control
        from streaming.buckets import Saved
        from streaming.frames import unpack_control
        from streaming.traces import TraceStage

        self._make_saved, self._unpack = Saved, unpack_control
        settings = AppSettings.model_validate_json(self._json)
        self._stage = TraceStage(settings, read_control(settings))
        self._whole = runtime_context.get_state(ValueStateDescriptor("traces", BYTES))
        self._changes = runtime_context.get_list_state(ListStateDescriptor("trace-changes", BYTES))
        self._timer = 0

    def process_element(self, value: Any, ctx: Any) -> Emitted:  # noqa: ANN401
        """Watch one batch of lines."""
        yield from self._emit(self._stage.watch(bytes(value), self._saved), ctx)

    def on_timer(self, timestamp: int, ctx: Any) -> Emitted:  # noqa: ANN401
        """Look for traces that are over though no line came."""
        if self._timer <= timestamp:
            self._timer = 0
        yield from self._emit(self._stage.look(self._saved), ctx)

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterable[Any]:  # noqa: ANN401
        """Take in a pack of control records."""
        for key, record in self._unpack(bytes(value)):
            self._stage.control(key, record)
        return ()

    def _saved(self) -> "Saved":
        return self._make_saved(
            bytes(self._whole.value() or b""), [bytes(change) for change in self._changes.get() or ()]
        )

    def _emit(self, out: "TraceOutput", ctx: Any) -> Emitted:  # noqa: ANN401
        if out.whole is not None:
            self._whole.update(out.whole)
            self._changes.clear()
        elif out.change is not None:
            self._changes.add(out.change)
        if out.look_again_ms and not self._timer:
            self._timer = out.look_again_ms
            ctx.timer_service().register_processing_time_timer(out.look_again_ms)
        for detection in out.detections:
            yield detection.model_dump_json()
