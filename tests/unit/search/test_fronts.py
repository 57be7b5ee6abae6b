"""Fronts and objectives: numbers by hand, pymoo as the oracle, gains by sampling, bad input."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from archduel.assemble import assemble, responsible
from archduel.core import (
    SCORE,
    Arch,
    Budget,
    Estimate,
    Local,
    Objectives,
    Outcomes,
    Query,
    enumerate_space,
    sample,
    search,
)
from archduel.core.fronts import (
    attainment,
    corner,
    crowding,
    front,
    hypervolume,
    knee,
    layers,
    normalised,
    spread,
)
from archduel.core.scalarised import Scalarised
from archduel.errors import SettingError, StateError
from archduel.rankers import GaussianProcess, Jury
from archduel.spaces import NASBench201
from archduel.strategies.best_front import Belief, expected_gain, unreached
from archduel.strategies.candidates import GraphAware, whole_space
from archduel.strategies.cost_trend import CostTrend
from archduel.strategies.nsga2 import crossed
from archduel.testing.toy import ToyRanker, ToySpace, toy_score

SPACE = ToySpace()
POINTS = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [2.0, 2.0], [math.nan, 0.0], [5.0, 5.0]])


def sizes(archs: Any) -> Any:
    """Something that is known of a toy architecture beforehand."""
    return np.array([1.0 + sum(arch.choices) for arch in archs])


TWO = Objectives((SCORE, "size"), {"size": sizes})


def answers(queries: list[Query]) -> list[Estimate]:
    """What a search is told: the score, and a loss that is not known beforehand."""
    return [Estimate(toy_score(q.arch), values={"wait_ms": 3.0 + 0.5 * len(q.arch.choices) - toy_score(q.arch)}) for q in queries]


# -- fronts ------------------------------------------------------------------------------------------------------------


def test_a_front_by_hand() -> None:
    assert front(POINTS).tolist() == [0, 1, 2]  # of equal rows the first, nan nowhere, by the first loss
    assert layers(POINTS).tolist() == [0, 0, 0, 1, 0, 3, 2]
    assert front([[3.0], [1.0], [1.0]]).tolist() == [1]
    assert layers([[3.0], [1.0], [math.inf]]).tolist() == [1, 0, 2]
    assert front(np.full((2, 2), math.nan)).tolist() == []


def test_hypervolumes_by_hand() -> None:
    # columns of width 1, 2 and 1 below 5: (5-4) + 2 * (5-2) + (5-1)
    assert hypervolume(POINTS, [5.0, 5.0]) == pytest.approx(11.0)
    assert hypervolume([[0.25]], [1.0]) == 0.75
    assert hypervolume(POINTS, [1.0, 1.0]) == 0.0
    assert corner(POINTS[:3]).tolist() == pytest.approx([4.3, 4.3])
    assert normalised(POINTS[:3], POINTS[:3]).tolist() == [[0, 1], [pytest.approx(1 / 3)] * 2, [1, 0]]


def test_knee_and_spread() -> None:
    assert knee(POINTS[:3]) == 1
    assert spread(POINTS[:3], 1) == [1]
    assert spread(POINTS[:3], 9) == [0, 1, 2]
    line = np.array([[x, (1 - x) ** 2] for x in np.linspace(0, 1, 11)])
    chosen = spread(line, 4)
    assert knee(line) in chosen
    assert len(set(chosen)) == 4
    assert chosen == sorted(chosen)
    # better than four neighbours: the members stand for the whole front
    assert hypervolume(line[chosen], [1.1, 1.1]) > hypervolume(line[:4], [1.1, 1.1])
    with pytest.raises(SettingError, match="at least 1"):
        spread(line, 0)
    with pytest.raises(SettingError, match="no knee"):
        knee(np.empty((0, 2)))


def test_the_attainment_surface_of_half_the_searches() -> None:
    sets = [np.array([[1.0, 1.0]]), np.array([[2.0, 2.0]]), np.array([[3.0, 3.0]])]
    assert attainment(sets, 0.5).tolist() == [[2.0, 2.0]]  # two of three are there or better
    with pytest.raises(SettingError, match="attainment"):
        attainment([], 0.5)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_pymoo_says_the_same(objectives: int) -> None:
    indicator = pytest.importorskip("pymoo.indicators.hv")
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting")
    metric = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics")
    points = np.random.default_rng(objectives).random((60, objectives))
    expected = sorting.NonDominatedSorting().do(points, return_rank=True)[1]
    assert layers(points).tolist() == expected.tolist()
    assert sorted(front(points)) == np.flatnonzero(expected == 0).tolist()
    reference = np.full(objectives, 1.1)
    assert hypervolume(points, reference) == pytest.approx(indicator.HV(ref_point=reference)(points))
    theirs = metric.calc_crowding_distance(points[:20])
    inner = np.isfinite(theirs)
    # pymoo's is the mean over objectives
    assert crowding(points[:20])[inner] == pytest.approx(theirs[inner] * objectives)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(SettingError, match=r"archduel\[pareto\]"):
        front(POINTS)


# -- objectives --------------------------------------------------------------------------------------------------------


def test_losses_come_from_the_score_from_what_is_known_and_from_values() -> None:
    arch = Arch("toy", (0, 1))
    three = Objectives((SCORE, "size", "wait_ms"), {"size": sizes})
    assert three.losses(arch, Estimate(0.75, values={"wait_ms": 4.0})) == (0.25, 2.0, 4.0)
    assert np.isnan(three.beforehand([arch])[0]).tolist() == [True, False, True]
    assert three.losses(arch, Estimate(math.nan, reason="diverged")) == (math.inf,) * 3
    assert three.losses(arch, Estimate(0.5, values={"wait_ms": math.nan})) == (math.inf,) * 3


def test_bad_objectives_are_explained() -> None:
    with pytest.raises(SettingError, match="'size' is there twice"):
        Objectives((SCORE, "size", "size"))
    with pytest.raises(SettingError, match="no objective"):
        Objectives(())
    with pytest.raises(SettingError, match="'energy' has no measure here; there are score"):
        Objectives((SCORE, "energy")).losses(Arch("toy", (0, 1)), Estimate(0.5))
    outcomes = Outcomes(TWO)
    with pytest.raises(StateError, match="no front"):
        outcomes.best()
    with pytest.raises(StateError, match="one estimate a query"):
        outcomes.record([Query(Arch("toy", (0, 1)))], [])


def test_outcomes_of_nothing_but_failures_have_no_front_but_a_best() -> None:
    outcomes, arch = Outcomes(TWO), Arch("toy", (0, 1))
    outcomes.record([Query(arch)], [Estimate(math.nan, reason="diverged")])
    assert outcomes.members() == []
    assert outcomes.members(3) == []
    assert outcomes.best() == arch


# -- what more is expected ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logs", [False, True])
def test_a_gain_is_what_sampling_says(logs: bool) -> None:
    losses = np.array([[0.1, 0.9, 0.5], [0.4, 0.4, 0.4], [0.9, 0.1, 0.6], [0.6, 0.6, 0.1]])
    reference, rng = np.array([1.0, 1.0, 1.0]), np.random.default_rng(0)
    mean = np.array([0.3, 0.5, 0.35])
    believed = [
        Belief(np.array([np.log(m) if logs else m]), np.array([d]), logs) for m, d in zip(mean, (0.2, 0.0, 0.3))
    ]
    draws = np.stack([b.mean + np.maximum(b.deviation, 1e-9) * rng.standard_normal(3000) for b in believed], 1)
    draws = np.exp(draws) if logs else draws
    before = hypervolume(losses, reference)
    sampled = np.mean([hypervolume(np.vstack([losses, draw]), reference) - before for draw in draws])
    assert expected_gain(believed, unreached(losses, reference))[0] == pytest.approx(sampled, rel=0.05)


def test_a_gain_that_is_certain_is_exact() -> None:
    losses, reference = POINTS[:3], np.array([5.0, 5.0])
    exact = [Belief(np.array([1.5, 9.0, 1.0]), np.zeros(3)), Belief(np.array([3.0, 0.0, 4.0]), np.zeros(3))]
    expected = [hypervolume(np.vstack([losses, [1.5, 3.0]]), reference) - 11.0, 0.0, 0.0]
    assert expected_gain(exact, unreached(losses, reference)) == pytest.approx(expected, abs=1e-6)
    # one objective: the usual improvement
    assert expected_gain([Belief(np.array([0.5]), np.zeros(1))], unreached(np.array([[2.0]]), np.array([3.0]))) == pytest.approx([1.5])


# -- strategies --------------------------------------------------------------------------------------------------------


def volume(archs: list[Arch]) -> float:
    """The hypervolume of toy architectures."""
    return hypervolume([[1 - toy_score(arch), sizes([arch])[0]] for arch in archs], [1.0, 20.0])


def asked(name: str, objectives: Objectives, seed: int, n: int = 40, **settings: Any) -> list[Arch]:
    """What a strategy asks for."""
    strategy = assemble(name, SPACE, seed=seed, objectives=objectives, settings=settings)
    return [told.query.arch for told in search(strategy, Local(answers), budget=Budget(n), clock=None).told]


def test_best_means_another_strategy_where_there_are_several_objectives() -> None:
    assert responsible("best", TWO) == "best_front"
    assert responsible("best", None) == "best"
    assert responsible("evolution", TWO) == "evolution"
    assert isinstance(assemble("evolution", SPACE, seed=0, objectives=TWO), Scalarised)
    assert not isinstance(assemble("nsga2", SPACE, seed=0, objectives=TWO), Scalarised)


@pytest.mark.parametrize(("name", "settings"), [("best", {}), ("nsga2", {"population": 8})])
def test_strategies_for_a_front_are_ahead_of_chance(name: str, settings: dict[str, Any]) -> None:
    ours = np.mean([volume(asked(name, TWO, seed, 30, **settings)) for seed in range(4)])
    chance = np.mean([volume(asked("random", TWO, seed, 30)) for seed in range(4)])
    assert ours > chance


def test_several_losses_are_believed_where_they_are_not_known() -> None:
    strategy: Any = assemble("best", SPACE, seed=0, objectives=Objectives((SCORE, "size", "wait_ms"), {"size": sizes}))
    assert list(strategy.rankers) == [SCORE, "wait_ms"]
    assert strategy.rankers[SCORE] is not strategy.rankers["wait_ms"]
    search(strategy, Local(answers), budget=Budget(20), clock=None)
    members = strategy.finalists(3)
    assert 1 <= len(members) <= 3
    assert members[0] == strategy.best()


def test_a_ranker_in_another_unit_is_translated() -> None:
    strategy: Any = assemble("best", SPACE, seed=0, objectives=TWO, given={"ranker": ToyRanker(SPACE)})
    search(strategy, Local(answers), budget=Budget(20), clock=None)
    archs, losses = strategy.outcomes.labelled()
    strategy._learn()
    believed = strategy._believed(SCORE, archs, ())
    assert believed.mean.mean() == pytest.approx(np.log(losses[:, 0]).mean(), abs=0.3)
    assert (believed.deviation > 0).all()


def test_what_is_known_to_be_no_number_is_not_asked() -> None:
    holes = Objectives((SCORE, "size"), {"size": lambda archs: np.where([a.choices[0] == 0 for a in archs], np.nan, sizes(archs))})
    archs = asked("best", holes, 0, 30)
    assert all(arch.choices[0] != 0 for arch in archs)


def test_the_first_design_has_all_sizes_that_are_known_beforehand() -> None:
    cells = NASBench201()
    known = Objectives((SCORE, "conv"), {"conv": lambda archs: np.array([float(arch.choices.count(3)) for arch in archs])})
    for seed in range(5):
        strategy = assemble("best", cells, seed=seed, objectives=known)
        first = [query.arch for query in strategy.ask(4) + strategy.ask(10)]
        sizes = [arch.choices.count(3) for arch in first]
        assert len(set(first)) == 10
        assert sizes == sorted(sizes)
        assert sizes[0] == 0
        assert sizes[-1] >= 3  # three of six edges or more, as one in ten random cells has at least
    small = Objectives((SCORE, "size"), {"size": lambda archs: np.full(len(archs), np.nan)})
    assert len(assemble("best", cells, seed=0, objectives=small).ask(20)) == 10  # nothing is known: drawn as usual


def test_one_number_for_several_objectives() -> None:
    """Beyond the front is above zero, a member is zero at most, dominated is below: worked out by hand."""
    told: list[float] = []

    class Listener:
        def tell(self, queries: Any, estimates: Any) -> None:
            told.extend(estimate.score for estimate in estimates)

    values = {(0, 1): (0.5, 4.0), (0, 2): (0.5, 2.0), (0, 3): (0.25, 4.0), (1, 1): (0.0, 0.0), (2, 1): (math.nan, 0.0)}
    objectives = Objectives((SCORE, "cost"))
    strategy = Scalarised(Listener(), objectives)  # type: ignore[arg-type]
    for choices, (score, cost) in values.items():
        strategy.tell([Query(Arch("toy", choices))], [Estimate(score, values={"cost": cost})])
    # first: 0; (0.5, 2) against (0.5, 4): max(0, 2 / 2) = 1; (0.75, 4) against (0.5, 2): max(-1, -1);
    # (1, 0): against (0.5, 2): max(-0.5 / 0.5, 2 / 4) = 0.5
    assert told[:4] == pytest.approx([0.0, 1.0, -1.0, 0.5])
    assert math.isnan(told[4])


def test_a_child_has_answers_of_its_parents() -> None:
    rng = np.random.default_rng(0)
    first, second = Arch("toy", (3, 3, 3, 0, 0)), Arch("toy", (3, 1, 1, 1, 1))
    for _ in range(20):
        child = crossed(SPACE, first, second, rng)
        SPACE.validate(child)
        assert all(c in (a, b) for c, a, b in zip(child.choices, first.choices, second.choices))


# -- costs that belong to how an architecture is written down ---------------------------------------------------------


def written(arch: Arch) -> float:
    """A cost of which encodings of one function have different amounts."""
    return 1.0 + 0.3 * sum(arch.choices) + float(np.dot(arch.choices, range(len(arch.choices)))) / 10


def test_encodings_are_weighed_where_a_cost_is_told_with_the_answer() -> None:
    cells = NASBench201()
    rng = np.random.default_rng(0)
    value = {cells.fingerprint(arch): float(rng.uniform()) for arch in enumerate_space(cells)}
    asked: dict[str, list[Arch]] = {}
    for name, known in (("told", {}), ("known", {"wait_ms": lambda archs: np.array([written(a) for a in archs])})):
        strategy = assemble("best", cells, seed=1, objectives=Objectives((SCORE, "wait_ms"), known))
        judge = Local(lambda qs: [Estimate(value[cells.fingerprint(q.arch)], values={"wait_ms": written(q.arch)}) for q in qs])
        asked[name] = [told.query.arch for told in search(strategy, judge, budget=Budget(evaluations=40)).told]
    assert len(set(asked["told"])) == 40
    prints = [cells.fingerprint(arch) for arch in asked["told"]]
    first = dict(zip(*whole_space(cells, None, 50_000)))
    rewritten = [arch for arch in asked["told"][10:] if first[cells.fingerprint(arch)] != arch]
    assert len(rewritten) >= 5
    assert len(set(prints)) < 40  # functions come again where another encoding is taken to cost less
    assert len({cells.fingerprint(arch) for arch in asked["known"]}) >= 38


@pytest.mark.parametrize("made", [GaussianProcess, Jury])
def test_a_ranker_that_sees_graphs_tells_encodings_of_one_function_apart(made: Any) -> None:
    cells, rng = NASBench201(), np.random.default_rng(0)
    fingerprints, first = whole_space(cells, None, 50_000)
    places = dict(zip(fingerprints, first))
    again = next(arch for arch in enumerate_space(cells) if places[cells.fingerprint(arch)] != arch)
    one = places[cells.fingerprint(again)]
    labelled = [sample(cells, rng) for _ in range(60)]
    seeing = made(cells, seed=2).with_graphs()
    assert isinstance(seeing, GraphAware)
    with pytest.raises(StateError):
        seeing.predict(labelled)
    usual = made(cells, seed=2, view="effect")
    for ranker in (usual, seeing):
        ranker.fit(labelled, [-written(arch) for arch in labelled])
    assert usual.predict([one])[0] == pytest.approx(usual.predict([again])[0])
    assert seeing.predict([one])[0] != pytest.approx(seeing.predict([again])[0], abs=1e-6)
    other = made(cells, seed=2).with_graphs()
    other.load_state_dict(seeing.state_dict())
    assert other.predict([one, again]).tolist() == seeing.predict([one, again]).tolist()


def test_a_process_has_two_views() -> None:
    with pytest.raises(SettingError, match="'effect' or 'graph'"):
        GaussianProcess(SPACE, view="colour")


CELLS = NASBench201()


def counted(archs: Any) -> Any:
    """Parameters and multiply-adds."""
    return np.array([[10.0 * (1 + sum(arch.choices)), 100.0 * (1 + sum(arch.choices)) ** 2] for arch in archs])


def test_a_line_through_counts_is_drawn_where_a_cost_follows_them() -> None:
    rng = np.random.default_rng(0)
    archs = [sample(CELLS, rng) for _ in range(30)]
    trend = CostTrend(counted)
    follows = -1.5 * np.log(counted(archs)[:, 1]) + 2.0
    left = trend.fit("wait_ms", archs, follows)
    assert np.abs(left).max() < 0.05 * np.ptp(follows)
    others = tuple(sample(CELLS, rng) for _ in range(20))
    assert np.allclose(trend("wait_ms", others), 2.0 - 1.5 * np.log(counted(others)[:, 1]), atol=0.2)
    assert np.array_equal(trend("wait_ms", others), trend("wait_ms", list(others)))
    noise = rng.normal(size=30)
    assert np.array_equal(trend.fit("noise", archs, noise), noise)
    assert not trend("noise", archs).any()
    assert np.array_equal(trend.fit("same", archs, np.ones(30)), np.ones(30))
    with pytest.raises(KeyError):
        trend("other", archs)


def test_counts_make_beliefs_of_a_cost_that_follows_them_and_change_nothing_else() -> None:
    def told(queries: list[Query]) -> list[Estimate]:
        return [Estimate(toy_score(Arch("toy", q.arch.choices[:4])), values={"wait_ms": float(counted([q.arch])[0, 1])}) for q in queries]

    def after(costs: Any, names: tuple[str, ...], known: Any) -> Any:
        strategy = assemble("best", CELLS, seed=3, objectives=Objectives(names, known), costs=costs, settings={"whole": 0})
        queries = strategy.ask(10)
        strategy.tell(queries, told(queries))
        strategy.step()
        return strategy, queries

    names = (SCORE, "wait_ms")
    with_counts, first = after(counted, names, {})
    without, same = after(None, names, {})
    assert first == same
    archs = [sample(CELLS, np.random.default_rng(9)) for _ in range(50)]
    truth = np.log(counted(archs)[:, 1])
    missed = [np.abs(s._believed("wait_ms", archs, ()).mean - truth).mean() for s in (with_counts, without)]
    assert missed[0] < 0.5 * missed[1]
    exact = {"wait_ms": lambda archs: counted(archs)[:, 1]}
    assert after(counted, names, exact)[0].ask(1) == after(None, names, exact)[0].ask(1)
