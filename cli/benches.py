"""``logcanary bench``: how fast the pipeline is, and how good what it finds."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.flags import Data, Json
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

bench_app = Commands(no_args_is_help=True, help="How fast the pipeline is, and how good its templates.")


@bench_app.callback()
def _bench() -> None:
    """Group the benchmarks as verbs."""


@bench_app.command("pipeline")
def bench_pipeline(
    context: typer.Context,
    *,
    data: Data,
    corpus: Annotated[str, typer.Option("--corpus", help="hdfs or trainticket.")] = "hdfs",
    lines: Annotated[int, typer.Option("--lines", min=1, help="Lines to send, rewritten in every pass.")] = 2_000_000,
    sessions: Annotated[
        bool, typer.Option("--sessions/--no-sessions", help="Whether the ensemble judges whole sessions, too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Lines per CPU second through Kafka and the running Flink job, and the latency at half that rate.

    Example:
      logcanary bench pipeline --data ../shared/data/hdfs --json
      logcanary bench pipeline --data ../shared/data/trainticket --corpus trainticket --json
    """
    from training.pipeline_bench import bench_pipeline as run

    state = shell(context)
    figures = run(
        state.settings, data=data, corpus=corpus, lines=lines, progress=state.say, are_sessions_judged=sessions
    )
    _report(state, figures, as_json)


@bench_app.command("training")
def bench_training(
    context: typer.Context,
    *,
    data: Data,
    lines: Annotated[int, typer.Option("--lines", min=1_000, help="Lines to archive and learn from.")] = 2_000_000,
    as_json: Json = False,
) -> None:
    """Lines per second from an archive in HDFS to a live bundle, and what unique windows cost in quality.

    Example:
      logcanary bench training --data ../shared/data/hdfs --json
    """
    from training.training_bench import bench_training as run

    state = shell(context)
    _report(state, run(state.settings, data, lines=lines, progress=state.say), as_json)


@bench_app.command("contexts")
def bench_contexts(context: typer.Context, *, data: Data, as_json: Json = False) -> None:
    """What it brings to learn and to score each distinct context once: seconds, held-back likelihood and F1.

    Needs no stack. Part of what `bench training` prints.

    Example:
      logcanary bench contexts --data ../shared/data/hdfs --json
    """
    from training.training_bench import compare_windows

    state = shell(context)
    _report(state, compare_windows(data, state.say), as_json)


@bench_app.command("parsing")
def bench_parsing(
    context: typer.Context,
    *,
    data: Data,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="Against Loghub's labelled templates.")] = False,
    speed: Annotated[bool, typer.Option("--speed", help="Lines per CPU second of one thread.")] = False,
    as_json: Json = False,
) -> None:
    """How well and how fast lines become templates, beside drain3 with the same masks for all systems.

    Accuracy reads a folder of Loghub's layout; speed reads hdfs and trainticket, in that folder or beside it.

    Examples:
      logcanary bench parsing --accuracy --data ../shared/data/loghub --json
      logcanary bench parsing --speed --data ../shared/data
    """
    from training import parsing_bench as bench

    if not accuracy and not speed:
        raise ProblemError("What shall be measured? Give --accuracy, --speed or both")
    state = shell(context)
    figures: dict[str, Any] = {}
    try:
        if accuracy:
            figures |= bench.bench_accuracy(data)
        if speed:
            state.say("Measuring speed: drain3 takes about a minute.")
            figures |= bench.bench_speed(data)
    except bench.ParsingBenchError as error:
        raise ProblemError(str(error)) from error
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import rows_table

    if accuracy:
        state.out.print(rows_table(_beside_drain3(figures)))
    if speed:
        corpora = [{"log": name, **figures[name]} for name in ("hdfs", "trainticket")]
        state.out.print(rows_table(corpora))
        state.out.print(rows_table([figures["adversarial"]]))


@bench_app.command("detection")
def bench_detection(
    context: typer.Context,
    *,
    dataset: Annotated[str, typer.Option("--dataset", help="hdfs, hdfs_100k, deeplog, openstack, hadoop or bgl.")],
    data: Data,
    models: Annotated[str, typer.Option("--models", help="Names with commas between them; none: all.")] = "",
    split: Annotated[
        str, typer.Option("--split", help="chronological, given or random; none: the data set's first.")
    ] = "",
    share: Annotated[float, typer.Option("--share", min=0.05, max=0.95, help="Share of the sessions learnt.")] = 0.8,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Random splits drawn, and runs of models that draw.")
    ] = 5,
    protocol: Annotated[
        str, typer.Option("--protocol", help="strict, or leaky: best threshold on the tested side.")
    ] = "strict",
    window: Annotated[
        int, typer.Option("--window", min=2, help="Lines of a window, where there are no sessions.")
    ] = 100,
    parser: Annotated[
        str, typer.Option("--parser", help="Of hdfs: logcanary, drain3, or words: no parser.")
    ] = "logcanary",
    all_models: Annotated[bool, typer.Option("--all", help="Every model that there is, which is the default.")] = False,
    explain: Annotated[
        int, typer.Option("--explain", min=0, help="Sessions that each model explains, its strangest ones.")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that share the runs; a core each.")] = 1,
    as_json: Json = False,
) -> None:
    """Precision, recall and F1 of the field's models, with the known faults of the data counted.

    Strict takes every threshold from held-back normal sessions of the learnt side. Leaky does what the field does, so
    that the difference is seen; its figures say nothing about a running service.

    Examples:
      logcanary bench detection --dataset hdfs --data ../shared/data/hdfs --all --workers 2 --json
      logcanary bench detection --dataset openstack --data ../shared/data/openstack --models ngram,pca --protocol leaky
      logcanary bench detection --dataset hdfs --data ../shared/data/hdfs --models pca,invariant_mining --explain 3
    """
    from typing import get_args

    from training.datasets import How
    from training.detection_bench import Protocol
    from training.detection_bench import bench_detection as run
    from training.learner import TrainingError

    hows: dict[str, How] = {one: one for one in get_args(How)}
    protocols: dict[str, Protocol] = {one: one for one in get_args(Protocol)}
    if split and split not in hows:
        raise ProblemError(f"No split {split!r}: --split takes {', '.join(hows)}")
    if all_models and models:
        raise ProblemError("--all and --models together: one says every model, the other which")
    if protocol not in protocols:
        raise ProblemError(f"No protocol {protocol!r}: --protocol takes {' or '.join(protocols)}")
    state = shell(context)
    try:
        figures = run(
            dataset,
            data,
            models=_names(models),
            split=hows.get(split),
            share=share,
            seeds=seeds,
            protocol=protocols[protocol],
            window=window,
            parser=parser,
            workers=workers,
            explain=explain,
            progress=state.say,
        )
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import rows_table

    shown = {"precision": "precision", "recall": "recall", "f1": "F1", "f1_unique": "unique", "f1_std": "+-"}
    state.out.print(
        rows_table(
            [
                {"model": name}
                | {word: row[field] for field, word in shown.items()}
                | {"alarms": f"{row['false_alarm_rate']:.2%}"}
                for name, row in figures["models"].items()
            ]
        )
    )
    plain = {name: value for name, value in figures.items() if not isinstance(value, dict)} | figures["faults"]
    state.out.print(rows_table([{"what": name, "value": value} for name, value in plain.items()]))
    for name, sessions in figures.get("strangest", {}).items():
        _print_strangest(state, name, sessions)


