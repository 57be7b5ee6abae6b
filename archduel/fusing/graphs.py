"""Networks as graphs of layers, and many of them as groups that are computed together.

In the order of use: :func:`trace` reads a network symbolically and lowers it to nodes of a few kinds; :func:`simplified` joins sums, drops
what is computed twice or for nothing; :func:`chains` cuts the graph where a map has several readers; :func:`schedule` puts equal chains of
many networks into groups and orders them.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.spaces.layers import DropPath, FactorizedReduce, Zero
from archduel.spaces.nasbench201.network import Reduction

__all__ = ["Chain", "Graph", "Group", "Node", "Shape", "chains", "schedule", "simplified", "trace"]

# -- The graph of a network: its layers, what each reads, and the shapes of maps ----------------------------------------


Shape = tuple[int, int, int]
"""Channels, height, width of a map."""


@dataclass(frozen=True)
class Node:
    """One layer.

    Attributes:
        op: ``input``, ``zero``, ``conv``, ``norm``, ``relu``, ``sum``, ``cat``, ``narrow``, ``crop``, ``pad``, ``avg_pool``,
            ``max_pool``, ``adaptive`` or ``drop``.
        inputs: numbers of the nodes that it reads.
        attrs: settings; nodes of one op, attrs and input shapes compute the same function of input and weights.
        module: the qualified name of the module whose weights it has; empty without weights.
        shape: of the output.
        stage: number of the part of the network (stem, block, tail) that it stands in.
        unit: qualified name of the operation that it is a layer of; empty for sums and other functions.
    """

    op: str
    inputs: tuple[int, ...]
    attrs: tuple[Any, ...]
    module: str
    shape: Shape
    stage: int
    unit: str = ""


@dataclass(frozen=True)
class Graph:
    """A traced network.

    Attributes:
        nodes: in an order in which each follows what it reads; node 0 is the image.
        outputs: numbers of the nodes with the logits, and with those of the auxiliary head if there is one.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]


# -- Graphs cut into chains of layers, and the chains of many networks ordered in groups that are computed together -----


# DARTS cells pool one state for several edges. ReLUs are not in the list, though they have no weights either: one that several chains
# share would be a map of its own, stored and read again, where now it is the first layer of each.
SHARED = ("avg_pool", "max_pool")
"""Layers without weights that are computed once when one network computes them twice from the same value."""


@dataclass(frozen=True)
class Chain:
    """Layers that follow one another, each read by the next only.

    Attributes:
        layers: the nodes; the first may have several inputs.
        inputs: numbers of the chains whose outputs the first layer reads; -1 = the image.
        before: shapes of those inputs.
    """

    layers: tuple[Node, ...]
    inputs: tuple[int, ...]
    before: tuple[Shape, ...]

    @property
    def signature(self) -> Hashable:
        """What two chains have in common that can be computed together."""
        # whether an input is the image belongs to it: then no gradient is computed, and one image may serve all
        image = tuple(source < 0 for source in self.inputs)
        return (self.before, image, tuple((node.op, node.attrs, node.shape) for node in self.layers))

    @property
    def shape(self) -> Shape:
        """Of the output."""
        return self.layers[-1].shape


def chains(graph: Graph) -> tuple[list[Chain], tuple[int, ...]]:
    """Returns the chains of a simplified graph in an order of computation, and the numbers of those that end in outputs."""
    readers = Counter(source for node in graph.nodes for source in node.inputs) + Counter(graph.outputs)
    runs: list[list[int]] = []
    run_by_node: dict[int, int] = {0: -1}
    for number, node in enumerate(graph.nodes[1:], 1):
        source = node.inputs[0] if len(node.inputs) == 1 else 0
        # a map inside a chain is overwritten by the next layer, so that nothing else may read it, the outputs included
        alone = readers[source] == 1 and source not in graph.outputs
        if source and alone and _follows(graph.nodes[source], node):
            runs[run_by_node[source]].append(number)
            run_by_node[number] = run_by_node[source]
        else:
            runs.append([number])
            run_by_node[number] = len(runs) - 1
    cut = []
    for run in runs:
        sources = graph.nodes[run[0]].inputs
        before = tuple(graph.nodes[source].shape for source in sources)
        inputs = tuple(run_by_node[source] for source in sources)
        cut.append(Chain(tuple(graph.nodes[n] for n in run), inputs, before))
    return cut, tuple(run_by_node[output] for output in graph.outputs)


