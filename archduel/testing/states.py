"""Comparing states, and noticing who touched the global generators."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from archduel.core import State
from archduel.core.storage import load_state, save_state

__all__ = ["assert_same_state", "global_randomness_untouched", "through_disk"]


def assert_same_state(first: Any, second: Any, where: str = "state") -> None:
    """Raises AssertionError that names the place where two states differ; nan equals nan."""
    if hasattr(first, "detach"):
        first, second = first.detach().cpu().numpy(), second.detach().cpu().numpy()
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, f"{where}: {first.dtype} and {second.dtype}"
        np.testing.assert_array_equal(first, second, err_msg=where)
    elif isinstance(first, dict):
        assert isinstance(second, dict), f"{where}: {type(second).__name__}, expected a dict"
        assert first.keys() == second.keys(), f"{where}: keys {sorted(map(str, first))} and {sorted(map(str, second))}"
        for key in first:
            assert_same_state(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), f"{where}: {len(first)} and {len(second)} items"
        for i, (a, b) in enumerate(zip(first, second)):
            assert_same_state(a, b, f"{where}[{i}]")
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second), f"{where}: nan and {second}"
    else:
        assert first == second, f"{where}: {first!r} and {second!r}"


def through_disk(state: State, folder: Path) -> State:
    """Returns ``state`` after writing it to a file and reading it back."""
    save_state(folder / "state.safetensors", state)
    return load_state(folder / "state.safetensors")


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Fails unless the global generators of random, NumPy and torch are the same afterwards."""
    import torch

    def states() -> tuple[Any, ...]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global generator is what is watched
        return random.getstate(), [np.asarray(part).tolist() for part in numpy_state], torch.get_rng_state().tolist()

    before = states()
    yield
    for library, one, two in zip(("random", "numpy.random", "torch"), before, states()):
        assert one == two, f"the global generator of {library} was used; take the generator that is given"
