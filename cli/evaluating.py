"""``logcanary evaluate``: how well the detectors do on labelled data."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from cli.flags import Data, Json
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

app = Commands(no_args_is_help=True, help="How well the detectors do on labelled data.")


@app.callback()
def _evaluate() -> None:
    """Group the data sets as verbs."""


@app.command("hdfs")
def hdfs(
    context: typer.Context,
    *,
    data: Data,
    test_data: Annotated[
        Path | None,
        typer.Option("--test-data", metavar="DIR", help="Learn all of --data, and test the blocks of this folder."),
    ] = None,
    split: Annotated[float, typer.Option("--split", min=0.05, max=0.95, help="Share of the blocks learnt.")] = 0.8,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the networks with different seeds.")] = 3,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="The detectors' own rows without learning while they run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Precision, recall and F1 on labelled HDFS blocks, in the order of time, core only.

    The folder holds hdfs.log.gz and labels.csv. Frozen and learning while running are both measured, on a learnt part
    without its anomalous blocks (clean) and as it comes (unfiltered); --frozen puts the rows of frozen detectors, not
    those of learning ones, at the top of the JSON.

    Examples:
      logcanary evaluate hdfs --data ../shared/data/hdfs
      logcanary evaluate hdfs --data ../shared/data/hdfs --split 0.5 --frozen --json
    """
    from training.evaluate import evaluate_hdfs as run
    from training.learner import TrainingError

    state = shell(context)
    try:
        figures = run(data, split=split, seeds=seeds, test_data=test_data, frozen=frozen, progress=state.say)
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    _report(state, figures, as_json, _hdfs_parts(figures))


@app.command("week")
def week(
    context: typer.Context,
    *,
    data: Data,
    seed: Annotated[int, typer.Option("--seed", help="Of the edits and of the network.")] = 0,
    kind: Annotated[str, typer.Option("--kind", help="Sequence model: deeplog, loganomaly or ngram.")] = "deeplog",
    as_json: Json = False,
) -> None:
    """False alarms and findings in a week of HDFS with a release, a peak, a wrong clock, a dead host and faults.

    The log's normal blocks are cut into eight slices, stretched to days; the first is learnt, the others are watched,
    as in the job. The folder holds hdfs.log.gz and labels.csv.

    Examples:
      logcanary evaluate week --data ../shared/data/hdfs
      logcanary evaluate week --data ../shared/data/hdfs --kind ngram --seed 1 --json
    """
    from contracts.service import SequenceKind
    from training.learner import TrainingError
    from training.week import evaluate_week as run

    state = shell(context)
    if kind not in get_args(SequenceKind):
        raise ProblemError(f"--kind {kind} is no sequence model: {', '.join(get_args(SequenceKind))}")
    try:
        figures = run(data, seed=seed, kind=kind, progress=state.say)
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import rows_table

    state.out.print(rows_table(figures["days"]))
    rest = {name: value for name, value in figures.items() if name != "days"}
    state.out.print(rows_table([{"what": name, "value": str(value)} for name, value in rest.items()]))


@app.command("openstack")
def openstack(context: typer.Context, *, data: Data, as_json: Json = False) -> None:
    """Precision, recall and F1 on labelled OpenStack sequences, beside the simplest detectors.

    The folder holds openstack_train, openstack_test_normal, openstack_test_abnormal and OpenStack_templates.csv.

    Example:
      logcanary evaluate openstack --data ../shared/data/openstack
    """
    _sequences(shell(context), "openstack", data, as_json)


@app.command("hadoop")
def hadoop(context: typer.Context, *, data: Data, as_json: Json = False) -> None:
    """Precision, recall and F1 on labelled Hadoop sequences, beside the simplest detectors.

    The folder holds hadoop_train, hadoop_test_normal, hadoop_test_abnormal and Hadoop_templates.csv.

    Example:
      logcanary evaluate hadoop --data ../shared/data/hadoop
    """
    _sequences(shell(context), "hadoop", data, as_json)


def _sequences(state: Shell, name: str, data: Path, as_json: bool) -> None:
    from training.learner import TrainingError
    from training.sequence_bench import evaluate_sequences

    try:
        figures = evaluate_sequences(name, data, progress=state.say)
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    _report(state, figures, as_json, {"frozen": _found(figures)})


def _hdfs_parts(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of detectors by how they were learnt; those that never learn while running stand once."""
    parts = {}
    for learnt, part in (("clean", figures), ("unfiltered", figures["unfiltered"])):
        baselines = {name: row for name, row in _found(part).items() if name not in part["frozen"]}
        parts[f"{learnt}, frozen"] = part["frozen"] | baselines
        parts[f"{learnt}, learning"] = part["learning"]
    return parts


def _found(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row for name, row in part.items() if isinstance(row, dict) and "f1" in row}


def _report(state: Shell, figures: Mapping[str, Any], as_json: bool, parts: Mapping[str, Mapping[str, Any]]) -> None:
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import rows_table

    rows = [(learnt, detector, row) for learnt, part in parts.items() for detector, row in part.items()]
    state.out.print(rows_table([_row(*one) for one in rows]))
    state.out.print(
        rows_table(
            [
                {"learnt": learnt, "recall of the ensemble, by kind": kind, "recall": recall}
                for learnt, part in parts.items()
                for kind, recall in part["ensemble"]["recall_by_kind"].items()
            ]
        )
    )
    plain = {name: value for name, value in figures.items() if not isinstance(value, dict)}
    kinds = {f"anomalies, {kind}": count for kind, count in figures["kinds"].items()}
    state.out.print(rows_table([{"what": name, "value": value} for name, value in (plain | kinds).items()]))


def _row(learnt: str, detector: str, row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["f1_interval"]
    return {
        "learnt": learnt,
        "detector": detector,
        "F1": row["f1"],
        "95 %": f"{low:.2f} - {high:.2f}",
        "precision": row["precision"],
        "recall": row["recall"],
        "false alarms": f"{row['false_alarm_rate']:.2%}",
        "F1 unique": row["f1_unique"],
    }
