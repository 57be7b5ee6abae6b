"""A `.npy` file that grows by one array at a time, so that nobody needs to hold, or to count, all of them first."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowFile"]


class RowFile:
    """Writes equally shaped uint8 arrays as one `.npy` array (N, ...).

    Attributes:
        n: how many were written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.n = 0
        self._shape = shape
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self._shape)}
        )

    def append(self, row: NDArray[np.uint8]) -> bytes:
        """Writes one array; returns its bytes."""
        assert row.shape == self._shape
        assert row.dtype == np.uint8
        raw = row.tobytes()
        self._file.write(raw)
        self.n += 1
        return raw

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.seek(0)
                self._header()
                assert self._file.tell() == self._start  # NumPy leaves room for the first axis to grow
        finally:
            self._file.close()
