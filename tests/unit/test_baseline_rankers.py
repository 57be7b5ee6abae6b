"""ReNAS and the baselines: they learn an order, repeat exactly, come back from disk, refuse bad input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_spaces import CellSpace, VectorSpace

from archduel import registry
from archduel.core import Arch
from archduel.core.storage import load_state, save_state
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.rankers.neural_regression import GCN, OneHotMLP
from archduel.rankers.regressors import Boosting, ExtraTrees, ScikitLearn
from archduel.rankers.renas import VARIANTS, ReNAS, distances, inconsistency
from archduel.spaces.nasbench201.space import NASBench201

Space = CellSpace | VectorSpace


class DescribedCells(CellSpace):
    """Cells with features."""

    def features(self, archs: Any) -> Any:
        return np.eye(3, dtype=np.float32)[[arch.choices for arch in archs]].reshape(len(archs), 3 * self.n)


RANKERS: dict[str, Callable[..., Any]] = {
    "renas": lambda space, seed=0: ReNAS(space, epochs=60, check=5, seed=seed),
    "gcn": lambda space, seed=0: GCN(space, embedding_dim=16, epochs=150, lr=5e-3, seed=seed),
    "onehot_mlp": lambda space, seed=0: OneHotMLP(space, width=32, epochs=100, lr=5e-3, seed=seed),
    "boosting": lambda space, seed=0: Boosting(space, trees=60, lr=0.1, seed=seed),
    "extratrees": lambda space, seed=0: ExtraTrees(space, trees=30, seed=seed),
    "sklearn": lambda space, seed=0: ScikitLearn(
        space, regressor="sklearn.neural_network.MLPRegressor", settings={"solver": "lbfgs", "hidden_layer_sizes": [8]}, seed=seed
    ),
}
SPACES = {"cells": DescribedCells(), "vector": VectorSpace()}


@pytest.fixture(params=list(RANKERS))
def made(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "boosting":
        pytest.importorskip("lightgbm", reason="needs lightgbm, the extra `predictors`")
    return RANKERS[request.param]


def toy(space: Space, n: int = 60) -> tuple[list[Arch], np.ndarray]:
    """Returns architectures and labels that count operation 2."""
    rng = np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(n)))
    return archs, np.array([sum(c == 2 for c in arch.choices) / 8 for arch in archs])


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_it_learns_the_order_and_says_how_sure_it_is(made: Callable[..., Any], space: Space) -> None:
    archs, labels = toy(space)
    ranker = made(space)
    ranker.fit(archs[:40], labels[:40])
    scores = ranker.predict(archs)
    assert scores.dtype == np.float64
    assert np.corrcoef(scores[:40], labels[:40])[0, 1] > 0.8
    assert np.corrcoef(scores[40:], labels[40:])[0, 1] > 0.5
    there, back = ranker.prob(archs[:20], archs[20:40]), ranker.prob(archs[20:40], archs[:20])
    np.testing.assert_allclose(there + back, 1, atol=1e-9)
    assert ((there > 0.5) == (scores[:20] > scores[20:40]))[scores[:20] != scores[20:40]].all()
    assert ranker.predict([]).shape == (0,)


def test_the_same_seed_repeats_from_whatever_global_state_and_leaves_it_alone(made: Callable[..., Any]) -> None:
    space = SPACES["cells"]
    archs, labels = toy(space)
    answers = []
    for start in (1, 2):
        torch.manual_seed(start)
        np.random.seed(start)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        ranker = made(space, seed=3)
        ranker.fit(archs[:30], labels[:30])
        answers.append((ranker.predict(archs), ranker.prob(archs[:5], archs[5:10])))
        assert torch.equal(before[0], torch.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    for first, second in zip(*answers):
        assert np.array_equal(first, second)


def test_a_saved_state_gives_the_same_answers(made: Callable[..., Any], tmp_path: Path) -> None:
    space = SPACES["cells"]
    archs, labels = toy(space)
    ranker, other = made(space), made(space)
    assert ranker.state_dict() == {}
    ranker.fit(archs[:30], labels[:30])
    save_state(tmp_path / "ranker.safetensors", ranker.state_dict())
    other.load_state_dict(load_state(tmp_path / "ranker.safetensors"))
    assert np.array_equal(ranker.predict(archs), other.predict(archs))
    assert np.array_equal(ranker.prob(archs[:9], archs[9:18]), other.prob(archs[:9], archs[9:18]))


def test_bad_input_is_refused(made: Callable[..., Any]) -> None:
    space = SPACES["cells"]
    archs, labels = toy(space)
    ranker = made(space)
    with pytest.raises(StateError, match="fit"):
        ranker.predict(archs)
    with pytest.raises(SettingError, match="nan"):
        ranker.fit(archs[:3], [0.1, float("nan"), 0.2])
    with pytest.raises(SettingError, match="two distinct"):
        ranker.fit(archs[:3], [0.5] * 3)
    elsewhere = Arch("elsewhere", archs[0].choices)
    with pytest.raises(InvalidArchError, match="elsewhere"):
        ranker.fit([elsewhere, *archs[1:3]], labels[:3])
    ranker.fit(archs[:3], [0.1, 0.2, 0.3])
    with pytest.raises(InvalidArchError, match="elsewhere"):
        ranker.predict([elsewhere])
    with pytest.raises(SettingError, match="pairs"):
        ranker.prob(archs[:2], archs[:1])


def test_a_repeated_architecture_counts_once_with_its_mean_label(made: Callable[..., Any]) -> None:
    space = SPACES["cells"]
    archs, labels = toy(space, 20)
    one, twice = made(space), made(space)
    one.fit(archs, labels)
    twice.fit([*archs, archs[3]], [*labels[:3], labels[3] - 0.25, *labels[4:], labels[3] + 0.25])
    assert np.array_equal(one.predict(archs), twice.predict(archs))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", [None, "hinge", "exponential"])
def test_every_variant_and_loss_of_renas_learns(variant: int, loss: str | None) -> None:
    archs, labels = toy(SPACES["cells"], 40)
    settings = {**VARIANTS[variant], **({"loss": loss} if loss else {})}
    ranker = ReNAS(SPACES["cells"], epochs=40, **settings)
    ranker.fit(archs, labels)
    assert np.corrcoef(ranker.predict(archs), labels)[0, 1] > 0.8


def test_what_a_cell_computes_can_be_seen_by_trees_too() -> None:
    space = NASBench201()
    archs = [space.at(i) for i in range(0, 15_625, 125)]
    labels = [float(arch.choices.count(3)) + 0.1 * arch.choices[0] for arch in archs]
    graph, effect = (ExtraTrees(space, trees=10, view=view) for view in ("graph", "effect"))
    for ranker in (graph, effect):
        ranker.fit(archs[:60], labels[:60])
    # equal functions have equal effects, so their scores are equal too; as graphs they differ
    same: dict[str, list[Arch]] = {}
    for arch in archs:
        same.setdefault(space.fingerprint(arch), []).append(arch)
    groups = [group for group in same.values() if len(group) > 1]
    assert len(groups) > 3
    assert all(np.ptp(effect.predict(group)) == 0 for group in groups)
    assert any(np.ptp(graph.predict(group)) > 0 for group in groups)
    with pytest.raises(SettingError, match="'effect' or 'graph'"):
        ExtraTrees(space, view="cells")


def test_ranks_as_target_ignore_how_far_a_label_is_off() -> None:
    archs, labels = toy(SPACES["cells"])
    answers = []
    for lowest in (-0.1, -100.0):
        forest = ExtraTrees(SPACES["cells"], trees=30, target="rank")
        forest.fit(archs, np.where(np.arange(len(archs)) == 7, lowest, labels))
        answers.append(forest.predict(archs))
    assert np.array_equal(*answers)
    with pytest.raises(SettingError, match="rank"):
        ExtraTrees(SPACES["cells"], target="best")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "l2"}, "logistic"), ({"tensor": "half"}, "full"), ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch_size": 1}, "batch_size is 1, expected at least 2"), ({"lr": 0.0}, "lr is 0.0, expected more than 0"),
        ({"consistency": -1.0}, "consistency is -1.0, expected at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ReNAS(VectorSpace(), **settings)


def test_a_state_of_another_form_is_refused() -> None:
    archs, labels = toy(SPACES["cells"], 20)
    ranker = ReNAS(SPACES["cells"], epochs=2)
    ranker.fit(archs, labels)
    with pytest.raises(StateError, match="toy_vector"):
        ReNAS(VectorSpace()).load_state_dict(ranker.state_dict())
    forest = RANKERS["sklearn"](SPACES["cells"])
    forest.fit(archs, labels)
    with pytest.raises(StateError, match="same settings"):
        ScikitLearn(SPACES["cells"]).load_state_dict(forest.state_dict())


@pytest.mark.parametrize(
    "name", ["os.system", "sklearn.datasets.load_iris", "sklearn.svm.SVC", "sklearn.svm.nothing", "sklearn.ensemble._base.X", "SVR"]
)
def test_only_regressors_of_scikit_learn_are_taken(name: str) -> None:
    with pytest.raises(SettingError, match="regressor"):
        ScikitLearn(VectorSpace(), regressor=name)


def test_unknown_settings_of_a_regressor_are_named() -> None:
    with pytest.raises(SettingError, match="C"):
        ScikitLearn(VectorSpace(), regressor="sklearn.svm.SVR", settings={"c": 1})


def test_without_lightgbm_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    archs, labels = toy(SPACES["vector"], 20)
    with pytest.raises(SettingError, match=r"archduel\[predictors\]"):
        Boosting(SPACES["vector"]).fit(archs, labels)


@pytest.mark.parametrize("name", RANKERS)
def test_the_menu_has_it(name: str) -> None:
    assert registry.entry("ranker", name) is type(RANKERS[name](SPACES["cells"]))


def test_the_consistency_term_brings_features_nearer_to_the_order_of_distances() -> None:
    space, rng = SPACES["cells"], np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(40)))
    labels = rng.random(len(archs))
    left = []
    for weight in (0.0, 20.0):
        ranker = ReNAS(space, epochs=30, check=0, consistency=weight)
        ranker.fit(archs, labels)
        model, scale, *_ = ranker._require_fit()
        x = (ranker._tensors(archs) - scale.mean) * scale.factor
        with torch.no_grad():
            left.append(float(inconsistency(model.eval()(x)[1], distances(x))))
    assert left[1] < 0.5 * left[0]


def test_the_weights_of_the_best_agreement_on_the_way_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    space, rng = SPACES["cells"], np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(12)))
    said = iter([0.1, 0.7, 0.3, 0.2])
    seen: list[torch.Tensor] = []

    def agreement(scores: torch.Tensor, labels: torch.Tensor) -> float:
        seen.append(scores.clone())
        return next(said)

    monkeypatch.setattr("archduel.rankers.renas._agreement", agreement)
    ranker = ReNAS(space, epochs=4, check=1)
    ranker.fit(archs, np.arange(len(archs)) / 12)
    found = ranker.predict(archs)
    gaps = [float(np.abs(found - scores.double().numpy()).max()) for scores in seen]
    assert int(np.argmin(gaps)) == 1
    assert gaps[1] < 1e-5
