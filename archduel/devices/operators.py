"""What a network is made of, for beliefs about how long it takes: how many operators of each kind, what they multiply and what they move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from archduel.core import Arch, Scale

__all__ = ["COLUMNS", "KINDS", "operator_columns"]

KINDS = ("spatial", "pointwise", "depthwise", "grouped", "linear", "pool", "elementwise")
"""Convolutions of more than one pixel, of one, one filter a channel, others in groups; matrix products; windows; the rest that computes."""
WHAT = ("number", "macs", "padded", "moved")
COLUMNS = tuple(f"{kind}/{what}" for kind in KINDS for what in WHAT)
"""For each kind: operators, multiply-adds (results of pools and elementwise ones), the same with channels rounded up to whole vectors, and
numbers read and written, weights included."""
VECTOR = 16
"""Channels that processors compute at once: networks of 4 channels take little less time than those of 16."""

# Norms and the activation after them are folded into the convolution before by every runtime for inference; views move nothing.
IDENTITIES = {"relu", "relu_", "hardtanh", "hardtanh_", "dropout"}
FREE = {
    "view", "_unsafe_view", "reshape", "flatten", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "detach", "alias", "slice", "select",
    "clone", "contiguous", "_to_copy", "as_strided", "empty", "zeros", "ones", "full",
    "empty_like", "lift_fresh", "split", "unbind",
}  # fmt: skip
POOLS = ("pool", "mean", "amax", "upsample")
PRODUCTS = ("mm", "addmm", "bmm", "linear")


class _Counter(TorchDispatchMode):
    """Adds up what passes by; ``totals`` is (kinds, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = np.zeros((len(KINDS), len(WHAT)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Runs an operator and counts it."""
        name = func._schema.name.removeprefix("aten::")
        if "batch_norm" in name:  # its shapes are those that went in; torch takes a millisecond to find that out
            return args[0], args[1], args[2]
        if name in IDENTITIES:
            return args[0]
        out = func(*args, **(kwargs or {}))
        if name not in FREE and isinstance(out, (torch.Tensor, tuple)):
            first = out if isinstance(out, torch.Tensor) else out[0]
            kind, macs, padded = _cost(name, args, first)
            moved = sum(_tensors(args)) + first.numel()
            self.totals[KINDS.index(kind)] += (1, macs, padded, moved)
        return out


def _tensors(args: Sequence[Any]) -> list[int]:
    """Returns the sizes of the tensors among arguments, those in lists too."""
    flat = [item for arg in args for item in (arg if isinstance(arg, (list, tuple)) else (arg,))]
    return [item.numel() for item in flat if isinstance(item, torch.Tensor)]


def _cost(name: str, args: Sequence[Any], out: torch.Tensor) -> tuple[str, float, float]:
    """Returns the kind of an operator and its multiply-adds, as they are and with channels rounded up."""
    if "convolution" in name:
        weight, groups = args[1], args[8]
        macs = float(out.numel() * weight[0].numel())
        whole = macs * _vectors(weight.shape[0]) / weight.shape[0]
        if groups == 1:
            whole *= _vectors(weight.shape[1]) / weight.shape[1]
            return ("pointwise" if weight.shape[2:].numel() == 1 else "spatial"), macs, whole
        return ("depthwise" if groups == args[0].shape[1] else "grouped"), macs, whole
    size = float(out.numel())
    if name in PRODUCTS:
        macs = size * args[-1].shape[0]
        return "linear", macs, macs
    return ("pool" if any(part in name for part in POOLS) else "elementwise"), size, size


def _vectors(channels: int) -> int:
    """Returns ``channels`` rounded up to whole vectors."""
    return -(-channels // VECTOR) * VECTOR


@torch.no_grad()
def operator_columns(arch: Arch, scale: Scale, *, make: Callable[[Arch, Scale], nn.Module] | None = None) -> NDArray[np.float64]:
    """Returns (C,) what the network of an architecture consists of for one image, in the order of ``COLUMNS``.

    Nothing is computed: the network and its image have shapes and no content, which takes milliseconds.

    Args:
        arch: the architecture.
        scale: its size.
        make: another builder than its space's.

    Raises:
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network.
    """
    from archduel.spaces.family import build

    with torch.device("meta"):
        network = (make or build)(arch, scale).eval()
    image = torch.empty(1, scale.in_channels, scale.image_size, scale.image_size, device="meta")
    with _Counter() as counter:
        network(image)
    return counter.totals.ravel()
