"""Memory that a fused network keeps from step to step, and its weights as few large matrices."""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch
from torch import Tensor

__all__ = ["Buffers", "Rows", "Weights"]


class Buffers:
    """Tensors by name that are allocated once: fresh large ones cost page faults in each step.

    Args:
        device: where.
        dtype: of floats.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.turn = False  # which of two buffers for gradients is written next
        self._flat: dict[Hashable, Tensor] = {}
        self._exact: dict[Hashable, Tensor] = {}

    def take(self, key: Hashable, shape: tuple[int, ...]) -> Tensor:
        """Returns the tensor called ``key`` with any contents; it grows when a larger shape is asked for."""
        size = math.prod(shape)
        flat = self._flat.get(key)
        if flat is None or flat.numel() < size:
            flat = self._flat[key] = torch.empty(size, device=self.device, dtype=self.dtype)
        return flat[:size].view(shape)

    def framed(self, key: Hashable, shape: tuple[int, ...]) -> Tensor:
        """Returns a tensor that was zero when it was made; who writes to its inside only finds its frame still zero."""
        found = self._exact.get((key, shape))
        if found is None:
            found = self._exact[key, shape] = torch.zeros(shape, device=self.device, dtype=self.dtype)
        return found

    @property
    def bytes(self) -> int:
        """How much is held."""
        return sum(t.numel() * t.element_size() for t in (*self._flat.values(), *self._exact.values()))


class Rows:
    """Some rows of a matrix of weights: those of one layer in several networks.

    Args:
        matrix: what they are in.
        start: the first.
        n: how many.
        shape: of one layer's weights.
    """

    def __init__(self, matrix: int, start: int, n: int, shape: tuple[int, ...]) -> None:
        self.matrix, self.start, self.n, self.shape = matrix, start, n, shape

    def of(self, matrices: list[Tensor]) -> Tensor:
        """Returns the rows as (n, \\*shape), a view."""
        return matrices[self.matrix][self.start : self.start + self.n].view(self.n, *self.shape)


class Weights:
    """All weights of all networks, rows of one size and decay in one matrix, and what belongs to each.

    Few large matrices make the optimizer a few calls; a row belongs to one network, so that norms, learning rates and
    freezing go by row.

    Attributes:
        values: matrices (rows, size), after :meth:`allocate`.
        grads: likewise.
        owners: the network of each row, (rows,) int64 a matrix.
        decays: whether weight decay applies where norms and biases are left out of it, one a matrix.
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.owners: list[Tensor] = []
        self.decays: list[bool] = []
        self._keys: dict[tuple[int, bool], int] = {}
        self._owners: list[list[int]] = []
        self._sizes: list[int] = []

    def add(self, shape: tuple[int, ...], owners: list[int], vector: bool) -> Rows:
        """Returns the place of one layer's weights of the networks ``owners``; ``vector``: they are a norm's or a bias."""
        key = (math.prod(shape), not vector)
        if key not in self._keys:
            self._keys[key] = len(self._sizes)
            self._sizes.append(key[0])
            self._owners.append([])
            self.decays.append(not vector)
        matrix = self._keys[key]
        start = len(self._owners[matrix])
        self._owners[matrix] += owners
        return Rows(matrix, start, len(owners), shape)

    def allocate(self, device: torch.device, dtype: torch.dtype) -> None:
        """Makes the matrices, zero."""
        for size, owners in zip(self._sizes, self._owners):
            self.values.append(torch.zeros(len(owners), size, device=device, dtype=dtype))
            self.grads.append(torch.zeros(len(owners), size, device=device, dtype=dtype))
            self.owners.append(torch.tensor(owners, device=device))
