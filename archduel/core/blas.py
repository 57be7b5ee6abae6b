"""Linear algebra of NumPy and SciPy in one thread: its matrices are small here, and threads that wait for each other spin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Lets NumPy and SciPy compute in one thread for a while; what torch computes with is not touched.

    On two cores that other programs use too, the probes of a published network's features took 53 s of processor time with two threads and 1.3 s with one.
    """
    import scipy.linalg  # noqa: F401  its library is another one than NumPy's, and only what is loaded can be told
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
