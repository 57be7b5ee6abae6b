"""Training and evaluation mode of networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["mode_kept"]


@contextmanager
def mode_kept(model: nn.Module) -> Iterator[None]:
    """Gives every module the training flag back that it had."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
