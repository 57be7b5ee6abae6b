"""A policy without memory: one vector of logits for each named decision (BPE's reinforcement learning, DARTS-like alphas).

Zheng et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020: 28 independent vectors, zero at
the start. A decision that other answers decide about is drawn from the same vector wherever it is met.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from archduel.core import Arch, Decision, Draw, Space, decisions, sample
from archduel.core.space import Allowed, permitted
from archduel.errors import check_at_least

__all__ = ["LogitsPolicy"]

# Random numbers taken at a time: a call costs more than a number, and an architecture rarely has more decisions than this.
BLOCK = 32


def _named(space: Space, probes: int) -> dict[str, str]:
    """Returns the kind of every decision met in ``probes`` random architectures, by name, sorted by name."""
    # a fixed seed: the names, and so the rows of the parameters, must be the same in every run
    rng = np.random.default_rng(0)
    met = {d.name: d.kind for _ in range(probes) for d in decisions(space, sample(space, rng).choices)}
    return dict(sorted(met.items()))


class LogitsPolicy(nn.Module):
    """Draws every decision from its own categorical distribution, uniform at the start.

    Args:
        generator: says on which device the parameters live; nothing is drawn from it, they start at zero.
        probes: random architectures looked at to find the names of the decisions; a name that none of them has shares the
            vector of its kind.
    """

    def __init__(self, space: Space, *, generator: torch.Generator | None = None, probes: int = 64) -> None:
        super().__init__()
        check_at_least(1, probes=probes)
        self.space = space
        self._names = _named(space, probes)
        self._index = {name: i for i, name in enumerate(self._names)}
        self._shared = {kind: len(self._names) + i for i, kind in enumerate(space.kinds)}
        device = generator.device if generator is not None else None
        # (named decisions + kinds, largest vocabulary); what is beyond a vocabulary is never an option
        shape = len(self._names) + len(space.kinds), max(space.kinds.values())
        self.logits = nn.Parameter(torch.zeros(shape, device=device))

    def _row(self, decision: Decision) -> int:
        return self._index.get(decision.name, self._shared[decision.kind])

    def probabilities(self) -> dict[str, Tensor]:
        """Returns the distribution of every named decision over its whole vocabulary, each (kind size,), detached."""
        sizes = self.space.kinds
        return {
            name: self.logits[i].detach()[: sizes[self._names[name]]].softmax(0) for name, i in self._index.items()
        }

    def draw(self, n: int, generator: torch.Generator, *, allowed: Allowed | None = None) -> Draw:
        """Returns ``n`` architectures with their log probabilities.

        Raises:
            SettingError: if ``allowed`` leaves a decision without answers.
        """
        weights = (self.logits - self.logits.amax(1, keepdim=True)).detach().exp().tolist()
        archs = [self._arch(weights, generator, allowed) for _ in range(n)]
        log_prob, entropy = self._judge(archs, allowed)
        return Draw(archs, log_prob, entropy)

    def _arch(self, weights: list[list[float]], generator: torch.Generator, allowed: Allowed | None) -> Arch:
        path: tuple[int, ...] = ()
        random: list[float] = []
        while (decision := self.space.decision(path)) is not None:
            if len(path) == len(random):
                random += torch.rand(BLOCK, generator=generator, device=generator.device).tolist()
            row, options = weights[self._row(decision)], permitted(decision, allowed)
            left = random[len(path)] * sum(row[option] for option in options)
            # by hand rather than by a call of PyTorch a decision, for a handful of options; the last one is taken where rounding
            # leaves a rest
            for answer in options:
                left -= row[answer]
                if left < 0:
                    break
            path = (*path, answer)
        return Arch(self.space.name, path)

    def log_prob(self, archs: Sequence[Arch], *, allowed: Allowed | None = None) -> Tensor:
        """Returns (N,) natural log probabilities, differentiable.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        return self._judge(archs, allowed)[0]

    def _judge(self, archs: Sequence[Arch], allowed: Allowed | None) -> tuple[Tensor, Tensor]:
        """Returns log probability (N,) and entropy (N,), both summed over the decisions."""
        device = self.logits.device
        answers = [(b, d, c) for b, a in enumerate(archs) for d, c in zip(decisions(self.space, a.choices), a.choices)]
        # all decisions of all architectures are rows of one softmax; index_add gives each its sum
        mask = np.full((len(answers), self.logits.shape[1]), -np.inf, np.float32)
        for i, (_, decision, _) in enumerate(answers):
            mask[i, list(permitted(decision, allowed))] = 0.0
        owner = torch.tensor([b for b, _, _ in answers], dtype=torch.int64, device=device)
        answer = torch.tensor([c for _, _, c in answers], dtype=torch.int64, device=device)
        rows = torch.tensor([self._row(d) for _, d, _ in answers], dtype=torch.int64, device=device)
        barred = torch.from_numpy(mask).to(device)
        log_p = (self.logits[rows] + barred).log_softmax(1)  # (decisions, vocabulary)
        # p log p is 0 where p is, but 0 times -inf would be nan
        plogp = (log_p.exp() * log_p.masked_fill(barred.isinf(), 0.0)).sum(1)
        zeros = torch.zeros(len(archs), device=device)
        picked = log_p.gather(1, answer[:, None])[:, 0]
        return zeros.index_add(0, owner, picked), zeros.index_add(0, owner, -plogp)
