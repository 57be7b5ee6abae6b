"""Linear algebra in one thread for a while."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg  # noqa: F401
import torch
from threadpoolctl import threadpool_info

from archduel.core.blas import one_blas_thread


def threads() -> dict[str, int]:
    """Returns the threads of each library of linear algebra that is loaded."""
    return {library["filepath"]: library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_numpy_and_scipy_compute_in_one_thread_and_torch_as_before() -> None:
    before, of_torch = threads(), torch.get_num_threads()
    if not before:
        pytest.skip("NumPy's linear algebra cannot be told here")
    with one_blas_thread():
        assert set(threads().values()) == {1}
        assert threads().keys() == before.keys()
        assert torch.get_num_threads() == of_torch
        np.linalg.eigh(np.eye(3))
    assert threads() == before


def test_the_threads_come_back_after_an_error() -> None:
    before = threads()
    with pytest.raises(ValueError, match="stop"), one_blas_thread():
        raise ValueError("stop")
    assert threads() == before
