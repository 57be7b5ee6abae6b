"""What a recipe says of SGD reaches it, whoever trains: shared weights, one network or a group."""

from __future__ import annotations

import pytest
from torch import nn

from archduel.recipes import read
from archduel.training.optimizer import SGD, sgd_settings
from archduel.training.recipe import Recipe


@pytest.mark.parametrize("recipe", [read("bpe1"), read("darts_search"), Recipe(momentum=0.5, weight_decay=0.1, grad_clip=0.0)])
def test_every_setting_of_sgd_is_handed_on(recipe: Recipe) -> None:
    made = SGD(nn.Linear(2, 2), **sgd_settings(recipe))
    assert (made.lr, made.momentum, made.nesterov, made.grad_clip) == (recipe.lr, recipe.momentum, recipe.nesterov, recipe.grad_clip)
    assert {group["weight_decay"] for group in made.param_groups} == {recipe.weight_decay}
