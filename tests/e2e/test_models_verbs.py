"""The registry's verbs on the real stack: what is live, what differs, and going back."""

import json
import secrets
import time

from models.registry import Registry
from storage.files import open_files
from tests.e2e.test_job import make_bundle
from tests.e2e.test_whole_way import logcanary


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
