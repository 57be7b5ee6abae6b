"""One module's forward as a graph: traced with its children as black boxes and its conditions decided.

Tracing carries real values along, so that conditions on map sizes are decided as they are for this network. The size of
the batch stays open.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from archduel.errors import ExportError

__all__ = ["Shape", "Traced", "example_inputs", "traced"]


class Shape(Sequence[Any]):
    """The shape of a traced tensor: numbers, but for the batch, which stays a name."""

    def __init__(self, proxy: Traced, sides: tuple[int, ...]) -> None:
        self.proxy, self.sides = proxy, sides

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self.sides))))
        if index % len(self.sides):
            return self.sides[index]
        return self.proxy.tracer.create_proxy("call_method", "size", (self.proxy, 0), {})


class Traced(fx.Proxy):
    """A traced value that knows what it is for an example input."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Any) -> None:
        super().__init__(node, tracer)
        self.value = value

    @property
    def shape(self) -> Any:
        """The sides of the tensor."""
        return Shape(self, tuple(self.value.shape))

    @property
    def ndim(self) -> int:
        """How many sides there are."""
        return int(self.value.ndim)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self.value.dtype  # type: ignore[no-any-return]

    def size(self, side: int | None = None) -> Any:
        """Returns the shape or one side of it."""
        return self.shape if side is None else self.shape[side]


class _Tracer(fx.Tracer):
    """Traces one module; its children are called, not entered."""

    def __init__(self, module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.module, self.inputs = module, inputs
        self.running = False  # while true, calls are real: values are being computed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        known = [fx.node.map_aggregate(part, _value) for part in (args, kwargs)]
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        if kind == "output":
            return proxy
        self.running = True
        try:
            return Traced(proxy.node, self, self._run(kind, target, *known))
        finally:
            self.running = False

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.inputs.get(target)
        if kind == "get_attr":
            return operator.attrgetter(target)(self.module)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        function = self.module.get_submodule(target) if kind == "call_module" else target
        return function(*args, **kwargs)


def _value(part: Any) -> Any:
    return part.value if isinstance(part, Traced) else part


def example_inputs(model: nn.Module, x: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Returns the positional tensors that every module gets when ``model`` runs on ``x``: module name -> parameter -> tensor."""
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def record(name: str) -> Any:
        """Returns a hook that keeps what the module ``name`` is called with."""
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            names = list(inspect.signature(module.forward).parameters)
            seen.setdefault(name, dict(zip(names, args)))

        return hook

    handles = [module.register_forward_pre_hook(record(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def traced(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> fx.Graph:
    """Returns the graph of ``module.forward`` for this network, without what nothing depends on.

    Raises:
        ExportError: if the forward method depends on more than shapes.
    """
    try:
        with torch.no_grad():
            graph = _Tracer(module, inputs).trace(module)
    except Exception as error:  # a forward method can fail in any way when its inputs are symbols
        raise ExportError(
            f"the forward method of {type(module).__name__} cannot be written as source ({error}); expected one whose "
            "conditions depend on shapes alone"
        ) from error
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph
