"""The arms by which the papers' claims are tried differ from the papers' methods in the one thing that their names say."""

from __future__ import annotations

from typing import Any

import claims
import numpy as np
import pytest
import torch
from claims_comparators import PairNAC

from archduel.policies import LSTMPolicy
from archduel.rankers import NAC
from archduel.spaces import NASBench201
from archduel.tables import open_table
from archduel.tables.estimator import searchable
from archduel.testing import ToySpace, toy_score


@pytest.fixture(scope="module")
def table() -> Any:
    return open_table("digits201")


def begun(arm: str, table: Any, **settings: Any) -> Any:
    shared = claims.TableShared(table)
    made = claims.MOVEMENTS[arm](searchable(table), shared, rng=np.random.default_rng(3), judged_by="score", **{"population": 6, "generations": 4, **settings})
    return made, shared


@pytest.mark.parametrize("arm", sorted(claims.MOVEMENTS))
def test_all_movements_begin_with_the_same_cells(arm: str, table: Any) -> None:
    first, ours = begun("slow-fast pairs", table)
    other, theirs = begun(arm, table)
    for made in (first, other):
        for _ in range(3):  # the pairs of one generation
            made.step()
    assert sorted(ours.rows[:6]) == sorted(theirs.rows[:6])


def test_nobody_moves_or_all_do(table: Any) -> None:
    moved = {}
    for arm in claims.MOVEMENTS:
        made, shared = begun(arm, table, generations=12)
        while made.step() is not None:
            pass
        moved[arm] = len(set(shared.rows))
    assert moved["no movement"] <= 6 < min(n for arm, n in moved.items() if arm != "no movement")


def test_fixed_pairs_meet_in_every_generation(table: Any) -> None:
    made, _ = begun("fixed pairs", table)
    met: list[set[frozenset[int]]] = []
    compete = made._compete
    made._compete = lambda a, b: (met[-1].add(frozenset((a, b))), compete(a, b))[1]  # type: ignore[func-returns-value]
    for _ in range(4):
        met.append(set())
        for _ in range(3):
            made.step()
    assert all(pairs == met[0] for pairs in met)
    assert len(met[0]) == 3


def test_towards_the_best_everybody_follows_the_best_of_the_population(table: Any) -> None:
    made, shared = begun("towards the best", table)
    for _ in range(2):
        made.step()
    before, scores = made.positions.copy(), [e.score for e in shared.estimator.estimate([claims.Query(arch) for arch in made.archs()])]
    made.step()
    best = int(np.argmax(scores))
    assert (made.positions[best] == before[best]).all()
    assert (made.positions != before).any(1).sum() <= 3  # the slower of each pair, one of which may be the best


def test_node_by_node_leaves_out_what_leads_to_a_node_that_is_not_there() -> None:
    space = NASBench201()
    kind, settings = claims.curricula(space, 0)["node by node"]
    policy = LSTMPolicy(space, generator=torch.Generator().manual_seed(0), hidden=8)
    made = kind(
        space, policy, claims.TableShared(open_table("digits201")), rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0), **settings  # type: ignore[arg-type]
    )  # fmt: skip
    first, second = made.stages
    draws = policy.draw(40, torch.Generator().manual_seed(1), allowed=first).archs
    assert {arch.choices[i] for arch in draws for i in (1, 2, 5)} == {0}  # edges 0->2, 1->2, 2->3
    assert len({arch.choices[i] for arch in draws for i in (0, 3, 4)}) == 5
    assert second == {}


def test_only_an_interacting_comparator_lets_the_opponent_change_the_order() -> None:
    space, rng = ToySpace(), np.random.default_rng(0)
    from archduel.core import sample_distinct

    archs = sample_distinct(space, 60, rng)
    found = {}
    for kind in (NAC, PairNAC):
        ranker = kind(space, epochs=60, batch_size=40, lr=3e-3, seed=0)
        ranker.learned = archs[:40]  # type: ignore[attr-defined]
        ranker.fit(archs[:40], [toy_score(arch) for arch in archs[:40]])
        orders = {tuple(np.argsort(ranker.prob(archs[40:], [rival] * 20))) for rival in archs[:40]}
        matrix = ranker.matrix(archs[40:])
        assert np.allclose(matrix + matrix.T, 1)
        assert np.corrcoef(ranker.predict(archs[40:]), [toy_score(arch) for arch in archs[40:]])[0, 1] > 0.5
        found[kind.__name__] = len(orders)
    assert found["NAC"] == 1 < found["PairNAC"]
