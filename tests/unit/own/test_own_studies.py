"""Studies: the same with one worker and two, after an interruption, with inherited weights; and what they refuse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_networks import Signals, Small, judged
from torch import nn

import archduel
from archduel.errors import RunError, SettingError

SPACE = archduel.space_of(Signals, example=(1, 16), check=False)


def rows(study: archduel.Study) -> list[Any]:
    """Returns all that must be equal of two studies."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in study.table()]


def test_two_workers_make_the_same_study_and_weights_are_inherited(tmp_path: Path) -> None:
    studies = [
        archduel.search_space(SPACE, judged, strategy="evolution", evaluations=10, seed=3, out=tmp_path / str(n), workers=n, inherit=True, quiet=True)
        for n in (1, 2)
    ]
    assert rows(studies[0]) == rows(studies[1])
    inherited = [row["inherited"] for row in studies[0].table()]
    assert inherited[:4] == [0] * 4  # the first window has nobody to inherit from
    assert all(inherited[4:])
    assert all(row["parent"] < row["ordinal"] for row in studies[0].table()[4:])
    best = studies[0].best
    assert float(next(studies[0].model().parameters()).detach().flatten()[0]) == pytest.approx(best.measures["first"])


def test_an_interrupted_study_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = archduel.search_space(SPACE, judged, evaluations=11, out=tmp_path / "whole", inherit=True, quiet=True)
    for stop in (2, 6, 9):
        calls = []

        def killed(model: nn.Module, context: Any) -> Any:
            calls.append(context.ordinal)  # noqa: B023
            if context.ordinal == stop:  # noqa: B023
                raise KeyboardInterrupt
            return judged(model, context)

        killed.__qualname__ = "judged"
        with pytest.raises(KeyboardInterrupt):
            archduel.search_space(SPACE, killed, evaluations=11, out=tmp_path / str(stop), inherit=True, quiet=True)
        again = archduel.search_space(SPACE, judged, evaluations=11, out=tmp_path / str(stop), inherit=True, quiet=True)
        assert rows(again) == rows(whole)


def test_more_evaluations_extend_a_study_and_another_one_is_refused(tmp_path: Path) -> None:
    first = archduel.search_space(SPACE, judged, strategy="random", evaluations=4, out=tmp_path, quiet=True)
    longer = archduel.search_space(SPACE, judged, strategy="random", evaluations=7, out=tmp_path, quiet=True)
    assert rows(longer)[:4] == rows(first)
    assert len(longer.evaluations) == 7
    assert json.loads((tmp_path / "result.json").read_text())["evaluations"] == 7
    with pytest.raises(RunError, match="holds another study"):
        archduel.search_space(SPACE, judged, strategy="random", evaluations=7, seed=1, out=tmp_path, quiet=True)


def test_a_study_is_read_from_its_folder_without_its_code(tmp_path: Path) -> None:
    made = archduel.search_space(SPACE, judged, strategy="random", evaluations=9, out=tmp_path, quiet=True)
    read = archduel.Study(tmp_path)
    assert rows(read) == rows(made)
    assert read.best.answers["width"] in (4, 8, 16)
    page = made.report().read_text()
    assert "best so far" in page
    assert str(read.best.answers["width"]) in page
    with pytest.raises(SettingError, match="give the space"):
        read.model()
    with pytest.raises(RunError, match="holds no study"):
        archduel.Study(tmp_path / "nowhere")


def test_a_function_without_a_network_takes_a_table_of_options() -> None:
    study = archduel.search_space({"a": [1, 2, 3], "b": {"x": {"c": [1, 5]}, "y": {}}}, lambda v: v["a"] + v.get("b.c", 0), evaluations=20, quiet=True)
    assert study.best.answers == {"a": 3, "b": "x", "b.c": 5}
    assert len(study.evaluations) == 9  # all there are
    assert "b.c" in str(study.table())


def test_a_space_of_the_package_is_studied_too() -> None:
    study = archduel.search_space("nasbench201", lambda arch: -sum(arch.choices), strategy="random", evaluations=5, quiet=True)
    assert study.best.score == max(-sum(row.arch.choices) for row in study.evaluations)


