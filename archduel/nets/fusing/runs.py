"""A group at work: gathers its inputs from the maps computed so far, computes its layers, puts its outputs beside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archduel.nets.fusing.chains import Chain, Group
from archduel.nets.fusing.graph import Shape
from archduel.nets.fusing.layer import Layer
from archduel.nets.fusing.layers import LAYERS
from archduel.nets.fusing.memory import Buffers, Weights

__all__ = ["Maps", "Run", "Slots"]


class Maps:
    """All maps that networks compute, and their gradients: one tensor (slots, C, H, W, B) a shape.

    Args:
        buffers: gives the memory.
    """

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.slots: dict[Shape, int] = {}
        self.values: dict[Shape, Tensor] = {}
        self.grads: dict[Shape, Tensor] = {}
        self.image: Tensor

    def reserve(self, shape: Shape, n: int) -> int:
        """Returns the first of ``n`` new slots."""
        start = self.slots.get(shape, 0)
        self.slots[shape] = start + n
        return start

    def begin(self, batch: int, training: bool) -> None:
        """Makes room for a batch; gradients start at zero."""
        for shape, n in self.slots.items():
            self.values[shape] = self.buffers.take(("values", shape), (n, *shape, batch))
            if training:
                self.grads[shape] = self.buffers.take(("grads", shape), (n, *shape, batch)).zero_()


class Slots:
    """Where the members of a group find one of their inputs; neighbouring slots are read without a copy.

    Args:
        maps: all maps.
        shape: of the input; None = the image.
        slots: one a member.
        key: a name of its own.
    """

    def __init__(self, maps: Maps, shape: Shape | None, slots: Sequence[int], key: str) -> None:
        self.maps, self.shape, self.key, self.n = maps, shape, key, len(slots)
        first = slots[0]
        self.first = first if list(slots) == list(range(first, first + len(slots))) else None
        self.views = shape is None or self.first is not None  # whether reading copies nothing
        self.index = torch.tensor(slots, device=maps.buffers.device)
        self.stop = max(slots) + 1  # so that what is added is never in the memory that it is added to

    def read(self) -> Tensor:
        """Returns the maps (n, C, H, W, B), not to be written to; a shared image is (1, C, H, W, B)."""
        whole = self.maps.image if self.shape is None else self.maps.values[self.shape]
        if self.shape is None and len(whole) == 1:
            return whole
        if self.first is not None:
            return whole[self.first : self.first + self.n]
        out = self.maps.buffers.take((self.key, "x"), (self.n, *whole.shape[1:]))
        return torch.index_select(whole, 0, self.index, out=out)

    def add(self, g: Tensor) -> None:
        """Adds ``g`` (n, C, H, W, B) to the gradients of the maps."""
        if self.shape is None:
            return
        whole = self.maps.grads[self.shape]
        if self.first is not None:
            whole[self.first : self.first + self.n].add_(g)
        else:
            whole[: self.stop].index_add_(0, self.index, g)


class Run:
    """One group.

    Args:
        group: the chains, in the order of their outputs.
        places: slot of the output of each chain that is computed before, by (network, chain).
        maps: all maps.
        weights: where its layers ask for room.
        key: a name of its own.
    """

    def __init__(
        self, group: Group, places: dict[tuple[int, int], int], maps: Maps, weights: Weights, key: str
    ) -> None:
        first, owners = group.chains[0], [k for k, _ in group.members]
        self.shape, self.n, self.maps = first.shape, len(group.members), maps
        self.head = first.layers[0].op if first.layers[0].op in ("sum", "cat", "zero") else ""
        self.inputs = [
            Slots(maps, _shape(first, place), _sources(group, place, places), f"{key}.{place}")
            for place in range(len(first.inputs))
        ]
        self.start = maps.reserve(first.shape, self.n)
        self.layers: list[Layer] = []
        before = first.layers[0].shape if self.head else first.before[0]
        for number in range(bool(self.head), len(first.layers)):
            nodes = [chain.layers[number] for chain in group.chains]
            image = not number and first.inputs[0] < 0
            make = LAYERS[nodes[0].op]
            self.layers.append(make(nodes, owners, before, weights, maps.buffers, f"{key}.{number}", image))
            before = nodes[0].shape

    def forward(self, training: bool) -> None:
        """Computes the outputs."""
        out = self.maps.values[self.shape][self.start : self.start + self.n]
        if self.head == "zero":
            out.zero_()
            return
        x = self._joined(out if not self.layers else None)
        if self.layers:
            self.layers[-1].target = out
            self.layers[0].spare = len(self.layers) > 1 and bool(self.head or not self.inputs[0].views)
        for layer in self.layers:
            x = layer.forward(x, training)
        if x.data_ptr() != out.data_ptr():
            out.copy_(x)

    def _joined(self, out: Tensor | None) -> Tensor:
        """Returns the only input, or the sum or concatenation of several."""
        if not self.head:
            return self.inputs[0].read()
        values = [slots.read() for slots in self.inputs]
        if self.head == "cat":
            return torch.cat(values, 1) if out is None else torch.cat(values, 1, out=out)
        total = torch.add(values[0], values[1], out=out)
        for value in values[2:]:
            total += value
        return total

    def backward(self) -> None:
        """Computes the gradients of weights and adds those of the inputs."""
        if self.head == "zero":
            return
        g: Tensor | None = self.maps.grads[self.shape][self.start : self.start + self.n]
        for layer in reversed(self.layers):
            assert g is not None
            g = layer.backward(g)
        if g is None:
            return
        start = 0
        for slots in self.inputs:
            if self.head == "cat":
                assert slots.shape is not None
                slots.add(g[:, start : start + slots.shape[0]])
                start += slots.shape[0]
            else:
                slots.add(g)


def _shape(chain: Chain, place: int) -> Shape | None:
    return None if chain.inputs[place] < 0 else chain.before[place]


def _sources(group: Group, place: int, places: dict[tuple[int, int], int]) -> list[int]:
    """Returns the slot of one input of each member; of the image, the number of the network."""
    return [
        k if chain.inputs[place] < 0 else places[k, chain.inputs[place]]
        for (k, _), chain in zip(group.members, group.chains)
    ]
