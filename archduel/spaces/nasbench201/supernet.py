"""The NAS-Bench-201 supernet: the benchmark's network with all five operations on every edge of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces import family as nets
from archduel.spaces.layers import adopt, plain_norms
from archduel.spaces.nasbench201.function import EDGES, OPS
from archduel.spaces.nasbench201.network import Cell, Reduction, build, operation
from archduel.spaces.nasbench201.space import NASBench201

__all__ = ["NASBench201Supernet"]

Step = tuple[int, tuple[tuple[int, int, int], ...]]
"""A node and the (edge, operation, source) that it sums."""
LAST = EDGES[-1][1]
SPACE = NASBench201()


@lru_cache(maxsize=4096)
def plan(choices: tuple[int, ...]) -> tuple[Step, ...]:
    """Returns what is to be computed for the value of the last node: nodes that reach it, and no ``none`` edges."""
    live, steps = {LAST}, list[Step]()
    for node in range(LAST, 0, -1):
        if node in live:
            used = [
                (edge, choices[edge], source)
                for edge, (source, target) in enumerate(EDGES)
                if target == node and OPS[choices[edge]] != "none"
            ]
            live |= {source for _, _, source in used}
            steps.append((node, tuple(used)))
    return tuple(reversed(steps))


class SuperCell(nn.Module):
    """A cell with every operation on every edge.

    Args:
        channels: in and out.
        affine: whether batch norms have weights.
    """

    def __init__(self, channels: int, *, affine: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(op, channels, channels) for op in OPS) for _ in EDGES
        )
        if not affine:
            plain_norms(self)

    def forward(self, x: torch.Tensor, choices: tuple[int, ...]) -> torch.Tensor:
        """Returns the value of node 3, (N, C, H, W), of the cell with these operations; nothing else is computed."""
        values = {0: x}
        for node, used in plan(choices):
            total: torch.Tensor | None = None
            for edge, op, source in used:
                out = self.edges[edge][op](values[source])  # type: ignore[index]
                total = out if total is None else total + out
            values[node] = torch.zeros_like(x) if total is None else total
        return values[LAST]

    def mix(self, x: torch.Tensor, weights: torch.Tensor, used: list[list[float]]) -> torch.Tensor:
        """Returns the value of node 3 where every edge is a weighted sum; ``used`` are the weights (6, 5) as numbers."""
        values = [x]
        for node in range(1, LAST + 1):
            total = torch.zeros_like(x)
            for edge, (source, target) in enumerate(EDGES):
                for op, name in enumerate(OPS):
                    if target == node and name != "none" and used[edge][op] != 0:
                        out = self.edges[edge][op](values[source])  # type: ignore[index]
                        total = total + weights[edge, op] * out
            values.append(total)
        return values[-1]


class Shortcut(nn.Module):
    """A residual block of stride 2 without what is residual: averages, then widens.

    Args:
        block: gives its 1x1 convolution.
    """

    def __init__(self, block: Reduction) -> None:
        super().__init__()
        self.shortcut = block.shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, ceil(H / 2), ceil(W / 2))."""
        return self.shortcut(functional.avg_pool2d(x, 2, ceil_mode=True))  # type: ignore[no-any-return]


class NASBench201Supernet(nn.Module):
    """All 15,625 networks at once.

    Args:
        scale: as for the networks; ``depth`` is the cells a stage.
        affine: whether batch norms inside cells have weights. Without, operations of one edge compete on equal terms.
        residual: whether the blocks between the stages are the benchmark's. They are part of every path, so they learn from
            every step, and a small supernet does without its cells. Otherwise they average and widen, which is linear, and what
            is to be learned is learned in cells: those rank better (``benchmarks/records/oneshot_ranking.json``). An
            extracted network has the blocks of the supernet.

    Raises:
        SettingError: for images under 4 px.
    """

    mix_ops = OPS
    mix_shapes: Mapping[str, tuple[int, int]] = {"cell": (len(EDGES), len(OPS))}

    def __init__(self, scale: Scale, *, affine: bool = False, residual: bool = False) -> None:
        super().__init__()
        self.scale = scale
        network = build(Arch(SPACE.name, (0,) * len(EDGES)), scale)
        self.stem, self.tail = network.stem, network.tail
        widths = [scale.channels << stage for stage in range(3) for _ in range(scale.depth)]
        self.blocks = nn.ModuleList(
            SuperCell(widths.pop(0), affine=affine) if isinstance(block, Cell)
            else block if residual or not isinstance(block, Reduction) else Shortcut(block)
            for block in network.blocks
        )  # fmt: skip
        self._cells = [i for i, block in enumerate(self.blocks) if isinstance(block, SuperCell)]

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Returns (N, classes) logits of ``arch``; only its operations run.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        SPACE.validate(arch)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, arch.choices) if isinstance(block, SuperCell) else block(x)
        return self.tail(x)  # type: ignore[no-any-return]

    def mix(self, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns (N, classes) logits with every edge the sum of its operations weighted by ``weights["cell"]`` (6, 5)."""
        cell = weights["cell"]
        used = cell.detach().tolist()
        x = self.stem(x)
        for block in self.blocks:
            x = block.mix(x, cell, used) if isinstance(block, SuperCell) else block(x)
        return self.tail(x)  # type: ignore[no-any-return]

    def derive(self, weights: Mapping[str, torch.Tensor]) -> Arch:
        """Returns the cell of the heaviest operation of each edge, ``none`` included (as the benchmark's own DARTS does)."""
        return Arch(SPACE.name, tuple(int(op) for op in weights["cell"].argmax(1)))

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(
            f"blocks.{i}.edges.{edge}.{op}" for i in self._cells for edge in range(len(EDGES)) for op in range(len(OPS))
        )

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns the names of the operations of ``arch``, in every cell."""
        SPACE.validate(arch)
        return frozenset(f"blocks.{i}.edges.{edge}.{op}" for i in self._cells for edge, op in enumerate(arch.choices))

    def extract(self, arch: Arch) -> nn.Module:
        """Returns ``nets.build(arch)`` with these weights (without residual blocks where the supernet has none)."""
        device = next(self.parameters()).device
        network = nets.build(arch, self.scale, generator=torch.Generator()).to(device)
        adopt(network.stem, self.stem)  # type: ignore[arg-type]
        adopt(network.tail, self.tail)  # type: ignore[arg-type]
        blocks: Any = network.blocks
        for i, mine in enumerate(self.blocks):
            if isinstance(mine, SuperCell):
                for edge, op in enumerate(arch.choices):
                    adopt(blocks[i].edges[edge], mine.edges[edge][op])  # type: ignore[index]
            else:
                if isinstance(mine, Shortcut):
                    blocks[i] = Shortcut(blocks[i])
                adopt(blocks[i], mine)
        return network
