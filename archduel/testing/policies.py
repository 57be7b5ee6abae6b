"""What every policy must do. Inherit :class:`PolicyContract`, say how yours is made, run pytest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from archduel.core import Arch, Policy, enumerate_space
from archduel.errors import InvalidArchError, SettingError
from archduel.testing.states import assert_same_state, global_randomness_untouched, through_disk
from archduel.testing.toy import ToySpace

__all__ = ["PolicyContract"]

FEW = {"length": (0, 1), "op": (1, 2)}
"""Leaves six of the toy architectures."""


class PolicyContract:
    """Inherit and override :meth:`make`."""

    space: Any = ToySpace()

    def make(self, generator: torch.Generator) -> Policy:
        """Returns a fresh policy over ``self.space`` whose parameters are drawn from ``generator``."""
        raise AttributeError(f"{type(self).__name__} must define make(generator)")

    def _made(self, seed: int = 0) -> tuple[Policy, torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        return self.make(generator), generator

    def test_draws_are_valid_and_told_with_their_probability(self) -> None:
        """As many as wanted, all valid, with finite log probabilities that ``log_prob`` repeats."""
        policy, generator = self._made()
        for n in (1, 7):
            draw = policy.draw(n, generator)
            assert len(draw.archs) == n
            for arch in draw.archs:
                self.space.validate(arch)
            assert draw.log_prob.shape == draw.entropy.shape == (n,)
            assert draw.log_prob.dtype == torch.float32
            assert (draw.log_prob <= 1e-5).all()
            assert (draw.entropy >= -1e-5).all()
            torch.testing.assert_close(policy.log_prob(draw.archs), draw.log_prob, rtol=1e-5, atol=1e-5)

    def test_probabilities_of_all_architectures_add_up_to_one(self) -> None:
        """The sum over the whole space is 1."""
        policy, _ = self._made()
        assert float(policy.log_prob(list(enumerate_space(self.space))).exp().sum().detach()) == pytest.approx(1.0, abs=1e-4)

    def test_entropy_is_the_chain_rule_entropy(self) -> None:
        """The expected sum of the decisions' entropies is the entropy of the whole distribution."""
        policy, generator = self._made()
        with torch.no_grad():
            draw = policy.draw(400, generator, allowed=FEW)
        seen: dict[Arch, tuple[float, float]] = {
            arch: (float(p), float(h)) for arch, p, h in zip(draw.archs, draw.log_prob, draw.entropy)
        }
        assert sum(math.exp(p) for p, _ in seen.values()) == pytest.approx(1.0, abs=1e-4)
        whole = -sum(math.exp(p) * p for p, _ in seen.values())
        assert sum(math.exp(p) * h for p, h in seen.values()) == pytest.approx(whole, abs=1e-4)

    def test_frequencies_follow_the_probabilities(self) -> None:
        """Of 2,000 draws each architecture has its share, within five standard errors."""
        policy, generator = self._made()
        with torch.no_grad():
            draw = policy.draw(2000, generator, allowed=FEW)
        probability = {arch: float(p.exp()) for arch, p in zip(draw.archs, draw.log_prob)}
        for arch, p in probability.items():
            assert abs(draw.archs.count(arch) / 2000 - p) < 5 * math.sqrt(p * (1 - p) / 2000) + 1e-3

    def test_a_mask_is_respected(self) -> None:
        """Only allowed answers are drawn; a mask that leaves none is an error."""
        policy, generator = self._made()
        for arch in policy.draw(50, generator, allowed={"op": (1, 3)}).archs:
            assert set(arch.choices[1:]) <= {1, 3}
        mixed = {"op": (1, 3), "op0": (2,)}  # the name of a decision counts before its kind
        assert all(a.choices[1] == 2 and set(a.choices[2:]) <= {1, 3} for a in policy.draw(50, generator, allowed=mixed).archs)
        with pytest.raises(SettingError):
            policy.draw(1, generator, allowed={"op": ()})

    def test_learning_makes_an_architecture_likely(self) -> None:
        """Gradients of the log probability reach the parameters and work."""
        policy, _ = self._made()
        wanted = Arch(self.space.name, (2, 4, 1, 3))
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
        before = float(policy.log_prob([wanted]).detach())
        for _ in range(30):
            optimizer.zero_grad()
            (-policy.log_prob([wanted]).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert float(policy.log_prob([wanted]).detach()) > before + 1.0

    def test_the_generator_is_the_only_randomness(self) -> None:
        """The same seed gives the same parameters and draws; global generators are untouched."""
        with global_randomness_untouched():
            (one, first), (two, second) = self._made(3), self._made(3)
            assert_same_state(dict(one.state_dict()), dict(two.state_dict()))
            assert one.draw(9, first).archs == two.draw(9, second).archs

    def test_a_state_goes_through_a_file(self, tmp_path: Path) -> None:
        """Another policy with the loaded state gives the same probabilities."""
        (one, generator), (two, _) = self._made(1), self._made(2)
        two.load_state_dict(through_disk(dict(one.state_dict()), tmp_path))
        draw = one.draw(9, generator)
        assert torch.equal(one.log_prob(draw.archs), two.log_prob(draw.archs))

    def test_other_spaces_are_refused(self) -> None:
        """An architecture with answers that are no options raises."""
        with pytest.raises(InvalidArchError):
            self._made()[0].log_prob([Arch(self.space.name, (9, 9, 9))])