@dataclass(frozen=True)
class Group:
    """Chains of one signature that are computed together.

    Attributes:
        members: (network, number of its chain).
        chains: the chains themselves.
    """

    members: tuple[tuple[int, int], ...]
    chains: tuple[Chain, ...]


def simplified(graph: Graph) -> Graph:
    """Returns ``graph`` with sums of sums as one, equal pools computed once, and nothing that the outputs do not depend on."""
    readers = Counter(source for node in graph.nodes for source in node.inputs) + Counter(graph.outputs)
    nodes: list[Node] = []
    place: dict[int, int] = {}
    seen: dict[Hashable, int] = {}
    terms: dict[int, tuple[int, ...]] = {}  # a sum that only another sum reads -> its terms
    for number, node in enumerate(graph.nodes):
        inputs: tuple[int, ...] = ()
        # (a + b) + c becomes one sum of three, so that networks with the same number of terms meet however they were written
        for source in node.inputs:
            inputs += terms[source] if node.op == "sum" and source in terms else (place[source],)
        key = (node.op, node.attrs, inputs)
        if node.op in SHARED and key in seen:
            place[number] = seen[key]
            continue
        nodes.append(replace(node, inputs=inputs))
        place[number] = seen[key] = len(nodes) - 1
        if node.op == "sum" and readers[number] == 1:
            terms[number] = inputs
    return _alive(nodes, tuple(place[output] for output in graph.outputs))


