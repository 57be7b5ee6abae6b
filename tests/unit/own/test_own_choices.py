"""Choices in an ordinary constructor: what is asked, in which words, and what a person is told who asks something else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from own_networks import Forty, Signals, Small
from torch import nn

import archduel
from archduel import choose, repeat, switch
from archduel.core import Arch, Scale, decisions, enumerate_space, mutate, neighbours, sample
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.own.choices import no_choices, replay
from archduel.spaces.own.network import check_options, count_own, predicted_costs
from archduel.spaces.own.weights import inherit


def network(body: Callable[[], Any]) -> Any:
    """Returns a class whose constructor runs ``body`` and keeps what it returns."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = body()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.part(x) if isinstance(self.part, nn.Module) else x  # type: ignore[no-any-return]

    return Net


def refused(program: Any, *words: str, **how: Any) -> None:
    """Asserts that a space of ``program`` is refused with all of ``words``."""
    with pytest.raises(SettingError) as error:
        archduel.space_of(program, **{"example": (4,), **how})
    for word in words:
        assert word in str(error.value), str(error.value)


def questions(space: Any, arch: Arch) -> list[str]:
    return [decision.name for decision in decisions(space, arch.choices)]


# -- what is asked ------------------------------------------------------------------------------------------------------------


def test_without_a_search_every_choice_is_its_first_option() -> None:
    assert (choose("width", [16, 24]), choose("act", (nn.ReLU, nn.SiLU))) == (16, nn.ReLU)
    assert len(repeat("blocks", lambda i: nn.Identity(), [2, 3])) == 2
    assert isinstance(switch("op", {"a": nn.ReLU, "b": nn.SiLU}), nn.ReLU)
    assert Small(1, 3, 8)(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_questions_have_the_names_of_where_they_stand() -> None:
    space = archduel.space_of(Small, check=False)
    assert questions(space, space.start()) == ["blocks_first", "width", "blocks", "blocks[0].kernel", "blocks[0].act"]
    assert space.kinds == {"blocks_first": 2, "width": 2, "blocks": 2, "blocks[].kernel": 2, "blocks[].act": 2}
    assert space.words("blocks[].act") == ("relu", "silu")


def test_width_and_depth_are_coupled_by_plain_python() -> None:
    space = archduel.space_of(Small, check=False)
    seen = set()
    for arch in enumerate_space(space):
        built, values = space.build(arch), space.values(arch)
        width = values["width"] * (2 if values["blocks_first"] == 1 else 1)
        assert built.stem.out_channels == width
        assert len(built.body) == values["blocks"] in (values["blocks_first"], values["blocks_first"] + 1)
        assert [block.conv.kernel_size[0] for block in built.body] == [values[f"blocks[{i}].kernel"] for i in range(len(built.body))]
        seen.add(space.write(arch))
    assert len(seen) == space.size == 2 * (4 + 16) + 2 * (16 + 64)
    assert space.exact


def test_a_choice_of_an_option_is_asked_where_that_option_is_taken() -> None:
    space = archduel.space_of(Signals, example=(1, 16))
    names = {space.values(arch)["mix"]: questions(space, arch) for arch in enumerate_space(space)}
    assert names["conv"] == ["width", "mix", "mix.kernel"]
    assert names["none"] == ["width", "mix"]
    assert names["deep"] == ["width", "mix", "mix.layers"]
    assert space.size == 3 * (3 + 1 + 2)


def test_one_name_with_the_same_options_is_one_decision() -> None:
    def body() -> Any:
        return nn.Sequential(*(nn.Linear(4, 4, bias=choose("bias", [True, False])) for _ in range(3)))

    space = archduel.space_of(network(body), example=(4,))
    assert space.size == 2
    assert all(layer.bias is None for layer in space.build(Arch(space.name, (1,))).part)


def test_answers_that_matter_only_together_are_found() -> None:
    def body() -> Any:
        first, second = choose("first", [1, 2, 3]), choose("second", [1, 2, 3])
        return choose("extra", [1, 2]) if first == 3 and second == 2 else None

    space = archduel.space_of(network(body), example=(4,))
    assert space.size == 8 + 2
    assert [questions(space, arch) for arch in enumerate_space(space) if "extra" in questions(space, arch)] == [["first", "second", "extra"]] * 2


def test_options_may_follow_from_earlier_answers() -> None:
    space = archduel.space_of(network(lambda: choose("second", [choose("first", [8, 16]), 32])), example=(4,))
    assert [space.values(arch) for arch in enumerate_space(space)] == [
        {"first": first, "second": second} for first in (8, 16) for second in (first, 32)
    ]


def test_every_draw_is_what_the_constructor_asks() -> None:
    space, rng = archduel.space_of(Forty, check=False), np.random.default_rng(0)
    assert space.size > 1e9
    for _ in range(20):
        arch = sample(space, rng)
        answers = space.values(arch)
        _, trace = replay(lambda: Forty(3, 10), lambda q: q.labels.index(str(answers[q.name])))  # noqa: B023
        assert [(q.name, q.options[i]) for q, i in trace] == list(answers.items())


def test_a_mutant_keeps_its_answers_by_name() -> None:
    space, rng = archduel.space_of(Forty, check=False), np.random.default_rng(1)
    grown = 0
    for _ in range(200):
        arch = sample(space, rng)
        child = mutate(space, arch, rng)
        before, after = space.values(arch), space.values(child)
        changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert len(changed) == 1
        grown += len(after) > len(before)
    assert grown > 5
    assert all(sum(space.values(near)[n] != v for n, v in space.values(arch).items() if n in space.values(near)) == 1 for near in neighbours(space, arch)[:10])


def test_texts_are_read_in_any_order_and_wrong_ones_are_named() -> None:
    space = archduel.space({"a": [1, 2], "b": {"x": {"c": [1, 2]}, "y": {}}})
    assert space.read("b=x, b.c=2, a=1") == Arch("options", (0, 0, 1))
    for text, word in (("a=1, b=y, b.c=1", "b.c is not asked"), ("a=3, b=y", "a=3"), ("a=1", "b=None")):
        with pytest.raises(InvalidArchError, match=word):
            space.read(text)


def test_columns_are_ordinal_for_numbers_one_each_for_names_and_flagged_where_not_always_asked() -> None:
    space = archduel.space({"a": [2, 4, 6], "b": ["x", "y", "z"], "c": {"on": {"d": [1, 3]}, "off": {}}})
    rows = space.features([space.read("a=4, b=z, c=off"), space.read("a=6, b=x, c=on, c.d=3")])
    assert rows.tolist() == [[0.5, 0, 0, 1, 0, 1, 0, 0], [1, 1, 0, 0, 1, 0, 1, 1]]


def test_a_space_may_depend_on_the_images() -> None:
    space = archduel.space_of(Small, check=False)
    assert space.at_scale(Scale(16, 3, 32, 3, 10)) is space
    other = space.at_scale(Scale(16, 3, 8, 1, 5))
    assert other.build(other.start()).head.in_features == 8 * 16
    assert other is space.at_scale(Scale(16, 3, 8, 1, 5))


def test_costs_that_rankers_get_are_near_the_counted_ones() -> None:
    space, rng, scale = archduel.space_of(Small, check=False), np.random.default_rng(3), Scale(16, 3, 8, 1, 5)
    archs = [sample(space.at_scale(scale), rng) for _ in range(12)]
    counted = np.array([count_own(space, arch, scale) for arch in archs])
    assert np.abs(np.log(predicted_costs(space, archs, scale) / counted)).mean() < 0.02


# -- what a person is told ------------------------------------------------------------------------------------------------------


def test_a_choice_asked_again_with_other_options_shows_both() -> None:
    refused(network(lambda: (choose("k", [1, 3]), choose("k", [3, 5]))), "'k' is asked again", "[1, 3]", "[3, 5]")


def test_a_choice_in_forward_is_told_where_to_stand() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = choose("width", [1, 2])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * choose("factor", [1.0, 2.0])

    refused(Late, "'factor' is asked while the network runs", "in __init__")
    with no_choices(), pytest.raises(SettingError, match="while the network runs"):
        choose("width", [1, 2])


def test_a_constructor_that_asks_at_random_is_refused() -> None:
    refused(network(lambda: choose(f"k{random.randrange(10**6)}", [1, 2])), "not the same when it runs again")
    refused(network(lambda: choose("k", [1, time.perf_counter_ns()])), "not the same when it runs again")
    refused(network(lambda: nn.Linear(4, choose("k", [1, 2]) + time.perf_counter_ns() % 97)), "another network each time")


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), torch.get_rng_state()
    archduel.space_of(network(lambda: nn.Linear(4, choose("k", [1, 2]))), example=(4,))
    assert before[0] == random.getstate()
    assert torch.equal(before[1], torch.get_rng_state())
    assert torch.nn.init.kaiming_uniform_.__name__ == "kaiming_uniform_"


