"""``inspect`` and ``parse`` on the real broker: a service's newest lines, by its name or its topic's."""

import contextlib
import json
import secrets

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.main import app
from contracts.settings import AppSettings
from storage.broker import admin, newest_records, producer

LINES = 30
PARTITIONS = 2


@pytest.fixture(scope="module")
def service(stack_settings: AppSettings) -> str:
    """A service with a topic of two partitions, the lines of which take turns."""
    name = f"inspect-{secrets.token_hex(4)}"
    topic = stack_settings.kafka.log_prefix + name
    with contextlib.closing(admin(stack_settings)) as client:
        client.create_topics({topic: {"num_partitions": PARTITIONS}})
        client.wait_for_topics([topic])
    with contextlib.closing(producer(stack_settings)) as out:
        for i in range(LINES):
            line = f"081109 203615 148 INFO a.B: Receiving block blk_{i // 3} from /10.0.0.{i}"
            out.send(topic, line.encode(), partition=i % PARTITIONS)
        out.flush()
    return name


def run(settings: AppSettings, *words: str) -> str:
    done = CliRunner().invoke(app, list(words), env={"LOGCANARY_HOME": str(settings.home)})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_newest_are_those_of_all_partitions(stack_settings: AppSettings, service: str) -> None:
    found = newest_records(stack_settings, stack_settings.kafka.log_prefix + service, 5)
    assert len(found) == 5
    assert all(record.offset >= LINES // PARTITIONS - 5 for record in found)  # arrival is the broker's clock
    places = [(record.partition, record.offset) for record in found]
    assert places == sorted(set(places))
    assert len(newest_records(stack_settings, stack_settings.kafka.log_prefix + service, 500)) == LINES


def test_a_service_is_inspected_by_either_name(stack_settings: AppSettings, service: str) -> None:
    for name in (service, stack_settings.kafka.log_prefix + service):
        data = json.loads(run(stack_settings, "inspect", name, "--json"))
        assert (data["lines"], data["format"]["name"], data["sessions"]["rule"]) == (LINES, "hdfs_v1", "block")
    assert json.loads(run(stack_settings, "inspect", service, "--limit", "4", "--json"))["lines"] == 4


def test_a_topic_is_parsed(stack_settings: AppSettings, service: str, tmp_path) -> None:
    run(stack_settings, "parse", service, "--out", str(tmp_path / "a.parquet"))
    rows = pl.read_parquet(tmp_path / "a.parquet")
    assert rows["LineId"].to_list() == list(range(1, LINES + 1))
    assert set(rows["EventTemplate"]) == {"Receiving block blk_<ID> from /<IP>"}


def test_a_topic_that_is_not_there_is_named(stack_settings: AppSettings) -> None:
    done = CliRunner().invoke(app, ["inspect", "nobody"], env={"LOGCANARY_HOME": str(stack_settings.home)})
    assert done.exit_code == 1
    assert "there is no file nobody and no topic logs.nobody" in done.stderr