def test_failures_are_rows_with_a_reason_and_a_study_of_failures_ends(tmp_path: Path) -> None:
    def sometimes(value: Any) -> float:
        if value["a"] == 1:
            raise ValueError("no")
        return math.nan if value["a"] == 2 else float(value["a"])

    study = archduel.search_space({"a": [1, 2, 3, 4]}, sometimes, strategy="random", evaluations=4, quiet=True)
    reasons = {row.answers["a"]: row.reason for row in study.evaluations}
    assert reasons[1].startswith("ValueError: no (test_own_studies.py:")
    assert reasons[2] == "the score is nan"
    assert (reasons[3], study.best.answers["a"]) == ("", 4)

    def broken(value: Any) -> float:
        raise ValueError("a slip")

    with pytest.raises(RunError, match=r"the first 5 evaluations all failed.*a slip"):
        archduel.search_space({"a": list(range(9))}, broken, strategy="random", evaluations=9, out=tmp_path, quiet=True)
    broken.__qualname__ = mended.__qualname__
    with pytest.raises(RunError, match="a slip"):
        archduel.search_space({"a": list(range(9))}, broken, strategy="random", evaluations=9, out=tmp_path / "2", quiet=True)
    assert len(archduel.search_space({"a": list(range(9))}, mended, strategy="random", evaluations=9, out=tmp_path / "2", quiet=True).evaluations) == 9


def mended(value: Any) -> Any:
    return {"score": np.float64(value["a"]), "loss": torch.tensor(0.5)}


@pytest.mark.parametrize(
    ("returned", "words"),
    [({"accuracy": 1.0}, "without 'score'"), ("good", "returned str"), (None, "returned NoneType"), ({"score": "good"}, "could not convert")],
)
def test_what_is_no_score_is_said(returned: Any, words: str) -> None:
    with pytest.raises(RunError, match=words):
        archduel.search_space({"a": [1, 2]}, lambda value: returned, evaluations=2, quiet=True)


def test_what_cannot_be_done_is_refused_before_anything_runs(tmp_path: Path) -> None:
    table = {"a": [1, 2]}
    for how, words in (
        ({}, "say how much"), ({"evaluations": 0}, "evaluations"), ({"evaluations": 2, "inherit": True}, "give one: out="),
        ({"evaluations": 2, "strategy": "spos"}, "works on shared weights"), ({"evaluations": 2, "window": 0}, "window"),
        ({"evaluations": 2, "workers": 2}, "it is a lambda, stands inside a function"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=words):
            archduel.search_space(table, lambda value: 1.0, quiet=True, **how)

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, archduel.choose("out", [2, 3]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)  # type: ignore[no-any-return]

    space = archduel.space_of(Inside, example=(4,))
    with pytest.raises(SettingError, match=r"workers import the space's class from its file.*mine.py"):
        archduel.search_space(space, judged, evaluations=2, workers=2, quiet=True)


def test_a_checkpoint_of_ones_own_is_the_start_of_all(tmp_path: Path) -> None:
    torch.save({name: torch.full_like(value, 0.25) for name, value in Signals().state_dict().items()}, tmp_path / "mine.pth")
    study = archduel.search_space(SPACE, judged, strategy="random", evaluations=3, init=tmp_path / "mine.pth", quiet=True)
    assert all(row["first"] == 0.25 and row["inherited"] > 0 for row in study.table())


def test_the_context_says_what_is_evaluated(tmp_path: Path) -> None:
    seen = []

    def look(model: Small, context: Any) -> float:
        seen.append(context)
        (context.folder / "note.txt").write_text("x")
        return float(torch.rand(()))

    space = archduel.space_of(Small, check=False) + archduel.recipe_space(lr=[0.1, 0.2])
    first = archduel.search_space(space, look, strategy="random", evaluations=3, out=tmp_path / "a", quiet=True)
    second = archduel.search_space(space, look, strategy="random", evaluations=3, out=tmp_path / "b", quiet=True)
    assert [row.score for row in first.evaluations] == [row.score for row in second.evaluations]  # the seed is in the global generators
    assert [context.ordinal for context in seen[:3]] == [0, 1, 2]
    assert {context.recipe["lr"] for context in seen} <= {0.1, 0.2}
    assert seen[0].values["width"] in (4, 8)
    assert (tmp_path / "a" / "evaluations" / "2" / "note.txt").is_file()
