"""A network as a graph of layers: what is computed from what, with which weights, at which sizes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.nets.fusing.graph import Graph, Node, Shape
from archduel.nets.nasbench201 import Reduction
from archduel.nets.ops import DropPath, FactorizedReduce, Zero

__all__ = ["trace"]

WHOLE = (
    Reduction,
    FactorizedReduce,
    DropPath,
    Zero,
)  # lowered by hand: their forward asks for sizes or flags


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WHOLE) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, scale: Scale) -> Graph:
    """Returns the graph of ``network`` in training mode, for images as ``scale`` says.

    Raises:
        SettingError: for a network with a layer that cannot be fused.
    """
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
            found = node.args[0]
            self.outputs = tuple(self._at[out] for out in (found if isinstance(found, tuple) else (found,)))  # type: ignore[index]
        elif node.op == "call_module":
            (source,) = node.args
            self._unit = self._operation(str(node.target))
            self._at[node] = self._module(str(node.target), self._at[source])  # type: ignore[index]
            self._unit = ""
        else:
            self._at[node] = self._function(node)

    def _enter(self, node: fx.Node) -> None:
        """Notes which part of the network comes now."""
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
        attrs = (
            c,
            module.out_channels,
            kernel,
            stride,
            padding,
            dilation,
            depthwise,
            module.bias is not None,
        )
        return self._add("conv", (x,), attrs, shape, name)

    def linear(self, module: nn.Linear, name: str, x: int) -> int:
        """Adds a linear layer: a 1x1 convolution of a map of one pixel."""
        attrs = (
            module.in_features,
            module.out_features,
            (1, 1),
            (1, 1),
            (0, 0),
            (1, 1),
            False,
            module.bias is not None,
        )
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
        c, *sizes = self.nodes[x].shape
        height, width = (-(-size // module.stride) for size in sizes)
        return self._add("zero", (), (), (c, height, width))

    def drop(self, module: DropPath, name: str, x: int) -> int:
        """Adds a drop-path mask."""
        return self._add("drop", (x,), (), self.nodes[x].shape, name)

    def reduction(self, module: Reduction, name: str, x: int) -> int:
        """Adds the residual block of stride 2."""
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
        c, height, width = self.nodes[x].shape
        x = self._add("relu", (x,), (), (c, height, width))
        if height % 2:
            height, width = height + 1, width + 1
            x = self._add("pad", (x,), (), (c, height, width))
        first = self._module(f"{name}.first", x)
        further = self._add("crop", (x,), (), (c, height - 1, width - 1))
        return self._module(f"{name}.norm", self._cat([first, self._module(f"{name}.second", further)]))


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
