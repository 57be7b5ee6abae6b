"""The jury: the ranker that `--rankers best` means, with the best order per label in every space.

1. Architectures that the space's fingerprint makes equal are one, with the mean of their labels.
2. Labels become normal scores of their ranks.
3. Four judges learn them from the space's description and closed-form costs: boosted trees, random trees, a Gaussian
   process that counts each column as much as the trees found it to matter, and another that goes on from there to where the
   labels are likelier.
4. Each judge is weighed by how it did on labels it had not seen (out of fold), the more so the more labels there are; the
   same held-out labels calibrate the win probabilities.

Nothing is used but the labels given to ``fit``, the space, and random unlabelled architectures of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from archduel.core import Arch, Space, State, parse
from archduel.errors import SettingError, StateError
from archduel.rankers.columns import Costs, Ruler, describe, measure, normal_scores
from archduel.rankers.labels import Pairs, check_archs, check_labels, check_sides, distinct
from archduel.rankers.panel import JUDGES, Opinion, Panel, fit_panel
from archduel.rankers.verdict import Verdict, agree, usual_say

__all__ = ["Jury"]

Matrix = NDArray[np.float64]
CHUNK = 4096
HEARD = 500
"""Held-out labels that are enough; with more, the remaining folds are not learned."""


class _Trial(NamedTuple):
    """All that a fit found."""

    archs: list[Arch]
    labels: Matrix
    ruler: Ruler
    panel: Panel
    verdict: Verdict


class Jury:
    """Four judges who look at an architecture's description; scores are normal scores (0 = the median label).

    Args:
        space: the space; its ``features`` describe architectures, its ``fingerprint`` says which are equal.
        costs: gives closed-form costs of architectures, such as parameters and multiply-adds; None = not used.
        folds: parts in which held-out labels weigh the judges and calibrate, as many of them as give 500 held-out labels;
            0 = the usual say, uncalibrated, several times faster.
        trees: boosted trees; half as many random ones.
        reference: random unlabelled architectures that set the scale of each column.
        seed: of trees, folds and those architectures.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        folds: int = 5,
        trees: int = 150,
        reference: int = 1000,
        seed: int = 0,
    ) -> None:
        if folds == 1 or folds < 0 or trees < 15 or reference < 0:
            raise SettingError(
                f"folds must be 0 or at least 2, trees at least 15, reference at least 0; got {folds}, {trees}, {reference}"
            )
        self.space, self.costs = space, costs
        self.folds, self.trees, self.reference, self.seed = folds, trees, reference, seed
        self._trial: _Trial | None = None

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are not used. Returns each judge's say and held-out rank agreement.

        Architectures that are given several times, or are equal by fingerprint, count once, with the mean of their labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        _, index = np.unique([self.space.fingerprint(arch) for arch in unique], return_inverse=True)
        first = np.unique(index, return_index=True)[1]
        merged = (np.bincount(index, labels) / np.bincount(index))[np.argsort(first)]
        kept = [unique[i] for i in np.sort(first)]
        kept, merged = check_labels(self.space, kept, merged)
        columns = describe(self.space, kept, costs=self.costs)
        ruler = measure(
            self.space, columns, reference=self.reference, seed=self.seed, costs=self.costs, view="features"
        )
        x, y = ruler.standardise(columns), normal_scores(merged)
        verdict = self._deliberate(x, y)
        panel = fit_panel(x, y, trees=self.trees, seed=self.seed)
        self._trial = _Trial(list(archs), np.asarray(scores, np.float64), ruler, panel, verdict)
        say = {f"say_{judge}": float(w) for judge, w in zip(JUDGES, verdict.say)}
        return {**say, "held_out_tau": verdict.tau, "noise": panel.process.noise}

    def _deliberate(self, x: Matrix, y: Matrix) -> Verdict:
        """Returns the judges' say and the calibration from labels that they had not seen."""
        folds = min(self.folds, len(y) // 4)
        if folds < 2:
            return usual_say()
        part = np.random.default_rng([self.seed, 2]).permutation(len(y)) % folds
        heard = part < min(folds, -(-HEARD * folds // len(y)))
        scores, deviation = np.empty((len(y), len(JUDGES))), np.empty(len(y))
        noise = np.empty(len(y))
        for fold in range(part[heard].max() + 1):
            out = part == fold
            panel = fit_panel(x[~out], y[~out], trees=self.trees, seed=self.seed)
            scores[out], deviation[out] = panel.judge(x[out])
            noise[out] = panel.process.noise * panel.process.variance
        return agree(scores[heard], np.sqrt(deviation**2 + noise)[heard], y[heard])

    def _hear(self, archs: Sequence[Arch], *, deviation: bool) -> tuple[Matrix, Matrix]:
        """Returns (N,) scores and (N,) standard deviations; each distinct architecture is described once."""
        trial = self._known()
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        scores, spread = np.empty(len(unique)), np.empty(len(unique))
        for start in range(0, len(unique), CHUNK):
            part = slice(start, start + CHUNK)
            x = trial.ruler.standardise(describe(self.space, unique[part], costs=self.costs))
            opinion: Opinion = trial.panel.judge(x, deviation=deviation)
            scores[part] = opinion.scores @ trial.verdict.say
            spread[part] = opinion.deviation if deviation else 0.0
        return scores[index], spread[index]

    def _known(self) -> _Trial:
        if self._trial is None:
            raise StateError("the jury has heard nothing yet; call fit first")
        return self._trial

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) normal scores: 0 = as good as the median label, 1 = better than 84 % of them.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        return self._hear(archs, deviation=False)[0]

    def uncertainty(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) calibrated standard deviations of the scores, label noise left out.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        return self._hear(archs, deviation=True)[1] * self._known().verdict.stretch

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """Returns (P,) calibrated probabilities that a label of ``first[i]`` is at least that of ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        trial = self._known()
        scores, spread = self._hear([*first, *second], deviation=True)
        process, n = trial.panel.process, len(first)
        variance = spread[:n] ** 2 + spread[n:] ** 2 + 2 * process.noise * process.variance
        return np.asarray(ndtr((scores[:n] - scores[n:]) / (trial.verdict.stretch * np.sqrt(variance))))

    def state_dict(self) -> State:
        """Returns the labels that were given; the judges are fitted again from them, with the same result."""
        if self._trial is None:
            return {}
        return {"archs": [str(arch) for arch in self._trial.archs], "scores": self._trial.labels}

    def load_state_dict(self, state: State) -> None:
        """Takes what another with the same settings learned.

        Raises:
            InvalidArchError: if the state is of another space.
        """
        self._trial = None
        if state:
            self.fit([parse(text) for text in state["archs"]], state["scores"])
