"""Numbers that describe NAS-Bench-101 graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.nasbench101_arrays import Cells

__all__ = ["features_of"]


def features_of(cells: Cells) -> NDArray[np.float32]:
    """Returns operation counts."""
    return np.stack([(cells.ops == op).sum(axis=1) for op in range(3)], axis=1).astype(np.float32)
