"""One module's forward as straight-line code: traced to a graph, then written as statements.

:func:`example_inputs` runs the whole network once and keeps what every module was called with; :func:`traced` reads one module's forward
with such inputs; :func:`forward_lines` prints the graph.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from archduel.errors import ExportError
from archduel.spaces.layers import DropPath

__all__ = ["Shape", "Traced", "example_inputs", "forward_lines", "traced"]

# -- One module's forward as a graph: traced with its children as black boxes and its conditions decided ----------------
#
# Tracing carries real values along, so that conditions on map sizes are decided as they are for this network. The size of
# the batch stays open.


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
        # While true, calls are real: values are being computed. fx patches module calls for the whole of a trace, and a child that is
        # computed must not be traced.
        self.running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        known = [fx.node.map_aggregate(part, _value) for part in (args, kwargs)]
        if target is functional.pad and not any(known[0][1]):
            return args[0]  # an even map gets no border
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        # an output is no value that another statement could need
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
    # decided conditions leave behind what they looked at; from the end, so that what only dead nodes used goes too
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph


# -- A graph as statements: which values get a line and a name, and which are written where they are used ----------------


# sign and how strongly it binds; an operand that binds less gets parentheses
BINARY = {
    operator.add: ("+", 1), operator.iadd: ("+", 1), operator.sub: ("-", 1), operator.mul: ("*", 2), operator.imul: ("*", 2),
    operator.truediv: ("/", 2), operator.floordiv: ("//", 2), operator.mod: ("%", 2),
}  # fmt: skip
# what never needs parentheses: names, calls, indices
ATOM = 3
# Characters up to which a value stands inside another expression: two of them and a sign fit on a line.
INLINE = 46


class _Printer:
    """Turns a graph into statements; short values used once are written where they are used."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module, self.nodes = module, list(graph.nodes)
        self.left = {node: self._uses(node) for node in self.nodes}
        self.texts: dict[fx.Node, tuple[str, int]] = {}
        self.taken: set[str] = set()
        self.waiting: set[fx.Node] = set()  # values that will be written where they are used
        self.inputs: list[str] = []
        self.lines: list[str] = []

    def _uses(self, node: fx.Node) -> int:
        # node.users has each user once, but x + x reads x twice and must not have it written out twice
        uses = 0

        def count(other: fx.Node) -> fx.Node:
            """Counts ``node`` among a user's arguments and leaves them as they are."""
            nonlocal uses
            uses += other is node
            return other

        for user in node.users:
            fx.node.map_arg((user.args, user.kwargs), count)
        return uses

    def run(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        for node in self.nodes:
            if node.op == "placeholder":
                self.texts[node] = (str(node.target), ATOM)
                self.taken.add(str(node.target))
                if self.left[node] or not node.args:
                    self.inputs.append(str(node.target))
            elif node.op == "output":
                self.lines.append(f"return {self._argument(node.args[0])}")
            else:
                self._statement(node)
        return tuple(self.inputs), tuple(_loops(self.module, self.lines))

    def _statement(self, node: fx.Node) -> None:
        text, rank = self._expression(node)
        if node.op == "get_attr" or text in self.taken or self._inlined(node, text):
            self.texts[node] = (text, rank)
            self.waiting.add(node)
            return
        self._written(node)
        name = self._name(node)
        self.lines.append(f"{name} = {text}")
        self.texts[node] = (name, ATOM)

    def _written(self, node: fx.Node) -> None:
        """Notes that what was to be written inside of ``node`` now is."""
        for source in node.all_input_nodes:
            if source in self.waiting:
                self.waiting.remove(source)
                self._written(source)

    def _inlined(self, node: fx.Node, text: str) -> bool:
        """Whether a value is written where it is used: once, short, and not as one of a chain of modules."""
        if self.left[node] != 1:
            return False
        user = next(iter(node.users))
        if user.op == "output":
            return len(text) <= 2 * INLINE
        if user.target is torch.cat and node.target in BINARY:  # one sum a line reads better
            return False
        joined = user.op == "call_method" or user.target in BINARY or user.target is torch.cat
        return len(text) <= INLINE and (joined or node.op in ("call_function", "call_method"))

    def _name(self, node: fx.Node) -> str:
        """Returns a new name, or that of the input where nothing needs it any more (a chain keeps one name)."""
        sources = node.all_input_nodes
        if len(sources) == 1 and self.texts[sources[0]][0] in self.inputs and self._last(sources[0], node):
            return self.texts[sources[0]][0]
        base = {"call_module": str(node.target).replace(".", "_"), "call_function": "total" if node.target in BINARY else node.name}
        name, number = base.get(node.op, node.name), 2
        while name in self.taken:
            name, number = f"{base.get(node.op, node.name)}_{number}", number + 1
        self.taken.add(name)
        return name

    def _last(self, source: fx.Node, node: fx.Node) -> bool:
        """Whether ``node`` is the last that reads what ``source`` is called."""
        text = self.texts[source][0]
        same = [n for n, (other, _) in self.texts.items() if other == text]
        later = self.nodes[self.nodes.index(node) + 1 :]
        pending = [n for n in self.waiting if text in self.texts[n][0]]
        return not pending and not any(user in later for n in same for user in n.users)

    def _expression(self, node: fx.Node) -> tuple[str, int]:
        if node.op == "get_attr":
            return self._path(str(node.target)), ATOM
        if node.op == "call_module":
            # drop path is for training; in evaluation it hands on what it gets
            if isinstance(self.module.get_submodule(str(node.target)), DropPath):
                return self.texts[node.args[0]]  # type: ignore[index]
            return f"{self._path(str(node.target))}({self._arguments(node)})", ATOM
        if node.op == "call_method":
            rest = ", ".join([*map(self._argument, node.args[1:]), *self._named(node)])
            return f"{self._wrapped(node.args[0], ATOM)}.{node.target}({rest})", ATOM
        if node.target is operator.getitem:
            return f"{self._wrapped(node.args[0], ATOM)}[{self._index(node.args[1])}]", ATOM
        if node.target in BINARY:
            sign, rank = BINARY[node.target]  # type: ignore[index]
            return f"{self._wrapped(node.args[0], rank)} {sign} {self._wrapped(node.args[1], rank + 1)}", rank
        return f"{_function_name(node.target)}({self._arguments(node)})", ATOM

    def _path(self, target: str) -> str:
        """Returns ``edges.0.weight`` as ``self.edges[0].weight``."""
        text, holder = "self", self.module
        for piece in target.split("."):
            if isinstance(holder, nn.ModuleDict):
                text += f'["{piece}"]'
            else:
                text += f"[{piece}]" if piece.isdigit() else f".{piece}"
            holder = getattr(holder, piece)
        return text

    def _wrapped(self, value: Any, rank: int) -> str:
        text, own = self.texts[value] if isinstance(value, fx.Node) else (self._argument(value), ATOM)
        return text if own >= rank else f"({text})"

    def _named(self, node: fx.Node) -> list[str]:
        known = _defaults(node.target) if node.op == "call_function" else {}
        return [f"{k}={self._argument(v)}" for k, v in node.kwargs.items() if k not in known or known[k] is not v]

    def _arguments(self, node: fx.Node) -> str:
        return ", ".join([*map(self._argument, node.args), *self._named(node)])

    def _argument(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.texts[value][0]
        if isinstance(value, (list, fx.immutable_collections.immutable_list)):
            return f"[{', '.join(map(self._argument, value))}]"
        if isinstance(value, tuple):
            return f"({', '.join(map(self._argument, value))}{',' if len(value) == 1 else ''})"
        return repr(value)

    def _index(self, value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(self._index, value))
        if isinstance(value, slice):
            value = slice(value.start, value.stop, None if value.step == 1 else value.step)
            ends = ["" if end is None else self._argument(end) for end in (value.start, value.stop, value.step)]
            return ":".join(ends if ends[2] else ends[:2])
        return "..." if value is Ellipsis else self._argument(value)


def _defaults(function: Any) -> dict[str, Any]:
    try:
        return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):  # builtins may have no signature
        return {}


def _loops(holder: nn.Module, lines: Sequence[str]) -> list[str]:
    """Returns the statements with three or more links of a chain, ``x = self.blocks[0](x)`` and so on, as a loop."""
    links = [re.fullmatch(r"(\w+) = self\.(\w+)\[(\d+)\]\(\1\)", line) for line in lines]
    written: list[str] = []
    at = 0
    while at < len(lines):
        end, first = at, links[at]
        while first and end < len(lines) and (link := links[end]):
            if (link[1], link[2], int(link[3])) != (first[1], first[2], int(first[3]) + end - at):
                break
            end += 1
        if first and end - at > 2:
            start = int(first[3])
            whole = end - at == len(getattr(holder, first[2]))
            part = first[2] if whole else f"{first[2]}[{start}:{start + end - at}]"
            written += [f"for module in self.{part}:", f"    {first[1]} = module({first[1]})"]
        else:
            end = at + 1
            written.append(lines[at])
        at = end
    return written


def _function_name(target: Any) -> str:
    name = getattr(target, "__name__", "")
    for module, prefix in ((torch, "torch"), (functional, "functional")):
        if getattr(module, name, None) is target:
            return f"{prefix}.{name}"
    raise ExportError(f"the function {target} cannot be written as source; expected one of torch or torch.nn.functional")


def forward_lines(module: nn.Module, graph: fx.Graph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the parameters of ``forward`` and its statements.

    Raises:
        ExportError: for functions that are not torch's.
    """
    return _Printer(module, graph).run()
