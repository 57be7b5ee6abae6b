"""The report of whole, half-finished and hostile runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from synthetic_report import report_data

from archduel.errors import SettingError
from archduel.reporting.charts import Line, Spot, axis, limits, line_chart, pareto, scatter_chart
from archduel.reporting.page import Row, bar_chart, heat_map, interval_chart
from archduel.reporting.run_report import best_so_far, report_html, time_unit
from archduel.reporting.statistics import Interval, wilcoxon_holm
from archduel.reporting.text import (
    brief,
    compact,
    comparison_rows,
    count,
    duration,
    interval_text,
    markdown_table,
    number,
    percent,
    text_table,
)

VOID = {"meta", "img", "line", "br", "input", "link"}
EVIL = "<script>alert(1)</script>\"'&"


class Checker(HTMLParser):
    """Collects tags, ids, links and text; complains about tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.ids += [known["id"] or ""] if "id" in known else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, tag
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] not in ("style", "script"):
            self.text.append(data)


def checked(page: str) -> Checker:
    """Returns what the page consists of, after checking that it is well-formed and self-contained."""
    checker = Checker()
    checker.feed(page)
    assert not checker.stack
    assert len(checker.ids) == len(set(checker.ids))
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in checker.links)
    assert {link[1:] for link in checker.links if link.startswith("#")} <= set(checker.ids)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "nan" not in re.sub(r"<title>[^<]*</title>|aria-label=\"[^\"]*\"|base64,[^\"]*", "", page).replace("became nan", "")
    return checker


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return report_data()


def test_a_whole_run_shows_every_part(data: dict[str, Any]) -> None:
    checker = checked(report_html(data))
    text = " ".join(checker.text).replace("\u00a0", " ")
    for part in (
        "The search gained 0.8 ± 0.3 points", "Final networks", "Search against random search", "Rank agreement", "Comparator",
        "Size against accuracy", "Learning curves", "Confusions", "right class the winner held for least likely", "Skipped files", "Failed candidates",
        "archduel search flowers/ --time 2h", "1 h 54 min by the clock of the 2 h allowed (95 %)", "tulip & <other>", "loss became nan",
    ):  # fmt: skip
        assert part in text, part
    assert checker.tags.count("img") == len(data["mistakes"])
    assert checker.tags.count("script") == 1


@pytest.mark.parametrize("missing", sorted(report_data()))
def test_every_part_may_be_missing(data: dict[str, Any], missing: str) -> None:
    checked(report_html({key: value for key, value in data.items() if key != missing}))


def test_an_empty_run_is_still_a_page() -> None:
    checker = checked(report_html({"unfinished": "This run is not finished; the same command continues it."}))
    assert "the same command continues it" in " ".join(checker.text).replace("\u00a0", " ")
    assert "section" not in checker.tags


def test_parts_may_be_half_filled(data: dict[str, Any]) -> None:
    checked(
        report_html(
            {
                "arms": [{"name": "search", "scores": [None, 0.5, None]}, {"name": "random search", "scores": []}],
                "finals": [{"name": "winner", "test": [0.5]}, {"name": "no test yet"}],
                "agreement": [{"first": "a", "second": "b", "tau": None, "low": None, "high": None, "n": 1}],
                "points": [{"arch": "a", "params": 5, "score": None}, {"arch": "b", "params": 5, "score": 0.1}],
                "curves": [{"name": "one", "measure": "training loss", "values": [None, 2.0, None, 1.0]}],
                "confusion": {"classes": ["a", "b"], "counts": [[0, 0], [1, 0]]},
                "mistakes": [{"truth": "a", "guess": "b"}],
                "balance": [{"name": "a", "train": 0}],
                "failures": [{}],
                "costs": [{"stage": "label"}],
                "cells": [{"text": "|none~0|"}],
                "wins": {"prob": [[None]]},
            }
        )
    )


def hostile(value: Any) -> Any:
    """Returns the data with every text replaced by one that tries to break out."""
    if isinstance(value, dict):
        return {(f"{EVIL}{key}" if "." in str(key) else key): hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, str) and not value.startswith(("data:image", "<svg")):
        return EVIL + value
    return value


