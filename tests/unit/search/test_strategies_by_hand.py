"""Strategies against numbers and decisions worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archduel.assemble import assemble, collaborator, derived_seed, settings_of
from archduel.core import Arch, Budget, Cost, Estimate, Local, Query, enumerate_space, neighbours, search
from archduel.errors import SettingError, StateError, UnknownNameError
from archduel.policies.logits import LogitsPolicy
from archduel.spaces.nasbench201.space import NASBench201
from archduel.strategies.best import Contenders, FirstLooks
from archduel.strategies.bpe import BPEReinforce
from archduel.strategies.candidates import evolved, log_improvement, whole_space
from archduel.strategies.ctnas import by_wins
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.local import LocalSearch
from archduel.strategies.reinforce import Reinforce
from archduel.strategies.renas import ReNAS
from archduel.strategies.rounds import Distinct, Ledger
from archduel.strategies.tpe import TPE
from archduel.testing.toy import ToyRanker, ToySpace, toy_score

SPACE = ToySpace()
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "first_asked.json"


def told(arch: Arch, score: float | None = None) -> tuple[list[Query], list[Estimate]]:
    """One query and its estimate."""
    return [Query(arch)], [Estimate(toy_score(arch) if score is None else score, Cost(1.0))]


def run(strategy: Any, evaluations: int, window: int = 1) -> list[Arch]:
    """Returns what a search asks."""
    asked: list[Arch] = []

    def estimate(queries: list[Query]) -> list[Estimate]:
        asked.extend(query.arch for query in queries)
        return [Estimate(toy_score(query.arch)) for query in queries]

    search(strategy, Local(estimate), budget=Budget(evaluations), window=window, clock=None)
    return asked


# -- evolution ------------------------------------------------------------------------------------------------


def test_evolution_lets_the_oldest_die_however_good() -> None:
    strategy = RegularizedEvolution(SPACE, rng=np.random.default_rng(0), population=2, tournament=2)
    for score, arch in zip((0.9, 0.2, 0.1), [Arch("toy", (0, op)) for op in (1, 2, 3)]):
        strategy.tell(*told(arch, score))
    assert [score for _, score in strategy.alive] == [0.2, 0.1]
    assert strategy.best() == Arch("toy", (0, 1))


def test_children_differ_from_the_tournament_winner_in_one_decision() -> None:
    strategy = RegularizedEvolution(SPACE, rng=np.random.default_rng(0), population=3, tournament=60)
    for query in strategy.ask(3):
        strategy.tell(*told(query.arch, float(query.arch == Arch("toy", (3, 1, 1, 1, 1)))))
    strategy.alive.clear()
    strategy.tell(*told(Arch("toy", (3, 1, 1, 1, 1)), 1.0))
    strategy.tell(*told(Arch("toy", (0, 2)), 0.0))
    for _ in range(20):
        ((child,),) = [[query.arch for query in strategy.ask(1)]]
        kept = sum(a == b for a, b in zip(child.choices, (3, 1, 1, 1, 1)))
        assert child.choices[0] != 3 or kept == 4


def test_evolution_that_stands_still_ends() -> None:
    few = [Arch("toy", (0, op)) for op in range(5)]
    strategy = RegularizedEvolution(
        SPACE, rng=np.random.default_rng(0), constraint=few.__contains__, population=4, tournament=2, patience=50
    )
    assert set(run(strategy, 1000)) == set(few) - {Arch("toy", (0, 0))} | {Arch("toy", (0, 0))}


# -- local search ---------------------------------------------------------------------------------------------


def test_local_search_climbs_to_an_optimum_before_it_starts_again() -> None:
    strategy = LocalSearch(SPACE, rng=np.random.default_rng(1), initial=3, greedy=False)
    run(strategy, 150)
    best = strategy.best()
    assert all(toy_score(arch) <= toy_score(best) for arch in neighbours(SPACE, best))
    assert strategy.starts > 3


def test_local_search_reaches_everything() -> None:
    asked = run(LocalSearch(SPACE, rng=np.random.default_rng(2)), 10_000)
    fingerprints = {SPACE.fingerprint(arch) for arch in asked}
    assert fingerprints == {SPACE.fingerprint(arch) for arch in enumerate_space(SPACE)}


# -- drawing without repeats ----------------------------------------------------------------------------------


def test_distinct_draws_every_fingerprint_once() -> None:
    pool = Distinct(SPACE, np.random.default_rng(0), None, tries=20)
    drawn = []
    while (arch := pool.draw()) is not None:
        drawn.append(SPACE.fingerprint(arch))
    assert len(drawn) == len(set(drawn)) == 341  # 1 + 4 + 16 + 64 + 256


# -- policies -------------------------------------------------------------------------------------------------


def test_bpe_rl_updates_by_hand() -> None:
    """The first advantage is 0 (the average is corrected and updated before use); the second is worked out here."""
    policy = LogitsPolicy(SPACE)
    generator = torch.Generator().manual_seed(0)
    strategy = BPEReinforce(SPACE, policy, rng=np.random.default_rng(0), generator=generator, lr=0.1, momentum=0.9)
    first, second = Arch("toy", (0, 1)), Arch("toy", (0, 2))
    strategy.tell(*told(first, 0.5))
    assert float(policy.logits.detach().abs().max()) == 0.0
    strategy.tell(*told(second, 0.7))
    average = (0.9 * 0.1 * 0.5 + 0.1 * 0.7) / (1 - 0.9**2)
    step = 0.1 * (0.7 - average)
    table = dict(zip(sorted({"length", "op0", "op1", "op2", "op3"}), range(5)))
    row = policy.logits.detach()[table["length"]][:4]
    torch.testing.assert_close(row, torch.tensor([0.75, -0.25, -0.25, -0.25]) * step)
    row = policy.logits.detach()[table["op0"]][:5]
    torch.testing.assert_close(row, torch.tensor([-0.2, -0.2, 0.8, -0.2, -0.2]) * step)
    assert strategy.best() == second
    # of the distribution after its own step, as the released code writes them down
    likeliest = [np.exp(step) / (np.exp(step) + others) for others in (3, 4)]
    assert strategy.weights() == pytest.approx(likeliest)
    assert min(likeliest) > 0.2


def test_bpe_rl_knows_no_weights_before_two_samples() -> None:
    strategy = BPEReinforce(
        SPACE, LogitsPolicy(SPACE), rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(StateError, match="second sample"):
        strategy.weights()


def test_reinforce_makes_good_architectures_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    policy = LogitsPolicy(SPACE)
    strategy = Reinforce(SPACE, policy, rng=np.random.default_rng(0), generator=generator, lr=0.1)
    before = float(policy.log_prob([Arch("toy", (3, 4, 3, 4, 3))]).detach())
    run(strategy, 150)
    assert float(policy.log_prob([Arch("toy", (3, 4, 3, 4, 3))]).detach()) > before + 1


# -- proposals ------------------------------------------------------------------------------------------------


def test_log_improvement_is_that_of_the_integral() -> None:
    grid = np.linspace(-12, 12, 400_001)
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    for mean, deviation in ((0.0, 1.0), (0.3, 0.2), (-1.0, 0.5), (2.0, 0.1)):
        gain = np.maximum(mean + deviation * grid - 0.5, 0.0)
        expected = np.log((gain * density).sum() * (grid[1] - grid[0]))
        assert log_improvement(np.array([mean]), np.array([deviation]), 0.5)[0] == pytest.approx(expected, abs=1e-5)


def test_log_improvement_stays_in_order_far_below() -> None:
    means = -np.linspace(1, 300, 300)
    worth = log_improvement(means, np.ones(300), 0.0)
    assert np.isfinite(worth).all()
    assert (np.diff(worth) < 0).all()


def test_whole_space_lists_one_of_each_fingerprint() -> None:
    fingerprints, archs = whole_space(SPACE, None, 780)
    assert len(archs) == len(set(fingerprints)) == 341
    assert [SPACE.fingerprint(arch) for arch in archs] == list(fingerprints)
    assert whole_space(SPACE, None, 780)[1] is archs  # rankers may keep what they know of it
    assert whole_space(SPACE, None, 779) == ((), ())
    fingerprints, archs = whole_space(SPACE, lambda arch: arch.choices[0] == 0, 780)
    assert dict(zip(fingerprints, archs)) == {str(op or ""): Arch("toy", (0, op)) for op in range(5)}


def test_breeding_finds_what_is_worth_most() -> None:
    archs = evolved(
        SPACE,
        [Arch("toy", (0, 0))],
        lambda archs: np.array([toy_score(arch) for arch in archs]),
        np.random.default_rng(0),
        None,
        size=60,
        rounds=6,
    )
    assert max(map(toy_score, archs)) > 0.9
    assert len(archs) == len(set(archs))


def test_by_wins_ranks_by_mean_probability() -> None:
    a, b, c = (Arch("toy", (0, op)) for op in (1, 2, 3))
    table = {(a, b): 0.9, (a, c): 0.2, (b, a): 0.1, (b, c): 0.4, (c, a): 0.8, (c, b): 0.6}

    class Judge(ToyRanker):
        def prob(self, first, second):  # type: ignore[no-untyped-def]
            return np.array([table.get(pair, 0.5) for pair in zip(first, second)])

    assert by_wins(Judge(SPACE), [a, b, c, b]) == [c, a, b]  # 0.7, 0.55, 0.25


# -- searches that learn --------------------------------------------------------------------------------------


def test_contenders_stop_when_nothing_is_expected() -> None:
    strategy = Contenders(SPACE, ToyRanker(SPACE), rng=np.random.default_rng(0), stop=0.9)
    assert len(run(strategy, 300)) == strategy.rounds.initial


def test_contenders_find_the_best_of_the_toy_space() -> None:
    asked = run(Contenders(SPACE, ToyRanker(SPACE), rng=np.random.default_rng(0)), 60)
    assert max(map(toy_score, asked)) == 1.0


def test_a_batch_does_not_ask_one_question_twice() -> None:
    """Once the best is assumed to be known, a distant one promises more than its twin."""

    class Twins(ToyRanker):
        def beliefs(self, archs, *, assumed=()):  # type: ignore[no-untyped-def]
            near = [bool(assumed) and arch.choices[0] == assumed[0].choices[0] for arch in archs]
            return np.array([toy_score(arch) for arch in archs]), np.where(near, 1e-9, 1.0)

    strategy = Contenders(SPACE, Twins(SPACE), rng=np.random.default_rng(0), batch=2)
    archs = [Arch("toy", (0, op)) for op in range(5)] + [Arch("toy", (1, 0, 0))]
    chosen = strategy._batch(archs, 2.0, 2)
    assert chosen[:2] == [archs[0], archs[-1]]
    assert sorted(chosen, key=str) == sorted(archs, key=str)


def test_first_looks_are_translated_by_a_line_that_an_outlier_does_not_bend() -> None:
    archs = [Arch("toy", (0, op)) for op in range(5)] + [Arch("toy", (1, 0, op)) for op in range(4)]
    looks, full = FirstLooks(), Ledger()
    looks.record([Query(arch) for arch in archs], [Estimate(i / 10) for i in range(8)] + [Estimate(float("nan"), reason="x")])
    full.record([Query(arch) for arch in archs[:3]], [Estimate(0.5), Estimate(0.52), Estimate(0.54)])
    assert looks.labelled(full) == full.labelled()  # three pairs are too few
    assert looks.promoted(full, ToyRanker(SPACE), 2) == [archs[7], archs[6]]
    full.record([Query(arch) for arch in archs[3:5]], [Estimate(0.56), Estimate(-9.0)])
    known, scores = looks.labelled(full)
    assert known == archs[:8]  # the failed look is nowhere
    assert scores[5:] == pytest.approx([0.6, 0.62, 0.64])  # 0.5 + 0.2 x


def test_contenders_look_before_they_pay() -> None:
    """Looks that tell nearly all find the best with fewer full evaluations than none."""
    asked: list[Query] = []

    def estimate(queries: list[Query]) -> list[Estimate]:
        asked.extend(queries)
        return [Estimate(toy_score(q.arch) * (0.5 if q.fidelity else 1.0)) for q in queries]

    strategy = Contenders(SPACE, ToyRanker(SPACE), rng=np.random.default_rng(0), cheap="low", looks=3)
    result = search(strategy, Local(estimate), budget=Budget(70), clock=None)
    full = [query.arch for query in asked if query.fidelity is None]
    low = [query.arch for query in asked if query.fidelity == "low"]
    assert set(full[strategy.rounds.initial :]) < set(low)
    assert len(low) >= 2 * (len(full) - strategy.rounds.initial)
    assert len(set(low)) == len(low)
    assert toy_score(result.best) == 1.0
    assert result.best in full


def test_contenders_breed_where_the_space_is_too_large() -> None:
    strategy = Contenders(SPACE, ToyRanker(SPACE), rng=np.random.default_rng(0), whole=0, bred=40, generations=3)
    assert max(map(toy_score, run(strategy, 60))) == 1.0


def test_renas_labels_then_evaluates_the_top() -> None:
    strategy = ReNAS(SPACE, ToyRanker(SPACE), rng=np.random.default_rng(0), labels=40, top=5)
    asked = run(strategy, 1000)
    assert len(asked) == 45
    scores = list(map(toy_score, asked))
    assert np.mean(scores[40:]) > max(np.mean(scores[:40]), 0.8)


def test_tpe_gives_decisions_with_other_options_another_name() -> None:
    strategy = TPE(NASBench201(), rng=np.random.default_rng(0), startup=3)
    archs = [query.arch for query in strategy.ask(2)]
    strategy.tell([Query(arch) for arch in archs], [Estimate(0.1), Estimate(0.2)])
    assert strategy.best() == archs[1]
    assert len(strategy.trials) == 2


# -- assembling -----------------------------------------------------------------------------------------------


def test_assemble_pairs_the_first_questions_of_all_strategies() -> None:
    first = {
        name: [query.arch for query in assemble(name, SPACE, seed=5).ask(4)]
        for name in ("random", "evolution", "local", "best", "bananas", "npenas", "ctnas")
    }
    assert len(set(map(tuple, first.values()))) == 1


def test_assemble_takes_partners_by_name_or_with_settings() -> None:
    strategy: Any = assemble("best", SPACE, seed=0, settings={"ranker": {"name": "gp", "spread": 0.0}, "batch": 3})
    assert strategy.ranker.relevances is None  # spread 0: no columns are told apart
    assert strategy.batch == 3
    given = ToyRanker(SPACE)
    assert assemble("best", SPACE, seed=0, given={"ranker": given}).ranker is given  # type: ignore[attr-defined]
    assert "population" in settings_of("strategy", "evolution")
    assert derived_seed(0, "a") != derived_seed(0, "b") != derived_seed(1, "b")


def test_assemble_explains_bad_settings() -> None:
    with pytest.raises(SettingError, match="did you mean 'population'"):
        assemble("evolution", SPACE, seed=0, settings={"populaton": 3})
    with pytest.raises(SettingError, match="mapping with a name"):
        collaborator("ranker", {"spread": 1}, SPACE, seed=0)
    with pytest.raises(UnknownNameError, match="did you mean 'evolution'"):
        assemble("evolutoin", SPACE, seed=0)


@pytest.mark.parametrize("name", ["random", "evolution", "local", "bpe_evolution"])
def test_first_questions_are_those_of_the_golden_file(name: str) -> None:
    """Guards against silent changes of a search; the file says how it was made."""
    golden = json.loads(GOLDEN.read_text())
    settings = {"population": 5, "tournament": 3} if "evolution" in name else {}
    asked = run(assemble(name, SPACE, seed=0, settings=settings), 12)
    assert [str(arch) for arch in asked] == golden["asked"][name]
