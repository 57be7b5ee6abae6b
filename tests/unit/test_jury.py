"""The jury: order, probabilities, uncertainty, equal architectures, saved states, nothing but the labels given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau
from toy_spaces import VectorSpace

from archduel.core import Arch, Scale, parse, sample
from archduel.core.storage import load_state, save_state
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.rankers import best
from archduel.rankers.best import JUDGES, Judges, Jury, fit_judges, fit_process, refine_process
from archduel.spaces import NASBench201
from archduel.spaces.family import count

FAST = {"trees": 40, "reference": 50, "folds": 3}


class Mirrored(VectorSpace):
    """A space in which an architecture and its reverse are equal."""

    def fingerprint(self, arch: Arch) -> str:
        return str(min(arch.choices, arch.choices[::-1]))

    def features(self, archs: list[Arch]) -> np.ndarray:
        return super().features(archs) + super().features([Arch(a.space, a.choices[::-1]) for a in archs])


def toy(n: int = 60, seed: int = 0) -> tuple[VectorSpace, list[Arch], np.ndarray]:
    """Returns a space, architectures and a label that counts operation 2, with noise."""
    space, rng = VectorSpace(), np.random.default_rng(seed)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(n)))
    return space, archs, truth(archs) + rng.normal(0, 0.03, len(archs))


def truth(archs: list[Arch]) -> np.ndarray:
    return np.array([sum(c == 2 for c in a.choices) / 8 for a in archs])


def test_it_orders_unseen_architectures_and_says_how_sure_it_is() -> None:
    space, archs, labels = toy()
    jury = Jury(space, **FAST)
    info = jury.fit(archs, labels)
    assert set(info) == {*(f"weight_{judge}" for judge in JUDGES), "held_out_tau", "noise", "graph"}
    assert info["held_out_tau"] > 0.6
    _, others, _ = toy(seed=1)
    scores = jury.predict(others)
    assert np.corrcoef(scores, truth(others))[0, 1] > 0.9
    deviation = jury.uncertainty([*archs, *others])
    assert (deviation > 0).all()
    assert deviation[: len(archs)].mean() < deviation[len(archs) :].mean()


def test_probabilities_follow_scores_add_up_to_one_and_are_calibrated() -> None:
    space, archs, labels = toy(120)
    jury = Jury(space, **FAST)
    jury.fit(archs, labels)
    _, others, measured = toy(120, seed=1)
    rng = np.random.default_rng(2)
    a, b = rng.integers(len(others), size=(2, 3000))
    first, second = [others[i] for i in a], [others[i] for i in b]
    prob = jury.prob(first, second)
    np.testing.assert_allclose(prob + jury.prob(second, first), 1)
    scores = jury.predict(others)
    assert ((prob > 0.5) == (scores[a] > scores[b]))[a != b].all()
    won = measured[a] > measured[b]
    assert abs(prob[prob > 0.5].mean() - won[prob > 0.5].mean()) < 0.06


def test_equal_architectures_are_one() -> None:
    space = Mirrored()
    _, archs, labels = toy()
    mirrored = [Arch(a.space, a.choices[::-1]) for a in archs]
    single, doubled = Jury(space, **FAST), Jury(space, **FAST)
    single.fit(archs, labels)
    doubled.fit([*archs, *mirrored, archs[0]], [*(labels - 0.01), *(labels + 0.01), labels[0] - 0.01])
    assert np.array_equal(single.predict(archs), single.predict(mirrored))
    np.testing.assert_allclose(single.predict(archs[1:]), doubled.predict(archs[1:]), atol=0.5)
    assert np.corrcoef(single.predict(archs), doubled.predict(archs))[0, 1] > 0.95


def test_costs_are_a_property_of_the_graph_and_accuracies_of_the_effect() -> None:
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(90)))
    weights = -np.array([count(arch, Scale(8, 1, 16, 3, 10)).params for arch in archs], float)
    effect = np.asarray(space.features(archs))[:, 1:9].sum(1) + rng.normal(0, 0.1, len(archs))
    taus = {}
    for view in ("auto", "effect", "graph"):
        jury = Jury(space, view=view, **FAST)
        assert jury.fit(archs[:70], effect[:70])["graph"] == (view == "graph")
        assert jury.fit(archs[:70], weights[:70])["graph"] == (view != "effect")
        taus[view] = kendalltau(jury.predict(archs[70:]), weights[70:])[0]
    assert taus["auto"] == taus["graph"] > taus["effect"] + 0.05
    twins = [parse("nasbench201:3.0.0.1.0.0"), parse("nasbench201:3.3.0.1.0.0")]  # the second has an edge that leads nowhere
    again = Jury(space, view="graph", **FAST)
    again.load_state_dict(jury.state_dict())
    assert np.array_equal(again.predict(archs), jury.predict(archs))
    effects = Jury(space, view="effect", **FAST)
    effects.fit(archs[:70], weights[:70])
    assert np.ptp(effects.predict(twins)) == 0 != np.ptp(again.predict(twins))


def test_only_ranks_of_labels_matter() -> None:
    space, archs, labels = toy()
    plain, bent = Jury(space, **FAST), Jury(space, **FAST)
    plain.fit(archs, labels)
    bent.fit(archs, np.exp(5 * labels))
    assert np.array_equal(plain.predict(archs), bent.predict(archs))


def test_a_saved_jury_gives_the_same_answers_and_the_seed_matters(tmp_path) -> None:
    space, archs, labels = toy(40)
    jury = Jury(space, seed=3, **FAST)
    jury.fit(archs, labels)
    save_state(tmp_path / "jury", jury.state_dict())
    again = Jury(space, seed=3, **FAST)
    again.load_state_dict(load_state(tmp_path / "jury"))
    assert np.array_equal(jury.predict(archs), again.predict(archs))
    assert np.array_equal(jury.prob(archs[:9], archs[9:18]), again.prob(archs[:9], archs[9:18]))
    other = Jury(space, seed=4, **FAST)
    other.fit(archs, labels)
    assert not np.array_equal(jury.predict(archs), other.predict(archs))


def test_costs_are_used_and_every_architecture_is_described_once() -> None:
    space, archs, _ = toy(40)
    seen: list[Arch] = []

    def hidden(archs: list[Arch]) -> np.ndarray:  # nothing that the features tell
        return np.array([np.sin(7 * sum((i + 1) * c for i, c in enumerate(a.choices))) for a in archs])

    def costs(asked: list[Arch]) -> np.ndarray:
        seen.extend(asked)
        return np.exp(5 + hidden(asked))[:, None]

    jury, blind = Jury(space, costs, **FAST), Jury(space, **FAST)
    for ranker in (jury, blind):
        ranker.fit(archs, hidden(archs))
    seen.clear()
    jury.predict([archs[0], archs[1], archs[0]])
    assert seen == [archs[0], archs[1]]
    _, others, _ = toy(seed=1)
    better = [np.corrcoef(ranker.predict(others), hidden(others))[0, 1] for ranker in (jury, blind)]
    assert better[0] > 0.9 > 0.5 > better[1]


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_a_handful_of_labels_is_enough_to_go_on(n: int) -> None:
    space, archs, _ = toy()
    order = np.argsort(truth(archs), kind="stable")
    some = [archs[i] for i in order[np.linspace(0, len(archs) - 1, n).astype(int)]]
    jury = Jury(space, **FAST)
    jury.fit(some, np.arange(n) / n)
    assert np.isfinite(jury.predict(archs)).all()
    assert ((jury.prob(archs[:5], archs[5:10]) > 0) & (jury.prob(archs[:5], archs[5:10]) < 1)).all()


def test_with_many_labels_not_every_fold_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    space, archs, labels = toy(90)
    sizes: list[int] = []

    def counted(x: np.ndarray, y: np.ndarray, **settings: int) -> Judges:
        sizes.append(len(y))
        return fit_judges(x, y, **settings)

    monkeypatch.setattr(best, "fit_judges", counted)
    for enough, fits in ((500, 4), (50, 3), (20, 2)):
        monkeypatch.setattr(best, "ENOUGH_HELD_OUT", enough)
        sizes.clear()
        info = Jury(space, **FAST).fit(archs, labels)
        assert len(sizes) == fits
        assert sizes[-1] == len(archs)
        assert info["held_out_tau"] > 0.6


def test_the_refined_process_finds_the_column_that_matters_and_never_looks_at_excluded_ones() -> None:
    rng = np.random.default_rng(0)
    x, others = rng.normal(size=(2, 80, 6))
    y = np.sin(2 * x[:, 0])
    process = fit_process(x, y, np.array([1.0, 1, 1, 1, 1, 0]))
    refined = refine_process(process, x, y)
    assert refined.scale.argmax() == 0
    assert refined.scale[0] > 3 * refined.scale[1:].max()
    assert refined.scale[5] == 0
    errors = [np.abs(p.believe(others, deviation=False)[0] - np.sin(2 * others[:, 0])).mean() for p in (process, refined)]
    assert errors[1] < 0.5 * errors[0]
    mean, deviation = refined.believe(x)
    assert np.abs(mean - y).max() < 0.2
    assert (deviation < refined.believe(10 + others)[1].min()).all()


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_label_that_differs_from_all_others_is_learned(place: int) -> None:
    space, archs, _ = toy(9)
    labels = np.zeros(len(archs))
    labels[place] = 1.0  # held out with its fold, it leaves equal labels to learn from
    jury = Jury(space, trees=20, reference=50)
    info = jury.fit(archs, labels)
    assert jury.predict(archs).argmax() == place
    assert np.isfinite([value for name, value in info.items() if name != "held_out_tau"]).all()


@pytest.mark.parametrize(("settings", "message"), [
    ({"folds": 1}, "folds is 1"), ({"folds": -2}, "folds is -2"), ({"trees": 14}, "trees is 14, expected at least 15"),
    ({"view": "cost"}, "view is 'cost', expected 'auto', 'effect', 'graph'"), ({"reference": -1}, "reference is -1, expected at least 0"),
])  # fmt: skip
def test_each_setting_is_named_with_what_was_got_and_expected(settings: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Jury(VectorSpace(), **settings)


def test_bad_input_is_refused() -> None:
    space, archs, labels = toy(20)
    jury = Jury(space, **FAST)
    for use in (jury.predict, jury.uncertainty, lambda a: jury.prob(a, a)):
        with pytest.raises(StateError, match="fit"):
            use(archs)
    with pytest.raises(SettingError, match="nan"):
        jury.fit(archs, [float("nan"), *labels[1:]])
    with pytest.raises(SettingError, match="two distinct"):
        jury.fit(archs, np.ones(len(archs)))
    with pytest.raises(InvalidArchError, match="elsewhere"):
        jury.fit([Arch("elsewhere", (0,) * 8), *archs[1:]], labels)
