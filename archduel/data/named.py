"""The menu of data sets, and what a name or a path stands for."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np

from archduel.data.arrays import from_arrays, from_npz
from archduel.data.folder import from_folder
from archduel.data.source import Source
from archduel.errors import DataError

__all__ = ["NAMES", "digits", "locate"]

NAMES = {
    "digits": "1,797 handwritten digits, 8 x 8 grey, embedded in scikit-learn",
}


def digits() -> Source:
    """Returns scikit-learn's handwritten digits, their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    names = [str(value) for value in range(10)]
    return from_arrays(pixels, data.target, name="digits", classes=names, flip=False)


def locate(text: str, root: Path) -> Source:
    """Returns the pictures behind a name of the menu or a path (a path with a separator is never a name).

    Args:
        text: name or path.
        root: of the cache, where fetched and imported sets are.

    Raises:
        DataError: if there is no such thing.
    """
    if text == "digits":
        return digits()
    path = Path(text).expanduser()
    if path.suffix.lower() == ".npz":
        return from_npz(path)
    if path.exists():
        return from_folder(path, name=text)
    near = difflib.get_close_matches(text, NAMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"there is neither a data set nor a path {text!r}{hint} `archduel data list` shows the data sets"
    )
