"""How several judges' scores become one, and how sure it is: weights and calibration from held-out labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import kendalltau

__all__ = ["Verdict", "agree", "usual_say"]

Matrix = NDArray[np.float64]
STRETCHES = np.geomspace(0.4, 4.0, 25)
"""Factors by which stated deviations may be too small."""
PAIRS = 20_000
SHRINK = 1.0
"""Strength of the pull towards the usual say, as a number of labels."""
USUAL = (0.3, 0.3, 0.2, 0.2)
"""Say of the two processes, the boosted and the random trees without held-out labels."""
TRUST = 200
"""Labels from which on what held-out labels say counts more than the usual say."""


class Verdict(NamedTuple):
    """How judges are joined.

    Attributes:
        say: (J,) weight of each judge, at least 0.
        stretch: factor that makes stated standard deviations true on held-out labels.
        tau: Kendall's tau of the joint scores with the held-out labels, nan if there were none.
    """

    say: Matrix
    stretch: float
    tau: float


def usual_say() -> Verdict:
    """Returns the verdict without held-out labels."""
    return Verdict(np.array(USUAL), 1.0, float("nan"))


def agree(scores: Matrix, deviation: Matrix, y: Matrix) -> Verdict:
    """Returns the verdict on held-out labels.

    Args:
        scores: (n, J) of the judges.
        deviation: (n,) standard deviation of label minus score, as stated.
        y: (n,) labels.
    """
    say = _weights(scores, y)
    joint = scores @ say
    return Verdict(say, _stretch(joint, deviation, y), float(kendalltau(joint, y)[0]))


def _weights(scores: Matrix, y: Matrix) -> Matrix:
    """Returns (J,) weights: those of least squares, not negative, and the more of the usual ones the fewer the labels.

    Judges agree far more than they differ, so that few labels say little about who is right.
    """
    from scipy.optimize import nnls

    usual = np.array(USUAL)
    pull = np.sqrt(SHRINK * scores.var()) * np.eye(len(usual))
    say, _ = nnls(np.concatenate([scores, pull]), np.concatenate([y, pull @ usual]))
    return np.asarray((len(y) * say + TRUST * usual) / (len(y) + TRUST))


def _stretch(joint: Matrix, deviation: Matrix, y: Matrix) -> float:
    """Returns the factor of the deviations under which held-out comparisons are likeliest."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(y), size=(2, PAIRS))
    sign = np.sign(y[first] - y[second])
    spread = np.sqrt(deviation[first] ** 2 + deviation[second] ** 2)
    margin = sign * (joint[first] - joint[second]) / spread
    likelihood = [log_ndtr(margin / stretch)[sign != 0].sum() for stretch in STRETCHES]
    return float(STRETCHES[int(np.argmax(likelihood))])
