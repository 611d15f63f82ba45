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
    from contracts.settings import AppSettings
    from storage.control import ControlView
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


class StageOperator(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """What all have in common: a stage that is told of the control topic's records as they come."""

    _stage: Any

    def __init__(self, settings: str) -> None:
        self._json = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Read what is known before the first element: the control topic up to its end."""
        from contracts.settings import AppSettings
        from storage.control import read_control
        from streaming.frames import unpack_control

        self._unpack = unpack_control
        settings = AppSettings.model_validate_json(self._json)
        self._begin(settings, read_control(settings), runtime_context)

    def _begin(self, settings: "AppSettings", view: "ControlView", runtime_context: RuntimeContext) -> None:
        """Make the stage, and get hold of what is saved."""
        raise NotImplementedError

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterable[Any]:  # noqa: ANN401
        """Take in a pack of control records."""
        for key, record in self._unpack(bytes(value)):
            self._stage.control(key, record)
        return ()


class ParseOperator(StageOperator):
    """Frames to events, keyed by topic and partition."""

    def _begin(self, settings: "AppSettings", view: "ControlView", runtime_context: RuntimeContext) -> None:
        from storage.control import key_of
        from streaming.stages import ParseStage

        self._key_of = key_of
        self._stage = ParseStage(settings, view)
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


class KeepingOperator(StageOperator):
    """One whose state is a whole and changes behind it, and that looks again after a time though nothing comes."""

    def _keep(self, runtime_context: RuntimeContext, whole: str, changes: str) -> None:
        """Get hold of the state under these names."""
        from streaming.buckets import Saved

        self._make_saved = Saved
        self._whole = runtime_context.get_state(ValueStateDescriptor(whole, BYTES))
        self._changes = runtime_context.get_list_state(ListStateDescriptor(changes, BYTES))
        self._timers: dict[str, int] = {}

    def on_timer(self, timestamp: int, ctx: Any) -> Emitted:  # noqa: ANN401
        """Look for what is over though nothing came."""
        key = ctx.get_current_key()
        if self._timers.get(key, 0) <= timestamp:
            self._timers.pop(key, None)
        yield from self._look(key, ctx)

    def _look(self, key: str, ctx: Any) -> Emitted:  # noqa: ANN401
        raise NotImplementedError

    def _saved(self) -> "Saved":
        return self._make_saved(
            bytes(self._whole.value() or b""), [bytes(change) for change in self._changes.get() or ()]
        )

    def _emit(self, key: str, out: "ScoreOutput | TraceOutput", ctx: Any) -> Emitted:  # noqa: ANN401
        """Save what is to be saved, ask to be called again, hand on what was found."""
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


class ScoreOperator(KeepingOperator):
    """Events to detections, keyed by service and session bucket."""

    def _begin(self, settings: "AppSettings", view: "ControlView", runtime_context: RuntimeContext) -> None:
        from models.registry import Registry
        from storage.files import open_files
        from streaming.bundles import Bundles
        from streaming.stages import ScoreStage

        bundles = Bundles(Registry(open_files(settings.hdfs), settings.hdfs.root))
        self._stage = ScoreStage(settings, view, bundles)
        self._keep(runtime_context, "sessions", "session-changes")

    def process_element(self, value: Any, ctx: Any) -> Emitted:  # noqa: ANN401
        """Score one batch of events."""
        key = ctx.get_current_key()
        yield from self._told(key, self._stage.score(key, bytes(value), self._saved), ctx)

    def _look(self, key: str, ctx: Any) -> Emitted:  # noqa: ANN401
        yield from self._told(key, self._stage.expire(key, self._saved), ctx)

    def _told(self, key: str, out: "ScoreOutput", ctx: Any) -> Emitted:  # noqa: ANN401
        yield from self._emit(key, out, ctx)
        for statistic in out.statistics:
            yield STATISTICS, statistic.model_dump_json()


class TraceOperator(KeepingOperator):
    """Lines of all services that name a trace to detections, under one key."""

    def _begin(self, settings: "AppSettings", view: "ControlView", runtime_context: RuntimeContext) -> None:
        from streaming.traces import TraceStage

        self._stage = TraceStage(settings, view)
        self._keep(runtime_context, "traces", "trace-changes")

    def process_element(self, value: Any, ctx: Any) -> Emitted:  # noqa: ANN401
        """Watch one batch of lines."""
        yield from self._emit(ctx.get_current_key(), self._stage.watch(bytes(value), self._saved), ctx)

    def _look(self, key: str, ctx: Any) -> Emitted:  # noqa: ANN401
        yield from self._emit(key, self._stage.look(self._saved), ctx)
