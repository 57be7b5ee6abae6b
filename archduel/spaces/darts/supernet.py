"""The DARTS supernet: a search network whose 14 edges a cell hold all eight operations.

With the defaults it is DARTS's and CNAS's search network (1,930,618 weights at 16 channels and 8 cells); with ``affine=True,
pool_norm=False`` it is RelativeNAS's weight set (1,987,194). Deviation from both: two equal edges of a node run once and count
twice, so their batch norm sees the images once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice

import torch
from torch import nn

from archduel.core import Arch, Scale
from archduel.spaces import family as nets
from archduel.spaces.darts.genotype import OPS
from archduel.spaces.darts.network import Cell, Network, build, operation
from archduel.spaces.darts.space import DARTS, NODES
from archduel.spaces.darts.supernet_ops import Again, quick_depthwise
from archduel.spaces.layers import DropPath, adopt, plain_norms

__all__ = ["DARTSSupernet"]

SPACE = DARTS("any")
NONE = OPS.index("none")
EDGES = tuple((source, node) for node in range(2, NODES + 2) for source in range(node))
"""The 14 edges of a cell: node 2 from 0 and 1, node 3 from 0, 1 and 2, ..."""
FIRST = tuple(EDGES.index((0, node)) for node in range(2, NODES + 2))
"""The number of each node's edge from state 0."""
Use = tuple[int, int, int, int]
"""Edge, operation, source, and how often."""


@lru_cache(maxsize=4096)
def plan(choices: tuple[int, ...]) -> tuple[tuple[tuple[Use, ...], ...], ...]:
    """Returns for both kinds of cell and each node the edges that it sums; ``none`` is left out."""
    cells = []
    for kind in range(2):
        nodes = []
        for node in range(NODES):
            at = 4 * (kind * NODES + node)
            picked = [(choices[at + i], choices[at + i + 1]) for i in (0, 2)]
            nodes.append(
                tuple(
                    (FIRST[node] + source, op, source, picked.count((source, op)))
                    for source, op in dict.fromkeys(picked)
                    if op != NONE
                )
            )
        cells.append(tuple(nodes))
    return tuple(cells)


def begins_with_relu(layers: nn.Module) -> bool:
    """Returns whether ``layers`` is a sequence whose first layer is a ReLU."""
    return isinstance(layers, nn.Sequential) and isinstance(layers[0], nn.ReLU)


def after_relu(layers: nn.Module, bright: torch.Tensor) -> torch.Tensor:
    """Returns what ``layers`` say about a state whose ReLU is ``bright``; a second ReLU changes nothing."""
    if not begins_with_relu(layers):
        return layers(bright)  # type: ignore[no-any-return]
    for layer in islice(layers.children(), 1, None):
        bright = layer(bright)
    return bright


