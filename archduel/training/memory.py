"""Memory between two training steps on a CPU."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""What glibc's ``mallopt`` calls the free memory from which it returns some, and the number of blocks mapped one by one."""


def keep_freed_memory(library: Any = None) -> bool:
    """Lets this process keep the memory that it frees, for its next step; true if that could be set.

    A training step frees nearly all that it took. glibc gives much of it back to the system, and the next step pays for getting
    it again, page by page and filled with zeros. The peak does not change; after a training less becomes free for
    other processes. Without glibc (macOS, Windows, musl) nothing happens.

    Args:
        library: the C library; the process's own by default.
    """
    if library is None:
        if platform.libc_ver()[0] != "glibc":
            return False
        library = ctypes.CDLL(None)
    return bool(library.mallopt(TRIM_THRESHOLD, 2**31 - 1)) and bool(library.mallopt(MMAP_MAX, 0))
