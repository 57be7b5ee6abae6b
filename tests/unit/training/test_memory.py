"""Keeping freed memory: what is asked of the C library, and of which."""

from __future__ import annotations

import platform

import pytest

from archduel.training.runtime import keep_freed_memory


class Library:
    def __init__(self, accepts: bool) -> None:
        self.accepts, self.asked = accepts, list[tuple[int, int]]()

    def mallopt(self, option: int, value: int) -> int:
        self.asked.append((option, value))
        return int(self.accepts)


def test_nothing_is_returned_and_nothing_mapped_alone() -> None:
    library = Library(accepts=True)
    assert keep_freed_memory(library)
    assert library.asked == [(-1, 2**31 - 1), (-4, 0)]
    assert not keep_freed_memory(Library(accepts=False))


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("no library is to be opened"))
    assert not keep_freed_memory()
