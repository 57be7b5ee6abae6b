"""Many networks of different architectures as one computation, with the results that each has alone.

:class:`Fused` traces the networks, has their chains grouped and ordered, makes one :class:`Run` a group, and loads the weights. A step
then goes through the runs: each gathers its inputs from :class:`Maps`, computes its layers, and leaves its outputs in neighbouring slots;
backwards the same in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.fusing.graphs import Chain, Group, Shape, chains, schedule, simplified, trace
from archduel.fusing.layers import LAYERS, Drop, Layer, Norm
from archduel.fusing.memory import Buffers, Weights

__all__ = ["Fused", "Maps", "Run", "Slots", "fuse"]

# -- A group at work: it gathers its inputs from the maps computed so far and puts its outputs beside them ---------------


class Maps:
    """All maps that networks compute, and their gradients: one tensor (slots, C, H, W, B) a shape."""

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
            # zero, because a map that several groups read gets its gradient in as many parts, added up as they come
            if training:
                self.grads[shape] = self.buffers.take(("grads", shape), (n, *shape, batch)).zero_()


class Slots:
    """Where the members of a group find one of their inputs; neighbouring slots are read without a copy.

    Args:
        shape: of the input; None = the image.
        slots: one a member.
        key: a name that no other input has, for its memory.
    """

    def __init__(self, maps: Maps, shape: Shape | None, slots: Sequence[int], key: str) -> None:
        self.maps, self.shape, self.key, self.n = maps, shape, key, len(slots)
        first = slots[0]
        self.first = first if list(slots) == list(range(first, first + len(slots))) else None
        # whether reading copies nothing; then the group must not write over what it read
        self.views = shape is None or self.first is not None
        self.index = torch.tensor(slots, device=maps.buffers.device)
        # Inputs are computed before outputs and have lower slots. With all slots of the shape as its target, index_add_ would be
        # handed memory that overlaps what it adds, the gradient of the group's own output, and refuse.
        self.stop = max(slots) + 1

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
        # nobody needs the gradient of the image
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
        weights: where its layers ask for rows.
        key: a name that no other group has, for its memory.
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
            # the last layer writes where the outputs are read; the first may write over inputs that were copied for it, which a
            # ReLU does, but not if it is also the last: then it writes to the outputs
            self.layers[-1].target = out
            self.layers[0].spare = len(self.layers) > 1 and bool(self.head or not self.inputs[0].views)
        for layer in self.layers:
            x = layer.forward(x, training)
        # a layer that only passes on a view, such as drop path without masks, has not written there
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
        # a concatenation gives each input the gradient of its channels, a sum the whole to each
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


class Fused:
    """K networks; weights, gradients and statistics are rows of matrices, see :class:`~archduel.fusing.memory.Weights`.

    Layers that a network's logits do not depend on are left out: their weights stay as they were (alone, they get no
    gradient either), and so do their running statistics.

    Args:
        networks: as :func:`archduel.spaces.family.build` returns them; they are read here and written by :meth:`extract`.
        scale: what they were built for.
        device: where.
        dtype: of weights and maps.

    Raises:
        SettingError: for no network, or one with a layer that cannot be fused.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        scale: Scale,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not networks:
            raise SettingError("there is no network to fuse; give at least one")
        self.networks, self.scale = list(networks), scale
        self.device, self.dtype = torch.device(device), dtype
        self.buffers = Buffers(self.device, dtype)
        self.weights = Weights()
        self._maps = Maps(self.buffers)
        graphs = [trace(network, scale) for network in networks]
        self._drops = [[n.module for n in graph.nodes if n.op == "drop"] for graph in graphs]
        cut = [chains(simplified(graph)) for graph in graphs]
        places: dict[tuple[int, int], int] = {}
        self._runs = []
        for number, group in enumerate(schedule([network for network, _ in cut])):
            run, group = self._run(group, places, str(number))
            places.update({member: run.start + row for row, member in enumerate(group.members)})
            self._runs.append(run)
        # networks of one space and scale have outputs of one shape: the first speaks for all
        first, ends = cut[0]
        self._outputs = [
            (first[end].shape, torch.tensor([places[k, outs[o]] for k, (_, outs) in enumerate(cut)]).to(device))
            for o, end in enumerate(ends)
        ]
        self.weights.allocate(self.device, dtype)
        self._load()

    def __len__(self) -> int:
        return len(self.networks)

    def _run(self, group: Group, places: dict[tuple[int, int], int], key: str) -> tuple[Run, Group]:
        """Returns the run of a group whose members are sorted by the place of their first input."""

        def place(row: int) -> int:
            (k, _), inputs = group.members[row], group.chains[row].inputs
            return places[k, inputs[0]] if inputs and inputs[0] >= 0 else k

        # members in the order of what they read are neighbours more often, and neighbours are read without a copy
        order = sorted(range(len(group.members)), key=place)
        group = Group(tuple(group.members[r] for r in order), tuple(group.chains[r] for r in order))
        return Run(group, places, self._maps, self.weights, key), group

    def forward(self, images: Tensor, *, training: bool = True) -> list[Tensor]:
        """Returns the logits (K, classes, B), and those of the auxiliary heads if there are any.

        Args:
            images: (B, C, H, W) for all networks, or (K, B, C, H, W), one batch each.
            training: normalise with statistics of the batch, and ready for :meth:`backward`.
        """
        images = images[None] if images.ndim == 4 else images
        self._maps.image = images.permute(0, 2, 3, 4, 1).to(self.dtype).contiguous()  # (1 or K, C, H, W, B)
        self._maps.begin(images.shape[1], training)
        for run in self._runs:
            run.forward(training)
        return [
            self._maps.values[shape].index_select(0, index).flatten(1, 3) for shape, index in self._outputs
        ]

    def backward(self, grads: Sequence[Tensor]) -> None:
        """Writes the gradients of all weights.

        Args:
            grads: of the outputs of :meth:`forward`, (K, classes, B) each.
        """
        for (shape, index), grad in zip(self._outputs, grads):
            self._maps.grads[shape].index_add_(0, index, grad.view(len(grad), *shape, -1))
        for run in reversed(self._runs):
            run.backward()

    def drop_names(self, network: int) -> list[str]:
        """Returns the names of the drop-path layers of a network, in the order in which it computes them."""
        return self._drops[network]

    def set_masks(self, masks: Callable[[int, str], Tensor] | None) -> None:
        """Gives drop path its masks: (network, name) -> (B,), 0 or 1 / (1 - p); None = it does nothing."""
        for layer in self._layers():
            if isinstance(layer, Drop):
                layer.masks = masks

    def places(self) -> dict[tuple[int, str], tuple[int, int]]:
        """Returns where the weights of (network, name) are: matrix and row."""
        places = {}
        for layer in self._layers():
            for name, rows in layer.rows.items():
                for row, (k, module) in enumerate(zip(layer.owners, layer.modules)):
                    places[k, f"{module}.{name}"] = (rows.matrix, rows.start + row)
        return places

    def state_dict(self) -> dict[str, Tensor]:
        """Returns weights and running statistics, by reference."""
        state = {f"weights.{i}": value for i, value in enumerate(self.weights.values)}
        for number, layer in enumerate(self._layers()):
            if isinstance(layer, Norm):
                state |= {f"mean.{number}": layer.mean, f"var.{number}": layer.var}
        return state

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Returns the running statistics of :meth:`state_dict`."""
        return [(name, value) for name, value in self.state_dict().items() if not name.startswith("weights")]

    def keep(self, networks: Sequence[int]) -> Fused:
        """Returns some of the networks as they are now."""
        # built anew rather than cut: fewer networks have other groups and other neighbours
        self.extract()
        return Fused([self.networks[k] for k in networks], self.scale, device=self.device, dtype=self.dtype)

    def _layers(self) -> Iterator[Layer]:
        return (layer for run in self._runs for layer in run.layers)

    def _tensors(self) -> Iterator[tuple[int, str, Tensor]]:
        """Yields (network, name in its state, values) of everything that training changes."""
        for layer in self._layers():
            parts = {name: layer.value(name) for name in layer.rows}
            if isinstance(layer, Norm):
                parts |= {
                    "running_mean": layer.mean.view(layer.n, -1),
                    "running_var": layer.var.view(layer.n, -1),
                }
            for name, rows in parts.items():
                for k, module, row in zip(layer.owners, layer.modules, rows):
                    yield k, f"{module}.{name}", row

    @torch.no_grad()
    def _load(self) -> None:
        """Takes the weights and statistics of the networks."""
        states = [network.state_dict() for network in self.networks]
        for k, name, row in self._tensors():
            row.copy_(states[k][name].view(row.shape))

    @torch.no_grad()
    def extract(self) -> list[nn.Module]:
        """Writes weights and statistics into the networks and returns them."""
        states = [network.state_dict() for network in self.networks]
        for k, name, row in self._tensors():
            states[k][name].copy_(row.view(states[k][name].shape))
        for layer in self._layers():
            if isinstance(layer, Norm):
                for k, module in zip(layer.owners, layer.modules):
                    states[k][f"{module}.num_batches_tracked"] += layer.batches
                # the count went to the module, which has it from before too: a second call must not add it again
                layer.batches = 0
        return self.networks


def fuse(networks: Sequence[nn.Module], scale: Scale, **settings: Any) -> Fused:
    """Returns ``networks`` as one computation; see :class:`Fused`."""
    return Fused(networks, scale, **settings)
