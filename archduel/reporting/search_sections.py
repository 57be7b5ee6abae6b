"""The sections about the search: final networks, trajectory, rank agreement, comparator, size against accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from archduel.reporting.charts import Line, Spot, line_chart, pareto, scatter_chart
from archduel.reporting.marks import legend
from archduel.reporting.parts import chart, details, section, table
from archduel.reporting.schema import Agreement, Arm, Final, Point, ReportData
from archduel.reporting.statistics import Interval, mean_interval
from archduel.reporting.tiles import Row, heat_map, interval_chart
from archduel.reporting.units import UNKNOWN, brief, compact, number, percent

__all__ = ["agreement", "best_so_far", "finals", "scatter", "time_unit", "trajectory", "wins"]


CROWD = (4, 5, 3, 2)  # colours for what is not a final network, greys first


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)


def with_interval(interval: Interval, digits: int = 1) -> str:
    """Returns ``94.3 ± 0.4 %, n = 3``; without an interval ``94.3 %, n = 1``."""
    spread = f" ± {100 * interval.half_width:.{digits}f}" if interval.known else ""
    return f"{100 * interval.value:.{digits}f}{spread} %, n = {interval.n}"


def finals(data: ReportData) -> str:
    """Returns the fully trained networks: test accuracy with intervals over seeds, size."""
    networks = [final for final in data.get("finals", ()) if final.get("test")]
    if not networks:
        return ""
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
    pictures = f" on {data['n_test']:,} pictures" if data.get("n_test") else ""
    how = (
        f"{measure.capitalize()}{pictures}, read once for each network after all of them were fixed. Small marks are training "
        "seeds, large marks their mean, lines the 95 % interval of the mean over seeds."
    )
    headers = ("network", measure, "parameters", "MACs", "latency", "architecture")
    drawing = chart(lambda width: interval_chart(rows, x_label=measure, x_text=_percent_text(rows), width=width))
    numbers = table(headers, lines, numeric=(1, 2, 3, 4), strong=True)
    return section("networks", "Final networks", how, drawing, numbers)


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


def trajectory(data: ReportData) -> str:
    """Returns the best score so far of each arm over what it paid."""
    arms = [arm for arm in data.get("arms", ()) if arm.get("scores")]
    if not arms:
        return ""
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
        "measured with cheap training: compare the arms here, the networks by their test scores above."
    )
    return section("trajectory", "Search against random search", how, drawing)


def _arm_line(arm: Arm, timed: bool, divisor: float) -> Line:
    scores = arm["scores"]
    paid = [s / divisor for s in arm["seconds"]] if timed else [float(i) for i in range(1, len(scores) + 1)]
    dots = [(x, float(score)) for x, score in zip(paid, scores) if score is not None]
    done = sum(score is not None for score in scores)
    return Line(f"{arm.get('name', 'search')}, n = {done}", paid, best_so_far(scores), dots=dots, step=True)


def agreement(data: ReportData) -> str:
    """Returns Kendall tau of each stage with the next, with intervals; words only where the interval excludes 0."""
    rows, lines = [], []
    for entry in data.get("agreement", ()):
        row, sentence = _agreement_row(entry)
        rows.append(row)
        lines += [sentence] if sentence else []
    if not rows:
        return ""
    drawing = chart(
        lambda width: interval_chart(
            rows, x_label="Kendall tau", x_text=lambda v: number(v, 1), span=(-1.0, 1.0), zero=True, width=width
        )
    )
    how = (
        "Do two stages order the candidates alike? 1 = the same order, 0 = unrelated, −1 = reversed, with 95 % intervals; "
        "n = architectures judged by both. A later stage judges only the best of the one before, which lowers tau."
    )
    return section("agreement", "Rank agreement of the stages", how, drawing, "".join(f'<p class="note">{line}</p>' for line in lines))


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
    same = escape(f"{percent((1 + tau) / 2, 0)} of the pairs are in the same order in {first} and {second}.")
    return row, same


def wins(data: ReportData) -> str:
    """Returns the comparator's win probabilities among the finalists."""
    matrix = data.get("wins", {})
    prob = matrix.get("prob", ())
    if not prob:
        return ""
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


def scatter(data: ReportData) -> str:
    """Returns score against parameters with the Pareto front."""
    points = [p for p in data.get("points", ()) if p.get("params") and p.get("score") is not None]
    if not points:
        return ""
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
    listed = details(
        f"The {len(front)} architectures on the front", table(("architecture", "parameters", metric), lines, numeric=(1, 2))
    )
    other = sum(not point.get("front", True) for point in points)
    apart = f" Scores of another recipe do not compare and are left out of it (n = {other})." if other else ""
    how = f"n = {len(points)}. The dotted line is the Pareto front: nothing is both smaller and better.{apart}"
    return section("size", "Size against accuracy", how, drawing, listed)


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