def test_options_that_cannot_be_built_or_run_are_named_with_the_exception() -> None:
    refused(network(lambda: nn.Linear(4, choose("out", [2, -1]))), "option out=-1 cannot be built", "RuntimeError")
    refused(network(lambda: nn.Linear(choose("c_in", [4, 5]), 2)), "option c_in=5 cannot be run on a batch of shape (2, 4)", "RuntimeError")
    refused(network(lambda: nn.Linear(choose("c_in", [5, 4]), 2)), "all first options cannot be run", "example=")

    def pair() -> Any:
        return nn.Linear(4 + (choose("a", [0, 1]) and choose("b", [0, 1])), 2)

    refused(network(pair), "b=1", "a=1", "cannot be run")


def test_another_number_of_classes_is_refused() -> None:
    class Wrong(nn.Module):
        def __init__(self, in_channels: int, n_classes: int) -> None:
            super().__init__()
            self.head = nn.Conv2d(in_channels, choose("width", [4, 8]), 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x).mean((2, 3))  # type: ignore[no-any-return]

    refused(Wrong, "answers with 4 numbers an image where 10 classes were asked for", example=None)


def test_a_module_that_draws_would_share_is_refused() -> None:
    shared = nn.Linear(4, 4)
    refused(network(lambda: switch("act", {"a": shared, "b": nn.Identity})), "'a' is a module that is there already", "without parentheses")
    refused(network(lambda: nn.Sequential(switch("act", {"a": lambda: shared, "b": nn.Identity}))), "two draws share one module")
    refused(network(lambda: choose("act", [nn.ReLU(), nn.SiLU()])), "write switch('act'")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda: choose("k", []), "no options"),
        (lambda: choose("k", [1, 1]), "options must differ"),
        (lambda: choose("a b", [1, 2]), "a choice's name is a word"),
        (lambda: choose("k", [lambda: 1, lambda: 2]), "options must differ"),
        (lambda: choose("k", [float("nan"), 1.0]), "is no number"),
        (lambda: repeat("k", lambda i: nn.Identity(), [1, -1]), "whole numbers from 0"),
        (lambda: switch("k", [nn.ReLU]), "expected {'name'"),  # type: ignore[arg-type]
        (lambda: switch("k", {"a": 3, "b": nn.ReLU}), "expected a class or a function"),  # type: ignore[dict-item]
        (lambda: None, "nothing to choose"),
    ],
)
def test_what_is_no_choice_is_said(body: Any, words: str) -> None:
    refused(network(body), words)


