"""The DARTS supernet: a search network whose 14 edges a cell hold all eight operations.

With the defaults it is DARTS's and CNAS's search network (1,930,618 weights at 16 channels and 8 cells); with ``affine=True,
pool_norm=False`` it is RelativeNAS's weight set (1,987,194). Deviation from both: two equal edges of a node run once and count
twice, so their batch norm sees the images once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight
from torch.utils.checkpoint import checkpoint

from archduel.core import Arch, Scale
from archduel.spaces import family as nets
from archduel.spaces.darts.genotype import OPS
from archduel.spaces.darts.network import Cell, Network, build, operation
from archduel.spaces.darts.space import DARTS, NODES
from archduel.spaces.layers import DropPath, adopt, plain_norms

__all__ = ["Again", "DARTSSupernet", "DepthwiseConv2d", "quick_depthwise"]

# -- Depthwise convolutions whose gradient costs less on a CPU ----------------------------------------------------------
#
# The gradient of the input of such a convolution is the same convolution with the kernel turned round, which the library computes
# several times faster forwards than as a gradient (most of all with dilation). With stride 2 and dilation 2 only every other row
# and column is ever read, so it is a convolution of neither on a quarter of the pixels.
#
# For the gradient of the weights the library has quick code for kernels of at most three columns without dilation, about ten times
# as fast as its other code (torch 2.13, channels last). A kernel of five columns is two of three; dilation 2 is four
# convolutions without dilation, each on every other row and column.


# -- Computing a part of a network again on the way back instead of keeping what it computed: less memory, a bit more time 


class Again:
    """Runs a cell so that its inner results are computed again for the gradients, with the very same numbers.

    The second time, batch norms keep no statistics and drop path draws the same masks.

    Args:
        cell: the part of the network.
    """

    def __init__(self, cell: nn.Module) -> None:
        norms = (module for module in cell.modules() if isinstance(module, nn.BatchNorm2d))
        self.norms = [norm for norm in norms if norm.running_mean is not None]
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


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of stride 1 that keeps the size; padding and dilation are those of both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, None, 1, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        how = 1, ctx.padding, ctx.dilation, x.shape[1]
        of_x = F.conv2d(grad, weight.flip(2, 3), None, *how) if ctx.needs_input_grad[0] else None
        of_weight = _weight_gradient(x, grad, weight.shape[2], *how[1:3]) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def _weight_gradient(x: Tensor, grad: Tensor, side: int, padding: int, dilation: int) -> Tensor:
    """Returns (C, 1, side, side): the gradient of the weights, by the library's quick code where that is possible."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    last = x.is_contiguous(memory_format=torch.channels_last)
    if not last or side > 5 or dilation > 2 or (dilation == 2 and (height % 2 or width % 2)):
        return conv2d_weight(x, (channels, 1, side, side), grad, 1, padding, dilation, channels)  # type: ignore[no-any-return]
    if dilation == 2:
        x, grad, padding = _every_other(x), _every_other(grad), padding // 2
    if side == 3:
        return conv2d_weight(x, (channels, 1, 3, 3), grad, 1, padding, 1, channels)  # type: ignore[no-any-return]
    columns = [
        conv2d_weight(F.pad(x, border), (channels, 1, 5, 3), grad, 1, (padding, 0), 1, channels) for border in ((2, 0), (0, 2))
    ]
    return torch.cat((columns[0], columns[1][..., 1:]), dim=3)  # the middle column is in both


def _every_other(x: Tensor) -> Tensor:
    """Returns (4 N, C, H / 2, W / 2), channels last: the even and odd rows and columns of (N, C, H, W)."""
    n, c, h, w = x.shape
    parts = x.unflatten(2, (h // 2, 2)).unflatten(4, (w // 2, 2)).permute(3, 5, 0, 2, 4, 1)  # (2, 2, N, H / 2, W / 2, C)
    return parts.reshape(4 * n, h // 2, w // 2, c).permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias of stride 1, or of stride and dilation 2, that keeps the size (or halves it).

    On a CPU in full precision its gradients take the quick way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, ceil(H / stride), ceil(W / stride))."""
        if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        dilation, padding = self.dilation[0], int(self.padding[0])
        if self.stride[0] == 2:
            layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
            x, dilation, padding = x[:, :, ::2, ::2].contiguous(memory_format=layout), 1, padding // 2
        out = _Depthwise.apply(x, self.weight, padding, dilation)  # type: ignore[no-untyped-call]
        assert isinstance(out, Tensor)
        return out


def quick_depthwise(module: nn.Module) -> None:
    """Replaces the depthwise convolutions inside ``module`` that can be quicker; names and weights stay."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.groups == child.in_channels == child.out_channels and _fits(child):
                new = DepthwiseConv2d(
                    child.in_channels, child.out_channels, child.kernel_size[0], child.stride[0], int(child.padding[0]),
                    child.dilation[0], child.groups, bias=False,
                )  # fmt: skip
                new.weight = child.weight
                setattr(parent, name, new)


def _fits(child: nn.Conv2d) -> bool:
    """Returns whether stride is 1, or 2 with dilation 2, and there is no bias and as much padding as keeps the size."""
    side, stride, dilation = child.kernel_size[0], child.stride[0], child.dilation[0]
    wanted = (stride,) * 2, (side,) * 2, (dilation,) * 2, (dilation * (side - 1) // 2,) * 2, None
    square = (child.stride, child.kernel_size, child.dilation, child.padding, child.bias) == wanted
    return square and side % 2 == 1 and (stride == 1 or stride == dilation == 2)


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
