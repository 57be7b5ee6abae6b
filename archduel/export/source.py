"""The source of one network: plain torch classes and functions, this network's cells, sizes and nothing else.

Every module with a forward of its own is traced (see :mod:`.forward`) and becomes a class whose constructor makes its children;
sequences become functions. Definitions that differ in numbers alone are merged into one with parameters (see
:mod:`.expressions`). Attribute names stay, so the state dict keeps its keys. Drop path and auxiliary heads, which a trained
network does not call, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from archduel.errors import ExportError
from archduel.export.expressions import (
    Arg,
    Call,
    Definition,
    Expr,
    Half,
    Hole,
    Items,
    Text,
    Use,
    holes,
    shape,
    write,
)
from archduel.export.forward import example_inputs, forward_lines, traced
from archduel.spaces.layers import DropPath

__all__ = ["Network", "layer", "network_source", "own", "read_network"]

# -- Torch's own layers as constructor expressions ----------------------------------------------------------------------


def _size(value: Any, role: str) -> Expr:
    """Returns a number, or a tuple of them where sides differ."""
    sides = (value,) if isinstance(value, int) else tuple(value)
    if len(set(sides)) == 1:
        return Hole(sides[0], role)
    return Call("", tuple(Arg(Hole(side, role)) for side in sides))


def _flag(name: str, value: Any, default: Any) -> tuple[Arg, ...]:
    return () if value == default else (Arg(Text(repr(value)), name),)


def _conv(conv: nn.Conv2d) -> Call:
    kernel, padding = conv.kernel_size, conv.padding
    # padding that goes with the kernel is written as kernel // 2: definitions of 3x3 and 5x5 then differ in one number, and are one
    same = padding == tuple(k // 2 for k in kernel) and len(set(kernel)) == 1
    if isinstance(padding, str) or conv.padding_mode != "zeros":
        raise ExportError(f"a convolution with padding {padding!r}, mode {conv.padding_mode!r} cannot be exported; use numbers and zeros")
    args = [
        Arg(Hole(conv.in_channels, "c_in")), Arg(Hole(conv.out_channels, "c_out")), Arg(_size(kernel, "kernel")),
        Arg(Half() if same else _size(padding, "padding"), "padding", "0"), Arg(_size(conv.stride, "stride"), "stride", "1"),
    ]  # fmt: skip
    if set(conv.dilation) != {1}:
        args.append(Arg(_size(conv.dilation, "dilation"), "dilation"))
    if conv.groups != 1:
        args.append(Arg(Hole(conv.groups, "groups"), "groups"))
    return Call("nn.Conv2d", (*args, *_flag("bias", conv.bias is not None, True)))


def _norm(norm: nn.BatchNorm2d) -> Call:
    flags = (
        *_flag("eps", norm.eps, 1e-5), *_flag("momentum", norm.momentum, 0.1), *_flag("affine", norm.affine, True),
        *_flag("track_running_stats", norm.track_running_stats, True),
    )  # fmt: skip
    return Call("nn.BatchNorm2d", (Arg(Hole(norm.num_features, "c")), *flags))


def _linear(linear: nn.Linear) -> Call:
    sides = (Arg(Hole(linear.in_features, "c_in")), Arg(Hole(linear.out_features, "c_out")))
    return Call("nn.Linear", (*sides, *_flag("bias", linear.bias is not None, True)))


def _pool(pool: Any) -> Call:
    args = (
        Arg(_size(pool.kernel_size, "kernel")), Arg(_size(pool.stride, "stride"), "stride"),
        Arg(_size(pool.padding, "padding"), "padding", "0"),
    )  # fmt: skip
    flags = _flag("ceil_mode", pool.ceil_mode, False)
    if isinstance(pool, nn.AvgPool2d):
        flags += _flag("count_include_pad", pool.count_include_pad, True)
    elif pool.dilation != 1:
        flags += _flag("dilation", pool.dilation, 1)
    return Call(f"nn.{type(pool).__name__}", (*args, *flags))


def _plain(module: nn.Module) -> Call:
    """Returns a layer without weights by its own printed form, which is its constructor; tried before it is believed."""
    code = repr(module)
    try:
        # the text is the repr of a module that is already here and runs, not something read from a file
        same = repr(eval(code, {**vars(nn)})) == code
    except Exception:  # whatever an unknown layer prints, it is not its constructor
        same = False
    if not same or any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        raise ExportError(
            f"layers of type {type(module).__name__} cannot be written as source; known are convolutions, batch norms, linear "
            "layers, pools and layers without weights. Put it into a module of your own with parameters and a forward method"
        )
    name, _, rest = f"nn.{code}".partition("(")
    return Call(name, (Arg(Text(rest[:-1])),) if rest[:-1] else ())


LAYERS: dict[type[nn.Module], Callable[[Any], Call]] = {
    nn.Conv2d: _conv, nn.BatchNorm2d: _norm, nn.Linear: _linear, nn.AvgPool2d: _pool, nn.MaxPool2d: _pool,
    nn.ReLU: lambda m: Call("nn.ReLU", _flag("inplace", m.inplace, False)),
    nn.Dropout: lambda m: Call("nn.Dropout", (Arg(Text(repr(m.p))),)),
    nn.AdaptiveAvgPool2d: lambda m: Call("nn.AdaptiveAvgPool2d", (Arg(Text(repr(m.output_size))),)),
    nn.Flatten: lambda m: Call("nn.Flatten", (*_flag("start_dim", m.start_dim, 1), *_flag("end_dim", m.end_dim, -1))),
    nn.Identity: lambda m: Call("nn.Identity"),
}  # fmt: skip


def layer(module: nn.Module) -> Call:
    """Returns the constructor of a torch layer.

    Raises:
        ExportError: for layers that are not known and have weights.
    """
    return LAYERS.get(type(module), _plain)(module)


def own(module: nn.Module) -> dict[str, Expr]:
    """Returns constructors of the parameters and buffers that a module holds itself."""
    # empty, because the weights are loaded over them at once
    members: dict[str, Expr] = {}
    for name, value in module.named_parameters(recurse=False):
        members[name] = Call("nn.Parameter", (Arg(_empty(value)),))
    for name, buffer in module.named_buffers(recurse=False):
        members[name] = Call("nn.Buffer", (Arg(_empty(buffer)),))
    return members


def _empty(value: torch.Tensor) -> Call:
    sides = Items(tuple(Hole(side, "size") for side in value.shape))
    return Call("torch.empty", (Arg(sides), *(() if value.dtype == torch.float32 else (Arg(Text(str(value.dtype)), "dtype"),))))


# -- A network read module by module into definitions ---------------------------------------------------------------------


@dataclass
class Network:
    """What was read from a model.

    Attributes:
        definitions: shape -> definition, children before parents; the last is the network itself.
        left_out: prefixes of state-dict keys that the source does not have (auxiliary heads).
    """

    definitions: dict[str, Definition] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_network(model: nn.Module, x: torch.Tensor) -> Network:
    """Returns the definitions of ``model`` in evaluation mode.

    Args:
        model: a network of torch layers and modules whose forward methods can be traced.
        x: an example input, (2, C, H, W) float32.

    Raises:
        ExportError: for layers and forward methods that cannot be written as source.
    """
    reader = _Reader(Network(), example_inputs(model, x))
    if not isinstance(reader.read(model, ""), Use):
        raise ExportError(f"expected a network of its own class, got a bare {type(model).__name__}")
    _distinct(reader.network.definitions)
    return reader.network


def _distinct(definitions: dict[str, Definition]) -> None:
    """Numbers names that occur more than once."""
    seen: dict[str, int] = {"Network": 1, "load": 1}
    *parts, _ = definitions.values()
    for definition in parts:
        if not definition.inlined:
            seen[definition.name] = seen.get(definition.name, 0) + 1
            if seen[definition.name] > 1:
                definition.name += ("" if definition.forward is not None else "_") + str(seen[definition.name])


@dataclass
class _Reader:
    """Turns modules into expressions, collecting definitions on the way."""

    network: Network
    inputs: dict[str, dict[str, torch.Tensor]]

    def read(self, module: nn.Module, path: str) -> Expr:
        unused = path not in self.inputs and not module.state_dict()  # such as an edge that nothing reads
        if isinstance(module, DropPath) or (unused and not isinstance(module, (nn.ModuleList, nn.ModuleDict))):
            return Call("nn.Identity")
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            return self._sequence(module, path)
        if isinstance(module, nn.ModuleList):
            return Call("nn.ModuleList", (Arg(Items(self._children(module, path))),))
        if isinstance(module, nn.ModuleDict):
            return Call("nn.ModuleDict", (Arg(Items(self._children(module, path), tuple(module))),))
        if type(module).__module__.startswith("torch."):
            return layer(module)
        return self._custom(module, path)

    def _children(self, module: nn.Module, path: str) -> tuple[Expr, ...]:
        return tuple(self.read(child, f"{path}.{name}" if path else name) for name, child in module.named_children())

    def _sequence(self, module: nn.Sequential, path: str) -> Expr:
        children = list(self._children(module, path))
        # drop path stood there; at the end only, since indices are part of the names of weights
        while len(children) > 1 and children[-1] == Call("nn.Identity"):
            children.pop()
        made = Call("nn.Sequential", tuple(Arg(child) for child in children))
        # a function for two layers would be longer than the layers
        if len(children) < 3:
            return made
        return self._use(_function_title(module), {"return": made}, module)

    def _custom(self, module: nn.Module, path: str) -> Expr:
        graph = traced(module, self.inputs.get(path, {}))
        called = {str(node.target).split(".")[0] for node in graph.nodes if node.op in ("call_module", "get_attr")}
        inputs, lines = forward_lines(module, graph)
        members = {name: value for name, value in own(module).items() if name in called}
        for name, child in module.named_children():
            where = f"{path}.{name}" if path else name
            # an auxiliary head is there, but evaluation does not call it: no source, and its weights stay behind
            if name in called:
                members[name] = self.read(child, where)
            else:
                self.network.left_out.append(f"{where}.")
        return self._use(type(module).__name__, members, module, lines, inputs)

    def _use(
        self, name: str, members: dict[str, Expr], module: nn.Module, forward: tuple[str, ...] | None = None,
        inputs: tuple[str, ...] = (),
    ) -> Use:  # fmt: skip
        # all but the numbers: modules with the same key are one definition
        key = "\n".join([name, *inputs, *(forward or ()), *(f"{k}: {shape(v)}" for k, v in members.items())])
        doc = (type(module).__doc__ or "").strip().splitlines() if type(module) is not nn.Sequential else []
        made = Definition(name, doc[0] if doc else "", members, forward, inputs)
        definition = self.network.definitions.setdefault(key, made)
        numbers = tuple(hole for value in members.values() for hole in holes(value))
        definition.instances.append(numbers)
        return Use(definition, numbers)


def _function_title(module: nn.Sequential) -> str:
    """Returns the name of a function that makes such a sequence."""
    if type(module) is not nn.Sequential:
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(module).__name__.replace("ReLU", "Relu")).lower()
    convs = [part for part in module if isinstance(part, nn.Conv2d)]
    if any(set(conv.dilation) != {1} for conv in convs):
        return "dilated"
    if any(conv.groups == conv.in_channels > 1 for conv in convs):
        return "separable"
    return "layers"


# -- Definitions written as code --------------------------------------------------------------------------------------------


def network_source(network: Network) -> str:
    """Returns the code of all definitions, children first, the class ``Network`` last.

    It takes pixels (0..255) and normalises them by the module's constants ``MEAN`` and ``STD``, outside its state dict.
    """
    *parts, whole = [d for d in network.definitions.values() if not d.inlined]
    x = whole.inputs[0]
    top = replace(
        whole, name="Network", doc="The whole network: pixels 0..255, (N, C, H, W), in; logits, (N, classes), out.",
        forward=(f"{x} = (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std", *(whole.forward or ())), inputs=("pixels",),
    )  # fmt: skip
    return "\n\n\n".join([*map(_definition, parts), _definition(top, NORMALISATION)])


# Not persistent: the numbers are constants of the file, and the state dict keeps the keys of the trained network.
NORMALISATION = tuple(
    f'        self.register_buffer("{name.lower()}", torch.tensor({name}).view(-1, 1, 1), persistent=False)'
    for name in ("MEAN", "STD")
)


def _definition(definition: Definition, more: tuple[str, ...] = ()) -> str:
    texts, sources = definition.columns()
    parameters = [texts[source] for source in sources]
    doc = _doc(definition)
    if definition.forward is None:
        body = write(definition.members["return"], texts, 4)
        typed = ", ".join(f"{name}: int" for name in parameters)
        return f"def {definition.name}({typed}) -> nn.Sequential:\n{doc}    return {body}"
    typed = ", ".join(["self", *(f"{name}: int" for name in parameters)])
    arguments = ", ".join(["self", *(f"{name}: torch.Tensor" for name in definition.inputs)])
    lines = [
        f"class {definition.name}(nn.Module):", doc.rstrip("\n"), "",
        *([f"    def __init__({typed}) -> None:", "        super().__init__()", *_members(definition, texts), *more, ""]
          if definition.members else []),
        f"    def forward({arguments}) -> torch.Tensor:", *(f"        {line}" for line in definition.forward),
    ]  # fmt: skip
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def _doc(definition: Definition) -> str:
    text = definition.doc.replace("\\", "").replace('"', "'")
    return f'    """{text}"""\n' if text else ""


def _members(definition: Definition, texts: list[str]) -> Iterator[str]:
    at = 0
    for name, value in definition.members.items():
        used = len(holes(value))
        yield f"        self.{name} = {write(value, texts[at : at + used], 8, len(name) + 8)}"
        at += used
