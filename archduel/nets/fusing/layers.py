"""The layers of a group on stacked maps (n, C, H, W, B), forward and backward by hand: n networks, the batch innermost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from archduel.nets.fusing.choice import fastest
from archduel.nets.fusing.convs import ConvSpec, Way
from archduel.nets.fusing.layer import Layer
from archduel.nets.fusing.layers_maps import Adaptive, AvgPool, Crop, MaxPool, Narrow, Pad

__all__ = ["LAYERS", "Conv", "Drop", "Norm", "Relu"]

aten = torch.ops.aten


class Conv(Layer):
    """A convolution or linear layer, in the way that was measured to be fastest."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        c_in, c_out, kernel, stride, padding, dilation, depthwise, bias = self.node.attrs
        self.spec = ConvSpec(
            c_in, c_out, kernel, stride, padding, dilation, depthwise, self.before[1:], self.shape[1:]
        )
        self._ask("weight", (c_out, 1 if depthwise else c_in, *kernel))
        if bias:
            self._ask("bias", (c_out,))
        self._ways: dict[int, tuple[Way, Way]] = {}

    def _plan(self, x: Tensor) -> tuple[tuple[Way, Way], ConvSpec, int]:
        """Returns how to compute and its gradients, as what, and how many: filters of one shared image are one convolution of many filters."""
        shared = len(x) < self.n
        n = 1 if shared else self.n
        spec = ConvSpec(**{**self.spec.__dict__, "c_out": self.spec.c_out * (self.n // n)})
        if x.shape[-1] not in self._ways:
            self._ways[x.shape[-1]] = fastest(spec, n, x.shape[-1], self.buffers, needs_input=not self.image)
        return self._ways[x.shape[-1]], spec, n

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        (way, _), spec, n = self._plan(x)
        self._x, y, w = x, self._out(x), self.value("weight")
        way.forward(x, w.reshape(n, -1, *w.shape[2:]), spec, self.buffers, y.view(n, -1, *y.shape[2:]))
        if "bias" in self.rows:
            y += self.value("bias")[:, :, None, None, None]
        return y

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        (_, way), spec, n = self._plan(self._x)
        w, gw = self.value("weight"), self.grad("weight")
        gx = None if self.image else self._gradient(self._x)
        shape = (n, -1, *w.shape[2:])
        way.backward(
            g.reshape(n, -1, *g.shape[2:]), self._x, w.reshape(shape), spec, self.buffers, gw.view(shape), gx
        )
        if "bias" in self.rows:
            self.grad("bias").copy_(g.sum((2, 3, 4)))
        return gx


class Norm(Layer):
    """Batch norm; each network has statistics of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.eps, self.momentum, self.affine = self.node.attrs
        size = self.n * self.shape[0]
        buffers = self.buffers
        self.mean = torch.zeros(size, device=buffers.device, dtype=buffers.dtype)
        self.var = torch.ones(size, device=buffers.device, dtype=buffers.dtype)
        self.batches = 0
        if self.affine:
            self._ask("weight", (self.shape[0],))
            self._ask("bias", (self.shape[0],))
        self._saved: tuple[Tensor, Tensor]

    def _scale(self) -> tuple[Tensor | None, Tensor | None]:
        return (self.value("weight").flatten(), self.value("bias").flatten()) if self.affine else (None, None)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x, y = x, self._out(x)
        flat, out = x.view(len(self.mean), -1), y.view(len(self.mean), -1)  # (n C, H W B)
        if training:
            mean, var = self._statistics(flat, out)
        else:
            mean, var = self.mean, self.var
        self._saved = mean, (var + self.eps).rsqrt_()
        weight, bias = self._scale()
        none = flat.new_empty(0)
        aten.native_batch_norm(  # with statistics given: the library's fastest multiply-add by rows
            flat[None],
            weight,
            bias,
            mean,
            var,
            False,
            0.0,
            self.eps,
            out=out[None],
            save_mean=none,
            save_invstd=none,
        )
        return y

    def _statistics(self, flat: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and variance (n C,) of the batch and takes them into the running ones."""
        size = flat.shape[1]
        mean = flat.mean(1)
        torch.sub(flat, mean[:, None], out=scratch)
        squares = torch.linalg.vector_norm(scratch, dim=1).square_()
        self.mean.lerp_(mean, self.momentum)
        self.var.lerp_(squares / (size - 1), self.momentum)
        self.batches += 1
        return mean, squares.div_(size)

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        size = len(self.mean)
        flat, gf = self._x.view(1, size, -1), g.reshape(1, size, -1)
        weight = self._scale()[0]
        mean, inverse = self._saved
        found = aten.native_batch_norm_backward(
            gf,
            flat,
            weight,
            self.mean,
            self.var,
            mean,
            inverse,
            True,
            self.eps,
            [True, self.affine, self.affine],
        )
        if self.affine:
            self.grad("weight").copy_(found[1].view(self.n, -1))
            self.grad("bias").copy_(found[2].view(self.n, -1))
        return found[0].view_as(self._x)


class Relu(Layer):
    """ReLU."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x = torch.clamp_min(x, 0, out=x if self.spare else self._out(x))
        return self._x

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        return aten.threshold_backward(g, self._x, 0, grad_input=self._gradient(self._x))


class Drop(Layer):
    """Drop path: whole samples, with masks that :attr:`masks` gives (network, module) -> (B,), already divided by 1 - p."""

    masks: Callable[[int, str], Tensor] | None = None
    _mask: Tensor | None = None

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x = x
        self._mask = None
        if not training or self.masks is None:
            return x
        rows = [self.masks(owner, module) for owner, module in zip(self.owners, self.modules)]
        self._mask = torch.stack(rows).to(x)[:, None, None, None]  # (n, 1, 1, 1, B)
        return torch.mul(x, self._mask, out=self._out(x))

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        return g if self._mask is None else torch.mul(g, self._mask, out=self._gradient(self._x))


LAYERS: dict[str, type[Layer]] = {
    "conv": Conv,
    "norm": Norm,
    "relu": Relu,
    "narrow": Narrow,
    "crop": Crop,
    "pad": Pad,
    "avg_pool": AvgPool,
    "max_pool": MaxPool,
    "adaptive": Adaptive,
    "drop": Drop,
}
