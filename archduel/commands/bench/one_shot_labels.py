"""Shared weights, size and true labels together: a ranker that learns some true accuracies and sees what shared weights say of every cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from archduel.core import Arch, Space
from archduel.core.ranks import lifted, normal_scores
from archduel.errors import SettingError
from archduel.rankers.best import Jury
from archduel.rankers.columns import WithColumns
from archduel.reporting.statistics import mean_interval
from archduel.strategies.one_shot import SIZE

__all__ = ["RANKERS", "with_labels"]

Floats = NDArray[np.float64]
RANKERS = ("scores", "scores and size", "best", "best, scores and size")
"""What shared weights say, the same with multiply-adds, what labels say, and all of it."""
LEFT = 10
"""Cells that are left to judge by, at least."""


def with_labels(
    space: Space, archs: Sequence[Arch], column: Floats, sizes: Floats, truth: Floats, labels: int, *, splits: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Returns for each of ``RANKERS`` Kendall's tau with the truth of the cells whose label it did not see, over random splits.

    Args:
        space: of the cells.
        archs: N cells.
        column: (N,) what shared weights say of them.
        sizes: (N,) their multiply-adds.
        truth: (N,) accuracies.
        labels: how many cells' accuracies are learned.
        splits: repetitions with other labelled cells.
        seed: of the splits.

    Raises:
        SettingError: for so many labels that fewer than ten cells are left to judge by.
    """
    if labels > len(archs) - LEFT:
        raise SettingError(f"--labels {labels} of {len(archs)} cells leave fewer than {LEFT} to judge by; give fewer, or more --cells")
    joint, known = lifted(column, sizes, SIZE), dict(zip(archs, np.stack([column, normal_scores(sizes)], 1)))
    seen: Any = WithColumns(space, lambda asked: np.array([known[arch] for arch in asked]))
    taus: dict[str, list[float]] = {name: [] for name in RANKERS}
    for split in range(splits):
        order = np.random.default_rng([seed, 61, split]).permutation(len(archs))
        learned, judged = order[:labels], order[labels:]
        given, asked = [archs[i] for i in learned], [archs[i] for i in judged]
        said = {"scores": column[judged], "scores and size": joint[judged]}
        # Random architectures without a score cannot set the scale of the columns.
        for name, ranker in ((RANKERS[2], Jury(space, reference=0, seed=split)), (RANKERS[3], Jury(seen, reference=0, seed=split))):
            ranker.fit(given, truth[learned])
            said[name] = ranker.predict(asked)
        for name, values in said.items():
            taus[name].append(float(kendalltau(values, truth[judged]).statistic))
    return {name: {**mean_interval(values).record(), "each": values} for name, values in taus.items()}
