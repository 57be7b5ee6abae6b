"""The sections about the network, the data and the run: cell, curves, mistakes, classes, failures, cost, command."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from markupsafe import Markup

from archduel.errors import SettingError
from archduel.reporting.charts import Line, Spot, drawn, line_chart, pareto, scatter_chart
from archduel.reporting.front_report import front as front_section
from archduel.reporting.page import (
    NOTHING,
    Row,
    bar_chart,
    chart,
    details,
    document,
    facts,
    heat_map,
    interval_chart,
    legend,
    most_confused,
    part,
    section,
    share_span,
    table,
)
from archduel.reporting.schema import Agreement, Arm, Confusion, Curve, Final, Mistake, Point, ReportData
from archduel.reporting.statistics import Interval, mean_interval, share_interval
from archduel.reporting.text import UNKNOWN, brief, compact, count, duration, number, percent

__all__ = ["SECTIONS", "agreement", "best_so_far", "cells", "classes", "confusion", "costs", "curves", "each_class", "failures", "finals", "gained", "mistakes", "report_html", "reproduction", "scatter", "time_unit", "trajectory", "wins"]

# -- What a person gets: how good the network is at each class; and what is known of the gain ---------------------------


def each_class(data: ReportData) -> Markup:
    """Returns the share of each class that the network gets right, the weakest first."""
    matrix = data.get("confusion", {})
    totals = [(name, line[i], sum(line)) for i, (name, line) in enumerate(zip(matrix.get("classes", ()), matrix.get("counts", ()))) if sum(line)]
    if not totals:
        return NOTHING
    shares = sorted(((name, share_interval(right, n)) for name, right, n in totals), key=lambda entry: entry[1].value)
    shown = shares[:MOST_CLASSES]
    rows = [Row(name, share.value, share.low, share.high, (), f"{percent(share.value)} of {share.n}") for name, share in shown]
    lowest = math.floor(10 * min(row.low for row in rows)) / 10
    drawing = chart(lambda width: interval_chart(rows, x_label="right", x_text=lambda v: percent(v, 0), span=(lowest, 1.0), width=width))
    lines = [(name, percent(share.value), f"{percent(share.low)} to {percent(share.high)}", count(share.n)) for name, share in shares]
    numbers = details("Numbers", table(("class", "right", "95 % interval", "images"), lines, numeric=(1, 2, 3)))
    how = f"Share of the test images of each class that are recognised, weakest first; 95 % intervals. Drawn: {len(shown)} of {len(shares)} classes."
    return section("quality", "How good it is at each class", how, drawing, numbers)


def gained(data: ReportData) -> Markup:
    """Returns what is known of the gain: the sentences, unless they lead the page, and where the kinds of networks stood in a race."""
    lines = data.get("known", ()) or [data.get("sentence", ""), data.get("sentence_note", "")]
    standings = data.get("standings", ())
    rows = [Row(s["name"], s["value"], s["low"], s["high"], (), f"{percent(s['value'])}, best of {s['n']}") for s in standings]
    label = f"{data.get('metric', 'validation accuracy')} at equal training"
    drawing = chart(lambda width: interval_chart(rows, x_label=label, x_text=_percent_text(rows), span=share_span(rows), width=width)) if rows else NOTHING
    texts = [part("text", line) for line in lines if line and data.get("headline")]
    return section("gain", "What is known of the gain", "", *texts, drawing)


# -- The sections about the search: final networks, trajectory, rank agreement, comparator, size against accuracy -------


def finals(data: ReportData) -> Markup:
    """Returns the fully trained networks: test accuracy with intervals over seeds, size."""
    networks = [final for final in data.get("finals", ()) if final.get("test")]
    if not networks:
        return NOTHING
    rows = [_final_row(final, slot) for slot, final in enumerate(networks)]
    lines = [
        (
            final.get("name", UNKNOWN), with_interval(mean_interval(final["test"]), 2), compact(final.get("params")),
            compact(final.get("macs")), f"{final['latency_ms']:.2f} ms" if "latency_ms" in final else UNKNOWN,
            final.get("arch", UNKNOWN),
        )
        for final in networks
    ]  # fmt: skip
    measure = data.get("metric", "validation accuracy").replace("validation", "test")
    images = f" on {data['n_test']:,} images" if data.get("n_test") else ""
    fixed = f"{measure.capitalize()}{images}, read once for each network after all of them were fixed."
    how = f"{fixed} Small marks are training seeds, large marks their mean, lines the 95 % interval of the mean over seeds."
    headers = ("network", measure, "parameters", "MACs", "latency", "architecture")
    drawing = chart(lambda width: interval_chart(rows, x_label=measure, x_text=_percent_text(rows), span=share_span(rows), width=width))
    numbers = table(headers, lines, numeric=(1, 2, 3, 4), strong=True)
    return section("networks", "Final networks", how, drawing, numbers)


def trajectory(data: ReportData) -> Markup:
    """Returns the best score so far of each arm over what it paid."""
    arms = [arm for arm in data.get("arms", ()) if arm.get("scores")]
    if not arms:
        return NOTHING
    timed = all(len(arm.get("seconds", ())) == len(arm["scores"]) for arm in arms)
    divisor, unit = time_unit(max(max(arm["seconds"]) for arm in arms)) if timed else (1.0, "evaluations")
    lines = [_arm_line(arm, timed, divisor) for arm in arms]
    metric = data.get("label_metric", data.get("metric", "validation accuracy"))
    drawing = chart(
        lambda width: line_chart(
            lines, x_label=f"search cost, {unit}", y_label=metric, x_text=lambda v: f"{v:g}", y_text=lambda v: percent(v, 1),
            width=width, height=340 if width > 500 else 290,
        ),
        legend=legend([line.name for line in lines], lines=True),
    )  # fmt: skip
    how = (
        f"Best {metric} so far over what was paid; faint marks are single evaluations. This is what the search sees, "
        f"measured with cheap training: compare the arms here, the networks by their test scores above.{drawn(max(len(line.dots) for line in lines))}"
    )
    return section("trajectory", "Search against random search", how, drawing)


def agreement(data: ReportData) -> Markup:
    """Returns Kendall tau of each stage with the next, with intervals; words only where the interval excludes 0."""
    rows, lines = [], []
    for entry in data.get("agreement", ()):
        row, sentence = _agreement_row(entry)
        rows.append(row)
        lines += [sentence] if sentence else []
    if not rows:
        return NOTHING
    drawing = chart(
        lambda width: interval_chart(
            rows, x_label="Kendall tau", x_text=lambda v: number(v, 1), span=(-1.0, 1.0), zero=True, width=width
        )
    )
    how = (
        "Do two stages order the candidates alike? 1 = the same order, 0 = unrelated, −1 = reversed, with 95 % intervals; "
        "n = architectures judged by both. A later stage judges only the best of the one before, which lowers tau."
    )
    return section("agreement", "Rank agreement of the stages", how, drawing, *(part("note", line) for line in lines))


def wins(data: ReportData) -> Markup:
    """Returns the comparator's win probabilities among the finalists."""
    matrix = data.get("wins", {})
    prob = matrix.get("prob", ())
    if not prob:
        return NOTHING
    letters = [chr(ord("A") + i % 26) * (1 + i // 26) for i in range(len(prob))]
    whole = list(matrix.get("names", letters))
    space = {name.partition(":")[0] for name in whole}
    short = [name.partition(":")[2] or name for name in whole] if len(space) == 1 else whole  # the space is the same
    names = [f"{letter}  {name}" for letter, name in zip(letters, short)]
    values = [[None if i == j else p for j, p in enumerate(line)] for i, line in enumerate(prob)]
    cells = [["" if p is None else f"{100 * p:.0f}" for p in line] for line in values]

    def title(i: int, j: int) -> str:
        return "the same" if values[i][j] is None else f"{names[i]} is at least as good as {names[j]}: {percent(values[i][j], 0)}"

    drawing = chart(
        lambda width: heat_map(
            names, letters, values, cells, titles=title, x_label="is at least as good as", y_label="this", width=min(width, 620)
        )
    )  # fmt: skip
    how = "The comparator's probability, in percent, that the row's architecture is at least as good as the column's."
    return section("comparator", "Comparator on the finalists", how, drawing)


def scatter(data: ReportData) -> Markup:
    """Returns score against parameters with the Pareto front."""
    points = [p for p in data.get("points", ()) if p.get("params") and p.get("score") is not None]
    if not points:
        return NOTHING
    slots = _slots(points)
    spots = [_spot(point, slots) for point in points]
    front = pareto([spot for spot, point in zip(spots, points) if point.get("front", True)])
    sizes = [spot.x for spot in spots]
    metric = data.get("metric", "validation accuracy")
    drawing = chart(
        lambda width: scatter_chart(
            spots, x_label="parameters", y_label=metric, x_text=brief, y_text=lambda v: percent(v, 1), front=front,
            log_x=max(sizes) > 8 * min(sizes), width=width, height=380 if width > 500 else 300,
        ),
        legend=legend(list(slots), slots=list(slots.values())),
    )  # fmt: skip
    titles = {id(spot): point for spot, point in zip(spots, points)}
    lines = [
        (titles[id(s)].get("name") or titles[id(s)].get("arch", UNKNOWN), compact(s.x), percent(s.y, 2)) for s in front
    ]
    named = f"The {len(front)} architectures" if len(front) > 1 else "The architecture"
    listed = details(
        f"{named} on the front", table(("architecture", "parameters", metric), lines, numeric=(1, 2))
    )
    other = sum(not point.get("front", True) for point in points)
    apart = f" Scores of another recipe do not compare and are left out of it (n = {other})." if other else ""
    how = f"n = {len(points)}. The dotted line is the Pareto front: nothing is both smaller and better.{apart}{drawn(len(points))}"
    return section("size", "Size against accuracy", how, drawing, listed)


def cells(data: ReportData) -> Markup:
    """Returns the winner's drawing and its text."""
    shown = []
    for cell in data.get("cells", ()):
        svg = cell.get("svg", "")
        drawing = Markup(svg) if svg.lstrip().startswith("<svg") else ""
        # drawings in the text's colour follow the theme; others get paper to stand on
        shown.append({"title": cell.get("title"), "svg": drawing, "paper": "currentColor" not in svg, "text": cell.get("text")})
    return section("cell", "The network that was found", "", part("drawings", shown) if shown else NOTHING)


def curves(data: ReportData) -> Markup:
    """Returns the learning curves, one chart a measure."""
    groups: dict[str, list[Curve]] = {}
    for curve in data.get("curves", ()):
        groups.setdefault(curve.get("measure", "validation accuracy"), []).append(curve)
    charts = [_curve_chart(measure, members) for measure, members in groups.items()]
    body = part("pair", charts) if charts else NOTHING
    return section("curves", "Learning curves", "Bands, where there are any, span the training seeds.", body)


def confusion(data: ReportData) -> Markup:
    """Returns the confusion matrix, tinted by the share of the true class, and the most frequent confusions."""
    matrix = data.get("confusion", {})
    names, counts = list(matrix.get("classes", ())), matrix.get("counts", ())
    if not names:
        return NOTHING
    totals, shown = [sum(line) for line in counts], most_confused(counts, MOST_MAPPED)
    shares: list[list[float | None]] = [[counts[i][j] / max(totals[i], 1) for j in shown] for i in shown]
    cells_ = [[str(counts[i][j] or "") for j in shown] for i in shown]
    called = [names[i] for i in shown]

    def title(i: int, j: int) -> str:
        return f"{called[i]} taken for {called[j]}: {counts[shown[i]][shown[j]]} of {totals[shown[i]]} ({percent(shares[i][j])})"

    drawing = chart(
        lambda width: heat_map(called, called, shares, cells_, titles=title, x_label="the network said", y_label="it was", width=min(width, 700))
    )
    how = f"{matrix.get('network', 'The winner')} on {count(sum(totals))} {matrix.get('split', 'test')} images; tints are shares of the row."
    how += f" The {len(shown)} classes of {len(names)} that are confused most." if len(shown) < len(names) else ""
    return section("confusion", "Confusions", how, drawing, _confused(matrix))


def mistakes(data: ReportData) -> Markup:
    """Returns the images whose right class was held for least likely, see :func:`archduel.training.metrics.worst_mistakes`."""
    items = [_mistake(mistake) for mistake in data.get("mistakes", ())]
    how = "Test images whose right class the winner held for least likely, with the class that it took instead."
    return section("mistakes", "Worst mistakes", how, part("mistakes", items) if items else NOTHING)


def classes(data: ReportData) -> Markup:
    """Returns the images of each class and split, and the files that were skipped."""
    balance, skipped = list(data.get("balance", ())), data.get("skipped", {})
    body = NOTHING
    if balance:
        parts = ("train", "validation", "test")
        rows = [(e.get("name", ""), [e.get("train", 0), e.get("validation", 0), e.get("test", 0)]) for e in balance]
        shown = sorted(rows, key=lambda row: -sum(row[1]))
        if len(shown) > MOST_ROWS:
            shown = shown[: MOST_ROWS // 2] + shown[-MOST_ROWS // 2 :]
            body += part("note", f"The {MOST_ROWS // 2} largest and the {MOST_ROWS // 2} smallest of {len(rows)} classes.")
        body += chart(lambda width: bar_chart(shown, parts, text_of=count, width=width), legend=legend(parts))
        lines = [(name, *(count(value) for value in values), count(sum(values))) for name, values in rows]
        body += details("Numbers", table(("class", *parts, "all"), lines, numeric=(1, 2, 3, 4)))
    if skipped:
        rest = part("note", f"and {len(skipped) - MOST_FILES:,} more.") if len(skipped) > MOST_FILES else NOTHING
        listed = table(("file", "reason"), list(skipped.items())[:MOST_FILES]) + rest
        body += part("skipped", count(len(skipped)), details("Show them", listed))
    return section("data", "Data", "", body)


def failures(data: ReportData) -> Markup:
    """Returns the candidates without a score."""
    lines = [(f.get("arch", UNKNOWN), f.get("stage", UNKNOWN), f.get("reason", UNKNOWN)) for f in data.get("failures", ())]
    body = table(("architecture", "stage", "reason"), lines[:MOST_FILES]) if lines else NOTHING
    body += part("note", f"and {len(lines) - MOST_FILES:,} more.") if len(lines) > MOST_FILES else NOTHING
    many = f"{len(lines)} candidates" if len(lines) != 1 else "One candidate"
    return section("failures", "Failed candidates", f"{many} gave no score; the search went on.", body)


def costs(data: ReportData) -> Markup:
    """Returns the time of each stage."""
    stages = list(data.get("costs", ()))
    if not stages:
        return NOTHING
    rows = [(stage.get("stage", ""), [stage.get("seconds", 0.0)]) for stage in stages]
    total = sum(values[0] for _, values in rows)
    clock, budget = data.get("clock_seconds"), data.get("budget_seconds")
    allowed = f" of the {duration(budget)} allowed ({percent(clock / budget, 0)})" if clock and budget else ""
    work = f"{duration(total)} of work in the stages."
    how = f"{duration(clock)} by the clock{allowed}; {work}" if clock else work
    lines = [
        (s.get("stage", ""), duration(s.get("seconds")), count(s.get("evaluations")), count(s.get("images"))) for s in stages
    ]
    numbers = details("Numbers", table(("stage", "time", "evaluations", "training images"), lines, numeric=(1, 2, 3)))
    drawing = chart(lambda width: bar_chart(rows, ("time",), text_of=duration, width=width))
    return section("cost", "Cost", how, drawing, numbers)


def reproduction(data: ReportData) -> Markup:
    """Returns the exact command, the environment and the resolved settings."""
    command = part("pre", data["command"]) if data.get("command") else NOTHING
    settings = details("Resolved settings (run.toml)", part("pre", data["settings"])) if data.get("settings") else NOTHING
    return section("command", "Command and environment", "", command, facts(data.get("environment", {})), settings)


# -- The report: one HTML file that needs no network, in a light and a dark theme, for wide screens and phones ----------


SECTIONS = (
    ("quality", "Classes", each_class),
    ("mistakes", "Mistakes", mistakes),
    ("confusion", "Confusions", confusion),
    ("gain", "Gain", gained),
    ("networks", "Networks", finals),
    ("trajectory", "Search", trajectory),
    ("agreement", "Agreement", agreement),
    ("comparator", "Comparator", wins),
    ("front", "Front", front_section), ("size", "Size", scatter),
    ("cell", "Cell", cells),
    ("curves", "Curves", curves),
    ("data", "Data", classes),
    ("failures", "Failures", failures),
    ("cost", "Cost", costs),
    ("command", "Command", reproduction),
)


def report_html(data: ReportData | Mapping[str, Any]) -> str:
    """Returns the report of a run as one HTML document.

    Args:
        data: what is known, see :class:`archduel.reporting.schema.ReportData`; every part may be missing.

    Raises:
        SettingError: for a mistake's image that is not a PNG data URI.
    """
    known = cast(ReportData, data)
    built = [(name, label, build(known)) for name, label, build in SECTIONS]
    # the headline is the first sentence; what the interval covers and what else was compared stand below it
    headline, stop, rest = known.get("sentence", "").partition(". ")
    below = " ".join(filter(None, (rest, known.get("sentence_note", ""))))
    if known.get("headline"):
        headline, stop, below = known["headline"], "", ""
    return document(
        "run_report.html",
        title=f"{known.get('title', 'run')} – archduel",
        sections=[body for _, _, body in built],
        heading=known.get("title", "archduel run"),
        subtitle=" · ".join(filter(None, (known.get("subtitle", ""), known.get("created", "")))),
        unfinished=known.get("unfinished", ""),
        headline=headline + stop.strip(),
        below=below,
        figures=[{"label": "", "value": "", "note": "", **figure} for figure in known.get("key_figures", ())],
        links=[(name, label) for name, label, body in built if body],
        warnings=list(known.get("warnings", ())),
    )


CROWD = (4, 5, 3, 2)  # colours for what is not a final network, greys first


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)


def with_interval(interval: Interval, digits: int = 1) -> str:
    """Returns ``94.3 ± 0.4 %, n = 3``; without an interval ``94.3 %, n = 1``."""
    spread = f" ± {100 * interval.half_width:.{digits}f}" if interval.known else ""
    return f"{100 * interval.value:.{digits}f}{spread} %, n = {interval.n}"


def _percent_text(rows: Sequence[Row]) -> Callable[[float], str]:
    values = [v for row in rows for v in (row.value, *row.dots)]
    digits = 1 if max(values) - min(values) < 0.08 else 0
    return lambda value: percent(value, digits)


def _final_row(final: Final, slot: int) -> Row:
    interval = mean_interval(final["test"])
    # an interval over two seeds is so wide that it would flatten everything else; the table has its numbers
    low, high = (interval.low, interval.high) if interval.n > 2 else (-math.inf, math.inf)
    return Row(
        final.get("name", UNKNOWN), interval.value, max(low, 0.0) if math.isfinite(low) else low,
        min(high, 1.0) if math.isfinite(high) else high, tuple(final["test"]), with_interval(interval), slot,
    )  # fmt: skip


def best_so_far(scores: Sequence[float | None]) -> list[float]:
    """Returns the running maximum; nan until the first score."""
    best, found = math.nan, []
    for score in scores:
        if score is not None and math.isfinite(score) and not score <= best:
            best = float(score)
        found.append(best)
    return found


def time_unit(seconds: float) -> tuple[float, str]:
    """Returns the divisor and name of the unit that suits spans up to ``seconds``."""
    return (1.0, "seconds") if seconds < 180 else (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _arm_line(arm: Arm, timed: bool, divisor: float) -> Line:
    scores = arm["scores"]
    paid = [s / divisor for s in arm["seconds"]] if timed else [float(i) for i in range(1, len(scores) + 1)]
    dots = [(x, float(score)) for x, score in zip(paid, scores) if score is not None]
    done = sum(score is not None for score in scores)
    return Line(f"{arm.get('name', 'search')}, n = {done}", paid, best_so_far(scores), dots=dots, step=True)


def _agreement_row(entry: Agreement) -> tuple[Row, str]:
    first, second = entry.get("first", "first"), entry.get("second", "second")
    tau, low, high = (_finite(entry.get(key)) for key in ("tau", "low", "high"))  # type: ignore[arg-type]
    known = math.isfinite(low) and math.isfinite(high)
    ends = f" [{number(low)}, {number(high)}]" if known else ""
    n = entry.get("n", 0)
    note = f"{number(tau)}{ends}, n = {n}" if math.isfinite(tau) else f"not known, n = {n}"
    row = Row(f"{first} → {second}", tau, low if known else -math.inf, high if known else math.inf, (), note)
    if not known or low <= 0 <= high:
        return row, ""
    return row, f"{percent((1 + tau) / 2, 0)} of the pairs are in the same order in {first} and {second}."


def _slots(points: Sequence[Point]) -> dict[str, int]:
    """Returns a colour for each kind: the page's colours of the final networks for named ones, greys for the crowd."""
    named = dict.fromkeys(point.get("kind", "evaluated") for point in points if point.get("name"))
    crowd = dict.fromkeys(kind for p in points if (kind := p.get("kind", "evaluated")) not in named)
    return {**{kind: CROWD[i % len(CROWD)] for i, kind in enumerate(crowd)}, **{kind: i for i, kind in enumerate(named)}}


def _spot(point: Point, slots: Mapping[str, int]) -> Spot:
    kind = point.get("kind", "evaluated")
    name = point.get("name", "")
    title = "\n".join(
        filter(
            None,
            (name, point.get("arch", ""), f"{compact(point['params'])} parameters, {percent(point['score'], 2)} ({kind})"),
        )
    )
    return Spot(float(point["params"]), _finite(point["score"]), slots[kind], title, bool(name))


MOST_CLASSES, MOST_ROWS, MOST_FILES = 30, 40, 200
MOST_MAPPED = 200  # classes: 2,000 of them would be squares of a third of a pixel


def _curve_chart(measure: str, members: Sequence[Curve]) -> Markup:
    lines = [
        Line(
            curve.get("name", ""), list(curve.get("x", range(1, len(curve["values"]) + 1))), _floats(curve["values"]),
            _floats(curve.get("low", ())), _floats(curve.get("high", ())),
        )
        for curve in members
    ]  # fmt: skip
    share = "accuracy" in measure or "f1" in measure
    lines, rest = _foremost(lines, best=max if share else min)
    drawing = chart(
        lambda width: line_chart(
            lines, x_label=members[0].get("x_label", "epoch"), y_label=measure, x_text=lambda v: f"{v:g}",
            y_text=(lambda v: percent(v, 0)) if share else number, width=width, height=300,
        ),
        widths=(350, 600, 450), legend=legend([line.name for line in lines if not line.faint], lines=True) + rest,
    )  # fmt: skip
    return drawing


def _foremost(lines: list[Line], best: Callable[..., float]) -> tuple[list[Line], Markup]:
    """Returns the lines, of more than six all but the five best at the end made faint, and a note that says so."""
    if len(lines) <= 6:
        return lines, NOTHING
    ends = [next((y for y in reversed(line.y) if math.isfinite(y)), math.nan) for line in lines]
    sign = 1 if best is max else -1
    order = sorted(range(len(lines)), key=lambda i: -sign * ends[i] if math.isfinite(ends[i]) else math.inf)
    front, back = [lines[i] for i in order[:5]], [replace(lines[i], faint=True) for i in order[5:]]
    return [*front, *back], part("note", f"The five best at the end; {len(back)} others in grey.")


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _confused(matrix: Confusion) -> Markup:
    names, counts = matrix["classes"], matrix["counts"]
    worst = sorted(
        ((c, i, j) for i, line in enumerate(counts) for j, c in enumerate(line) if i != j and c), key=lambda t: -t[0]
    )[:8]
    lines = [(names[i], names[j], count(c), percent(c / sum(counts[i]))) for c, i, j in worst]
    return details("Most frequent confusions", table(("it was", "the network said", "images", "share"), lines, numeric=(2, 3))) if lines else NOTHING


def _mistake(mistake: Mistake) -> dict[str, str]:
    image = mistake.get("image", "")
    if image and not image.startswith("data:image/png;base64,"):
        raise SettingError(f"a mistake's image must be a data:image/png;base64 URI, got {image[:40]!r}")
    file = mistake.get("file", "")
    return {
        "image": image,
        "truth": mistake.get("truth", UNKNOWN),
        "guess": mistake.get("guess", UNKNOWN),
        "sure": percent(mistake.get("probability"), 0).replace(" ", "\u00a0"),
        "file": file,
        "name": file.replace("\\", "/").rsplit("/", 1)[-1],
    }
