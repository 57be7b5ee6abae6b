"""The networks of a race and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from archduel.race.newcomers import Entry, write_scale
from archduel.race.rungs import Standing
from archduel.training.metrics import Evaluation

__all__ = ["Candidate", "Foretold", "accuracy_interval", "going_on", "score_interval"]


FEW_STEPS = 60
"""Steps from which on a published network is fine-tuned at its full rate. All of EfficientNet-Lite0 at 128 px, 1,000 images of twenty classes, frozen features
right on 77.8 % of 400 others: 8 steps came to 66.3 % and at a quarter of the rate to 75 %, at a tenth to 76.3 %; 17 steps to 71.8 and 77.3 %; 32 to 74.8 %
(``benchmarks/records/few_steps.jsonl``, one run each), 119 to 81.3 %."""


class Foretold(Protocol):
    """What is known of a network before its first step, on the validation images."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""

    @property
    def score(self) -> float:
        """Mean log likelihood of the right classes, in nats."""

    @property
    def n(self) -> int:
        """Of how many images."""


def accuracy_interval(accuracy: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the 95 % interval of a share of ``n`` images. Source: Wilson, JASA 1927."""
    middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


DRAWS = 400  # of a posterior: its ends are known to a tenth of its width
HALF = 0.5  # Jeffreys: half an image right and half an image wrong before any was looked at


def score_interval(found: Evaluation, metric: str) -> tuple[float, float]:
    """Returns the 95 % interval of ``found.score(metric)``: of a mean over classes from what each class's share of right answers may be.

    A class's share has the posterior of Jeffreys (a beta distribution); wrong answers fall as those that were seen, evenly where none was.
    The same answers give the same interval.
    """
    if metric == "accuracy":
        return accuracy_interval(found.accuracy, len(found.labels))
    confusion = found.confusion.astype(float)
    right, totals = np.diag(confusion), confusion.sum(1)
    rng = np.random.default_rng(0)
    shares = np.where(totals > 0, rng.beta(right + HALF, totals - right + HALF, (DRAWS, len(totals))), 0.0)  # (D, C)
    if metric == "balanced_accuracy":
        drawn = shares[:, totals > 0].mean(1)
    else:
        wrong = confusion * (1 - np.eye(len(totals)))
        evenly = (1 - np.eye(len(totals))) / max(1, len(totals) - 1)
        falls = np.where(wrong.sum(1, keepdims=True) > 0, wrong / np.maximum(wrong.sum(1, keepdims=True), 1), evenly)
        hits = shares * totals
        either = hits + totals + (totals - hits) @ falls  # 2 TP + FN + FP
        there = confusion.sum(0) + totals > 0
        drawn = (2 * hits[:, there] / either[:, there]).mean(1)
    score, (low, high) = found.score(metric), np.quantile(drawn, (0.025, 0.975)).tolist()
    return min(low, score), max(high, score)


@dataclass
class Candidate:
    """A network that takes part.

    Attributes:
        number: from 0, in the order of entering.
        entry: what it is.
        name: for people.
        standing: its scores at the rungs.
        foretold: what was known of it before its first step, None where nothing was.
        curve: at each rung seconds, passes, images, score and validation accuracy with its interval; of a network that knew something the best so
            far, and as ``measured`` the accuracy that it had just then.
        seconds: of training and scoring, in the budget's clock.
        passes: over the training images.
        steps: batches.
        reason: why it ended early, empty otherwise.
    """

    number: int
    entry: Entry
    name: str
    standing: Standing = field(default_factory=Standing)
    foretold: Foretold | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    steps: int = 0
    reason: str = ""

    @property
    def role(self) -> str:
        """``search``, ``random`` or ``standard``."""
        return self.entry.role

    @property
    def params(self) -> int:
        """Parameters."""
        return self.entry.counts.params

    @property
    def epochs(self) -> float:
        """Passes over the training images."""
        return self.passes

    @property
    def accuracy(self) -> float:
        """Validation accuracy at the last rung, nan before the first."""
        return self.curve[-1]["accuracy"] if self.curve else math.nan

    def point(self, found: Evaluation, metric: str, *, by_likelihood: bool) -> dict[str, float]:
        """Returns where it stands, for its curve.

        Args:
            found: of the validation images.
            metric: that is shown.
            by_likelihood: whether candidates are compared by the likelihood of the right classes instead.
        """
        accuracy = found.score(metric)
        low, high = score_interval(found, metric)
        return {
            "seconds": round(self.seconds, 3), "passes": round(self.passes, 4), "score": found.likelihood() if by_likelihood else accuracy,
            "accuracy": accuracy, "low": low, "high": high, "loss": found.loss,
        }  # fmt: skip

    def best_so_far(self, point: dict[str, float], metric: str) -> dict[str, float]:
        """Returns ``point``, or of a network that knew something and was better before what it stands for: fine-tuning begins with a dip."""
        if not self.standing.known:
            return point
        before = self.curve[-1] if self.curve else self._first(metric)
        if not before or not before["score"] > point["score"]:
            return point
        return {**point, **{name: before[name] for name in ("score", "accuracy", "low", "high")}, "measured": point["accuracy"]}

    def _first(self, metric: str) -> dict[str, float]:
        """Returns what was foretold in the terms of a point, nothing where it was not or was of another metric."""
        if self.foretold is None or metric != "accuracy" or math.isnan(self.standing.opened):
            return {}
        accuracy, n = self.foretold.accuracy, self.foretold.n
        low, high = accuracy_interval(accuracy, n)
        return {"score": self.standing.opened, "accuracy": accuracy, "low": low, "high": high}

    def peak(self, left: float, a_step: float) -> float:
        """Returns the share of the peak rate in the last training: few steps at a high rate leave a published network below what it knew.

        Args:
            left: seconds of the training.
            a_step: seconds of a step, 0 before the first: then those of the steps before, for AdamW moves every weight by the rate at once.
        """
        a_step = a_step or self.seconds / max(1, self.steps)
        if not self.standing.known or not a_step:
            return 1.0
        return min(1.0, ((self.steps + max(0.0, left) / a_step) / FEW_STEPS) ** 2)

    def record(self) -> dict[str, Any]:
        """Returns all that is known as JSON values."""
        return {
            "number": self.number, "role": self.role, "arch": str(self.entry.arch), "name": self.name, "scale": write_scale(self.entry.scale),
            "params": self.params, "macs": self.entry.counts.macs, "seconds": round(self.seconds, 3), "passes": round(self.passes, 3),
            "steps": self.steps, "curve": self.curve, "reason": self.reason,
            **({"costs": dict(self.entry.costs)} if self.entry.costs else {}),
        }  # fmt: skip


def going_on(winner: Candidate, candidates: Sequence[Candidate], judged: int, metric: str = "accuracy") -> str:
    """Returns for people who is trained to the end, of how many validation images that is known, and who was more accurate after equal training."""
    of = "" if metric == "accuracy" else f" {metric.replace('_', ' ')}"
    passes = f"{winner.passes:.{2 * (winner.passes < 1)}f}"
    text = f"{winner.name} goes on to the end: {winner.accuracy:.1%}{of} on {judged:,} validation images after {passes} epoch{'s' * (passes != '1')}"
    own = winner.standing
    there = [c for c in candidates if c.standing.rung == own.rung > 1 and not c.standing.known and not c.standing.failed and not own.known]
    better = max(there, key=lambda c: (c.standing.scores[-1], -c.number), default=winner)
    if own.costs or better.standing.scores[-1:] <= own.scores[-1:] or better.accuracy <= winner.accuracy:
        return text  # scores are likelihoods: who reads of accuracies need not hear of them
    level = better.standing.at(winner.passes) > own.scores[-1]
    why = "not by so much that more training does not make it good" if level else "not after equally many epochs"
    return f"{text}; {better.name} was ahead in equal time ({better.accuracy:.1%}), but {why}"