class SuperCell(nn.Module):
    """A cell with every operation on every edge, around the two preprocessing layers of an evaluation cell.

    Args:
        cell: gives the preprocessing layers.
        channels: inside.
        reduction: whether edges from the two inputs have stride 2.
        affine: whether batch norms have weights.
        pool_norm: whether a batch norm follows a pool.
    """

    def __init__(self, cell: Cell, channels: int, *, reduction: bool, affine: bool, pool_norm: bool) -> None:
        super().__init__()
        self.before, self.previous, self.reduction = cell.before, cell.previous, reduction
        self.edges = nn.ModuleList(
            nn.ModuleList(
                operation(op, channels, 2 if reduction and source < 2 else 1, affine=affine, pool_norm=pool_norm)
                for op in OPS
            )
            for source, _ in EDGES
        )
        self.drop = DropPath()
        quick_depthwise(self.edges)
        if not affine:
            plain_norms(self)

    def _run(self, edge: int, op: int, source: int, states: list[torch.Tensor], bright: dict[int, torch.Tensor]) -> torch.Tensor:
        """Returns what an operation says about a state; identities are never dropped.

        Most operations begin with a ReLU: that of a state is computed once, in ``bright``, for all that read it.
        """
        layers: nn.Module = self.edges[edge][op]  # type: ignore[index]
        if isinstance(layers, nn.Identity):
            return states[source]
        if not begins_with_relu(layers):
            return self.drop(layers(states[source]))  # type: ignore[no-any-return]
        if source not in bright:
            bright[source] = torch.relu(states[source])
        return self.drop(after_relu(layers, bright[source]))  # type: ignore[no-any-return]

    def _empty(self, state: torch.Tensor) -> torch.Tensor:
        """Returns the zeros of a node without edges, at the size of the cell's output."""
        return torch.zeros_like(state[:, :, ::2, ::2] if self.reduction else state)

    def forward(
        self, before: torch.Tensor, previous: torch.Tensor, nodes: tuple[tuple[Use, ...], ...], raw: bool
    ) -> torch.Tensor:
        """Returns (N, 4 * channels, H, W); only the operations named in ``nodes`` run.

        Inputs have passed a ReLU, and so has what is returned unless it is to be ``raw``: other cells read no more than that.
        """
        states = [after_relu(self.before, before), after_relu(self.previous, previous)]
        bright: dict[int, torch.Tensor] = {}
        for uses in nodes:
            total: torch.Tensor | None = None
            for edge, op, source, times in uses:
                out = self._run(edge, op, source, states, bright)
                for _ in range(times):
                    total = out if total is None else total + out
            states.append(self._empty(states[1]) if total is None else total)
        return self._joined(states, bright, raw)

    def _joined(self, states: list[torch.Tensor], bright: dict[int, torch.Tensor], raw: bool) -> torch.Tensor:
        """Returns the four nodes side by side, or their ReLUs, of which some are there already."""
        inner = range(2, len(states))
        if raw:
            return torch.cat(states[2:], dim=1)
        return torch.cat([bright[i] if i in bright else torch.relu(states[i]) for i in inner], dim=1)

    def mix(
        self, before: torch.Tensor, previous: torch.Tensor, weights: torch.Tensor, used: list[list[float]], raw: bool
    ) -> torch.Tensor:
        """Returns what ``forward`` returns, where every edge is a weighted sum; ``used`` are the weights (14, 8) as numbers."""
        states = [after_relu(self.before, before), after_relu(self.previous, previous)]
        bright: dict[int, torch.Tensor] = {}
        for node in range(2, NODES + 2):
            total = self._empty(states[1])
            for source in range(node):
                edge = FIRST[node - 2] + source
                for op in range(len(OPS)):
                    if op != NONE and used[edge][op] != 0:
                        total = total + weights[edge, op] * self._run(edge, op, source, states, bright)
            states.append(total)
        return self._joined(states, bright, raw)


