"""Channels of the vertices of many NAS-Bench-101 cells at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.errors import SettingError
from archduel.spaces.nasbench101_paths import Laid

__all__ = ["vertex_widths"]


def vertex_widths(laid: Laid, c_out: int) -> NDArray[np.int64]:
    """Returns (N, 7) channels of the inner vertices (0 where there is none) and, last, of the output.

    The output concatenates the vertices that lead to it, so they share its channels evenly, earlier ones taking the
    remainder; any other vertex is as wide as the widest vertex it leads to.

    Raises:
        SettingError: if fewer channels than branches are there to share.
    """
    branch = laid.edge[:, :, 6].copy()
    branch[:, 0] = False
    n_branches = branch.sum(axis=1, keepdims=True)  # (N, 1)
    if (n_branches > c_out).any():
        raise SettingError(f"channels must be at least {n_branches.max()} for as many branches, got {c_out}")
    share, remainder = np.divmod(c_out, np.maximum(n_branches, 1))
    channels = branch * (share + (np.cumsum(branch, axis=1) <= remainder))
    for v in range(5, 0, -1):
        widest = (channels[:, 1:6] * laid.edge[:, v, 1:6]).max(axis=1)
        channels[:, v] = np.where(branch[:, v], channels[:, v], widest)
    channels[:, 6] = c_out
    return channels
