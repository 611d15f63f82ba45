"""The job in a later version, for test_upgrade.py: changed code of one operator, and one more operator with state.

Every statistic of the stage *score* carries the version, and every detection how many the service had until then.
"""

import json
import sys
from pathlib import Path

from pyflink.common import Types
from pyflink.datastream import KeyedProcessFunction
from pyflink.datastream.state import ValueStateDescriptor

PROJECT = str(Path(__file__).resolve().parents[2])
sys.path[:1] = [] if PROJECT in sys.path else [PROJECT]

from streaming import graph, operators  # noqa: E402
from streaming.job import main  # noqa: E402

VERSION = 2


class MarkingScoreOperator(operators.ScoreOperator):
    def process_element(self, value, ctx):
        for out in super().process_element(value, ctx):
            if isinstance(out, tuple) and out[0].tag_id == operators.STATISTICS.tag_id:
                yield operators.STATISTICS, json.dumps(json.loads(out[1]) | {"version": VERSION})
            else:
                yield out


class Count(KeyedProcessFunction):
    def open(self, runtime_context):
        self._count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value, ctx):
        number = (self._count.value() or 0) + 1
        self._count.update(number)
        yield json.dumps(json.loads(value) | {"number": number})


def counted(settings, stream, topic, name, sink=graph._sink):
    if name == "detections":
        stream = stream.key_by(lambda text: json.loads(text)["service"], Types.STRING())
        stream = stream.process(Count(), Types.STRING()).name("count").uid("count")
    sink(settings, stream, topic, name)


if __name__ == "__main__":
    graph.ScoreOperator = MarkingScoreOperator
    graph._sink = counted
    main()
