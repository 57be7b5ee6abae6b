"""Many networks of different architectures as one computation, with the results that each has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.nets.fusing.chains import Group, chains, schedule, simplified
from archduel.nets.fusing.layer import Layer
from archduel.nets.fusing.layers import Drop, Norm
from archduel.nets.fusing.memory import Buffers, Weights
from archduel.nets.fusing.runs import Maps, Run
from archduel.nets.fusing.trace import trace

__all__ = ["Fused", "fuse"]


class Fused:
    """K networks; weights, gradients and statistics are rows of matrices, see :class:`~archduel.nets.fusing.memory.Weights`.

    Layers that a network's logits do not depend on are left out: their weights stay as they were (alone, they get no
    gradient either), and so do their running statistics.

    Args:
        networks: as :func:`archduel.nets.build` returns them; they are read here and written by :meth:`extract`.
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
        for number, group in enumerate(schedule([found for found, _ in cut])):
            run, group = self._run(group, places, str(number))
            places.update({member: run.start + row for row, member in enumerate(group.members)})
            self._runs.append(run)
        self._outputs = [
            (
                cut[0][0][cut[0][1][o]].shape,
                torch.tensor([places[k, outs[o]] for k, (_, outs) in enumerate(cut)]).to(device),
            )
            for o in range(len(cut[0][1]))
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

        order = sorted(range(len(group.members)), key=place)
        group = Group(tuple(group.members[r] for r in order), tuple(group.chains[r] for r in order))
        return Run(group, places, self._maps, self.weights, key), group

    def forward(self, images: Tensor, *, training: bool = True) -> list[Tensor]:
        """Returns the logits (K, classes, B), and those of the auxiliary heads if there are any.

        Args:
            images: (B, C, H, W) for all networks, or (K, B, C, H, W), one batch each.
            training: with statistics of the batch, and ready for :meth:`backward`.
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
        found = {}
        for layer in self._layers():
            for name, rows in layer.rows.items():
                for row, (k, module) in enumerate(zip(layer.owners, layer.modules)):
                    found[k, f"{module}.{name}"] = (rows.matrix, rows.start + row)
        return found

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
                layer.batches = 0
        return self.networks


def fuse(networks: Sequence[nn.Module], scale: Scale, **settings: Any) -> Fused:
    """Returns ``networks`` as one computation; see :class:`Fused`."""
    return Fused(networks, scale, **settings)
