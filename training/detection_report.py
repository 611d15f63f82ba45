"""The benchmark of detection as a page: tables and plots made of its JSON, published figures beside ours.

    page, plots = report([json.loads(text) for text in found])
    page                            # Markdown
    plots["hdfs-chronological-strict-f1.svg"]

Nothing is measured here, and no figure is left out: a row for every model that ran, and a sentence for every one that
did not.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from training.datasets import OURS
from training.supervised import BAR

Figures = Mapping[str, Any]
"""What ``training.detection_bench.bench_detection`` returns, or ``training.studies.bench_study``."""

PUBLISHED: Mapping[tuple[str, str], str] = {
    ("hdfs", "cnn"): ".985 [1]",
    ("hdfs", "mlp"): ".981 [1]",
    ("hdfs", "mlp_keys"): ".962 [1]",
    ("hdfs", "logistic_regression"): ".933 [2]",
    ("hdfs", "decision_tree"): ".998 [2]",
    ("hdfs", "svm"): ".965 [2]",
    ("hdfs", "isolation_forest"): ".802 [2]",
    ("hdfs", "pca"): ".769 [2]",
    ("hdfs", "invariant_mining"): ".915 [2]",
    ("hdfs", "log_clustering"): ".837 [2]",
    ("hdfs", "deeplog"): ".945 to .96 [3]",
    ("hdfs", "loganomaly"): ".966 to .976 [3]",
    ("hdfs", "autoencoder"): ".88 [3]",
    ("hdfs", "logrobust"): ".980 to .987 [3]",
}
"""F1 on HDFS as others print it, and where."""
_SOURCE = """
    Published, on the whole log: [1] Lu et al., DASC 2018, Table III and IV-C, on DeepLog's split, whose two sides are
    of one time. [2] loglizer's README (He et al., ISSRE 2016), 80 % drawn at random. [3] The range that papers and
    public code report, mostly with thresholds or epochs chosen on the tested side. A chronological split learns what
    came before and tests what came after; the rows of a random split, and *leaky*, are nearer to theirs.
