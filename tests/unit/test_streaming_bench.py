"""The benchmark's own arithmetic."""

import json
import re

import numpy as np

from training.pipeline_bench import HdfsPasses, TicketPasses, weighted_quantiles

RAW = b"""081109 203530 147 INFO dfs.DataNode: Receiving block blk_43 src: /10.250.18.114:43996 dest: /10.251.1.2:50010
081110 203530 149 INFO dfs.DataNode: Receiving block blk_-7 src: /10.250.18.114:33988 dest: /10.250.18.114:50010
081110 203531 27 INFO dfs.FSNamesystem: allocateBlock: /user/demo/part-00081. blk_43
081111 000000 27 INFO dfs.FSNamesystem: nothing
"""


def parts_of(lines):
    text = b"\n".join(lines)
    patterns = rb"blk_-?\d+", rb"/\d+\.\d+\.\d+\.\d+:", rb"(?m)^\d{6} "
    return [set(re.findall(pattern, text)) for pattern in patterns]


def test_no_pass_looks_like_another_and_blocks_stay_together():
    passes = HdfsPasses(RAW)
    assert passes.rewrite(0) == RAW.split(b"\n")[:-1]
    parts = [parts_of(passes.rewrite(number)) for number in (0, 1, 2, 250)]
    for one in range(4):
        for other in range(one):
            assert all(not mine & theirs for mine, theirs in zip(parts[one], parts[other], strict=True))
    assert all([len(kind) for kind in one] == [2, 2, 3] for one in parts)
    assert passes.rewrite(1)[0].startswith(b"081112 ")
    assert passes.partitions[0] == passes.partitions[2] != passes.partitions[1]


def test_batches_hold_as_many_lines_as_were_asked_for_in_order():
    sent = [[], []]
    for partition, lines in HdfsPasses(RAW).batches(10):
        sent[partition] += lines
    assert sum(map(len, sent)) == 10
    text = HdfsPasses(RAW)
    assert sent[0][:2] == [text.rewrite(1)[0], text.rewrite(1)[2]]


def test_quantiles_go_by_weight():
    assert weighted_quantiles(np.array([5, 1, 9]), np.array([1.0, 98.0, 1.0]), (0.5, 0.99)) == [1, 5]


def ticket(trace: str, second: int) -> str:
    ids = f"TraceID: {trace} SpanID: 1234567890abcdef"
    log = f"10:00:0{second}.000 INFO  o.A#1 {ids} order 11112222-3333-4444-5555-666677778888\n"
    record = {"log": log, "stream": "stdout", "time": f"2023-01-29T02:00:0{second}Z"}
    return json.dumps({"log": json.dumps(record, separators=(",", ":"))})


def test_passes_over_train_ticket_change_traces_uuids_and_days():
    traces = "a" * 32, "b" * 32
    raw = "\n".join([ticket(traces[0], 2), ticket(traces[1], 3), ticket(traces[0], 1)]).encode()
    passes = TicketPasses(raw)
    first, second = passes.rewrite(0), passes.rewrite(7)
    assert [json.loads(line)["time"][-3:] for line in first] == ["01Z", "02Z", "03Z"]
    assert passes.partitions.tolist() == [0, 0, 1]
    for line in second:
        record = json.loads(line)
        assert record["time"].startswith("2023-02-05T")
        assert "TraceID: 0007" in record["log"]
        assert "order 00072222-3333" in record["log"]
    assert passes.message(second[0]).startswith("order ")
