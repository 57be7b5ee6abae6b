"""Pages over very many evaluations: what is drawn has a bound, what is counted has not, and no row is compared with every other."""

from __future__ import annotations

import math
from typing import Any

import pytest

from archduel.reporting.charts import (
    MOST_LINES,
    MOST_MARKS,
    Line,
    Spot,
    drawn,
    line_chart,
    pareto,
    scatter_chart,
    thinned,
)
from archduel.reporting.page import most_confused
from archduel.reporting.run_report import MOST_FILES, MOST_MAPPED, confusion, failures, report_html
from archduel.reporting.study_report import MOST_FAILED, MOST_OPTIONS, study_html
from archduel.reporting.text import count


def text(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize(("n", "most", "left"), [(0, 5, []), (5, 5, [0, 1, 2, 3, 4]), (6, 5, [0, 1, 2, 3, 5]), (101, 3, [0, 50, 100])])
def test_thinned_items_are_evenly_spaced_and_keep_both_ends(n: int, most: int, left: list[int]) -> None:
    assert list(thinned(range(n), most)) == left


def test_few_marks_are_all_drawn_and_many_are_said_not_to_be() -> None:
    assert drawn(MOST_MARKS) == ""
    assert drawn(MOST_MARKS + 1) == " Drawn: 2,000 of 2,001, evenly spaced."


def marks(drawing: str) -> int:
    return drawing.count("<title>")


def test_a_line_has_as_many_corners_as_it_needs() -> None:
    n = 50_000
    rising = [float(i // 5_000) for i in range(n)]
    line = Line("best", list(range(n)), rising, dots=[(i, float(i % 7)) for i in range(n)], step=True)
    drawing = line_chart([line], x_label="x", y_label="y", x_text=text, y_text=text)
    assert marks(drawing) <= MOST_MARKS + 2
    stroke = next(part for part in drawing.split("<path ") if 'class="line' in part)
    assert stroke.count("H") == 10  # ten stairs: nine rises, and the end
    free = Line("loss", list(range(n)), [math.sin(i) for i in range(n)], [-2.0] * n, [2.0] * n)
    assert len(line_chart([free], x_label="x", y_label="y", x_text=text, y_text=text)) < 200_000
    crowd = [Line(f"l{i}", [0, 1], [0, i], faint=True) for i in range(3_000)]
    front = Line("front", [0, 1], [0, 1])
    drawing = line_chart([front, *crowd], x_label="x", y_label="y", x_text=text, y_text=text)
    assert drawing.count('class="line crowd') == MOST_LINES
    assert drawing.count('class="line c0"') == 1


def test_a_scatter_keeps_its_front_and_what_stands_out() -> None:
    spots = [Spot(1 + i, (i * 7919) % 30_011 / 30_011, 0, f"spot {i}", large=i == 12_345) for i in range(30_000)]
    front = pareto(spots)
    drawing = scatter_chart(spots, x_label="x", y_label="y", x_text=text, y_text=text, front=front)
    assert MOST_MARKS < marks(drawing) <= MOST_MARKS + len(front) + 2
    assert all(f"spot {spot.title.split()[1]}<" in drawing for spot in front)
    assert "spot 12345<" in drawing
    few = scatter_chart(spots[:50], x_label="x", y_label="y", x_text=text, y_text=text, front=pareto(spots[:50]))
    assert marks(few) == 50 + (len(pareto(spots[:50])) > 1)


def test_the_report_of_a_run_with_many_evaluations_has_a_bound() -> None:
    n = 20_000
    points = [{"arch": f"toy:{i}", "params": 1 + i, "macs": 5, "score": i % 97 / 97, "kind": "labelled", "front": True} for i in range(n)]
    arms = [{"name": "search", "seconds": [float(i) for i in range(n)], "scores": [i % 97 / 97 for i in range(n)]}]
    failed = [{"arch": "toy:1", "stage": "label", "reason": "nan"}] * n
    data: dict[str, Any] = {"title": "x", "points": points, "arms": arms, "failures": failed}
    page = report_html(data)
    assert len(page) < 4_000_000
    assert f"Drawn: {MOST_MARKS:,} of {n:,}, evenly spaced." in page
    assert f"and {n - MOST_FILES:,} more." in failures(data)  # type: ignore[arg-type]


def test_of_thousands_of_classes_those_that_are_confused_most_are_shown() -> None:
    n = 400
    counts = [[9 if i == j else 1 if j == (i + 1) % n and i % 4 == 0 else 0 for j in range(n)] for i in range(n)]
    chosen = most_confused(counts, MOST_MAPPED)
    assert len(chosen) == MOST_MAPPED
    assert {i for i in range(n) if i % 4 in (0, 1)} == set(chosen)
    assert chosen == sorted(chosen)
    page = confusion({"confusion": {"classes": [f"c{i}" for i in range(n)], "counts": counts, "network": "it", "split": "test"}})
    assert "The 200 classes of 400 that are confused most." in page
    assert f"on {count(n * 9 + n // 4)} test images" in page
    assert most_confused([[1, 2], [3, 4]], 2) == [0, 1]


class Counted(dict[str, Any]):
    """Answers that count how often they are looked at or compared."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.looks += 1
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        Counted.looks += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        Counted.looks += 1
        return super().__contains__(key)

    def __eq__(self, other: object) -> bool:
        Counted.looks += 1
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def rows(n: int, options: int = 4, failed: int = 0) -> list[dict[str, Any]]:
    return [
        {"ordinal": i, "arch": f"s:{i}", "score": math.nan if i < failed else (i * 37 % n) / n, "seconds": 0.1, "answers": Counted({"a": i % options, "b": i % 2}),
         "measures": {}, "reason": "it broke" if i < failed else ""}
        for i in range(n)
    ]  # fmt: skip


def test_what_the_best_have_in_common_takes_one_pass() -> None:
    looked = []
    for n in (500, 1_000):
        Counted.looks = 0
        study_html("x", rows(n), {})
        looked.append(Counted.looks)
    assert looked[1] <= 2.2 * looked[0]


def test_answers_of_the_best_quarter_in_numbers() -> None:
    many = [{"ordinal": i, "arch": f"s:{i}", "score": float(i), "seconds": 0.1, "answers": {"a": "low" if i < 12 else "high"}, "measures": {}} for i in range(16)]
    page = study_html("x", many, {})
    assert "<td>low</td>" in page.replace(' class="number"', "")
    cells = [part.split("<")[0] for part in page.split(">") if part.split("<")[0] in ("75%", "25%", "100%", "0%")]
    assert cells == ["25%", "100%", "75%", "0%"]  # high: a quarter of all, all of the best quarter


def test_the_report_of_a_study_has_a_bound() -> None:
    page = study_html("x", rows(20_000, options=500, failed=1_000), {})
    assert len(page) < 1_500_000
    assert f"and {500 - MOST_OPTIONS:,} more" in page
    assert f"The first {MOST_FAILED} of 1,000." in page
    assert page.count("it broke") == MOST_FAILED
    assert "Drawn: 2,000 of 19,000, evenly spaced." in page
