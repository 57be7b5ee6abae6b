"""Reading the pickles of the original CIFAR archives without running anything that stands in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from archduel.errors import DataError

__all__ = ["safe_unpickle"]

# the only names such a file may ask for: how NumPy writes an array
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns the named object where it is on the list."""
        if (module, name) not in ALLOWED:
            raise DataError(f"it asks for {module}.{name}, which no CIFAR file needs; it is refused")
        return ALLOWED[module, name]


def safe_unpickle(path: Path) -> dict[bytes, Any]:
    """Returns the dictionary in a CIFAR pickle; its texts are bytes.

    Raises:
        DataError: for a file that asks for anything but arrays, is damaged or holds no dictionary.
    """
    try:
        with open(path, "rb") as file:
            value = _Reader(file, encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything, running out of memory included
        raise DataError(f"{path.name} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path.name} holds {type(value).__name__}, expected a dictionary")
    return value
