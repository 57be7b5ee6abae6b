"""A policy without memory: one vector of logits for each named decision (BPE's reinforcement learning, DARTS-like alphas).

Zheng et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020: 28 independent vectors, zero at
the start. A decision that other answers decide about is drawn from the same vector wherever it is met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from archduel.core import Arch, Decision, Draw, Space, decisions, sample
from archduel.errors import SettingError

__all__ = ["LogitsPolicy"]

Allowed = Mapping[str, Sequence[int]] | None


def _named(space: Space, probes: int) -> dict[str, str]:
    """Returns the kind of every decision met in ``probes`` random architectures, by name, sorted by name."""
    rng = np.random.default_rng(0)
    met = {d.name: d.kind for _ in range(probes) for d in decisions(space, sample(space, rng).choices)}
    return dict(sorted(met.items()))


class LogitsPolicy(nn.Module):
    """Draws every decision from its own categorical distribution, uniform at the start.

    Args:
        space: what may be decided.
        generator: says on which device the parameters live; nothing is drawn from it, they start at zero.
        probes: random architectures looked at to find the names of the decisions; a name that none of them has shares the
            vector of its kind.
    """

    def __init__(self, space: Space, *, generator: torch.Generator | None = None, probes: int = 200) -> None:
        super().__init__()
        if probes < 1:
            raise SettingError(f"probes must be at least 1, got {probes}")
        self.space = space
        names = _named(space, probes)
        self._index = {name: i for i, name in enumerate(names)}
        self._shared = {kind: len(names) + i for i, kind in enumerate(space.kinds)}
        sizes = [space.kinds[kind] for kind in names.values()] + list(space.kinds.values())
        self.logits = nn.ParameterList(
            nn.Parameter(torch.zeros(size, device=generator.device if generator else None)) for size in sizes
        )

    def _options(self, decision: Decision, allowed: Allowed) -> list[int]:
        if allowed is None or decision.kind not in allowed:
            return list(decision.options)
        options = [option for option in decision.options if option in set(allowed[decision.kind])]
        if not options:
            raise SettingError(
                f"allowed[{decision.kind!r}] = {list(allowed[decision.kind])} leaves no answer to {decision.name}, "
                f"which takes {list(decision.options)}"
            )
        return options

    def _log_p(self, decision: Decision, allowed: Allowed) -> tuple[list[int], Tensor]:
        """Returns the options and their log probabilities, (options,)."""
        options = self._options(decision, allowed)
        vector = self.logits[self._index.get(decision.name, self._shared[decision.kind])]
        return options, vector[options].log_softmax(0)

    def probabilities(self) -> dict[str, Tensor]:
        """Returns the distribution of every named decision over its whole vocabulary, each (kind size,), detached."""
        return {name: self.logits[i].detach().softmax(0) for name, i in self._index.items()}

    def draw(self, n: int, generator: torch.Generator, *, allowed: Allowed = None) -> Draw:
        """Returns ``n`` architectures with their log probabilities.

        Raises:
            SettingError: if ``allowed`` leaves a decision without answers.
        """
        archs = [self._arch(generator, allowed) for _ in range(n)]
        log_prob, entropy = self._judge(archs, allowed)
        return Draw(archs, log_prob, entropy)

    @torch.no_grad()
    def _arch(self, generator: torch.Generator, allowed: Allowed) -> Arch:
        path: tuple[int, ...] = ()
        while (decision := self.space.decision(path)) is not None:
            options, log_p = self._log_p(decision, allowed)
            path = (*path, options[int(torch.multinomial(log_p.exp(), 1, generator=generator))])
        return Arch(self.space.name, path)

    def log_prob(self, archs: Sequence[Arch], *, allowed: Allowed = None) -> Tensor:
        """Returns (N,) natural log probabilities, differentiable.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        return self._judge(archs, allowed)[0]

    def _judge(self, archs: Sequence[Arch], allowed: Allowed) -> tuple[Tensor, Tensor]:
        """Returns log probability (N,) and entropy (N,), both summed over the decisions."""
        log_probs, entropies = [], []
        for arch in archs:
            picked, spread = [], []
            for choice, decision in zip(arch.choices, decisions(self.space, arch.choices)):
                options, log_p = self._log_p(decision, allowed)
                picked.append(log_p[options.index(choice)] if choice in options else log_p.new_tensor(-torch.inf))
                spread.append(-(log_p.exp() * log_p).sum())
            log_probs.append(torch.stack(picked).sum())
            entropies.append(torch.stack(spread).sum())
        return torch.stack(log_probs), torch.stack(entropies)
