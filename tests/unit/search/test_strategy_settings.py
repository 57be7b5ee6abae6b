"""A strategy's checks name the one setting that is wrong, what was got and what was expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archduel import registry
from archduel.errors import SettingError
from archduel.strategies import CTNAS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 1}, "samples is 1, expected at least 2"),
        ({"keep": 0}, "keep is 0, expected at least 1"),
        ({"verify": -1}, "verify is -1, expected at least 0"),
        ({"lr": 0.0}, "lr is 0.0, expected more than 0"),
        ({"variant": "new"}, "variant is 'new', expected one of "),
    ],
)
def test_ctnas(settings: dict[str, object], message: str) -> None:
    space = registry.make("space", "nasbench201")
    generator = torch.Generator().manual_seed(0)
    policy = registry.make("policy", "lstm", space, generator=generator)
    with pytest.raises(SettingError, match=message):
        CTNAS(space, policy, object(), rng=np.random.default_rng(0), generator=generator, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"momentum": 1.0}, "momentum is 1.0, expected at least 0 and below 1"), ({"patience": 0}, "patience is 0, expected at least 1")],
)
def test_reinforce(settings: dict[str, object], message: str) -> None:
    space = registry.make("space", "nasbench201")
    generator = torch.Generator().manual_seed(0)
    policy = registry.make("policy", "logits", space)
    with pytest.raises(SettingError, match=message):
        registry.make("strategy", "reinforce", space, policy, rng=np.random.default_rng(0), generator=generator, **settings)
