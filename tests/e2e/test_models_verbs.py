"""The registry's verbs on the real stack: what is live, what differs, and going back."""

import json
import secrets
import time

import pytest

from contracts.retraining import RetrainingRequest
from models.registry import Registry
from storage.control import read_control
from storage.files import open_files
from storage.locks import lock
from tests.e2e.test_job import make_bundle
from tests.e2e.test_whole_way import logcanary
from training.learner import TrainingError
from training.pipeline_bench import HdfsPasses
from training.trainer import train
from training.training_bench import archive_to_live


def test_bundles_are_promoted_compared_and_rolled_back(stack_settings):
    service = f"verbs-{secrets.token_hex(4)}"
    files = open_files(stack_settings.hdfs)
    registry = Registry(files, stack_settings.hdfs.root)
    first = registry.publish(make_bundle(service))
    time.sleep(0.01)  # a version's name is made of its contents and its time
    second = registry.publish(make_bundle(service))
    for version in (first, second):
        logcanary(stack_settings, "models", "promote", "-s", service, version, "--reason", f"try {version}")
    moves = json.loads(logcanary(stack_settings, "models", "history", "-s", service, "--json"))
    assert (moves["version"], moves["before"][0]["version"]) == (second, first)
    found = json.loads(logcanary(stack_settings, "models", "diff", "-s", service, first, "--json"))
    assert (found["first"], found["second"]) == (first, second)
    assert set(found["figures"]) == {"created_ms"}
    assert not found["settings"]
    logcanary(stack_settings, "models", "rollback", "-s", service, "--reason", "a test said so")
    after = json.loads(logcanary(stack_settings, "models", "history", "-s", service, "--json"))
    assert (after["version"], after["reason"]) == (first, "a test said so")
    assert [move["version"] for move in after["before"]] == [second, first]


def test_a_service_is_trained_once_at_a_time(stack_settings):
    service = f"verbs-{secrets.token_hex(4)}"
    files = open_files(stack_settings.hdfs)
    path = f"{Registry(files, stack_settings.hdfs.root).home(service)}/training.lock"
    with lock(files, path, "ada"), pytest.raises(TrainingError, match="is being trained already, by ada"):
        train(stack_settings, RetrainingRequest(service=service, author="bob", reason="too"))
    with pytest.raises(TrainingError, match="nothing is archived"):
        train(stack_settings, RetrainingRequest(service=service, author="bob", reason="now"))
    assert not files.exists(path)


def test_the_training_benchmark_goes_from_an_archive_to_a_live_bundle(stack_settings):
    lines = [b"081109 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block blk_%d src: /10.250.1.%d:1" % (i, i)
             for i in range(200)]  # fmt: skip
    lines += [b"081109 203519 143 INFO dfs.DataNode$PacketResponder: Received block blk_%d of size 7" % i
              for i in range(200)]  # fmt: skip
    passes = HdfsPasses(b"".join(line + b"\n" for line in lines))
    found = archive_to_live(stack_settings, passes, 5_000, lambda words: None)
    assert found["lines"] == 5_000
    assert found["windows"] >= 5_000 > found["unique_windows"]
    stages = sum(found[f"{stage}_seconds"] for stage in ("read", "prepare", "train", "publish"))
    assert 0 < stages <= found["wall_seconds"] + 0.1
    service = next(one for one in Registry(open_files(stack_settings.hdfs), stack_settings.hdfs.root).services()
                   if one.startswith("bench-training-"))  # fmt: skip
    assert read_control(stack_settings).pointers[service].version == found["bundle"]
