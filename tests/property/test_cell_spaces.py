"""NAS-Bench-101 and MobileNetV3: what must hold for every architecture."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archduel.core import Arch, Scale, check_decisions, mutate, neighbours, parse
from archduel.errors import InvalidArchError
from archduel.spaces.family import count
from archduel.spaces.mobilenetv3.space import MobileNetV3
from archduel.spaces.nasbench101.space import NASBench101

CELLS, MOBILE = NASBench101(), MobileNetV3()
SIZED = MobileNetV3(resolutions=[128, 224])
SPACES = (CELLS, MOBILE, SIZED)
SCALE = Scale(channels=128, depth=3)
NAMES = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")


@st.composite
def walks(draw: st.DrawFn, space: NASBench101 | MobileNetV3) -> Arch:
    """Any path down the decision tree."""
    prefix: tuple[int, ...] = ()
    while (decision := space.decision(prefix)) is not None:
        assert decision.options, f"no way on after {prefix}"
        assert all(0 <= option < space.kinds[decision.kind] for option in decision.options)
        prefix = (*prefix, draw(st.sampled_from(decision.options)))
    return Arch(space.name, prefix)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[list[list[int]], list[str]]:
    """Any upper triangular matrix with operations, valid or not."""
    n = draw(st.integers(2, 8))
    rows = [[int(x < y and draw(st.booleans())) for y in range(n)] for x in range(n)]
    return rows, ["input", *(draw(st.sampled_from(NAMES)) for _ in range(n - 2)), "output"]


@settings(max_examples=60, deadline=None)
@given(st.one_of(*(st.tuples(st.just(space), walks(space)) for space in SPACES)))
def test_every_walk_ends_in_a_valid_architecture_that_survives_its_texts(
    pair: tuple[NASBench101, Arch],
) -> None:
    space, arch = pair
    space.validate(arch)
    assert parse(str(arch)) == arch
    assert space.read(space.write(arch)) == arch


@settings(max_examples=60, deadline=None)
@given(st.one_of(*(st.tuples(st.just(space), walks(space)) for space in SPACES)), st.integers(0, 2**32 - 1))
def test_mutants_are_valid_and_differ(pair: tuple[NASBench101, Arch], seed: int) -> None:
    space, arch = pair
    child = mutate(space, arch, np.random.default_rng(seed))
    space.validate(child)
    assert child != arch


@pytest.mark.parametrize("space", SPACES, ids=["nasbench101", "mobilenetv3", "mobilenetv3 with resolutions"])
def test_neighbours_are_valid_distinct_and_fixed(space: NASBench101 | MobileNetV3) -> None:
    arch = space.draw(np.random.default_rng(5))
    found = neighbours(space, arch)
    assert len(found) == len(set(found)) > 10
    assert arch not in found
    assert found == neighbours(space, arch)
    for other in found:
        space.validate(other)


@settings(max_examples=60, deadline=None)
@given(walks(CELLS), st.randoms(use_true_random=False))
def test_relabelling_a_cell_changes_no_hash_feature_or_representative(arch: Arch, random: object) -> None:
    matrix, ops = CELLS.matrix(arch)
    n = len(ops)
    orders = [(0, *inner, n - 1) for inner in permutations(range(1, n - 1))]
    forward = [o for o in orders if all(o[x] < o[y] for x in range(n) for y in range(n) if matrix[x][y])]
    order = random.choice(forward)  # type: ignore[attr-defined]
    moved = [[0] * n for _ in range(n)]
    names = list(ops)
    for x in range(n):
        names[order[x]] = ops[x]
        for y in range(n):
            moved[order[x]][order[y]] = matrix[x][y]
    other = CELLS.from_matrix(moved, names)
    assert CELLS.fingerprint(other) == CELLS.fingerprint(arch)
    assert CELLS.canonical(other) == CELLS.canonical(arch)
    features = CELLS.features([arch, other, CELLS.canonical(arch)])
    assert (features[0] == features).all()
    first, second = count(arch, SCALE), count(other, SCALE)
    assert abs(first.params - second.params) <= 0.02 * first.params  # the remainder of uneven shares may move


@settings(max_examples=60, deadline=None)
@given(walks(CELLS), walks(CELLS))
def test_the_hash_is_equal_exactly_for_equal_representatives(first: Arch, second: Arch) -> None:
    same = CELLS.canonical(first) == CELLS.canonical(second)
    assert (CELLS.fingerprint(first) == CELLS.fingerprint(second)) == same


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_any_matrix_is_refused_or_becomes_a_valid_cell(cell: tuple[list[list[int]], list[str]]) -> None:
    try:
        arch = CELLS.from_matrix(*cell)
    except InvalidArchError:
        return
    CELLS.validate(arch)
    check_decisions(CELLS, arch)
    assert CELLS.from_matrix(*CELLS.matrix(arch)) == arch  # pruned once, pruned for good


@settings(max_examples=150, deadline=None)
@given(walks(CELLS), st.integers(0, 26), st.integers(-1, 6))
def test_validation_agrees_with_the_decision_tree(arch: Arch, at: int, value: int) -> None:
    assume(at < len(arch.choices) and value != arch.choices[at])
    changed = Arch(arch.space, (*arch.choices[:at], value, *arch.choices[at + 1 :]))
    verdicts = []
    for check in (CELLS.validate, lambda a: check_decisions(CELLS, a)):
        try:
            check(changed)
            verdicts.append(True)
        except InvalidArchError:
            verdicts.append(False)
    assert verdicts[0] == verdicts[1]


@settings(max_examples=40, deadline=None)
@given(walks(MOBILE))
def test_both_text_forms_of_a_mobile_network_agree(arch: Arch) -> None:
    assert MOBILE.read(MOBILE.write(arch, "ctnas")) == arch
    assert MOBILE.features([arch])[0].sum() == 2 * sum(choice > 0 for choice in arch.choices[2::9] + arch.choices[4::9]
                                                       + arch.choices[6::9] + arch.choices[8::9])  # fmt: skip
