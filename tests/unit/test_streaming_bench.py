"""The benchmark's own arithmetic."""

import re

import numpy as np

from training.pipeline_bench import Rewriter, weighted_quantiles

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
    rewriter = Rewriter(RAW)
    assert rewriter.rewrite(0) == RAW.split(b"\n")[:-1]
    passes = [parts_of(rewriter.rewrite(number)) for number in (0, 1, 2, 250)]
    for one in range(4):
        for other in range(one):
            assert all(not mine & theirs for mine, theirs in zip(passes[one], passes[other], strict=True))
    assert all([len(part) for part in parts] == [2, 2, 3] for parts in passes)
    assert rewriter.rewrite(1)[0].startswith(b"081112 ")
    assert rewriter.partitions[0] == rewriter.partitions[2] != rewriter.partitions[1]


def test_batches_hold_as_many_lines_as_were_asked_for_in_order():
    sent = [[], []]
    for partition, lines in Rewriter(RAW).batches(10):
        sent[partition] += lines
    assert sum(map(len, sent)) == 10
    text = Rewriter(RAW)
    assert sent[0][:2] == [text.rewrite(1)[0], text.rewrite(1)[2]]


def test_quantiles_go_by_weight():
    assert weighted_quantiles(np.array([5, 1, 9]), np.array([1.0, 98.0, 1.0]), (0.5, 0.99)) == [1, 5]
