r"""The program Flink's client runs: reads its words, builds the graph, submits it.

    flink run --detached -py streaming/job.py --name main --topics 'logs\..*' --start latest --settings settings.json

Without ``--settings`` it reads settings file and environment, as the command line does.
"""

import argparse
import sys
from pathlib import Path

# The client runs this file by its path, which puts this folder on the path instead of the project's.
PROJECT = str(Path(__file__).resolve().parent.parent)
sys.path[:1] = [] if PROJECT in sys.path else [PROJECT]

from contracts.settings import AppSettings  # noqa: E402
from streaming.graph import build  # noqa: E402
from streaming.names import job_name  # noqa: E402


def main(words: list[str] | None = None) -> None:
    """Submit the job that the words ask for."""
    parser = argparse.ArgumentParser(prog="streaming/job.py", description=__doc__)
    parser.add_argument("--name", required=True, help="unique among the jobs of the cluster")
    parser.add_argument("--topics", required=True, help="regular expression of whole topic names")
    parser.add_argument("--start", default="latest", help="latest, earliest, committed or milliseconds since 1970")
    parser.add_argument("--restore", help="address of a savepoint or checkpoint to go on from")
    parser.add_argument("--settings", type=Path, help="JSON of the settings; otherwise settings file and environment")
    chosen = parser.parse_args(words)
    settings = AppSettings.model_validate_json(chosen.settings.read_bytes()) if chosen.settings else AppSettings()
    env = build(settings, chosen.name, chosen.topics, chosen.start, chosen.restore)
    env.execute(job_name(chosen.name))


if __name__ == "__main__":
    main()
