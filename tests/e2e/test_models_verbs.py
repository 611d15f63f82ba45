"""The registry's verbs on the real stack: what is live, what differs, and going back."""

import json
import secrets
import time

import pytest

from models.registry import Registry
from storage.files import open_files
from storage.locks import lock
from tests.e2e.test_job import make_bundle
from tests.e2e.test_whole_way import logcanary
from training.learner import TrainingError
from training.trainer import train


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
        train(stack_settings, service, author="bob", reason="too")
    with pytest.raises(TrainingError, match="nothing is archived"):
        train(stack_settings, service, author="bob", reason="now")
    assert not files.exists(path)
