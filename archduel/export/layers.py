"""Torch's own layers as constructor expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from archduel.errors import ExportError
from archduel.export.expressions import Arg, Call, Expr, Half, Hole, Items, Text

__all__ = ["layer", "own"]


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
    found: dict[str, Expr] = {}
    for name, value in module.named_parameters(recurse=False):
        found[name] = Call("nn.Parameter", (Arg(_empty(value)),))
    for name, buffer in module.named_buffers(recurse=False):
        found[name] = Call("nn.Buffer", (Arg(_empty(buffer)),))
    return found


def _empty(value: torch.Tensor) -> Call:
    sides = Items(tuple(Hole(side, "size") for side in value.shape))
    return Call("torch.empty", (Arg(sides), *(() if value.dtype == torch.float32 else (Arg(Text(str(value.dtype)), "dtype"),))))
