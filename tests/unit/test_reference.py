"""``docs/reference`` says what the code says: the committed pages are what ``docs/reference.py`` writes."""

import doctest
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from docs import reference

ROOT = Path(__file__).parents[2]
page = cache(lambda name: reference.PAGES[name]())
REFRESH = "docs/reference/{} is not what the code says: run `make reference` (or `python -m docs.reference`)"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_committed_page_is_what_the_code_says(name):
    assert page(name) == (reference.HERE / name).read_text(), REFRESH.format(name)


def test_there_is_no_page_that_nothing_writes():
    assert {path.name for path in reference.HERE.iterdir()} == set(reference.PAGES)


def test_pages_do_not_depend_on_machine_terminal_or_user(tmp_path):
    around = {"COLUMNS": "40", "USER": "somebody", "LOGNAME": "somebody", "HOME": str(tmp_path), "TZ": "Asia/Tokyo"}
    around |= {"LOGCANARY_KAFKA__BOOTSTRAP": "elsewhere:1", "PYTHONHASHSEED": "7"}
    code = (
        f"import sys, os; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path)!r})\n"
        "from docs import reference\n"
        "wrong = [n for n, write in reference.PAGES.items() if write() != (reference.HERE / n).read_text()]\n"
        "assert not wrong, wrong"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | around, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_record_call_and_verb_is_there():
    settings, cli = page("settings.md"), page("cli.md")
    for word in (
        "`kafka.bootstrap`",
        "`LOGCANARY_FLINK__BUCKETS`",
        "`session.gap_seconds`",
        "`budget.false_alarm_rate`",
    ):
        assert word in settings
    for word in ("## Detection", "## Manifest", "## Run", "`accepted_per_hour`"):
        assert word in page("records.md")
    for word in ("POST /services/{service}/retraining", "DELETE /detections/{detection}/verdict", "`no such training`"):
        assert word in page("api.md")
    for word in ("### logcanary models budget", "`--alerts-per-day`", "logcanary settings set pay pay.toml"):
        assert word in cli


def test_examples_of_the_generator():
    assert doctest.testmod(reference).failed == 0