def test_texts_cannot_break_out(data: dict[str, Any]) -> None:
    page = report_html(hostile(data))
    assert "<script>alert" not in page
    checker = checked(page)
    assert checker.tags.count("script") == 1
    assert "script-src 'sha256-" in page


def test_images_are_data_uris_only() -> None:
    with pytest.raises(SettingError, match="data:image/png"):
        report_html({"mistakes": [{"image": "https://example.org/a.png", "truth": "a", "guess": "b"}]})


def test_no_verdict_where_the_interval_spans_zero() -> None:
    entry = {"first": "label", "second": "final", "tau": 0.4, "low": -0.1, "high": 0.7, "n": 9}
    assert "of the pairs" not in report_html({"agreement": [entry]})
    assert "70\u00a0% of the pairs are in the same order" in report_html({"agreement": [{**entry, "low": 0.1}]})


def test_many_classes_stay_readable_and_small() -> None:
    n = 200
    counts = np.diag(np.full(n, 40))
    counts[3, 7] = 5
    page = report_html({
        "confusion": {"classes": [f"class {i}" for i in range(n)], "counts": counts.tolist()},
        "balance": [{"name": f"class {i}", "train": 40 + i, "validation": 5, "test": 5} for i in range(n)],
    })  # fmt: skip
    checked(page)
    assert len(page) < 400_000
    assert "class 3 taken for class 7: 5 of 45 (11.1 %)" in page
    assert "The 20 largest and the 20 smallest of 200 classes" in page


def test_best_so_far_skips_failures() -> None:
    found = best_so_far([None, 0.3, 0.2, None, 0.5])
    assert np.isnan(found[0])
    assert found[1:] == [0.3, 0.3, 0.3, 0.5]


def test_pareto_front_by_hand() -> None:
    spots = [Spot(x, y, 0, "") for x, y in ((1, 1), (2, 3), (2, 2), (3, 3), (4, 5), (0, 0))]
    assert [(s.x, s.y) for s in pareto(spots)] == [(0, 0), (1, 1), (2, 3), (4, 5)]


@pytest.mark.parametrize(("low", "high", "pixels"), [(0, 1, 300), (0.93, 0.9301, 200), (-3, 1e6, 900), (5, 5, 100)])
def test_ticks_lie_inside_and_are_round(low: float, high: float, pixels: int) -> None:
    made = axis(low, high, (0, pixels), "x", str)
    ticks = made.ticks()
    assert 2 <= len(ticks) <= pixels / 25
    assert all(made.low - 1e-9 <= tick <= made.high + 1e-9 for tick in ticks)
    assert made(made.low) == 0
    assert made(made.high) == pytest.approx(pixels)


def test_log_ticks() -> None:
    made = axis(9e4, 1.1e6, (0, 700), "x", compact, log=True)
    assert 1e5 in made.ticks()
    assert 1e6 in made.ticks()
    assert made(1e5) - made(9e4) == pytest.approx(made(1e6) - made(9e5), rel=0.01)
    assert axis(50, 60, (0, 300), "x", compact, log=True).ticks() == [50, 60]


def test_limits() -> None:
    assert limits([]) == (0, 1)
    assert limits([float("nan"), 1.0, 3.0], pad=0.5) == (0, 4)
    assert limits([2.0, 4.0], floor=1.9) == (1.9, 4.1)


def inside(drawing: str) -> bool:
    """Whether all coordinates of marks lie inside of the drawing."""
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())  # type: ignore[union-attr]
    xs = [float(v) for v in re.findall(r' (?:cx|x1|x2|x)="(-?[\d.]+)"', drawing)]
    ys = [float(v) for v in re.findall(r' (?:cy|y1|y2|y)="(-?[\d.]+)"', drawing)]
    return all(0 <= x <= width for x in xs) and all(0 <= y <= height for y in ys)


