"""CTNAS over a supernet: architectures scored with inherited weights are the labels of the comparator.

Chen, Guo, Tan, Li, et al.: "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR 2021, the
experiments in the DARTS and MobileNetV3 spaces. The search itself is :class:`archduel.strategies.ctnas.CTNAS`.

    paper                                   here
    120 epochs, uniform sampling            epochs, sampling
    1,000 architectures                     labels
    mean over the last 10 epochs            average

Deviations:
 1. Batch norm is recalibrated for every architecture that is scored.
 2. Added: the strongest candidates are scored with the weights of the end (``candidates``), and ``verify`` of them evaluated on
    their own; with both 0 the comparator's first choice is the result, as in the paper.
 3. ``judged_by="joint"`` (the default) puts these in order by accuracy, loss and multiply-adds together; labels are accuracies alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Cost,
    Estimate,
    Policy,
    Prices,
    Query,
    Ranker,
    SharedEstimator,
    Space,
    State,
    StepReport,
    parse,
    sample,
)
from archduel.errors import SettingError, check_at_least
from archduel.strategies.ctnas import CTNAS, FEW_UPDATES
from archduel.strategies.one_shot import OneShot, SupernetTraining, epochs_within, group_prices, within

__all__ = ["CTNASOneShot"]

AT_A_TIME = 50  # labels a step


class CTNASOneShot(OneShot):
    """Trains the supernet, labels random architectures with it, then lets CTNAS search.

    Args:
        policy: the distribution that CTNAS trains.
        ranker: the comparator.
        shared: the weights.
        rng: the randomness of sampling, labels and pairs.
        generator: the randomness of the policy's draws.
        constraint: which architectures are allowed.
        epochs: of the supernet.
        batches: of an epoch; 0 = a whole pass.
        sampling: ``uniform`` or ``fair``.
        average: a label is the mean score after each of the last so many epochs.
        labels: architectures that are scored.
        iterations: policy updates of CTNAS.
        batch: architectures an update.
        lr: learning rate of the policy.
        weight_decay: of the policy.
        entropy: weight of the entropy bonus.
        centre: subtract the mean reward of the batch.
        baseline: ``curriculum``, ``fixed`` or ``random``.
        baseline_every: iterations between new baselines.
        explore_every: iterations between explorations.
        samples: architectures drawn for an exploration.
        keep: pseudo-labelled pairs kept of an exploration.
        memory: pseudo-labelled pairs the comparator learns from at a time.
        passes: passes of the comparator over the labels after an exploration.
        variant: ``paper`` or ``released``.
        chunk: iterations a step.
        candidates: of CTNAS's finalists, how many are scored with the shared weights; 0 = none.
        verify: of these, how many are evaluated on their own.
        judged_by: what the choice among candidates goes by: ``joint``, shared weights and multiply-adds, or the ``score`` alone (the paper's).
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"policy": "lstm", "ranker": "nac"}

    def __init__(
        self,
        space: Space,
        policy: Policy,
        ranker: Ranker,
        shared: SharedEstimator,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        epochs: int = 120,
        batches: int = 0,
        sampling: str = "uniform",
        average: int = 10,
        labels: int = 1_000,
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
        passes: int = 1,
        variant: str = "paper",
        chunk: int = 50,
        candidates: int = 10,
        verify: int = 0,
        judged_by: str = "joint",
    ) -> None:
        if not 1 <= average <= epochs:
            raise SettingError(f"average is {average}, expected 1 to epochs ({epochs}): the last epochs are averaged")
        check_at_least(0, candidates=candidates)
        if not 0 <= verify <= candidates:
            raise SettingError(f"verify is {verify}, expected 0 to candidates ({candidates}), of which the best are evaluated on their own")
        super().__init__(space, shared, constraint, verify, judged_by)
        self.rng = rng
        self.average, self.labels, self.candidates = average, labels, candidates
        self.training = SupernetTraining(space, shared, rng=rng, epochs=epochs, batches=batches, sampling=sampling)
        self.search = CTNAS(
            space, policy, ranker, rng=rng, generator=generator, constraint=constraint, labels=labels, iterations=iterations,
            batch=batch, lr=lr, weight_decay=weight_decay, entropy=entropy, centre=centre, baseline=baseline, baseline_every=baseline_every,
            explore_every=explore_every, samples=samples, keep=keep, memory=memory, epochs=passes, variant=variant, chunk=chunk,
        )  # fmt: skip
        self.asked: list[Arch] = []
        self.sums: list[float] = []
        self.finished = False

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices) -> dict[str, Any]:
        """Returns settings: six tenths for training, three for labels, and CTNAS's for few updates."""
        prices = group_prices(allowance, prices)
        epochs, batches = epochs_within(0.6 * allowance.work / prices.learn, allowance.batches, 20, 1000)
        labels = within(12, 0.3 * allowance.work / prices.score, 1000)
        return {"epochs": epochs, "batches": batches, "average": 1, "labels": labels, "iterations": 200, **FEW_UPDATES}

    @classmethod
    def judges(cls, settings: Mapping[str, Any], allowance: Allowance, validation: int) -> int:
        """Returns the validation batches of all labels and candidates."""
        return int((settings["labels"] * settings["average"] + settings["candidates"]) * validation)

    def step(self) -> StepReport | None:
        """Makes an epoch of the supernet with its labels, later ``chunk`` iterations of CTNAS; None when finished."""
        if self.closing.any is None:
            self.closing.any = sample(self.space, self.rng, self.constraint)
        training = self.training
        if not training.finished:
            cost = training.run_epoch()
            if training.epoch > training.epochs - self.average:
                self._label()
            return StepReport({"epoch": training.epoch, "done": 0.9 * training.epoch / training.epochs}, Cost(images=cost.images))
        report = self.search.step()
        if report is not None:
            part = (max(0, self.search.iteration) + 1) / (self.search.iterations + 1)
            return StepReport({**report.metrics, "done": 0.9 + 0.09 * part}, Cost())
        if self.finished:
            return None
        self.finished = True
        if self.candidates:
            self.closing.judge(self.shared, self.search.finalists(self.candidates))
        self.closing.finish()
        return StepReport({"done": 1.0}, Cost())

    def _label(self) -> None:
        """Adds this epoch's scores to the labels' sums; after the last epoch CTNAS is told their means."""
        if not self.asked:
            while queries := self.search.ask(AT_A_TIME):
                self.asked += [query.arch for query in queries]
            self.sums = [0.0] * len(self.asked)
        queries = [Query(arch) for arch in self.asked]
        self.sums = [total + estimate.score for total, estimate in zip(self.sums, self.shared.estimate(queries))]
        if self.training.finished:
            means = [total / self.average for total in self.sums]
            self.search.tell(queries, [Estimate(m, Cost(), {}, "not finite" if m != m else "") for m in means])

    def best(self) -> Arch:
        """Returns the best candidate, CTNAS's best before they are scored; raises StateError before any step."""
        return self.finalists(1)[0] if self.closing.any else super().best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` architectures that differ in fingerprint, best first."""
        if self.closing.ranked() or not self.training.finished:
            return super().finalists(n)
        return self.search.finalists(n)

    def state_dict(self) -> State:
        """Returns all that changes, the shared weights included."""
        state = {"search": self.search.state_dict(), "epoch": self.training.epoch, "finished": self.finished}
        return deepcopy(super().state_dict() | state | {"asked": [str(arch) for arch in self.asked], "sums": self.sums})

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.search.load_state_dict(state["search"])  # which holds the randomness that all share
        self.training.epoch, self.finished = state["epoch"], state["finished"]
        self.asked, self.sums = [parse(text) for text in state["asked"]], list(state["sums"])
