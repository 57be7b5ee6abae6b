"""The training estimator: right images, right seeds, failures in words, the same answer anywhere."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from estimator_task import RECIPES, estimator, factory

from archduel.core import Arch, Query, Scale, evaluation_seed
from archduel.errors import SettingError, UnknownNameError
from archduel.estimators import training
from archduel.execution import Processes, Sequential
from archduel.spaces import family as nets
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate

CELL = Arch("nasbench201", (3, 2, 1, 0, 3, 1))
OTHER = Arch("nasbench201", (2, 2, 3, 1, 1, 0))


@pytest.fixture(autouse=True)
def _global_state_is_left_alone():
    before = torch.get_rng_state(), torch.get_num_threads()
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


def test_what_an_estimate_holds() -> None:
    estimate = estimator().judge(Query(CELL), 1)
    counts = nets.count(CELL, Scale(4, 1, 8, 1, 3))
    assert estimate.reason == ""
    assert 0.5 < estimate.score <= 1
    assert estimate.cost.images == 4 * 60
    assert estimate.cost.seconds > 0
    values = estimate.values
    assert (values["params"], values["macs"], values["epochs"]) == (*counts, 4)
    assert values["val_accuracy"] == estimate.score
    assert values["train_loss"] == values["history"][-1]["train_loss"]
    json.dumps(estimate.values)  # goes into the journal as it is


def test_the_seed_decides_everything() -> None:
    first, again, other = (estimator().judge(Query(CELL), seed) for seed in (1, 1, 2))
    assert (first.score, first.values) == (again.score, again.values)
    assert first.values["history"] != other.values["history"]
    networks = [estimator().network(CELL, RECIPES["cheap"], seed).state_dict() for seed in (1, 1, 2)]
    name = next(name for name in networks[0] if name.endswith("weight"))
    assert torch.equal(networks[0][name], networks[1][name])
    assert not torch.equal(networks[0][name], networks[2][name])


def test_fidelity_names_the_recipe() -> None:
    judge = estimator().judge
    assert judge(Query(CELL, "longer"), 1).cost.images == 5 * 60
    assert judge(Query(CELL, "half"), 1).cost.images == 4 * 30
    with pytest.raises(UnknownNameError, match="did you mean 'longer'"):
        judge(Query(CELL, "long"), 1)


def test_the_images_of_a_fraction_depend_on_the_run_alone(monkeypatch) -> None:
    seen: list[Pixels] = []
    real = training.train
    monkeypatch.setattr(training, "train", lambda model, pixels, *a, **k: seen.append(pixels) or real(model, pixels, *a, **k))
    for run_seed, seed in ((0, 1), (0, 2), (5, 1)):
        estimator(run_seed=run_seed).judge(Query(CELL, "half"), seed)
    rows = [set(pixels._rows.tolist()) for pixels in seen]
    assert rows[0] == rows[1] != rows[2]


def test_estimate_numbers_the_evaluations_and_its_state_goes_on() -> None:
    whole = estimator(run_seed=4)
    answers = whole.estimate([Query(CELL), Query(OTHER)]) + whole.estimate([Query(CELL)])
    expected = [estimator().judge(Query(a), evaluation_seed(4, i)).score for i, a in enumerate((CELL, OTHER, CELL))]
    assert [answer.score for answer in answers] == expected
    resumed = estimator(run_seed=4)
    resumed.load_state_dict({"ordinal": 2})
    assert resumed.estimate([Query(CELL)])[0].values == answers[2].values
    assert resumed.state_dict() == whole.state_dict() == {"ordinal": 3, "groups": {}}


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_the_metric_is_that_of_the_validation_images(metric, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(training, "evaluate", lambda *a, **k: seen.append(evaluate(*a, **k)) or seen[-1])
    judging = estimator(metric=metric)
    estimate = judging.judge(Query(CELL), 1)
    assert judging.metric == f"validation_{metric}"
    assert estimate.score == seen[0].score(metric)
    assert np.array_equal(seen[0].labels, judging.validation.labels.numpy())


def test_failures_are_estimates(monkeypatch) -> None:
    diverged = estimator().judge(Query(CELL, "wild"), 1)
    assert math.isnan(diverged.score)
    assert "not finite" in diverged.reason
    assert diverged.values["params"] > 0
    invalid = estimator().judge(Query(Arch("nasbench201", (9,) * 6)), 1)
    assert invalid.reason.startswith("InvalidArchError")
    nowhere = estimator().judge(Query(Arch("nowhere", (1,))), 1)
    assert "'nowhere'" in nowhere.reason

    def too_large(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(nets, "build", too_large)
    assert "out of memory" in estimator().judge(Query(CELL), 1).reason


def test_an_unfinished_training_continues(tmp_path: Path, monkeypatch) -> None:
    expected = estimator().judge(Query(CELL, "longer"), 1)
    real = training.train

    def killed(*a, **k):
        return real(*a, **k, checkpoint_seconds=0, on_epoch=lambda epoch: (_ for _ in ()).throw(KeyboardInterrupt))

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            estimator(checkpoints=tmp_path).judge(Query(CELL, "longer"), 1)
    assert len(list(tmp_path.iterdir())) == 1
    resumed = estimator(checkpoints=tmp_path).judge(Query(CELL, "longer"), 1)
    assert (resumed.score, resumed.values, resumed.cost.images) == (expected.score, expected.values, expected.cost.images)
    assert list(tmp_path.iterdir()) == []


def test_curves_validate_after_every_epoch() -> None:
    plain, curves = estimator(), estimator(curves=True)
    first, second = plain.judge(Query(CELL), 1), curves.judge(Query(CELL), 1)
    assert first.score == second.score == second.values["history"][-1]["val_accuracy"]
    assert "val_loss" not in first.values["history"][0]


def test_wrong_settings() -> None:
    with pytest.raises(UnknownNameError, match="accuracy"):
        estimator(metric="acuracy")
    with pytest.raises(UnknownNameError, match="recipe 'dear'"):
        estimator(default="dear")
    colour = Pixels(np.zeros((4, 3, 8, 8), np.uint8), [0, 1, 2, 0], (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(SettingError, match="1 channels, validation images 3"):
        training.TrainingEstimator(estimator().train, colour, RECIPES, n_classes=3, run_seed=0)


def test_here_and_in_workers_the_answers_are_the_same() -> None:
    queries = [Query(CELL), Query(OTHER), Query(CELL, "half"), Query(OTHER, "wild")]
    here = list(Sequential(estimator(run_seed=7).judge, run_seed=7).run(queries, range(4)))
    with Processes(factory, workers=2, run_seed=7) as executor:
        there = list(executor.run(queries, range(4)))
    assert [e.score for e in here[:3]] == [e.score for e in there[:3]]
    assert [e.values for e in here] == [e.values for e in there]
    assert here[3].reason == there[3].reason != ""
