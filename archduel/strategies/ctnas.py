"""CTNAS: search by comparison with a rising baseline.

Chen, Guo, Tan, Li, et al.: "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR 2021.

    paper               here
    M                   labels              architectures that get a true label
    A                   rounds.ledger       the labelled architectures
    T, N                iterations, batch
    pi(.; theta)        policy
    NAC(a, b)           ranker.prob         Pr[R(a) >= R(b)]
    beta, B             baselines           the last one; all of them
    S                   sampled             the latest draws for exploration
    D, K                pairs, keep         pseudo-labelled pairs; how many of one exploration are kept
    r                   a setting of the ranker (pseudo_ratio)

Deviations from the paper (P) and the released code (R); ``variant="released"`` imitates R in 2 and 3:
 1. The comparator is fitted on the labels first, then updated every ``explore_every`` iterations (R: 100), not every one (P).
 2. Exploration keeps the K pairs with the largest confidence, p away from 1/2 (P); R keeps the largest p, all labelled 1.
 3. The next baseline is the strongest of B + S (P); R takes the best of 10 fresh draws and forgets the history.
 4. The comparator learns from at most ``memory`` pseudo-labelled pairs at a time, drawn from all of D.
 5. A draw that the constraint or the space forbids gets reward 0 and is in neither S nor B (P limits size, says not how).
 6. Added: the ``verify`` strongest candidates are evaluated truly in the end; the best is then the best label.
 7. Added: ``centre`` subtracts the mean reward of the batch (for batch > 1); off in P and R.
 8. The labelled architectures differ in fingerprint.

The published comparator is linear on two embeddings, so that the baseline moves rewards but changes no order (docs/rankers.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Policy,
    Prices,
    Ranker,
    Space,
    State,
    StepReport,
    keep_learning,
    parse,
    win_matrix,
)
from archduel.errors import InvalidArchError, SettingError, check_at_least, check_positive
from archduel.strategies.rounds import LabelsFirst, first_distinct

__all__ = ["CTNAS", "by_wins", "learn_more"]

# -- Architectures against each other, judged by a ranker ---------------------------------------------------------------


def by_wins(ranker: Ranker, archs: Sequence[Arch]) -> list[Arch]:
    """Returns distinct architectures, strongest first: by the mean probability to win against the others."""
    archs = list(dict.fromkeys(archs))
    n = len(archs)
    if n < 2:
        return archs
    p = win_matrix(ranker, archs)
    strength = (p.sum(1) - p.diagonal()) / (n - 1)
    return [archs[i] for i in np.argsort(-strength, kind="stable")]


def learn_more(
    ranker: Ranker,
    archs: Sequence[Arch],
    scores: Sequence[float],
    pairs: Sequence[tuple[Arch, Arch, float]],
    *,
    epochs: int,
) -> None:
    """Lets ``ranker`` go on learning from labels and pseudo-labelled pairs (first, second, label)."""
    first, second, label = zip(*pairs)
    keep_learning(
        ranker, archs, scores, pairs=(list(first), list(second), np.array(label, np.float64)), epochs=epochs
    )


BASELINES = ("curriculum", "fixed", "random")
VARIANTS = ("paper", "released")
FEW_UPDATES: Mapping[str, Any] = {
    "batch": 16, "lr": 3e-3, "centre": True, "baseline_every": 50, "explore_every": 50, "samples": 256, "chunk": 10
}  # fmt: skip
"""Settings for tens of labels and hundreds of updates instead of 423 and 10,000: the policy takes larger, centred steps
(``--set strategy.batch=1 --set strategy.lr=2e-4`` and so on for the paper's)."""
RIVALS = 10  # draws among which the released code looks for the next baseline


class CTNAS(LabelsFirst):
    """Trains a policy to win against an ever stronger baseline, judged by a comparator that labels taught.

    Args:
        policy: the distribution that is trained.
        ranker: the comparator.
        rng: the randomness of labels, pairs and baselines.
        generator: the randomness of the policy's draws.
        constraint: which architectures are allowed.
        labels: architectures that are evaluated before the search.
        iterations: policy updates.
        batch: architectures an update.
        lr: Adam's learning rate for the policy.
        weight_decay: Adam's, for the policy.
        entropy: weight of the entropy bonus.
        centre: subtract the mean reward of the batch.
        baseline: ``curriculum`` (strongest so far), ``fixed`` (the first) or ``random`` (redrawn).
        baseline_every: iterations between new baselines.
        explore_every: iterations between explorations; 0 = none.
        samples: architectures drawn for an exploration, and pairs made of them.
        keep: pseudo-labelled pairs kept of an exploration.
        memory: pseudo-labelled pairs the comparator learns from at a time.
        epochs: passes over the labels after an exploration.
        verify: candidates that get a true label in the end.
        chunk: iterations a step.
        variant: ``paper`` or ``released``.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"policy": "lstm", "ranker": "nac"}
    compares: ClassVar[bool] = True

    def __init__(
        self,
        space: Space,
        policy: Policy,
        ranker: Ranker,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        labels: int = 423,
        iterations: int = 10_000,
        batch: int = 1,
        lr: float = 2e-4,
        weight_decay: float = 5e-4,
        entropy: float = 5e-4,
        centre: bool = False,
        baseline: str = "curriculum",
        baseline_every: int = 1_000,
        explore_every: int = 100,
        samples: int = 512,
        keep: int = 256,
        memory: int = 2_000,
        epochs: int = 1,
        verify: int = 0,
        chunk: int = 50,
        variant: str = "paper",
    ) -> None:
        for name, value, known in (("baseline", baseline, BASELINES), ("variant", variant, VARIANTS)):
            if value not in known:
                raise SettingError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        check_at_least(1, iterations=iterations, batch=batch, baseline_every=baseline_every, chunk=chunk)
        check_at_least(1, keep=keep, memory=memory, epochs=epochs)
        # a comparator compares: one sample alone has nothing to be compared with
        check_at_least(2, samples=samples)
        check_at_least(0, explore_every=explore_every, verify=verify)
        check_positive(lr=lr)
        super().__init__(space, ranker, rng, constraint, labels)
        self.policy, self.generator = policy, generator
        self.iterations, self.batch, self.entropy, self.centre = iterations, batch, entropy, centre
        self.baseline, self.baseline_every, self.variant = baseline, baseline_every, variant
        self.explore_every, self.samples, self.keep, self.memory = explore_every, samples, keep, memory
        self.epochs, self.verify, self.chunk = epochs, verify, chunk
        parameters = policy.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, fused=True)
        self.iteration = -1  # before the comparator's first fit
        self.baselines: list[Arch] = []
        self.sampled: list[Arch] = []
        self.pairs: list[tuple[Arch, Arch, float]] = []
        self._verdicts: dict[Arch, float] = {}  # rewards against the present baseline by the present comparator

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns settings: all labels but those of the proposals, and larger steps where there is time for few only."""
        settings: dict[str, Any] = {"labels": allowance.evaluations - allowance.proposals}
        if allowance.proposals:
            settings["verify"] = allowance.proposals
        return settings if allowance.iterations is None else {**settings, "iterations": allowance.iterations, **FEW_UPDATES}

    def step(self) -> StepReport | None:
        """Fits the comparator, then makes ``chunk`` iterations a call; None while labels are missing and when finished."""
        if self.iteration == self.iterations or not self.rounds.ready():
            return None
        if self.iteration < 0:
            return self._begin()
        rewards = []
        self._verdicts.clear()  # a state is saved between steps and holds none
        for _ in range(min(self.chunk, self.iterations - self.iteration)):
            if self.explore_every and self.iteration % self.explore_every == 0:
                self._explore()
            if self.iteration > 0 and self.iteration % self.baseline_every == 0:
                self._next_baseline()
            rewards.append(self._improve())
            self.iteration += 1
        if self.iteration == self.iterations:
            self._end()
        return StepReport({"iteration": self.iteration, "reward": float(np.mean(rewards)), "pairs": len(self.pairs)})

    def _begin(self) -> StepReport:
        """Trains the comparator on A and draws the first baseline (Algorithm 1, lines 1 to 3)."""
        metrics = self.ranker.fit(*self.rounds.ledger.labelled())
        self.iteration = 0
        self._draw()
        first = self.sampled or self.rounds.ledger.labelled()[0]
        self.baselines = [first[int(self.rng.integers(len(first)))]]
        return StepReport({f"fit_{name}": float(value) for name, value in metrics.items()})

    def _improve(self) -> float:
        """One step of REINFORCE with the comparator as reward (line 5); returns the mean reward."""
        draw = self.policy.draw(self.batch, self.generator)
        self._judge(draw.archs)
        reward = np.array([self._verdicts[arch] for arch in draw.archs])
        weight = reward - reward.mean() if self.centre else reward
        gain = draw.log_prob * torch.as_tensor(weight, dtype=draw.log_prob.dtype, device=draw.log_prob.device)
        self.optimizer.zero_grad()
        (-(gain + self.entropy * draw.entropy).mean()).backward()
        self.optimizer.step()
        return float(reward.mean())

    def _judge(self, archs: Sequence[Arch]) -> None:
        """Adds the rewards of ``archs`` to the known ones: 0 or the chance to win against the baseline."""
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._verdicts]
        self._verdicts.update(dict.fromkeys(new, 0.0))
        if feasible := [arch for arch in new if self._feasible(arch)]:
            p = self.ranker.prob(feasible, [self.baselines[-1]] * len(feasible))
            self._verdicts.update(zip(feasible, p.tolist()))

    def _feasible(self, arch: Arch) -> bool:
        try:
            self.space.validate(arch)
        except InvalidArchError:
            return False
        return self.constraint is None or self.constraint(arch)

    def _draw(self) -> None:
        """S <- distinct feasible draws of the policy (line 6)."""
        with torch.no_grad():
            draw = self.policy.draw(self.samples, self.generator)
        self.sampled = [arch for arch in dict.fromkeys(draw.archs) if self._feasible(arch)]

    def _explore(self) -> None:
        """Pseudo-labels the surest pairs of S (Algorithm 3) and trains the comparator on A + D (Algorithm 1, line 3)."""
        self._verdicts.clear()
        if self.iteration > 0:
            self._draw()
        if len(self.sampled) < 2:
            return
        first, second = ([self.sampled[i] for i in self._places()] for _ in range(2))
        p = self.ranker.prob(first, second)
        confidence = p if self.variant == "released" else np.abs(p - 0.5)
        surest = np.argsort(-confidence, kind="stable")[: self.keep]
        self.pairs += [(first[i], second[i], float(p[i] >= 0.5)) for i in surest if first[i] != second[i]]
        lesson = [self.pairs[i] for i in self.rng.permutation(len(self.pairs))[: self.memory].tolist()]
        if lesson:
            learn_more(self.ranker, *self.rounds.ledger.labelled(), lesson, epochs=self.epochs)

    def _places(self) -> list[int]:
        return self.rng.integers(len(self.sampled), size=self.samples).tolist()

    def _next_baseline(self) -> None:
        """Appends the strongest of history and samples (Algorithm 2)."""
        self._verdicts.clear()
        if self.baseline == "fixed":
            return
        if not self.explore_every:  # else the draws are never older than the last exploration
            self._draw()
        if not self.sampled:
            return
        if self.baseline == "random":
            self.baselines.append(self.sampled[int(self.rng.integers(len(self.sampled)))])
            return
        rivals = self.sampled[:RIVALS] if self.variant == "released" else [*self.baselines, *self.sampled]
        self.baselines.append(by_wins(self.ranker, rivals)[0])

    def _end(self) -> None:
        """Draws what the trained policy offers and queues the strongest candidates for a true label."""
        self._draw()
        if self.verify:
            self.rounds.propose(by_wins(self.ranker, self._candidates()), self.verify)

    def _candidates(self) -> list[Arch]:
        """Returns baselines, samples and the best labelled architectures."""
        return [*self.baselines, *self.sampled, *self.rounds.ledger.ranked()[: max(20, len(self.sampled) // 4)]]

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` architectures that differ in fingerprint, strongest first; by label before the search."""
        ranked = self.rounds.ledger.ranked() if self.iteration < 0 else by_wins(self.ranker, self._candidates())
        return first_distinct(self.space, ranked, n)

    def best(self) -> Arch:
        """Returns the strongest candidate; the best label before the search and where candidates are verified.

        Raises:
            StateError: before any tell.
        """
        if self.iteration < 0 or (self.verify and self.iteration == self.iterations):
            return self.rounds.ledger.best()
        return self.finalists(1)[0]

    def state_dict(self) -> State:
        """Returns all that changes."""
        return deepcopy(
            super().state_dict()
            | {
                "policy": dict(self.policy.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "iteration": self.iteration,
                "baselines": [str(arch) for arch in self.baselines],
                "sampled": [str(arch) for arch in self.sampled],
                "pairs": [[str(first), str(second), label] for first, second, label in self.pairs],
                "generator": self.generator.get_state(),
            }
        )

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]
        self.baselines = [parse(text) for text in state["baselines"]]
        self.sampled = [parse(text) for text in state["sampled"]]
        self.pairs = [(parse(first), parse(second), label) for first, second, label in state["pairs"]]
        self.generator.set_state(state["generator"])
