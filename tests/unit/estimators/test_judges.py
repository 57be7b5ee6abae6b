"""The one judge: what a fidelity means, which splits are scored, what is trained together, alone and in workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Estimate, Query, evaluation_seed, parse
from archduel.core.storage import load_state
from archduel.errors import SettingError, UnknownNameError
from archduel.estimators.judges import Finals, Groups, Judge, final_weights, recipe_of
from archduel.estimators.training import TrainingEstimator
from archduel.execution import Processes, Sequential
from archduel.fusing.judging import FusedPlan
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe, recipe_text

RECIPE = Recipe(epochs=1, batch_size=10, lr=0.02, channels=2, depth=1, image_size=8, crop_pad=1)
ARCHS = [parse(f"nasbench201:{text}") for text in ("3.2.1.4.0.3", "3.3.3.3.3.3", "0.1.0.4.2.0", "2.2.2.2.2.2")]


def pixels(seed: int, n: int = 30) -> Pixels:
    rng = np.random.default_rng(seed)
    return Pixels(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, n), (0.5,), (0.25,))


def judge(**settings: Any) -> Judge:
    recipes = {"label": RECIPE, "reevaluate": RECIPE, "final": RECIPE}
    return Judge(pixels(0), settings.pop("scored", {"validation": pixels(1)}), recipes, 3, 4, **settings)


def plain(estimate: Estimate) -> dict[str, Any]:
    """What of an estimate does not depend on the clock."""
    values = {name: value for name, value in estimate.values.items() if name != "history"}
    return {"score": estimate.score, "reason": estimate.reason, **values}


def test_a_fidelity_is_a_name_a_name_with_epochs_or_a_text() -> None:
    recipes = {"label": RECIPE}
    assert recipe_of("label", recipes) == RECIPE
    assert recipe_of("label@3", recipes) == RECIPE.with_(epochs=3.0)
    assert recipe_of(recipe_text(RECIPE), {}) == RECIPE
    with pytest.raises(UnknownNameError, match="did you mean 'label'"):
        recipe_of("labels", recipes)
    with pytest.raises(SettingError, match="not a recipe"):
        recipe_of("{epochs", recipes)


def test_it_trains_as_the_estimator_does_whatever_the_fidelity_is_called() -> None:
    alone = TrainingEstimator(pixels(0), pixels(1), {"cheap": RECIPE}, n_classes=3, run_seed=4)
    expected = plain(alone.judge(Query(ARCHS[0]), 7))
    by_text = replace(judge(), recipes={})()
    assert plain(judge()()(Query(ARCHS[0]), 7)) == expected
    assert plain(by_text(Query(ARCHS[0], recipe_text(RECIPE)), 7)) == expected
    longer = judge()()(Query(ARCHS[0], "reevaluate@2"), 7)
    assert longer.values["epochs"] == 2
    assert plain(judge()()(Query(ARCHS[0]), 7)) != plain(longer)


def test_curves_are_for_the_recipes_that_want_them() -> None:
    judging = judge(curves=("reevaluate",))()
    first, second = (judging(Query(ARCHS[0], name), 7).values["history"] for name in ("reevaluate@1", "label"))
    assert set(first[0]) - set(second[0]) == {"val_loss", "val_accuracy"}


def test_a_search_sees_the_splits_it_gives_and_a_table_two() -> None:
    table = judge(scored={"validation": pixels(1), "test": pixels(2)})()
    search, other = (judge(scored={"validation": pixels(seed)})() for seed in (1, 2))
    both = table(Query(ARCHS[0]), 7)
    assert both.score == search(Query(ARCHS[0]), 7).score
    assert both.values["test"] == other(Query(ARCHS[0]), 7).score
    assert "test" not in search(Query(ARCHS[0]), 7).values


def test_final_trainings_keep_their_weights_and_have_no_score(tmp_path: Path) -> None:
    judging = judge(finals=Finals("final", pixels(3), tmp_path))()
    estimate = judging(Query(ARCHS[0], "final@1"), 7)
    weights = load_state(final_weights(tmp_path, ARCHS[0], "final@1", 7))["weights"]
    assert estimate.score == 0.0
    assert "val_accuracy" not in estimate.values
    assert sum(np.asarray(value).size for value in weights.values()) >= estimate.values["params"]


@pytest.mark.parametrize("workers", [0, 2])
def test_groups_agree_with_one_by_one_here_and_in_workers(workers: int) -> None:
    made = judge()
    assert pickle.loads(pickle.dumps(made)).recipes == made.recipes
    queries = [*(Query(arch, "label") for arch in ARCHS), Query(ARCHS[0], "reevaluate@1")]
    groups = Groups(3, made, fidelities=("label",))
    alone = list(Sequential(made(), run_seed=4).run(queries, range(5)))
    if workers:
        with Processes(made, workers=workers, run_seed=4, at_once=groups) as executor:
            together = list(executor.run(queries, range(5)))
    else:
        together = list(Sequential(made(), run_seed=4, at_once=groups).run(queries, range(5)))
    assert [one.values.get("fused") for one in together] == [3, 3, 3, None, None]
    for one, other in zip(alone, together):
        assert other.values["val_loss"] == pytest.approx(one.values["val_loss"], abs=1e-4)


def test_what_is_a_group_follows_from_the_order_of_the_questions_alone() -> None:
    queries = [Query(arch, name) for arch, name in zip((*ARCHS, *ARCHS), "aaaaabbb")]
    seeds = [evaluation_seed(4, i) for i in range(8)]
    groups = Groups(3, judge())
    assert groups(queries, seeds) == 3
    assert groups(queries[3:], seeds[3:]) == 2
    assert groups(queries[7:], seeds[7:]) == 1
    assert groups(queries, [5, 5, *seeds[2:]]) == 2  # the trainings of one run of a table have one seed
    assert Groups("off", judge())(queries, seeds) == 1
    assert Groups(3, judge(), fidelities=("b",))(queries, seeds) == 1
    for wrong in (0, "many", -1):
        with pytest.raises(SettingError, match="'auto', 'off' or a number"):
            Groups(wrong, judge())


def test_automatic_groups_are_measured_once_a_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def plan(self: Judge, archs: Any, fidelity: str, most: int, sharing: int) -> FusedPlan:
        asked.append(fidelity)
        return FusedPlan(2, 1.0, {2: 0.4}, 0)

    monkeypatch.setattr(Judge, "plan", plan)
    groups = Groups("auto", judge())
    queries, seeds = [Query(arch, "label") for arch in ARCHS], [1, 2, 3, 4]
    assert [groups(queries, seeds), groups(queries[2:], seeds[2:]), groups(queries[3:], seeds[3:])] == [2, 2, 1]
    assert asked == ["label"]
    assert groups([Query(arch) for arch in ARCHS], seeds) == 2  # without a fidelity: the judge's first recipe
    assert asked == ["label"]


def test_how_many_is_measured_on_networks_of_the_recipe() -> None:
    plan = judge().plan(ARCHS, "label@2", 16)
    assert plan.alone > 0
    assert plan.k in (1, *plan.together)
    assert set(plan.together) <= {8, 16}
    impossible = judge().plan([parse("nasbench201:0.0")], "label", 4)
    assert (impossible.k, bool(impossible.reason)) == (1, True)


FIRST = """
import sys
import numpy as np
from archduel.core import Arch, Query
from archduel.estimators.judges import Judge
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
rng = np.random.default_rng(0)
images = Pixels(rng.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8), np.arange(24) % 2, (0.5,), (0.2,))
recipe = Recipe(epochs=1, batch_size=8, channels=4, depth=1, image_size=8)
judge = Judge(images, {"validation": images}, {"label": recipe}, 2, 0)()
query = Query(Arch("nasbench201", (1, 2, 3, 4, 0, 1)))
print(judge(query, 0).reason, *sorted({"torch._inductor", "torch._dynamo", "sympy"} & set(sys.modules)))
"""


def test_the_first_training_of_a_worker_pays_for_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "", done.stderr
