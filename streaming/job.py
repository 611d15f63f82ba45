r"""The program Flink's client runs: reads its words, builds the graph, checks what it is to go on from, submits it.

    flink run --detached -py streaming/job.py --name main --topics 'logs\..*' --start latest --settings settings.json

Without ``--settings`` it reads settings file and environment, as the command line does. Where what it is to go on from
does not fit, it says so on a line that begins with ``contracts.state.NOT_RESTORED``, and submits nothing.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

# The client runs this file by its path, which puts this folder on the path instead of the project's.
PROJECT = str(Path(__file__).resolve().parent.parent)
sys.path[:1] = [] if PROJECT in sys.path else [PROJECT]

from contracts.settings import AppSettings  # noqa: E402
from contracts.state import NOT_RESTORED  # noqa: E402
from streaming.graph import build  # noqa: E402
from streaming.names import job_name  # noqa: E402
from streaming.restore import RestoreError, graph_operators, misfits, saved_operators  # noqa: E402


def main(words: list[str] | None = None) -> None:
    """Submit the job that the words ask for."""
    parser = argparse.ArgumentParser(prog="streaming/job.py", description=__doc__)
    parser.add_argument("--name", required=True, help="unique among the jobs of the cluster")
    parser.add_argument("--topics", required=True, help="regular expression of whole topic names")
    parser.add_argument("--start", default="latest", help="latest, earliest, committed or milliseconds since 1970")
    parser.add_argument("--restore", help="address of a savepoint or checkpoint to go on from")
    parser.add_argument("--allow-non-restored-state", action="store_true", help="lose state that has no operator")
    parser.add_argument("--settings", type=Path, help="JSON of the settings; otherwise settings file and environment")
    chosen = parser.parse_args(words)
    settings = AppSettings.model_validate_json(chosen.settings.read_bytes()) if chosen.settings else AppSettings()
    drop = chosen.allow_non_restored_state
    env = build(settings, chosen.name, chosen.topics, chosen.start, chosen.restore, drop)
    # As env.execute() does it, in two steps: between them the graph is final and nothing is submitted.
    graph = env._generate_stream_graph(clear_transformations=True, job_name=job_name(chosen.name))
    if problems := unfit(graph, drop):
        print(NOT_RESTORED + problems, flush=True)
        sys.exit(1)
    env._j_stream_execution_environment.execute(graph)


def unfit(graph: Any, drop: bool) -> str:  # noqa: ANN401
    """Say why a Java ``StreamGraph`` cannot go on from what it is to go on from; empty where it can."""
    address = graph.getSavepointRestoreSettings().getRestorePath()
    if not address:
        return ""
    try:
        problems = misfits(saved_operators(address), graph_operators(graph), drop)
    except RestoreError as error:
        problems = [str(error)]
    return f"{address}: {' '.join(problems)}" if problems else ""


if __name__ == "__main__":
    main()