def _alive(nodes: Sequence[Node], outputs: tuple[int, ...]) -> Graph:
    """Returns the nodes that ``outputs`` depend on, numbered anew, the image always first."""
    needed = {0, *outputs}
    for number in reversed(range(len(nodes))):
        if number in needed:
            needed |= set(nodes[number].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    alive = [replace(nodes[old], inputs=tuple(place[i] for i in nodes[old].inputs)) for old in sorted(needed)]
    return Graph(tuple(alive), tuple(place[output] for output in outputs))


def _follows(before: Node, node: Node) -> bool:
    """Returns whether two layers belong to one operation: one's name is the other's or a beginning of it."""
    # Chains end with an operation even where its only reader could join: longer chains are alike in fewer networks.
    first, second = f"{before.unit}.", f"{node.unit}."
    return bool(before.unit and node.unit) and (first.startswith(second) or second.startswith(first))


def schedule(networks: Sequence[Sequence[Chain]]) -> list[Group]:
    """Returns groups in an order of computation that puts as many equal chains together as it easily can.

    Among the chains that could be computed next, the signature goes first of which the largest share of all that are
    still to come in this stage of the networks is ready; so conv edges wait for each other where pools or skips precede some.
    """
    left: dict[tuple[int, int], int] = {}
    readers: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    coming: Counter[tuple[int, Hashable]] = Counter()
    ready: dict[tuple[int, Hashable], list[tuple[int, int]]] = defaultdict(list)
    keys: dict[tuple[int, int], tuple[int, Hashable]] = {}
    for k, network in enumerate(networks):
        for c, chain in enumerate(network):
            sources = [source for source in chain.inputs if source >= 0]
            keys[k, c] = (chain.layers[0].stage, chain.signature)
            coming[keys[k, c]] += 1
            left[k, c] = len(sources)
            for source in sources:
                readers[k, source].append((k, c))
            if not sources:
                ready[keys[k, c]].append((k, c))
    groups = []
    while ready:
        # repr of the signature breaks ties, so that the order depends on the networks alone
        key = min(ready, key=lambda key: (key[0], -len(ready[key]) / coming[key], repr(key[1])))
        members = ready.pop(key)
        coming[key] -= len(members)
        groups.append(Group(tuple(members), tuple(networks[k][c] for k, c in members)))
        for member in members:
            for reader in readers[member]:
                left[reader] -= 1
                if not left[reader]:
                    ready[keys[reader]].append(reader)
    return groups


# -- A network read symbolically, layer by layer -------------------------------------------------------------------------


# These are not traced into but lowered by hand: their forward asks for sizes or flags, which a symbolic trace does not have.
WHOLE = (Reduction, FactorizedReduce, DropPath, Zero)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WHOLE) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, scale: Scale) -> Graph:
    """Returns the graph of ``network`` in training mode, for images as ``scale`` says.

    Raises:
        SettingError: for a network with a layer that cannot be fused.
    """
    # in training mode, because auxiliary heads and drop path are only there then; the flags are put back
    flags = [(module, module.training) for module in network.modules()]
    network.train()
    try:
        graph = _Tracer().trace(network)
    finally:
        for module, flag in flags:
            module.training = flag
    lowering = _Lowering(dict(network.named_modules()), scale)
    for node in graph.nodes:
        lowering.take(node)
    return Graph(tuple(lowering.nodes), lowering.outputs)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _slid(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False) -> int:
    """Returns the length of a map after a sliding window."""
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    # as PyTorch's: with ceil a window may begin inside the map or its front padding, but not behind
    steps = -(-free // stride) if ceil else free // stride
    return steps if ceil and steps * stride >= size + padding else steps + 1


class _Lowering:
    """Turns the nodes of a symbolic trace into ours."""

    def __init__(self, modules: dict[str, nn.Module], scale: Scale) -> None:
        self.modules = modules
        self.nodes: list[Node] = []
        self.outputs: tuple[int, ...] = ()
        self._at: dict[fx.Node, int] = {}
        self._stages: dict[str, int] = {}
        self._stage = 0
        self._unit = ""
        self._image = (scale.in_channels, scale.image_size, scale.image_size)

    def take(self, node: fx.Node) -> None:
        """Adds what ``node`` computes."""
        self._enter(node)
        if node.op == "placeholder":
            self._at[node] = self._add("input", (), (), self._image)
        elif node.op == "output":
            outputs = node.args[0] if isinstance(node.args[0], tuple) else (node.args[0],)
            self.outputs = tuple(self._at[out] for out in outputs)  # type: ignore[index]
        elif node.op == "call_module":
            (source,) = node.args
            self._unit = self._operation(str(node.target))
            self._at[node] = self._module(str(node.target), self._at[source])  # type: ignore[index]
            self._unit = ""
        else:
            self._at[node] = self._function(node)

    def _enter(self, node: fx.Node) -> None:
        """Notes which part of the network comes now."""
        # Parts are the stem, each cell of a list, the tail. Groups are formed part by part: networks of one space have the same parts,
        # and what a later part will need does not keep a chain of this one waiting.
        stack = node.meta.get("nn_module_stack") or {}
        names = [entry[0] for entry in stack.values()] + (
            [str(node.target)] if node.op == "call_module" else []
        )
        if names:
            pieces = names[-1].split(".")
            part = ".".join(pieces[: 2 if isinstance(self.modules[pieces[0]], nn.ModuleList) else 1])
            self._stage = self._stages.setdefault(part, len(self._stages))

    def _operation(self, name: str) -> str:
        """Returns the operation that the module ``name`` belongs to: itself in a list of modules, else what holds it."""
        holder = name.rpartition(".")[0]
        alone = isinstance(self.modules[name], WHOLE[:2]) or isinstance(
            self.modules[holder], (nn.ModuleList, nn.ModuleDict)
        )
        return name if alone else holder

    def _add(
        self, op: str, inputs: tuple[int, ...], attrs: tuple[Any, ...], shape: Shape, module: str = ""
    ) -> int:
        self.nodes.append(Node(op, inputs, attrs, module, shape, self._stage, self._unit))
        return len(self.nodes) - 1

    def _function(self, node: fx.Node) -> int:
        """Adds a sum, a concatenation or the first channels of a map."""
        if node.op == "call_function" and node.target is operator.add:
            terms = [self._at[term] for term in node.args]  # type: ignore[index]
            return self._add("sum", tuple(terms), (), self.nodes[terms[0]].shape)
        if node.op == "call_function" and node.target is torch.cat:
            parts = [self._at[part] for part in node.args[0]]  # type: ignore[index,union-attr]
            return self._cat(parts)
        if node.op == "call_function" and node.target is operator.getitem:
            source, place = node.args
            at = self._at[source]  # type: ignore[index]
            c, height, width = self.nodes[at].shape
            stop = min(place[1].stop, c)  # type: ignore[index,union-attr]
            return at if stop == c else self._add("narrow", (at,), (stop,), (stop, height, width))
        raise SettingError(f"a network that calls {node.target} cannot be fused; train it one by one")

    def _cat(self, parts: list[int]) -> int:
        if len(parts) == 1:
            return parts[0]
        shapes = [self.nodes[part].shape for part in parts]
        return self._add("cat", tuple(parts), (), (sum(s[0] for s in shapes), *shapes[0][1:]))

    def _module(self, name: str, x: int) -> int:
        """Adds the layers of the module called ``name`` applied to node ``x``."""
        module = self.modules[name]
        for kind, lower in _LOWER.items():
            if isinstance(module, kind):
                return lower(self, module, name, x)
        raise SettingError(
            f"{type(module).__name__} ({name}) cannot be fused; train such networks one by one"
        )

    def conv(self, module: Any, name: str, x: int) -> int:
        """Adds a convolution."""
        c, height, width = self.nodes[x].shape
        kernel, stride, padding, dilation = (
            _pair(v) for v in (module.kernel_size, module.stride, module.padding, module.dilation)
        )
        if module.groups not in (1, c) or (module.groups == c > 1 and module.out_channels != c):
            raise SettingError(
                f"{name} has {module.groups} groups; only depthwise and ordinary convolutions are fused"
            )
        out = [_slid(s, *v) for s, v in zip((height, width), zip(kernel, stride, padding, dilation))]
        shape = (module.out_channels, out[0], out[1])
        if min(shape) < 1:
            raise SettingError(f"a map of {height} x {width} is too small for {name}; use larger images")
        depthwise = module.groups > 1
        attrs = (c, module.out_channels, kernel, stride, padding, dilation, depthwise, module.bias is not None)
        return self._add("conv", (x,), attrs, shape, name)

    def linear(self, module: nn.Linear, name: str, x: int) -> int:
        """Adds a linear layer: a 1x1 convolution of a map of one pixel."""
        one, none = (1, 1), (0, 0)
        attrs = (module.in_features, module.out_features, one, one, none, one, False, module.bias is not None)
        return self._add("conv", (x,), attrs, (module.out_features, 1, 1), name)

    def norm(self, module: nn.BatchNorm2d, name: str, x: int) -> int:
        """Adds a batch norm."""
        return self._add(
            "norm", (x,), (module.eps, module.momentum, module.affine), self.nodes[x].shape, name
        )

    def relu(self, module: nn.Module, name: str, x: int) -> int:
        """Adds a ReLU."""
        return self._add("relu", (x,), (), self.nodes[x].shape)

    def same(self, module: nn.Module, name: str, x: int) -> int:
        """Adds nothing."""
        return x

    def flatten(self, module: nn.Module, name: str, x: int) -> int:
        """Adds nothing, but a map must be a single pixel."""
        if self.nodes[x].shape[1:] != (1, 1):
            raise SettingError(
                f"{name} flattens a map of {self.nodes[x].shape}; only single pixels are fused"
            )
        return x

    def pool(self, module: Any, name: str, x: int) -> int:
        """Adds an average or maximum pool."""
        kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
        include = getattr(module, "count_include_pad", False)
        op = "avg_pool" if isinstance(module, nn.AvgPool2d) else "max_pool"
        return self._pool(op, x, kernel, stride, padding, module.ceil_mode, include)

    def _pool(
        self, op: str, x: int, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool
    ) -> int:
        c, *sizes = self.nodes[x].shape
        height, width = (_slid(s, k, t, p, 1, ceil) for s, k, t, p in zip(sizes, kernel, stride, padding))
        return self._add(op, (x,), (kernel, stride, padding, ceil, include), (c, height, width))

    def adaptive(self, module: nn.AdaptiveAvgPool2d, name: str, x: int) -> int:
        """Adds an adaptive average pool."""
        size: Any = module.output_size
        height, width = _pair(size)
        return self._add("adaptive", (x,), ((height, width),), (self.nodes[x].shape[0], height, width))

    def zero(self, module: Zero, name: str, x: int) -> int:
        """Adds zeros."""
        # no input: what comes before a zero operation gets no gradient from it, and is dropped if nothing else reads it
        c, *sizes = self.nodes[x].shape
        height, width = (-(-size // module.stride) for size in sizes)
        return self._add("zero", (), (), (c, height, width))

    def drop(self, module: DropPath, name: str, x: int) -> int:
        """Adds a drop-path mask."""
        return self._add("drop", (x,), (), self.nodes[x].shape, name)

    def reduction(self, module: Reduction, name: str, x: int) -> int:
        """Adds the residual block of stride 2."""
        # two blocks of ReLU, convolution and norm, as its ``forward``; a map of odd size is pooled with a last half window
        main = x
        for block in ("main.0", "main.1"):
            for place in range(3):
                main = self._module(f"{name}.{block}.{place}", main)
        odd = bool(self.nodes[x].shape[1] % 2)
        pooled = self._pool("avg_pool", x, (2, 2), (2, 2), (0, 0), odd, True)
        shortcut = self._module(f"{name}.shortcut", pooled)
        return self._add("sum", (main, shortcut), (), self.nodes[main].shape)

    def factorized(self, module: FactorizedReduce, name: str, x: int) -> int:
        """Adds the two convolutions that see every second pixel, the second one pixel further."""
        # as its ``forward``: one ReLU for both, and a row and a column of zeros in front where the size is odd
        c, height, width = self.nodes[x].shape
        x = self._add("relu", (x,), (), (c, height, width))
        if height % 2:
            height, width = height + 1, width + 1
            x = self._add("pad", (x,), (), (c, height, width))
        first = self._module(f"{name}.first", x)
        further = self._add("crop", (x,), (), (c, height - 1, width - 1))
        return self._module(f"{name}.norm", self._cat([first, self._module(f"{name}.second", further)]))


# Order matters: the first kind that fits is taken, and the blocks of spaces come before the layers of PyTorch that they may be.
_LOWER: dict[type[nn.Module], Callable[[_Lowering, Any, str, int], int]] = {
    Reduction: _Lowering.reduction,
    FactorizedReduce: _Lowering.factorized,
    DropPath: _Lowering.drop,
    Zero: _Lowering.zero,
    nn.Conv2d: _Lowering.conv,
    nn.Linear: _Lowering.linear,
    nn.BatchNorm2d: _Lowering.norm,
    nn.ReLU: _Lowering.relu,
    nn.AvgPool2d: _Lowering.pool,
    nn.MaxPool2d: _Lowering.pool,
    nn.AdaptiveAvgPool2d: _Lowering.adaptive,
    nn.Flatten: _Lowering.flatten,
    nn.Identity: _Lowering.same,
}
