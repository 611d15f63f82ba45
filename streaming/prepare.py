r"""A batch job of Flink: the archive of many services to prepared data sets, each service a task.

    flink run -py streaming/prepare.py --name NAME --topics 'logs\..*' --start latest --settings settings.json

The lines of a service depend on each other - what a template is called, what came before in a session - so that one
task reads all of a service, in order, by the code that a training runs on one machine; services have nothing to do with
each other, and are spread over the cluster. ``logcanary train --prepared NAME`` begins with what it made.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

# The client runs this file by its path, which puts this folder on the path instead of the project's.
PROJECT = str(Path(__file__).resolve().parent.parent)
sys.path[:1] = [] if PROJECT in sys.path else [PROJECT]

from pyflink.common import Configuration, Types  # noqa: E402
from pyflink.datastream import MapFunction, RuntimeContext, RuntimeExecutionMode, StreamExecutionEnvironment  # noqa: E402

from contracts.settings import AppSettings  # noqa: E402
from storage.archive import services as archived_services  # noqa: E402
from storage.files import open_files  # noqa: E402
from streaming.names import job_name  # noqa: E402


class Prepare(MapFunction):  # type: ignore[misc]
    """The name of a service in, the counts of its data set out."""

    def __init__(self, settings: str, name: str) -> None:
        self._json, self._name = settings, name

    def open(self, runtime_context: RuntimeContext) -> None:
        """Read the settings, in the worker."""
        self._settings = AppSettings.model_validate_json(self._json)

    def map(self, value: str) -> str:
        """Prepare one service."""
        from training.preparing import prepare  # noqa: PLC0415  (in the worker alone)

        return prepare(self._settings, value, self._name)


def build(settings: AppSettings, name: str, topics: str) -> Any:  # noqa: ANN401
    """Build the job; returns the environment to be executed.

    Args:
        settings: where everything is.
        name: of the job, and of what it prepares.
        topics: regular expression of whole topic names.
    """
    options = Configuration()
    options.set_string("pipeline.name", job_name(name))
    options.set_string("python.execution-mode", "process")
    env = StreamExecutionEnvironment.get_execution_environment(options)
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    prefix = settings.kafka.log_prefix
    found = archived_services(open_files(settings.hdfs), settings.hdfs.root)
    services = [one for one in found if re.fullmatch(topics, prefix + one)]
    made = env.from_collection(services, Types.STRING()).rebalance()
    made.map(Prepare(settings.model_dump_json(), name), Types.STRING()).name("prepare").print()
    return env


def main(words: list[str] | None = None) -> None:
    """Submit the job that the words ask for."""
    parser = argparse.ArgumentParser(prog="streaming/prepare.py", description=__doc__)
    parser.add_argument("--name", required=True, help="of the job, and of what it prepares")
    parser.add_argument("--topics", required=True, help="regular expression of whole topic names")
    parser.add_argument("--start", help="without meaning here: the archive is read as a whole")
    parser.add_argument("--settings", type=Path, required=True, help="JSON of the settings")
    chosen = parser.parse_args(words)
    settings = AppSettings.model_validate_json(chosen.settings.read_bytes())
    build(settings, chosen.name, chosen.topics).execute_async()


if __name__ == "__main__":
    main()
