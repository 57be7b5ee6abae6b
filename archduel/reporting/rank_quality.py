"""How good an order is: agreement over all, and what is found at the top."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from archduel.errors import SettingError

__all__ = ["RankQuality", "rank_quality"]

NDCG_DEPTH = 1000


class RankQuality(NamedTuple):
    """Quality of predicted scores against the truth of N architectures.

    Attributes:
        kendall_tau: tau-b, -1..1.
        spearman: rank correlation, -1..1.
        precision_at_1pct: share of the predicted best 1 % that are among the true best 1 %.
        n_at_10: true rank (1 = best) of the truly best among the predicted best ten.
        ndcg: discounted gain of the predicted best 1,000 over the possible one; an architecture's gain is 2 to the power of
            its accuracy in percentage points, so a point less counts half.
    """

    kendall_tau: float
    spearman: float
    precision_at_1pct: float
    n_at_10: float
    ndcg: float


def rank_quality(scores: ArrayLike, truth: ArrayLike) -> RankQuality:
    """Returns the quality of (N,) scores against (N,) true accuracies (fractions); nan where one side is constant.

    Equal scores stand in the order given, which for a table is its own.

    Raises:
        SettingError: for lists of different lengths or fewer than two values.
    """
    predicted, true = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != true.shape or predicted.ndim != 1 or len(true) < 2:
        raise SettingError(f"an order needs two lists of one length, got shapes {predicted.shape} and {true.shape}")
    order, best = np.argsort(-predicted, kind="stable"), np.argsort(-true, kind="stable")
    top = max(1, len(true) // 100)
    rank = stats.rankdata(-true, method="min")
    varied = np.ptp(predicted) > 0 and np.ptp(true) > 0
    return RankQuality(
        kendall_tau=float(stats.kendalltau(predicted, true).statistic) if varied else float("nan"),
        spearman=float(stats.spearmanr(predicted, true).statistic) if varied else float("nan"),
        precision_at_1pct=len(set(order[:top].tolist()) & set(best[:top].tolist())) / top,
        n_at_10=float(rank[order[:10]].min()),
        ndcg=_discounted(true[order]) / _discounted(true[best]),
    )


def _discounted(accuracies: ArrayLike) -> float:
    """Returns the discounted gain of accuracies in the order of their places, up to a factor common to all orders."""
    top = 100 * np.asarray(accuracies)[:NDCG_DEPTH]
    return float((2.0 ** (top - 100) / np.log2(np.arange(2, len(top) + 2))).sum())
