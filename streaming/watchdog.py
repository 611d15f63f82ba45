"""A process that hangs ends itself, so that whoever looks after it starts it again.

Only processes whose death loses nothing use it: the archiver and the exporter go on from what is written. It exists
because a client library can wait for ever (seen once with kafka-python 3.0.12: a poll that never returned after a
rebalance); the stacks of all threads are printed first, so that the next one can be explained.
"""

import faulthandler

STUCK_SECONDS = 45.0
"""No round of a healthy process takes that long: a request to HDFS or Kafka gives up earlier."""


def still_alive(seconds: float = STUCK_SECONDS) -> None:
    """Say that the process goes on; without another call within ``seconds`` it prints its stacks and exits with 1."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def stop_watching() -> None:
    """Let the process live however long it takes from now on."""
    faulthandler.cancel_dump_traceback_later()
