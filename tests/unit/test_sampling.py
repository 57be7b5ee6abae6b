"""One way to draw different architectures, which ends in every space, and masks that mean the same to every sampler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archduel import registry
from archduel.commands.proxy.check import check_proxy
from archduel.commands.proxy.find import _Search
from archduel.commands.search.stages import new_random
from archduel.commands.spaces.describe import sampled
from archduel.commands.table.train import train_table
from archduel.core import Arch, Decision, check_decisions, decisions, fair_sample, sample, sample_distinct
from archduel.core.space import ENUMERABLE, enumerate_space
from archduel.errors import InfeasibleError, SettingError
from archduel.strategies.random import RandomSearch
from archduel.testing.toy import ToySpace

TOY = "archduel.testing.toy:ToySpace"
FEW = "tests.unit.test_sampling:Parity"


class Parity:
    """Forty answers of two, far too many to list, of which only the sum of the first three counts: four fingerprints."""

    name = "parity"
    kinds = {"bit": 2}

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        return Decision(f"bit{len(prefix)}", "bit", (0, 1)) if len(prefix) < 40 else None

    def validate(self, arch: Arch) -> None:
        check_decisions(self, arch)

    def features(self, archs: Sequence[Arch]) -> Any:
        return np.array([arch.choices for arch in archs], np.float32).reshape(len(archs), 40)

    def fingerprint(self, arch: Arch) -> str:
        return str(sum(arch.choices[:3]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- drawing different architectures ends, with what there is -----------------------------------------------------------


@pytest.mark.parametrize("limit", [0, ENUMERABLE])
@pytest.mark.parametrize("name", ["nasbench201", "nasbench101"])
def test_architectures_differ_and_a_larger_set_begins_with_the_smaller(name: str, limit: int) -> None:
    space = registry.make("space", name)
    few, many = (sample_distinct(space, n, rng(), enumerate_up_to=limit) for n in (5, 9))
    assert many[:5] == few
    assert len({space.fingerprint(arch) for arch in many}) == 9


def test_all_there_are_can_be_had_and_one_more_is_an_error_with_all_of_them() -> None:
    space = registry.make("space", "nasbench201")
    with pytest.raises(InfeasibleError, match="has only 5234 functionally different architectures, 6000 were asked for"):
        sample_distinct(space, 6000, rng(), enumerate_up_to=ENUMERABLE)
    for limit in (0, ENUMERABLE):
        archs = sample_distinct(ToySpace(), 341, rng(), enumerate_up_to=limit)
        assert len({ToySpace().fingerprint(arch) for arch in archs}) == 341
        with pytest.raises(InfeasibleError, match="toy has only 341") as caught:
            sample_distinct(ToySpace(), 342, rng(), enumerate_up_to=limit)
        assert {ToySpace().fingerprint(arch) for arch in caught.value.archs} == {ToySpace().fingerprint(arch) for arch in archs}


def test_a_space_too_large_to_list_is_given_up() -> None:
    with pytest.raises(InfeasibleError, match="parity gave only 4 functionally different architectures, 5 were asked for") as caught:
        sample_distinct(Parity(), 5, rng(), enumerate_up_to=ENUMERABLE)
    assert len(caught.value.archs) == 4


def test_limits_and_what_is_known_already_count() -> None:
    def short(arch: Arch) -> bool:
        return len(arch.choices) <= 2

    archs = sample_distinct(ToySpace(), 5, rng(), constraint=short)
    assert sorted(ToySpace().fingerprint(arch) for arch in archs) == ["", "1", "2", "3", "4"]
    with pytest.raises(InfeasibleError, match="only 3 more .* within the limits, 4 were asked for; .* loosen the limits") as caught:
        sample_distinct(ToySpace(), 4, rng(), constraint=short, exclude={"", "2"})
    assert sorted(ToySpace().fingerprint(arch) for arch in caught.value.archs) == ["1", "3", "4"]


def _train(space: str, n: int, folder: Path) -> None:
    train_table("digits", folder / "t.table", space=space, cells=n, quiet=True)


def _check(space: str, n: int, folder: Path) -> None:
    check_proxy("digits", folder / "check", space=space, truth=n, reference="bpe2", quiet=True)


def _find(space: str, n: int, folder: Path) -> None:
    bench: Any = SimpleNamespace(settings={"truth": n, "seed": 0})
    _Search(bench, SimpleNamespace(), registry.make("space", space), SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]


def _sample(space: str, n: int, folder: Path) -> None:
    sampled(registry.make("space", space), n, distinct=True)


@pytest.mark.parametrize(("space", "there_are"), [(TOY, 341), (FEW, 4)])
def test_every_caller_ends_with_the_same_error(space: str, there_are: int, tmp_path: Path) -> None:
    for caller in (_train, _check, _find, _sample):
        with pytest.raises(InfeasibleError, match=f"only {there_are} functionally different architectures, 400 were asked for"):
            caller(space, 400, tmp_path)


@pytest.mark.parametrize(("space", "there_are"), [(TOY, 341), (FEW, 4)])
def test_searches_take_what_there_is(space: str, there_are: int) -> None:
    home = registry.make("space", space)
    assert len(new_random(home, None, rng(), [], 400)) == there_are
    assert len(new_random(home, None, rng(), [next(enumerate_space(home))], 400)) == there_are - 1
    assert len(RandomSearch(home, rng=rng()).ask(there_are + 5)) == there_are


# -- masks ----------------------------------------------------------------------------------------------------------------

SPACES = [*registry.names("space"), TOY]


def answers(space: Any, archs: list[Arch]) -> dict[str, set[int]]:
    """Returns the answers given to each decision, by name and by kind."""
    given: dict[str, set[int]] = {}
    for arch in archs:
        for decision, choice in zip(decisions(space, arch.choices), arch.choices):
            given.setdefault(decision.name, set()).add(choice)
            given.setdefault(f"kind {decision.kind}", set()).add(choice)
    return given


@pytest.mark.parametrize("name", SPACES)
def test_masks_by_kind_and_by_name_mean_the_same_to_both_samplers(name: str) -> None:
    space = registry.make("space", name)
    wide = [d for d in decisions(space, max((sample(space, rng(i)) for i in range(20)), key=lambda a: len(a.choices)).choices) if len(d.options) > 1]
    one, n = wide[0], 3 * max(space.kinds.values())
    mask = {one.name: (one.options[-1],)}
    for archs in (fair_sample(space, n, rng(), allowed=mask), [sample(space, rng(i), allowed=mask) for i in range(n)]):
        assert answers(space, archs)[one.name] == {one.options[-1]}
        for arch in archs:
            check_decisions(space, arch)
    alike = [d for d in wide if all(e.options == d.options for e in wide if e.kind == d.kind)]
    if len(alike) < 2 or alike[0].kind != alike[1].kind or name == "nasbench101":  # whose answers to a kind depend on others
        return
    first, second = alike[:2]
    both = {first.kind: first.options[:1], second.name: second.options[1:]}
    for archs in (fair_sample(space, n, rng(), allowed=both), [sample(space, rng(i), allowed=both) for i in range(n)]):
        given = answers(space, archs)
        assert given[first.name] == set(first.options[:1])
        assert given.get(second.name, set()) <= set(second.options[1:])


@pytest.mark.parametrize("name", SPACES)
def test_unknown_keys_of_masks_are_errors(name: str) -> None:
    space = registry.make("space", name)
    for sampler in (lambda mask: fair_sample(space, 2, rng(), allowed=mask), lambda mask: sample(space, rng(), allowed=mask)):
        with pytest.raises(SettingError, match="'no_such_thing' is unknown"):
            sampler({"no_such_thing": (0,)})
        with pytest.raises(SettingError, match="leaves no answer to"):
            sampler({next(decisions(space, sample(space, rng()).choices)).name: ()})
