"""The short form of ``python -m tests.chaos.kills``: four parts killed at random moments change nothing."""

import time

import pytest

from tests.chaos.kills import Chaos, Report

SEED = 7
TARGETS = ("taskmanager", "jobmanager", "kafka", "hdfs", "archiver")


@pytest.mark.timeout(400)
def test_kills_at_random_moments_change_no_detection_and_lose_no_line(stack_settings):
    from streaming.submit import cancel

    service = f"chaos-{time.time_ns()}"
    report = Report(SEED, lines=100_000)
    try:
        Chaos(stack_settings, service, SEED, print).run(report, kills=4, targets=TARGETS, sleeps={"archiver": 5.0})
    finally:
        cancel(stack_settings, service)
    assert report.problems == []
    assert len(report.kills) == 4
    assert report.figures["lines_sent"] == 100_000
    assert report.figures["detections"] > 500
