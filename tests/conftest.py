"""What all tests share: the data sets, and the real stack, started once."""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.settings import AppSettings, ArchiveOptions, FlinkOptions
from tests.machine import patience

PROJECT = Path(__file__).resolve().parent.parent
TEST_SECONDS = 300
"""On the reference machine: a test that needs the stack may have to start it first."""
LOWEST = 19
"""Priority, for processes that take what others leave."""
_WORKER = "PYTEST_XDIST_WORKER"
"""Set in the workers of pytest-xdist."""


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the stack, which is first in workers and else last; give all the time this machine needs."""
    for item in items:
        if "stack_settings" in getattr(item, "fixturenames", ()):
            item.add_marker("stack")
        given = item.get_closest_marker("timeout")
        seconds = given.args[0] if given else TEST_SECONDS
        item.add_marker(pytest.mark.timeout(patience(seconds)), append=False)
    items.sort(key=lambda item: _speaks_of_stack(item.path), reverse=_WORKER in os.environ)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide files among workers, those that need the stack as one: there is one stack.

    It waits for most of its time (scrapes, checkpoints, starts), so the other worker runs beside it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "stack" if _speaks_of_stack(PROJECT / file) else file

    return ByFile(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What runs beside the stack takes what that leaves: its promises are in seconds."""
    if _WORKER in os.environ and not _speaks_of_stack(item.path) and os.nice(0) < LOWEST:
        os.nice(LOWEST)


@functools.cache
def _speaks_of_stack(file: Path) -> bool:
    """Whether a file has tests that need the stack: the scheduler knows their names only, not their marks."""
    return re.search(r"\bstack_settings\b|mark\.stack\b", file.read_text()) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skip into a failure where LOGCANARY_DATA promises that everything is there."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and os.environ.get("LOGCANARY_DATA") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although LOGCANARY_DATA is set: {reason}"
    return report  # type: ignore[return-value]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of the data sets: ``LOGCANARY_DATA``, or ``../shared/data``; skip where there is none."""
    named = os.environ.get("LOGCANARY_DATA")
    folder = Path(named).absolute() if named else PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        reason = f"no data sets: {folder} is no folder (set LOGCANARY_DATA)"
        if named:
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def stack_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppSettings]:
    """Give the settings of the real stack (Kafka, HDFS, Flink, Prometheus and LogCanary's own), started once.

    Topics, services and jobs are shared by all tests: take names of your own.
    """
    from deploy.stack import down, up

    asked = AppSettings(
        home=tmp_path_factory.mktemp("stack"),
        # Soon enough for a test to wait for.
        flink=FlinkOptions(checkpoint_seconds=2.0),
        archive=ArchiveOptions(roll_seconds=2),
    )
    try:
        yield up(asked, lambda part: print(part.name, part.state, part.address, part.last_exit))
    finally:
        down(asked)
