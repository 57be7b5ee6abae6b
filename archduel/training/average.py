"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The average of all float parameters and buffers.

    The decay starts low, (1 + t) / (10 + t), so that a short training is not averaged with its initialisation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._names = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
        self._buffers = {name for name, _ in model.named_buffers()}
        self._live = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self._average, self._live, 1 - decay)

    def buffers(self) -> list[Tensor]:
        """Returns the averages of buffers, which differ between processes where parameters do not."""
        return [average for name, average in zip(self._names, self._average) if name in self._buffers]

    @torch.no_grad()
    def _swap(self) -> None:
        for average, live in zip(self._average, self._live):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the network have the average weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """Gives the network the average weights for good."""
        self._swap()

    def state_dict(self) -> dict[str, list[Tensor] | int]:
        """Returns the averages."""
        return {"average": self._average, "updates": self.updates}

    def load_state_dict(self, state: dict[str, list[Tensor] | int]) -> None:
        """Takes the averages of :meth:`state_dict`."""
        averages, updates = state["average"], state["updates"]
        assert isinstance(averages, list)
        assert isinstance(updates, int)
        self.updates = updates
        for mine, saved in zip(self._average, averages):
            mine.copy_(saved)