def _print_strangest(state: Shell, model: str, sessions: Sequence[Mapping[str, Any]]) -> None:
    """What a model finds strangest, and why."""
    from rich.text import Text

    from cli.show import printable

    for one in sessions:
        kind = "anomaly" if one["anomalous"] else "normal"
        words = f"{printable(one['session'])}, {kind}: {one['strangeness']:.3g}"
        state.out.print(Text.assemble((f"\n{model}: ", "bold"), words))
        for reason in one["because"]:
            state.out.print(Text(f"  {reason['amount']:>9.3g}  {printable(reason['words'])}"), soft_wrap=True)


@bench_app.command("study")
def bench_study(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="contamination, label_noise, size, unseen, parser, window, drift, ...")],
    *,
    data: Data,
    dataset: Annotated[str, typer.Option("--dataset", help="hdfs, hdfs_100k or bgl.")] = "hdfs",
    models: Annotated[str, typer.Option("--models", help="Names with commas between them; none: the study's.")] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each point.")] = 3,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that share the runs; a core each.")] = 1,
    as_json: Json = False,
) -> None:
    """How models fare as one thing gets worse: anomalies in the past, wrong labels, little data, a release, time.

    Examples:
      logcanary bench study contamination --data ../shared/data/hdfs
      logcanary bench study unseen --data ../shared/data/hdfs --models deeplog,loganomaly --json
    """
    from training.learner import TrainingError
    from training.studies import bench_study as run

    state = shell(context)
    try:
        figures = run(study, dataset, data, models=_names(models), seeds=seeds, workers=workers, progress=state.say)
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import rows_table

    rows = [
        {"model": model, **{f"{point['at']:g}": point["f1"] for point in points}}
        for model, points in figures["series"].items()
    ]
    state.out.print(f"{figures['question']}: F1 by {figures['unit']}")
    state.out.print(rows_table(rows))


@bench_app.command("report")
def bench_report(
    context: typer.Context,
    *,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE.json...", help="What `bench detection|study --json` printed.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the page and its plots are written.")],
    command: Annotated[str, typer.Option("--command", help="What made the files, for the page.")] = "",
) -> None:
    """Write the benchmark of detection as a page with tables and plots.

    Examples:
      logcanary bench detection --dataset openstack --data ../shared/data/openstack --json > openstack.json
      logcanary bench report openstack.json --out docs/benchmarks
    """
    import json

    from training.detection_report import report

    state = shell(context)
    try:
        results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        page, plots = report(results, command)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProblemError(f"what `bench detection --json` printed is expected in FILE.json: {error!r}") from error
    out.mkdir(parents=True, exist_ok=True)
    for name, text in {"detection.md": page, **plots}.items():
        (out / name).write_text(text, encoding="utf-8")
    state.say(f"{out / 'detection.md'} and {len(plots)} plots are written.")


def _names(models: str) -> list[str]:
    """The names of ``--models``."""
    return [name.strip() for name in models.split(",") if name.strip()]


def _beside_drain3(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a system, and one for the average: our figures, then drain3's."""
    systems = {**figures["systems"], "average": {**figures["average"], "drain3": figures["drain3_average"]}}
    metrics = ("GA", "FGA", "PA", "FTA")
    return [
        {"system": name, **{metric: found[metric] for metric in metrics}}
        | {f"drain3 {metric}": found["drain3"][metric] for metric in metrics}
        for name, found in systems.items()
    ]


def _report(state: Shell, figures: object, as_json: bool) -> None:
    if as_json or state.json:
        state.emit(figures)
        return
    from cli.tables import as_row, rows_table

    plain = as_row(figures)
    nested = {name: value for name, value in plain.items() if isinstance(value, dict)}
    if nested:
        state.out.print(rows_table([{"name": name, **value} for name, value in nested.items()]))
    flat = [{"what": name, "value": value} for name, value in plain.items() if name not in nested]
    if flat:
        state.out.print(rows_table(flat))
