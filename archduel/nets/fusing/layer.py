"""What every layer of a group has: its members, its weights' rows, its memory."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from archduel.nets.fusing.graph import Node, Shape
from archduel.nets.fusing.memory import Buffers, Rows, Weights

__all__ = ["Layer"]


class Layer:
    """One layer of the members of a group.

    Args:
        nodes: that layer of each member.
        owners: the network of each member.
        before: shape of the input.
        weights: where a layer asks for room.
        buffers: memory that is kept.
        key: a name of its own.
        image: whether it reads the image, whose gradient nobody needs.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        owners: list[int],
        before: Shape,
        weights: Weights,
        buffers: Buffers,
        key: str,
        image: bool,
    ) -> None:
        self.node, self.modules = nodes[0], [node.module for node in nodes]
        self.n, self.owners, self.before, self.shape = len(nodes), owners, before, nodes[0].shape
        self.weights, self.buffers, self.key, self.image = weights, buffers, key, image
        self.rows: dict[str, Rows] = {}
        self.target: Tensor | None = None  # where the output shall stand, if not in memory of its own
        self.spare = False  # whether the input may be overwritten by the output
        self._x: Tensor

    def _ask(self, name: str, shape: tuple[int, ...]) -> None:
        """Asks for room for the weights called ``name``."""
        self.rows[name] = self.weights.add(shape, self.owners, len(shape) == 1)

    def value(self, name: str) -> Tensor:
        """Returns the weights called ``name``, (n, \\*shape)."""
        return self.rows[name].of(self.weights.values)

    def grad(self, name: str) -> Tensor:
        """Returns their gradients, (n, \\*shape)."""
        return self.rows[name].of(self.weights.grads)

    def _out(self, x: Tensor) -> Tensor:
        """Returns memory for the output."""
        if self.target is not None:
            return self.target
        return self.buffers.take((self.key, "y"), (self.n, *self.shape, x.shape[-1]))

    def _gradient(self, x: Tensor) -> Tensor:
        """Returns memory for the gradient of the input, shared by all layers of that size: two take turns."""
        turn = self.buffers.turn = not self.buffers.turn
        return self.buffers.take(("gradient", turn), tuple(x.shape))

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output (n, \\*shape, B) of x (n, \\*before, B); x is not changed."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, g: Tensor) -> Tensor | None:
        """Writes the gradients of the weights and returns that of the input (None for the image); g is not changed."""
        raise TypeError(f"{type(self).__name__} has no backward")