"""

_COLUMNS: Sequence[tuple[str, str, str]] = (
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("f1_unique", "F1, unique", ".3f"),
    ("average_precision", "area under PR", ".3f"),
    ("precision_at_budget", "precision, strangest 1 %", ".3f"),
    ("false_alarm_rate", "false alarms", ".2%"),
    ("alarms_a_day", "alarms a day", ".1f"),
    ("lines_until_raised", "lines until raised", ".0f"),
    ("seconds_until_raised", "seconds until raised", ",.0f"),
    ("train_cpu_seconds", "seconds to learn", ".1f"),
    ("windows_per_second", "sessions a second", ",.0f"),
    ("peak_rss_mb", "MB", ",.0f"),
)
"""Field, heading, format."""
_PLOTTED: Sequence[tuple[str, str]] = (
    ("f1", "F1"),
    ("alarms_a_day", "Alarms a day"),
    ("seconds_until_raised", "Seconds until raised"),
    ("train_cpu_seconds", "Processor seconds to learn"),
)
"""Field, and what its bars are called."""
BASE_RATES = (0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 0.5)
"""At which F1 is drawn."""
BEST = 9
"""Models whose F1 is drawn over base rates."""

BAR_HEIGHT, LEFT, WIDTH, HEIGHT = 18, 150, 400, 260
COLOURS = ("#4c78a8", "#e45756", "#54a24b", "#b279a2", "#f58518")


def report(results: Sequence[Figures], command: str = "") -> tuple[str, dict[str, str]]:
    """Make the page.

    Args:
        results: of the benchmark, in the order in which they are to stand.
        command: what made them.

    Returns:
        The page in Markdown, and its plots in SVG by file name.
    """
    page = ["# Detection: models of the field", "", _intro(command)]
    plots: dict[str, str] = {}
    for figures in results:
        if "study" in figures:
            name = f"study-{figures['study']}-{figures['dataset']}"
            plots[f"{name}.svg"] = curves(figures)
            page += ["", f"## Study: {figures['question']}", "", *_study(figures, name)]
            continue
        learnt = "" if figures["split"] == "given" else f"{figures['share']:.0%} learnt, ".replace("%", " %")
        name = "-".join((figures["dataset"], figures["split"], f"{figures['share'] * 100:.0f}", figures["protocol"]))
        if figures.get("parser", OURS) != OURS:
            name, learnt = f"{name}-{figures['parser']}", f"{learnt}parsed by {figures['parser']}, "
        drawn = _plots(figures, name)
        plots |= {file: plot for file, _, plot in drawn}
        page += [
            "",
            f"## {figures['dataset']}, {figures['split']} split, {learnt}{figures['protocol']}",
            "",
            _facts(figures),
            "",
        ]
        page += [" ".join(f"![{title}]({file})" for file, title, _ in drawn), "", *_table(figures)]
        if any((figures["dataset"], model) in PUBLISHED for model in figures["models"]):
            page += ["", " ".join(_SOURCE.split())]
    return "\n".join(page) + "\n", plots


def _plots(figures: Figures, name: str) -> list[tuple[str, str, str]]:
    """File, title and SVG of each plot that these figures give."""
    rows = figures["models"].values()
    drawn = [
        (f"{name}-{field.replace('_', '-')}.svg", f"{title} by model", bars(figures, field))
        for field, title in _PLOTTED
        if all(field in row for row in rows)
    ]
    over = curves({"series": over_base_rates(figures), "unit": "base rate"})
    return [
        *drawn,
        (f"{name}-pr.svg", "Precision and recall", scatter(figures)),
        (f"{name}-base.svg", "F1 over base rate", over),
    ]


def _best_first(figures: Figures) -> list[tuple[str, Mapping[str, Any]]]:
    """The models and their rows, by F1."""
    return sorted(figures["models"].items(), key=lambda pair: -pair[1]["f1"])


def over_base_rates(figures: Figures) -> dict[str, list[dict[str, float]]]:
    """F1 of the best models were anomalies rarer or more frequent, found and falsely raised as often as here."""
    best = _best_first(figures)[:BEST]
    return {
        model: [{"at": rate, "f1": _f1_at(rate, row["recall"], row["false_alarm_rate"])} for rate in BASE_RATES]
        for model, row in best
    }


def _f1_at(rate: float, recall: float, false_alarm_rate: float) -> float:
    hits = recall * rate
    return 2 * hits / (hits + false_alarm_rate * (1 - rate) + rate)


def _intro(command: str) -> str:
    made = f"Made by `{command}`." if command else ""
    words = f"""
        Written by `logcanary bench report` from the benchmark's JSON. {made}
        *strict*: thresholds for 0.5 % false alarms on held-back normal sessions of the learnt side; models with labels
        raise what is likelier an anomaly than not ({BAR:g}). *leaky*: the threshold with the best F1 on the tested
        side, as the field does, and worth as much. F1 is the mean of the runs with their standard deviation; a model
        that draws nothing runs once. *F1, unique* counts each distinct session once. *Strangest 1 %*: precision where
        that share is looked at, whatever the threshold. *Lines until raised*: the median of the anomalies that are
        found; a model that judges whole sessions has to wait for their end. *ensemble* is the
        service's, frozen and without times and levels, on which some of its detectors live: with them its figures are
        those of `logcanary evaluate hdfs`. *Seconds* are the processor's; *MB* is the most that the process ever had,
        whatever ran in it before."""
    return " ".join(words.split())


def _facts(figures: Figures) -> str:
    base, found, sessions = figures["base_rate"], figures["faults"], figures["sessions"]
    said = [
        f"{figures['learnt_sessions']:,} sessions learnt, {sessions:,} tested, {figures['anomalies']:,} of them "
        f"anomalies: base rate {base:.2%}, F1 of raising everything {2 * base / (1 + base):.3f}.",
        f"Of the tested ones, {found['leaked_normal']:.0%} of the normal and {found['leaked_anomalous']:.0%} of the "
        f"anomalous were learnt word for word; {found['label_conflicts']:,} sequences have both labels, "
        f"{found['names_on_both_sides']:,} names are on both sides.",
        f"Beware: {figures['beware']}.",
    ]
    if not figures["comparable"]:
        said.append(
            "**Not comparable**: precision and F1 are made of recall and false alarms at the whole split's sizes. "
            + _by_short_rule(figures)
        )
    for why in sorted(set(figures["left_out"].values())):
        said.append(f"No row: {', '.join(name for name, one in figures['left_out'].items() if one == why)} ({why}).")
    return " ".join(said)


def _by_short_rule(figures: Figures) -> str:
    row = figures["models"].get("deeplog")
    if row is None:
        return ""
    return (
        f"DeepLog's recall is {row['recall']:.3f} with {row['false_alarm_rate']:.2%} false alarms; were every session "
        f"of ten events or fewer raised too, as its public code does, {row['recall_short_rule']:.3f} with "
        f"{row['false_alarm_rate_short_rule']:.2%}."
    )


def _table(figures: Figures) -> list[str]:
    rows = _best_first(figures)
    shown = [column for column in _COLUMNS if all(column[0] in row for _, row in rows)]
    lines = ["| model | runs | F1 | published | " + " | ".join(heading for _, heading, _ in shown) + " |"]
    lines.append("|---" * (4 + len(shown)) + "|")
    for model, row in rows:
        spread = f" ± {row['f1_std']:.3f}" if row["runs"] > 1 else ""
        told = PUBLISHED.get((figures["dataset"], model))
        cells = [f"`{model}`", f"{row['runs']}", f"{row['f1']:.3f}{spread}", told or ""]
        cells += [format(row[field], form) for field, _, form in shown]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _study(figures: Figures, name: str) -> list[str]:
    """F1 of each model at each point, and what more sessions cost where that is the question."""
    points = sorted({row["at"] for rows in figures["series"].values() for row in rows})
    lines = [
        f"{figures['dataset']}, strict; F1, mean of {figures['seeds']} seeds, by {figures['unit']}.",
        "",
        f"![F1 by {figures['unit']}]({name}.svg)",
        "",
        *_by_point(figures, points, lambda row: f"{row['f1']:.3f}"),
    ]
    if figures["study"] == "size":
        costs = _by_point(figures, points, lambda row: f"{row['train_cpu_seconds']:.1f}")
        lines += ["", "Processor seconds to learn:", "", *costs]
    if figures["left_out"]:
        refused = "; ".join(f"{point}: {why}" for point, why in figures["left_out"].items())
        lines += ["", f"No figure: {refused}."]
    return lines


def _by_point(figures: Figures, points: Sequence[float], shown: Callable[[Mapping[str, float]], str]) -> list[str]:
    lines = ["| model | " + " | ".join(f"{at:g}" for at in points) + " |", "|---" * (1 + len(points)) + "|"]
    for model, rows in figures["series"].items():
        at = {row["at"]: shown(row) for row in rows}
        lines.append(f"| `{model}` | " + " | ".join(at.get(point, "") for point in points) + " |")
    return lines


def curves(figures: Figures) -> str:
    """F1 of each model as a line over the points of a study, which stand at equal distances."""
    points = sorted({row["at"] for rows in figures["series"].values() for row in rows})
    place = {at: 40 + WIDTH * number / max(len(points) - 1, 1) for number, at in enumerate(points)}
    parts = [f'<rect x="40" y="10" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>']
    parts += [_text(x, HEIGHT + 26, f"{at:g}", "middle") for at, x in place.items()]
    parts += [_text(34, 14 + HEIGHT * (1 - at), f"{at:g}", "end") for at in (0, 0.5, 1)]
    parts.append(_text(40 + WIDTH / 2, HEIGHT + 42, figures["unit"], "middle"))
    for number, (model, rows) in enumerate(figures["series"].items()):
        colour, dash = COLOURS[number % len(COLOURS)], ("", "5 3", "1 3")[number // len(COLOURS) % 3]
        path = " ".join(f"{place[row['at']]:.1f},{10 + HEIGHT * (1 - row['f1']):.1f}" for row in rows)
        line = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" {line}><title>{escape(model)}</title></polyline>')
        y = 20 + number * BAR_HEIGHT
        parts.append(f'<path d="M{WIDTH + 52} {y - 4}h24" {line}/>')
        parts.append(_text(WIDTH + 82, y, model, "start"))
    return _svg(WIDTH + 230, max(HEIGHT + 50, 30 + len(figures["series"]) * BAR_HEIGHT), parts)


def bars(figures: Figures, field: str = "f1") -> str:
    """A figure of each model as a bar, in the order of F1, that with one standard deviation either way."""
    rows = _best_first(figures)
    most = 1.0 if field == "f1" else max(row[field] for _, row in rows) or 1.0
    parts = []
    for number, (model, row) in enumerate(rows):
        y, middle = number * BAR_HEIGHT, number * BAR_HEIGHT + BAR_HEIGHT / 2 + 4
        length = WIDTH * row[field] / most
        parts.append(_text(LEFT - 6, middle, model, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y + 3}" width="{length:.1f}" height="{BAR_HEIGHT - 6}" fill="#4c78a8"/>')
        if field == "f1" and row["runs"] > 1:
            low, high = (LEFT + WIDTH * min(1.0, max(0.0, row["f1"] + sign * row["f1_std"])) for sign in (-1, 1))
            parts.append(f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="#222" stroke-width="2"/>')
        shown = f"{row[field]:.3f}" if field == "f1" else f"{row[field]:,.1f}"
        parts.append(_text(LEFT + WIDTH + 8, middle, shown, "start"))
    return _svg(LEFT + WIDTH + 80, len(rows) * BAR_HEIGHT + 4, parts)


def scatter(figures: Figures) -> str:
    """Precision over recall, a point a model, numbered from the best F1 on."""
    side = 300
    rows = _best_first(figures)
    parts = [f'<rect x="40" y="10" width="{side}" height="{side}" fill="none" stroke="#888"/>']
    parts += [_text(40 + side * at, side + 26, f"{at:g}", "middle") for at in (0, 0.5, 1)]
    parts += [_text(34, 14 + side * (1 - at), f"{at:g}", "end") for at in (0, 0.5, 1)]
    parts += [_text(40 + side / 2, side + 42, "recall", "middle"), _text(44, 24, "precision", "start")]
    at: dict[tuple[float, float], list[str]] = {}
    for number, (model, row) in enumerate(rows, 1):
        x, y = 40 + side * row["recall"], 10 + side * (1 - row["precision"])
        at.setdefault((round(x), round(y)), []).append(str(number))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#4c78a8"><title>{escape(model)}</title></circle>'
        )
        parts.append(_text(side + 90, 4 + 15 * number, str(number), "end"))
        parts.append(_text(side + 98, 4 + 15 * number, model, "start"))
    parts += [_text(x + 5, y - 4, ", ".join(numbers), "start") for (x, y), numbers in at.items()]
    return _svg(side + 250, max(side + 50, 20 + 15 * len(rows)), parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {style}>'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *parts, "</svg>", ""])