def _once(step: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
    """Returns ``step(*inputs)``."""
    return step(*inputs)


class DARTSSupernet(nn.Module):
    """All DARTS networks at once.

    Args:
        scale: as for the networks; ``depth`` is the number of cells, reductions at a third and two thirds.
        affine: whether batch norms in cells have weights (RelativeNAS); DARTS, CNAS and BPE have none in search.
        pool_norm: whether a batch norm follows a pool (DARTS, CNAS, BPE).
        lean: whether training computes each cell a second time on the way back instead of keeping what is inside.

    Raises:
        SettingError: for images under 4 px or a single channel.
    """

    mix_ops = OPS
    mix_shapes: Mapping[str, tuple[int, int]] = {
        "normal": (len(EDGES), len(OPS)),
        "reduce": (len(EDGES), len(OPS)),
    }

    def __init__(self, scale: Scale, *, affine: bool = False, pool_norm: bool = True, lean: bool = False) -> None:
        super().__init__()
        self.scale, self.pool_norm = scale, pool_norm
        network: Network = build(Arch(SPACE.name, (0, NONE) * 16), scale)
        self.stem, self.tail = network.stem, network.tail
        reductions = (scale.depth // 3, 2 * scale.depth // 3)
        self.cells, channels = nn.ModuleList(), scale.channels
        for position, cell in enumerate(network.cells):
            assert isinstance(cell, Cell)
            reduction = position in reductions
            channels *= 1 + reduction
            self.cells.append(
                SuperCell(cell, channels, reduction=reduction, affine=affine, pool_norm=pool_norm)
            )
        self._again = [Again(cell) for cell in self.cells] if lean else []

    def _through(self, x: torch.Tensor, run: list[tuple[SuperCell, tuple[object, ...], bool]]) -> torch.Tensor:
        """Returns the logits; each cell is called, or mixed, with arguments of its own."""
        raw = self.stem[0](x)
        before = previous = torch.relu(raw)  # cells read their inputs through a ReLU only
        if len(self.stem) > 1:
            raw = self.stem[1](raw)
            previous = torch.relu(raw)
        lean = bool(self._again) and self.training and torch.is_grad_enabled()
        runners: Sequence[Callable[..., torch.Tensor]] = self._again if lean else [_once] * len(run)
        for (cell, arguments, mixed), runner in zip(run, runners):
            step: Callable[..., torch.Tensor] = cell.mix if mixed else cell
            before, previous = previous, runner(step, before, previous, *arguments, cell is run[-1][0])
        return self.tail(previous)  # type: ignore[no-any-return]

    def _kinds(self) -> list[tuple[SuperCell, int]]:
        """Returns the cells, each with 0 (normal) or 1 (reduction)."""
        return [(cell, int(cell.reduction)) for cell in self.cells if isinstance(cell, SuperCell)]

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Returns (N, classes) logits of ``arch``; only its operations run.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        SPACE.validate(arch)
        nodes = plan(arch.choices)
        return self._through(x, [(cell, (nodes[kind],), False) for cell, kind in self._kinds()])

    def mix(self, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns (N, classes) logits with every edge the sum of its operations.

        ``weights["normal"]`` and ``weights["reduce"]`` are (14, 8), edges in the order of DARTS.
        """
        both = [weights[kind] for kind in self.mix_shapes]
        used = [part.detach().tolist() for part in both]
        return self._through(x, [(cell, (both[kind], used[kind]), True) for cell, kind in self._kinds()])

    def derive(self, weights: Mapping[str, torch.Tensor]) -> Arch:
        """Returns DARTS's choice: of each node the two edges whose best operation other than ``none`` weighs most."""
        choices: list[int] = []
        for kind in self.mix_shapes:
            value, op = weights[kind].detach()[:, NONE + 1 :].max(1)
            for node in range(2, NODES + 2):
                first = FIRST[node - 2]
                order = torch.argsort(value[first : first + node], descending=True, stable=True)
                for source in sorted(int(s) for s in order[:2]):
                    choices += [source, int(op[first + source]) + NONE + 1]
        return Arch(SPACE.name, tuple(choices))

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations."""
        places = ((i, edge, op) for i in range(len(self.cells)) for edge in range(len(EDGES)) for op in range(len(OPS)))
        return frozenset(f"cells.{i}.edges.{edge}.{op}" for i, edge, op in places)

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns the names of the operations of ``arch``, in every cell; ``none`` has no name."""
        SPACE.validate(arch)
        nodes = plan(arch.choices)
        return frozenset(
            f"cells.{i}.edges.{edge}.{op}"
            for i, (_, kind) in enumerate(self._kinds())
            for uses in nodes[kind]
            for edge, op, _, _ in uses
        )

    def extract(self, arch: Arch) -> nn.Module:
        """Returns ``nets.build(arch)`` with these weights; pools have a batch norm if they have one here."""
        device = next(self.parameters()).device
        network = nets.build(arch, self.scale, generator=torch.Generator(), pool_norm=self.pool_norm).to(device)
        adopt(network.stem, self.stem)  # type: ignore[arg-type]
        adopt(network.tail, self.tail)  # type: ignore[arg-type]
        for (mine, kind), cell in zip(self._kinds(), network.cells):  # type: ignore[arg-type]
            adopt(cell.before, mine.before)
            adopt(cell.previous, mine.previous)
            at = 16 * kind
            genes = [(arch.choices[at + i], arch.choices[at + i + 1]) for i in range(0, 16, 2)]
            for gene, (source, op) in enumerate(genes):
                target, layers = cell.edges[gene], mine.edges[FIRST[gene // 2] + source][op]  # type: ignore[index]
                if not isinstance(target, nn.Identity):
                    adopt(target[0], layers)
        return network