def test_what_is_no_class_is_said() -> None:
    with pytest.raises(SettingError, match="takes the class"):
        archduel.space_of(nn.Linear(1, 1))

    class Needs(nn.Module):
        def __init__(self, hidden: int) -> None:
            super().__init__()
            self.layer = nn.Linear(4, hidden + choose("more", [0, 1]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)  # type: ignore[no-any-return]

    refused(Needs, "needs 'hidden'", "space_of(Needs, hidden=...)")
    refused(Needs, "setting of Needs 'hiden' is unknown", "'hidden'", hiden=3)
    assert archduel.space_of(Needs, example=(4,), hidden=3).size == 2
    for wrong in ({}, [1], {"a": []}):
        with pytest.raises(SettingError):
            archduel.space(wrong)  # type: ignore[arg-type]


def test_every_option_is_tried_once() -> None:
    space = archduel.space_of(Small, check=False)
    assert check_options(space, Scale(16, 3, 8, 1, 5)) == sum(len(q.options) for q in space.structure.questions.values()) + 1


# -- weights and recipes --------------------------------------------------------------------------------------------------------


def test_weights_are_inherited_by_name_leading_channels_and_the_middle_of_kernels() -> None:
    parent, child = nn.Sequential(nn.Conv2d(2, 3, 5), nn.BatchNorm2d(3)), nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    before = child[0].weight.clone()
    assert inherit(child, parent.state_dict()) == 7
    assert torch.equal(child[0].weight[:3], parent[0].weight[:, :, 1:4, 1:4])
    assert torch.equal(child[0].weight[3], before[3])
    assert inherit(nn.Linear(2, 2), {"weight": torch.zeros(2), "bias": torch.zeros(2)}) == 1


def test_decisions_of_the_recipe_stand_beside_those_of_the_network() -> None:
    recipe = archduel.recipe_space(lr=[0.1, 0.05], augment={"plain": {"cutout": 0}, "cutout": {"cutout": 8, "flip": False}})
    space = archduel.space_of(Small, check=False) + recipe
    arch = space.read(space.write(space.start()).replace("augment=plain", "augment=cutout").replace("lr=0.1", "lr=0.05"))
    assert space.recipe_changes(arch) == {"lr": 0.05, "cutout": 8, "flip": False}
    assert isinstance(space.build(arch), Small)
    assert space.features([arch]).shape[1] == archduel.space_of(Small, check=False).features([]).shape[1] + 3
    for wrong, word in (({"lrr": [1]}, "'lr'"), ({"lr": [-1.0]}, "at least 0"), ({}, "needs a setting"), ({"augment": {"a": {"cut": 1}}}, "'cutout'")):
        with pytest.raises(SettingError, match=word):
            archduel.recipe_space(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="only decisions of a recipe"):
        archduel.space({"a": [1, 2]}) + archduel.space({"b": [1, 2]})
