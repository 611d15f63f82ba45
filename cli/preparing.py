"""``logcanary prepare``: the archives of many services to data sets, as a batch job on the Flink cluster."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from typing import Annotated

import typer

from cli.flags import Json
from cli.shell import ProblemError, shell


def prepare(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", help="Of the job, and of what it prepares.")] = "prepared",
    topics: Annotated[
        str | None, typer.Option("--topics", metavar="REGEX", help="Of whole topic names; default: all services.")
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Read, parse, cut and count the archives on the cluster, each service a task; trainings begin with what it made.

    The counts are those that a training on one machine comes to: it is the same code.

    Examples:
      logcanary prepare --name tonight
      logcanary prepare --name tonight --topics 'logs\.(pay|shop)' && logcanary train --service pay --prepared tonight
    """
    import re

    from cli.tables import rows_table
    from storage.archive import services
    from storage.files import open_files
    from streaming.submit import run_batch
    from training.prepared import counts

    state = shell(context)
    settings = state.settings
    pattern = topics or re.escape(settings.kafka.log_prefix) + ".*"
    files, root = open_files(settings.hdfs), settings.hdfs.root
    found = [one for one in services(files, root) if re.fullmatch(pattern, settings.kafka.log_prefix + one)]
    if not found:
        raise ProblemError(
            f"no archived service has a topic like {pattern} (--topics); `logcanary archive ls` lists them"
        )
    state.say(f"Prepare {len(found):,} services on {settings.flink.rest} as {name}")
    seconds = run_batch(settings, name, pattern, "streaming/prepare.py")
    rows = [counts(files, root, service, name) for service in found]
    if as_json or state.json:
        state.emit({"name": name, "seconds": round(seconds, 2), "services": rows})
        return
    state.out.print(rows_table(rows))
    state.say(f"Prepared in {seconds:.1f} s: `logcanary train --service {found[0]} --prepared {name}`.")
