"""Every policy on the menu keeps the contract."""

from __future__ import annotations

import pytest
import torch

from archduel import registry
from archduel.core import Policy
from archduel.testing.suites import PolicyContract


@pytest.mark.parametrize("name", registry.names("policy"), scope="class")
class TestEveryPolicy(PolicyContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def make(self, generator: torch.Generator) -> Policy:
        return registry.make("policy", self.name, self.space, generator=generator)
