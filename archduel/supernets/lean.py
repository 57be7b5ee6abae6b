"""Computing a part of a network again on the way back instead of keeping what it computed: less memory, a bit more time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from archduel.nets.ops import DropPath
from archduel.training.norms import norms_of

__all__ = ["Again"]


class Again:
    """Runs a cell so that its inner results are computed again for the gradients, with the very same numbers.

    The second time, batch norms keep no statistics and drop path draws the same masks.

    Args:
        cell: the part of the network.
    """

    def __init__(self, cell: nn.Module) -> None:
        self.norms = norms_of(cell)
        self.drops = [module for module in cell.modules() if isinstance(module, DropPath)]

    def __call__(self, step: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
        """Returns ``step(*inputs)``."""
        masks = [drop.generator for drop in self.drops if drop.p and drop.generator is not None]
        states = [generator.get_state() for generator in masks]
        contexts = partial(self._contexts, masks, states)
        out = checkpoint(step, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        assert isinstance(out, torch.Tensor)
        return out

    def _contexts(
        self, masks: list[torch.Generator], states: list[torch.Tensor]
    ) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), self._second_time(masks, states)

    @contextmanager
    def _second_time(self, masks: list[torch.Generator], states: list[torch.Tensor]) -> Iterator[None]:
        now = [generator.get_state() for generator in masks]
        for generator, state in zip(masks, states):
            generator.set_state(state)
        try:
            with _unmoved(self.norms):
                yield
        finally:
            for generator, state in zip(masks, now):
                generator.set_state(state)


@contextmanager
def _unmoved(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Lets batch norms run in training mode without moving statistics or counts; what they keep for gradients is the same."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