@pytest.mark.parametrize("width", [350, 600, 920])
def test_charts_stay_inside_their_frames(width: int) -> None:
    texts: dict[str, Any] = {"x_label": "x", "y_label": "y", "x_text": str, "y_text": percent}
    drawings = [
        line_chart([Line("a", [1, 2, 3], [0.5, 0.9, 0.7], [0.4, 0.8, 0.6], [0.6, 1.0, 0.8], [(1.0, 0.2)])], width=width, **texts),
        scatter_chart([Spot(1e5, 0.5, 0, "a"), Spot(2e6, 0.9, 1, "b", True)], width=width, log_x=True, **texts),
        interval_chart([Row("a", 0.5, -9, 9, (0.4, 0.6), "note"), Row("b", 0.5)], x_label="x", x_text=str, span=(-1, 1), width=width),
        bar_chart([("a", [1, 2]), ("a very long label that must be cut somewhere", [3, 0])], ("p", "q"), text_of=count, width=width),
        heat_map(["a", "b"], ["a", "b"], [[0, None], [1, 0.5]], [["", "1"], ["2", "3"]], titles=lambda i, j: "", x_label="x",
                 y_label="y", width=width),
    ]  # fmt: skip
    assert all(map(inside, drawings))


def test_units() -> None:
    assert [compact(v) for v in (812, 66_000_000, 1_234_567, 999_900, 2_000, None)] == ["812", "66.0 M", "1.23 M", "1.00 M", "2.00 k", "–"]
    assert [duration(v) for v in (0.42, 48, 200, 180, 4320, 7200, None)] == [
        "0.42 s", "48 s", "3 min 20 s", "3 min", "1 h 12 min", "2 h", "–",
    ]  # fmt: skip
    assert (percent(0.9431), percent(None), count(15625), number(-0.5)) == ("94.3 %", "–", "15,625", "−0.50")
    assert time_unit(100) == (1, "seconds")
    assert time_unit(4000) == (60, "minutes")
    assert time_unit(90_000) == (3600, "hours")


def test_text_tables() -> None:
    table = text_table(("name", "score"), [("süß", "9.5"), ("漢字", "10.25"), ("x", None)])
    assert table.splitlines() == ["name  score", "────  ─────", "süß     9.5", "漢字  10.25", "x         –"]
    assert markdown_table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
    with pytest.raises(SettingError, match="1 cells, expected 2"):
        text_table(("a", "b"), [("x",)])
    assert interval_text(Interval(0.5, 0.4, 0.6, 3), factor=100, digits=1) == "50.0 [40.0, 60.0]"
    (row,) = comparison_rows(wilcoxon_holm({"a": np.arange(20) / 100, "b": np.arange(20) / 100 + 0.01}))
    assert row["difference"] == "−1.00 [−1.00, −1.00]"
    assert row["n"] == "20"


def test_ticks_are_brief() -> None:
    assert [brief(v) for v in (5000, 10_000, 1_500_000, 200_000, 40)] == ["5 k", "10 k", "1.5 M", "200 k", "40"]


def test_a_crowd_of_curves_keeps_the_best_in_colour() -> None:
    curves = [{"name": f"n{i}", "measure": "validation accuracy", "values": [0.1, 0.1 + 0.01 * i]} for i in range(12)]
    page = report_html({"curves": curves})
    legend = re.search(r'<ul class="legend">(.*?)</ul>', page)
    assert legend
    assert re.findall(r"n\d+", legend[1]) == ["n11", "n10", "n9", "n8", "n7"]
    assert "The five best at the end; 7 others in grey." in page
    losses = [{**curve, "measure": "training loss"} for curve in curves]
    assert re.findall(r"</svg>(n\d+)", report_html({"curves": losses}))[:2] == ["n0", "n1"]


def test_scores_of_another_recipe_stay_off_the_front() -> None:
    points = [{"arch": f"a{i}", "params": 100 * i, "score": 0.1 * i, "kind": "label"} for i in (1, 2)]
    page = report_html({"points": [*points, {"arch": "b", "params": 50, "score": 0.9, "kind": "longer", "front": False}]})
    assert "The 2 architectures on the front" in page
    assert "left out of it (n = 1)" in page
    assert "The architecture on the front" in report_html({"points": points[:1]})
