"""Memory that fused networks keep from step to step, and their weights as a few large matrices.

First :class:`Buffers`, scratch memory by name; then :class:`Weights`, which layers ask for rows while a network is put together and
which makes the matrices once all have asked; at last how much of it a group may take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Buffers", "Rows", "Weights", "free_memory", "room"]


class Buffers:
    """Tensors by name that are allocated once: fresh large ones cost page faults in each step."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.turn = False  # which of two buffers for gradients is written next
        self._scratch: dict[Hashable, Tensor] = {}
        self._framed: dict[Hashable, Tensor] = {}

    def take(self, key: Hashable, shape: tuple[int, ...]) -> Tensor:
        """Returns the tensor called ``key`` with any contents; it grows when a larger shape is asked for."""
        size = math.prod(shape)
        memory = self._scratch.get(key)
        # a smaller shape (the last batch of an epoch, a few networks) takes the beginning of what is there
        if memory is None or memory.numel() < size:
            memory = self._scratch[key] = torch.empty(size, device=self.device, dtype=self.dtype)
        return memory[:size].view(shape)

    def framed(self, key: Hashable, shape: tuple[int, ...]) -> Tensor:
        """Returns a tensor that was zero when it was made; whoever writes only to its inside finds its frame still zero.

        Two uses may share a key only if they write to the same places: the key says which padding it is.
        """
        # A shape has memory of its own: the beginning of a larger tensor would have its frame elsewhere. Zeros that nobody writes
        # to need no clearing from step to step.
        tensor = self._framed.get((key, shape))
        if tensor is None:
            tensor = self._framed[key, shape] = torch.zeros(shape, device=self.device, dtype=self.dtype)
        return tensor

    @property
    def bytes(self) -> int:
        """How many bytes are held."""
        return sum(t.numel() * t.element_size() for t in (*self._scratch.values(), *self._framed.values()))


class Rows:
    """Where the weights of one layer of several networks are: ``n`` rows of matrix number ``matrix`` from ``start`` on.

    Args:
        shape: of one network's weights.
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
        grads: their gradients.
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
        """Returns where one layer's weights of the networks ``owners`` will be; ``vector``: they are a norm's or a bias."""
        # Weights of one size are one matrix, whatever their shapes. Norms and biases stand apart even at one size, because
        # recipes let weight decay leave them out, and a matrix has one decay.
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
        # only now, when all layers have asked: a matrix that grows would take its views away from those that hold them
        for size, owners in zip(self._sizes, self._owners):
            self.values.append(torch.zeros(len(owners), size, device=device, dtype=dtype))
            self.grads.append(torch.zeros(len(owners), size, device=device, dtype=dtype))
            self.owners.append(torch.tensor(owners, device=device))


# A process of 64 networks of 4 or 8 channels stays well below (docs/fused.md), and larger groups gain little on a CPU, whose caches are small.
CPU_BYTES = 2 << 30
SHARE = 0.5
"""Of the memory that is free, what groups may take: the rest is for images, for what libraries take besides, and for networks larger than those measured."""


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that nobody uses, of the device's own memory or of the machine's; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        available = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(available[1]) if available else None


def room(device: torch.device, free: int | None, sharing: int = 1) -> int:
    """Returns the bytes that a group of networks may take, with gradients and scratch memory.

    Args:
        device: where it is trained.
        free: what :func:`free_memory` says there.
        sharing: processes that train groups on the device.
    """
    most = CPU_BYTES if device.type == "cpu" or free is None else free
    return most if free is None else min(most, int(SHARE * free / sharing))
