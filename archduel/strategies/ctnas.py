"""CTNAS: search by comparison with a rising baseline.

Chen, Guo, Tan, Li, et al.: "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR 2021.

    paper               here
    M                   labels          architectures that get a true label
    T, N                iterations, batch
    pi(.; theta)        policy
    NAC(a, b)           ranker.prob     Pr[R(a) >= R(b)]
    beta, B             beta, baselines the baseline; all baselines so far
    S                   samples         the latest draws for exploration
    C = A + D           ledger, pairs   labelled architectures; pseudo-labelled pairs
    K                   keep            pseudo-labelled pairs kept of one exploration
    r                   a setting of the ranker (pseudo_ratio)

Deviations from the paper (P) and from the released code (R):
 1. The comparator is fitted on the labels first and then updated every ``explore_every`` = 100 iterations, as R does; P
    writes "every iteration", which 10,000 times over would take hours.
 2. Exploration keeps the K pairs with the largest \\|p - 0.5\\| (P); R keeps the largest p, so that nearly all labels are 1.
    ``variant="released"`` does as R.
 3. The next baseline is the strongest of B + S (P, Algorithm 2); R takes the best of 10 fresh draws only.
    ``variant="released"`` does as R.
 4. The comparator learns from at most ``memory`` pseudo-labelled pairs at a time, drawn from all of C.
 5. A draw that the constraint or the space forbids gets reward 0 and is in neither S nor B (P limits multiply-adds, says not
    how).
 6. Added: the ``verify`` strongest candidates may be evaluated truly at the end; the best is then the best label.
 7. Added: ``centre`` subtracts the mean reward of the batch (needs batch > 1); off in P and R.
 8. Labels are of architectures that differ in fingerprint; failed evaluations are replaced by further ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from archduel.core import Arch, Constraint, Estimate, Policy, Query, Ranker, Space, State, StepReport, parse
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.strategies.ledger import Ledger
from archduel.strategies.pool import Distinct, first_distinct

__all__ = ["CTNAS"]

BASELINES = ("curriculum", "fixed", "random")
VARIANTS = ("paper", "released")


@runtime_checkable
class Updatable(Protocol):
    """A ranker that can go on learning from where it is."""

    def update(self, archs: Sequence[Arch], scores: Sequence[float], *, pairs: Any = None, epochs: int = 1) -> Any:
        """Learns for ``epochs`` more passes."""


class CTNAS:
    """Trains a policy to win against an ever stronger baseline, judged by a comparator that labels taught.

    Args:
        space: where to search.
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
        explore_every: iterations between explorations; 0 = no exploration.
        samples: architectures drawn for an exploration.
        keep: pseudo-labelled pairs kept of an exploration.
        memory: pseudo-labelled pairs the comparator learns from at a time.
        epochs: passes over the labels after an exploration.
        verify: candidates that get a true label at the end.
        chunk: iterations a step.
        variant: ``paper`` or ``released``.
    """

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
        if baseline not in BASELINES or variant not in VARIANTS:
            raise SettingError(f"baseline {baseline!r} and variant {variant!r}: expected one of {BASELINES}, {VARIANTS}")
        if min(labels, samples) < 2 or min(batch, baseline_every, chunk, keep, memory) < 1:
            raise SettingError("labels and samples must be at least 2; batch, baseline_every, chunk, keep, memory at least 1")
        if min(iterations, explore_every, epochs, verify) < 0:
            raise SettingError("iterations, explore_every, epochs and verify must not be negative")
        self.space, self.policy, self.ranker = space, policy, ranker
        self.rng, self.generator, self.constraint = rng, generator, constraint
        self.labels, self.iterations, self.batch, self.centre = labels, iterations, batch, centre
        self.entropy, self.baseline, self.baseline_every = entropy, baseline, baseline_every
        self.explore_every, self.samples, self.keep, self.memory = explore_every, samples, keep, memory
        self.epochs, self.verify, self.chunk, self.variant = epochs, verify, chunk, variant
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)
        self.ledger = Ledger()
        self.pool = Distinct(space, rng, constraint)
        self.asked = self.told = 0
        self.exhausted = False
        self.iteration = -1  # -1: the comparator is not fitted yet
        self.baselines: list[Arch] = []
        self.sampled: list[Arch] = []
        self.pairs: list[tuple[Arch, Arch, float]] = []
        self.verified = 0

    # Labels: Algorithm 1, line 1, and the true evaluation of the finalists

    def ask(self, n: int) -> list[Query]:
        """Returns architectures to label, and after the search the candidates to verify; otherwise nothing."""
        if self.iteration >= self.iterations:
            archs = self._unverified(min(n, self.verify - self.verified))
            self.verified += len(archs)
        else:
            archs = self._unlabelled(n)
        self.asked += len(archs)
        return [Query(arch) for arch in archs]

    def _unlabelled(self, n: int) -> list[Arch]:
        known = len(self.ledger.labelled()[0]) if self.told >= self.labels else self.told
        wanted = min(n, self.labels - known - (self.asked - self.told), 2 * self.labels - self.asked)
        archs: list[Arch] = []
        while len(archs) < wanted and not self.exhausted:
            arch = self.pool.draw()
            self.exhausted = arch is None
            archs += [arch] if arch is not None else []
        return archs

    def _unverified(self, n: int) -> list[Arch]:
        if n <= 0:
            return []
        strongest = self._ranked(self._candidates())
        return first_distinct(self.space, (arch for arch in strongest if self.pool.add(arch)), n)

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the labels."""
        self.ledger.record(queries, estimates)
        self.told += len(queries)

    # The search: Algorithm 1, lines 2 to 9

    def step(self) -> StepReport | None:
        """Fits the comparator, then makes ``chunk`` iterations a call; None while labels are missing and when finished.

        Raises:
            StateError: if fewer than two evaluations gave a score.
        """
        if self.told == 0 or self.told < self.asked or self.iteration >= self.iterations:
            return None
        if self.iteration < 0:
            return None if self._tied() else self._fit()
        rewards = []
        for _ in range(min(self.chunk, self.iterations - self.iteration)):
            if self.explore_every and self.iteration % self.explore_every == 0:
                self._explore()
            if self.iteration > 0 and self.iteration % self.baseline_every == 0:
                self._raise_baseline()
            rewards.append(self._improve())
            self.iteration += 1
        if self.iteration == self.iterations:
            self._draw_samples()  # what the trained policy offers
        return StepReport({"iteration": self.iteration, "reward": float(np.mean(rewards)), "pairs": len(self.pairs)})

    def _tied(self) -> bool:
        """Whether all labels are equal: there is no order to learn, the labelled architectures are all there is to say."""
        scores = self.ledger.labelled()[1]
        return len(scores) > 1 and min(scores) == max(scores)

    def _fit(self) -> StepReport:
        archs, scores = self.ledger.labelled()
        if len(archs) < 2:
            raise StateError(f"{len(archs)} of {self.told} evaluations gave a score; a comparator needs at least 2")
        metrics = self.ranker.fit(archs, scores)
        self.iteration = 0
        self._draw_samples()
        first = self.sampled if self.sampled else archs
        self.baselines = [first[int(self.rng.integers(len(first)))]]  # beta ~ pi(.; theta)
        if self.iterations == 0:
            self._raise_baseline()
        return StepReport({f"fit_{name}": float(value) for name, value in metrics.items()})

    def _improve(self) -> float:
        """One step of REINFORCE with the comparator as reward (line 5); returns the mean reward."""
        draw = self.policy.draw(self.batch, self.generator)
        reward = np.zeros(self.batch)
        feasible = [i for i, arch in enumerate(draw.archs) if self._feasible(arch)]
        if feasible:
            beta = self.baselines[-1]
            reward[feasible] = self.ranker.prob([draw.archs[i] for i in feasible], [beta] * len(feasible))
        weight = reward - reward.mean() if self.centre else reward
        gain = draw.log_prob * torch.as_tensor(weight, dtype=draw.log_prob.dtype, device=draw.log_prob.device)
        self.optimizer.zero_grad()
        (-(gain + self.entropy * draw.entropy).mean()).backward()
        self.optimizer.step()
        return float(reward.mean())

    def _feasible(self, arch: Arch) -> bool:
        try:
            self.space.validate(arch)
        except InvalidArchError:
            return False
        return self.constraint is None or self.constraint(arch)

    def _draw_samples(self) -> None:
        """S <- feasible draws of the policy (line 6)."""
        with torch.no_grad():
            draw = self.policy.draw(self.samples, self.generator)
        unique = dict.fromkeys(draw.archs)
        self.sampled = [arch for arch in unique if self._feasible(arch)]

    # Algorithm 3: data exploration

    def _explore(self) -> None:
        """Pseudo-labels the surest pairs of S and lets the comparator learn from labels and pseudo labels."""
        if self.iteration > 0:
            self._draw_samples()
        if len(self.sampled) < 2:
            return
        first = [self.sampled[i] for i in self.rng.integers(len(self.sampled), size=self.samples)]
        second = [self.sampled[i] for i in self.rng.integers(len(self.sampled), size=self.samples)]
        p = self.ranker.prob(first, second)
        confidence = p if self.variant == "released" else np.abs(p - 0.5)
        surest = np.argsort(-confidence, kind="stable")[: self.keep]
        self.pairs += [(first[i], second[i], float(p[i] >= 0.5)) for i in surest if first[i] != second[i]]
        self._learn()

    def _learn(self) -> None:
        """Trains the comparator on C (line 3)."""
        if not self.epochs or not self.pairs:
            return
        picked = self.rng.permutation(len(self.pairs))[: self.memory]
        first, second, label = zip(*(self.pairs[i] for i in picked.tolist()))
        pairs = (list(first), list(second), np.array(label))
        archs, scores = self.ledger.labelled()
        if isinstance(self.ranker, Updatable):
            self.ranker.update(archs, scores, pairs=pairs, epochs=self.epochs)
        elif self.iteration % self.baseline_every == 0:
            self.ranker.fit(archs, scores, pairs=pairs)

    # Algorithm 2: baseline update

    def _raise_baseline(self) -> None:
        """Takes the strongest of history and samples as the next baseline."""
        if self.baseline == "fixed":
            return
        if self.baseline == "random":
            if self.sampled:
                self.baselines.append(self.sampled[int(self.rng.integers(len(self.sampled)))])
            return
        rivals = self.sampled[:10] if self.variant == "released" else [*self.baselines, *self.sampled]
        if rivals:
            self.baselines.append(self._ranked(rivals)[0])

    def _ranked(self, archs: Sequence[Arch]) -> list[Arch]:
        """Returns distinct architectures, strongest first: by the mean probability to win against the others."""
        archs = list(dict.fromkeys(archs))
        n = len(archs)
        if n < 2:
            return archs
        p = self.ranker.prob([a for a in archs for _ in range(n)], archs * n).reshape(n, n)
        strength: NDArray[np.float64] = (p.sum(1) - p.diagonal()) / (n - 1)
        return [archs[i] for i in np.argsort(-strength, kind="stable")]

    # Results

    def _candidates(self) -> list[Arch]:
        """Returns baselines, samples and as many of the best labelled architectures, all feasible."""
        return [*self.baselines, *self.sampled, *self.ledger.ranked()[: max(20, len(self.sampled) // 4)]]

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` architectures that differ in fingerprint, strongest first; by label before the search.

        """
        ranked = self.ledger.ranked() if self.iteration < 0 else self._ranked(self._candidates())
        return first_distinct(self.space, ranked, n)

    def best(self) -> Arch:
        """Returns the best label if candidates were verified (or nothing was learned yet), otherwise the strongest candidate.

        Raises:
            StateError: before any tell.
        """
        if self.iteration < 0 or (self.verified and self.told == self.asked):
            return self.ledger.best()
        return self.finalists(1)[0]

    def state_dict(self) -> State:
        """Returns all that changes."""
        return deepcopy(
            {
                "policy": dict(self.policy.state_dict()),
                "ranker": self.ranker.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ledger": self.ledger.state_dict(),
                "seen": self.pool.state_dict(),
                "counts": [self.asked, self.told, self.iteration, self.verified, int(self.exhausted)],
                "baselines": [str(arch) for arch in self.baselines],
                "sampled": [str(arch) for arch in self.sampled],
                "pairs": [[str(first), str(second), label] for first, second, label in self.pairs],
                "rng": self.rng.bit_generator.state,
                "generator": self.generator.get_state(),
            }
        )

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        self.policy.load_state_dict(state["policy"])
        self.ranker.load_state_dict(state["ranker"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ledger.load_state_dict(state["ledger"])
        self.pool.load_state_dict(state["seen"])
        self.asked, self.told, self.iteration, self.verified, exhausted = state["counts"]
        self.exhausted = bool(exhausted)
        self.baselines = [parse(text) for text in state["baselines"]]
        self.sampled = [parse(text) for text in state["sampled"]]
        self.pairs = [(parse(first), parse(second), label) for first, second, label in state["pairs"]]
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
