"""What a run says came out, in numbers worked out by hand: gains, agreement of stages, sizes, the weakest classes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archduel.commands.search import result as module
from archduel.commands.search.final import FinalNetwork, FinalStage
from archduel.commands.search.report import _costs, _how_far, _title
from archduel.commands.search.result import gain, result_of
from archduel.commands.search.stages import Selection
from archduel.commands.search.words import (
    compared_rung,
    guessing_sentence,
    ranking_sentence,
    start_sentences,
    warnings_of,
)
from archduel.core import Arch, Cost, Estimate
from archduel.data import Preprocessing
from archduel.errors import StateError
from archduel.testing.toy import ToySpace
from archduel.training.recipe import Recipe

A, B, C, D = (Arch("toy", (n,)) for n in range(4))


def network(arch: Arch = A, test: tuple[float, ...] = (0.9, 0.8), macs: int = 1000) -> dict[str, Any]:
    return {"arch": str(arch), "macs": macs, "test": {"accuracy": list(test)}}


def test_gains_are_paired_differences_and_say_the_size() -> None:
    networks = {"search": network(), "random": network(B, (0.7, 0.7), 500), "standard": network(C, (0.9, 0.8), 960)}
    gains = module._gains(networks, "accuracy", 50)
    assert gains["random"]["differences"] == [pytest.approx(0.2), pytest.approx(0.1)]
    assert gains["random"]["interval"]["value"] == pytest.approx(0.15)
    assert "random search at equal cost" in gains["random"]["sentence"]
    assert "95 % interval covers training seeds only (n = 2)" in gains["random"]["sentence"]
    assert gains["random"]["sentence"].endswith(" The search's network makes 2 times its multiply-adds (0.001 M against 0.0005 M).")
    assert "the standard small ResNet" in gains["standard"]["sentence"]
    assert "interval covers" not in gains["standard"]["sentence"]  # said once
    assert "multiply-adds" not in gains["standard"]["sentence"]  # 4 % are alike
    assert gains["standard"]["interval"]["low"] <= -0.02  # one image of fifty each way
    assert list(module._gains({"search": network(), "standard": network(C)}, "accuracy", 50)) == ["standard"]


def test_the_same_network_is_nothing_to_compare() -> None:
    gains = module._gains({"search": network(), "random": network()}, "accuracy", 50)
    assert gains["random"]["sentence"] == "The search and random search at equal cost chose the same network; there is nothing to compare."


@pytest.mark.parametrize(("ours", "theirs", "said"), [(105, 100, True), (104, 100, False), (96, 100, False), (95, 100, True)])
def test_a_difference_in_size_of_five_hundredths_is_said(ours: int, theirs: int, said: bool) -> None:
    assert bool(module._size_sentence(ours, theirs)) == (said and abs(ours / theirs - 1) >= 0.05)


def selection(**changes: Any) -> Selection:
    values = {
        "search": ((A, 0.1), (B, 0.2), (C, math.nan)), "random": ((D, 0.3),), "shortlists": ((A, B), (D,)), "reevaluated": {A: 0.5, B: 0.6, D: 0.4, C: math.nan},
        "winner": B, "random_winner": D, "seconds": {"label": 1.23456}, "steps": ({"loss": 1.0},), **changes,
    }  # fmt: skip
    return Selection(**values)


def taus(chosen: Selection, tests: dict[Arch, tuple[float, ...]]) -> dict[tuple[str, str], tuple[int, float | None]]:
    networks = {str(arch): network(arch, test) for arch, test in tests.items()}
    return {(row["first"], row["second"]): (row["n"], row["tau"]) for row in module._agreement(chosen, networks, "accuracy")}


def test_stages_are_compared_on_what_both_judged() -> None:
    found = taus(selection(), {A: (0.8,), B: (0.9, 0.95)})
    assert found == {("label", "re-evaluation"): (3, pytest.approx(-1 / 3)), ("re-evaluation", "final test"): (2, pytest.approx(1.0))}
    assert taus(selection(), {A: (0.95, 0.95), B: (0.9,)})["re-evaluation", "final test"] == (2, pytest.approx(-1.0))
    assert taus(selection(), {A: (0.8, 1.0), B: (0.89, 0.89)})["re-evaluation", "final test"][1] == pytest.approx(-1.0)  # means of seeds
    assert taus(selection(reevaluated={A: 0.5}), {A: (0.8,)}) == {("label", "re-evaluation"): (1, None), ("re-evaluation", "final test"): (1, None)}


def test_shared_weights_are_compared_with_trainings_alone() -> None:
    chosen = selection(shared_scores={A: 0.9, B: 0.8, D: 0.7, C: 0.1}, random=((D, 0.3), (A, 0.2)))
    found = taus(chosen, {B: (0.9,)})
    assert found["shared weights", "label"] == (2, pytest.approx(-1.0))  # random ones alone: the search's scores are of another kind
    assert found["shared weights", "re-evaluation"] == (3, pytest.approx(1 / 3))
    assert found["label", "re-evaluation"] == (2, pytest.approx(-1.0))
    assert list(found)[:2] == [("shared weights", "label"), ("shared weights", "re-evaluation")]


def test_a_matrix_of_two_and_more_where_there_is_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = SimpleNamespace(prob=lambda first, second: np.full(len(first), 0.123456))
    strategy: Any = SimpleNamespace(ranker=ranker)
    found = module._win_matrix(strategy, "ctnas", [A, B])
    assert found is not None
    assert found["archs"] == ["toy:0", "toy:1"]
    assert np.array(found["probabilities"]).shape == (2, 2)
    assert 0.1235 in np.array(found["probabilities"])
    assert module._win_matrix(strategy, "ctnas", [A]) is None
    assert module._win_matrix(strategy, "random", [A, B]) is None  # takes no ranker
    assert module._win_matrix(SimpleNamespace(), "ctnas", [A, B]) is None  # type: ignore[arg-type]

    def nothing(*_: Any) -> Any:
        raise StateError("all labels are equal")

    monkeypatch.setattr(module, "win_matrix", nothing)
    assert module._win_matrix(strategy, "ctnas", [A, B]) is None


def row(rung: int, number: int, role: str) -> dict[str, Any]:
    return {"rung": rung, "number": number, "role": role}


@pytest.mark.parametrize(
    ("rows", "rung"),
    [
        ([], None),
        ([row(0, 1, "search"), row(0, 1, "random")], None),  # one network
        ([row(0, 1, "search"), row(0, 2, "search")], 0),
        ([row(0, 1, "search"), row(0, 2, "random"), row(1, 1, "search"), row(1, 2, "start")], 0),  # the start is the search's
        ([row(0, 1, "search"), row(0, 2, "random"), row(1, 1, "search"), row(1, 2, "random")], 1),
        ([row(0, 1, "search"), row(0, 2, "random"), row(2, 1, "search"), row(1, 1, "search"), row(1, 2, "standard")], 1),
    ],
)
def test_the_rung_at_which_most_kinds_stood(rows: list[dict[str, Any]], rung: int | None) -> None:
    assert compared_rung(rows) == rung


def result(scores: tuple[float, ...] = (0.5,), **changes: Any) -> dict[str, Any]:
    winner = {"text": "the text", "test": {"balanced_accuracy": list(scores)}, "params": 12345, "macs": 6789012, "confusion": [[9, 1], [0, 10]]}
    return {
        "metric": "balanced_accuracy", "networks": {"search": winner}, "data": {"splits": {"test": 1234}, "classes": ["cat", "dog"]},
        "gain": {"random": {"sentence": "It gained."}}, "agreement": [], **changes,
    }  # fmt: skip


def test_what_a_person_is_told() -> None:
    assert gain(result()) == [
        "winner  the text", "        test balanced accuracy 50.00% (of 1,234 images), 12,345 parameters, 6,789,012 multiply-adds", "        weakest classes: cat 90%",
        "It gained.",
    ]  # fmt: skip
    assert "75.00% (mean of 2 trainings)" in gain(result((0.5, 1.0)))[1]
    fast = result()
    fast["networks"]["search"]["latency_ms"] = 0.12345
    assert gain(fast)[1].endswith("multiply-adds, 0.12 ms an image")


@pytest.mark.parametrize(
    ("confusion", "weakest"),
    [
        ([[1, 1, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 9, 0], [0, 0, 1, 0, 1]], ["        weakest classes: a 50%, e 50%, b 75%"]),
        ([[1, 0], [0, 1]], []),
        ([[0, 2], [0, 2]], ["        weakest classes: a 0%"]),
    ],
)
def test_the_three_weakest_classes(confusion: list[list[int]], weakest: list[str]) -> None:
    known = result(data={"splits": {"test": 9}, "classes": list("abcde")})
    known["networks"]["search"]["confusion"] = confusion
    assert module._weakest(known) == weakest


def ranked(tau: float | None, low: float | None, high: float | None, second: str = "label") -> str:
    return ranking_sentence({"agreement": [{"first": "label", "second": "label"}, {"first": "shared weights", "second": second, "tau": tau, "low": low, "high": high, "n": 7}]})


def test_what_scores_of_shared_weights_were_worth() -> None:
    said = "Kendall tau 0.50, 95 % interval 0.10 to 0.90, n = 7 random cells trained alone with the cheap recipe"
    assert ranked(0.5, 0.1, 0.9) == f"The shared weights rank cells better than chance: {said}."
    assert ranked(0.5, 0.0, 0.9).startswith("The shared weights may rank cells at random: Kendall tau 0.50, 95 % interval 0.00")
    assert ranked(0.5, None, 0.9) == ranked(0.5, 0.1, None)
    assert ranked(0.5, None, None).startswith("The shared weights may rank cells at random: Kendall tau 0.50, n = 7")
    assert ranked(None, None, None).startswith("How well the shared weights rank is not known: 7 random cells")
    assert ranked(0.5, 0.1, 0.9, "re-evaluation") == ""
    assert ranking_sentence({"agreement": []}) == ""
    assert gain({**result(), "agreement": [{"first": "shared weights", "second": "label", "tau": None, "low": None, "high": None, "n": 1}]})[-1].startswith("How well")


def test_all_of_a_result() -> None:
    images: Any = SimpleNamespace(
        name="x", classes=("a", "b"), train=range(6), validation=range(3), test=range(4), fingerprint="f", flip=True, in_channels=1, n_classes=2,
        preprocessing=Preprocessing(8, "L", "crop", (0.5,), (0.25,), (0.0, 1.0)), warnings=("w",), skipped={"file": "why"}, facts={"k": 1},
    )  # fmt: skip
    seeds = (11, 12)
    trainings = {(str(B), seed): Estimate(0.5, Cost(1.0), {"params": 7, "macs": 9, "history": [{"epoch": seed}]}) for seed in seeds}
    tests = [{"role": "search", "seed": seed, "accuracy": seed / 100, "balanced_accuracy": 0.2, "macro_f1": 0.3, "ece": 0.4, "confusion": [[seed]]} for seed in seeds]
    final = FinalStage([FinalNetwork("search", B, seeds)], "final@7", trainings, [*tests, {"role": "random"}], 5.43216)
    plan: Any = SimpleNamespace(final=Recipe(channels=8, depth=2, image_size=8), to_json=lambda: {"a": "plan"})
    found = result_of(
        selection(), final, settings=SimpleNamespace(metric="accuracy", strategy="random"), plan=plan, space=ToySpace(), dataset=images,  # type: ignore[arg-type]
        strategy=SimpleNamespace(), clock=12.3456,  # type: ignore[arg-type]
    )  # fmt: skip
    winner = found.pop("networks")["search"]
    assert {name: winner[name] for name in ("arch", "params", "macs", "seeds", "confusion", "folders", "history")} == {
        "arch": "toy:1", "params": 7, "macs": 9, "seeds": [11, 12], "confusion": [[11]], "folders": ["networks/search-11", "networks/search-12"],
        "history": [[{"epoch": 11}], [{"epoch": 12}]],
    }  # fmt: skip
    assert winner["test"] == {"accuracy": [0.11, 0.12], "balanced_accuracy": [0.2] * 2, "macro_f1": [0.3] * 2, "ece": [0.4] * 2}
    data = found.pop("data")
    assert data["splits"] == {"train": 6, "validation": 3, "test": 4}
    assert data["preprocessing"] == {"size": 8, "mode": "L", "rule": "crop", "mean": [0.5], "std": [0.25], "value_range": (0.0, 1.0)}
    assert (data["name"], data["classes"], data["warnings"], data["skipped"], data["facts"], data["flip"]) == ("x", ["a", "b"], ["w"], {"file": "why"}, {"k": 1}, True)
    assert [row["n"] for row in found.pop("agreement")] == [3, 1]
    assert found == {
        "metric": "accuracy", "gain": {}, "search": [["toy:0", 0.1], ["toy:1", 0.2], ["toy:2", None]], "random": [["toy:3", 0.3]],
        "reevaluated": {"toy:0": 0.5, "toy:1": 0.6, "toy:3": 0.4, "toy:2": None}, "shortlists": [["toy:0", "toy:1"], ["toy:3"]], "steps": [{"loss": 1.0}],
        "comparator": None, "core_seconds": {"label": 1.235, "final": 5.432}, "clock": 12.35,
        "scale": {"channels": 8, "depth": 2, "image_size": 8, "in_channels": 1, "n_classes": 2}, "fidelity": "final@7", "plan": {"a": "plan"},
    }  # fmt: skip


def test_the_cost_of_a_race_is_all_of_its_training_in_seconds() -> None:
    rungs = [{"event": "rung", "number": n, "cost": passes, "seconds": seconds} for n, passes, seconds in ((0, 1.0, 2.0), (1, 1.0, 3.0), (0, 2.0, 5.0))]
    last = [{"event": "lesson", "seconds": 4.0}, {"event": "trained", "number": 0, "seconds": 25.0}]
    further = [{"event": "saved", "number": 1, "done": done} for done in (10.0, 28.5)]
    rows = _costs([*rungs, *last, *further])
    assert [(row["stage"], row["seconds"], row["evaluations"]) for row in rows] == [
        ("race", 8.0, 3), ("teacher", 4.0, 1), ("last training", 20.0, 1), ("trained on", 28.5, 1),
    ]  # fmt: skip
    assert _how_far([*rungs, *last]).startswith("This run is not finished (0 s; trainings so far: 3 x race, 1 x teacher, 1 x last training)")
    assert _costs([]) == []


@pytest.mark.parametrize(
    ("data", "title"), [("digits", "digits"), ("a/flowers/", "flowers"), ("hf:flowers", "hf:flowers"), (".", "pictures"), ("..", "pictures"), ("./", "pictures")]
)
def test_a_report_is_called_like_the_folder_of_images(data: str, title: str) -> None:
    assert _title(data, {"place": {"path": "/home/me/pictures", "relative": ".."}}) == title
    assert _title("digits", {}) == "digits"


@pytest.mark.parametrize(
    ("confusion", "metric", "said"),
    [
        ([[30, 0], [70, 0]], "accuracy", True),  # always a; always b would be right more often
        ([[3, 27], [2, 68]], "accuracy", True),  # 71 of 100: 61 to 79 %
        ([[20, 10], [2, 68]], "accuracy", False),
        ([[0, 30], [0, 70]], "balanced_accuracy", False),  # weighs classes otherwise
    ],
)
def test_a_network_that_does_no_better_than_a_guess_is_said_to_be_that(confusion: list[list[int]], metric: str, said: bool) -> None:
    known = {"metric": metric, "data": {"classes": ["a", "b"]}, "networks": {"search": {"confusion": confusion}}}
    sentence = guessing_sentence(known)
    assert bool(sentence) == said
    assert not said or sentence.startswith("who always says 'b' is right on 70.0 % of these test images, and this network is not known to do better")


def test_advice_that_was_taken_is_not_given_again() -> None:
    found = ["classes are unbalanced: 36 of 'a', 6 of 'b'; consider balanced_accuracy or macro_f1 as the metric", "3 images are there twice"]
    assert warnings_of(found, "accuracy") == found
    assert warnings_of(found, "macro_f1") == ["classes are unbalanced: 36 of 'a', 6 of 'b'", found[1]]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("accuracy", "the best pretrained network was right on 25.0 % of the validation images, the best from scratch on 11.0 %."),
        ("balanced_accuracy", "the best pretrained network came to a balanced accuracy of 25.0 % on the validation images, the best from scratch to 11.0 %."),
    ],
)
def test_two_starts_are_compared_in_the_metric_of_the_run(metric: str, said: str) -> None:
    candidates = [{"arch": arch, "curve": [{"accuracy": share, "score": share}]} for arch, share in (("pretrained:0", 0.25), ("stages:0", 0.11))]
    told = start_sentences({"metric": metric, "start": {"sentence": "start: both", "known": ["pretrained"], "probes": []}, "race": {"candidates": candidates}})
    assert told == ["Start: both.", f"At equal training {said}"]
