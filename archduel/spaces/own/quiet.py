"""Running a person's constructor without a trace: global generators put back, weights that nobody will look at not drawn."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

__all__ = ["randomness_kept", "weights_not_drawn"]


@contextmanager
def randomness_kept(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and torch, from which a constructor may draw, and puts them back afterwards."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the constructor's, not ours
    torch = sys.modules.get("torch")
    before = torch.get_rng_state() if torch is not None else None
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch is not None:
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch is not None and before is not None:
            torch.set_rng_state(before)


INITIALISERS = (
    "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_", "xavier_normal_",
    "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_",
)  # fmt: skip
"""What torch's layers draw their weights with."""
_not_drawn: ContextVar[bool] = ContextVar("archduel_not_drawn", default=False)
_inside = 0
_originals: dict[str, Any] = {}


def _unless_not_drawn(original: Any) -> Any:
    def initialise(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Does what torch's own does, unless weights are not drawn in this thread."""
        return tensor if _not_drawn.get() else original(tensor, *args, **kwargs)

    return initialise


@contextmanager
def weights_not_drawn() -> Iterator[None]:
    """Lets this thread build networks whose weights are whatever lay in memory: drawing them is most of the time of building large ones."""
    global _inside
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    token = _not_drawn.set(True)
    # torch's own functions stand in their place again afterwards, and work as ever for other threads meanwhile
    if _inside == 0:
        _originals.update((name, getattr(torch.nn.init, name)) for name in INITIALISERS if hasattr(torch.nn.init, name))
        for name, original in _originals.items():
            setattr(torch.nn.init, name, _unless_not_drawn(original))
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        _not_drawn.reset(token)
        if _inside == 0:
            for name, original in _originals.items():
                setattr(torch.nn.init, name, original)
