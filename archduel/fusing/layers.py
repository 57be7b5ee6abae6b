"""The layers of a group on stacked maps (n, C, H, W, B), forward and backward by hand: n networks, the batch innermost.

Written by hand, because autograd would keep each intermediate map and allocate each gradient anew; here the memory of one step is used
again by the next. A step runs ``forward`` of all layers, then ``backward`` of all in reverse, so that a layer may keep its input
(:attr:`Layer._x`) by reference.

In order: what every layer has, layers that change the size of maps, then those with weights or with something to remember.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from archduel.fusing.convolutions import ConvSpec, Way
from archduel.fusing.fastest import fastest
from archduel.fusing.graphs import Node, Shape
from archduel.fusing.memory import Buffers, Rows, Weights

__all__ = ["LAYERS", "Adaptive", "AvgPool", "Conv", "Crop", "Drop", "Layer", "MaxPool", "Narrow", "Norm", "Pad", "Relu"]

# -- What every layer of a group has: its members, its weights' rows, its memory ----------------------------------------


class Layer:
    """One layer of the members of a group.

    Args:
        nodes: that layer of each member.
        owners: the network of each member.
        before: shape of the input.
        weights: where the layer asks for rows.
        buffers: memory that is kept from step to step.
        key: a name that no other layer has, for its memory.
        image: whether it reads the image, whose gradient nobody needs.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        owners: list[int],
        before: Shape,
        weights: Weights,
        buffers: Buffers,
        key: str,
        image: bool,
    ) -> None:
        self.node, self.modules = nodes[0], [node.module for node in nodes]
        self.n, self.owners, self.before, self.shape = len(nodes), owners, before, nodes[0].shape
        self.weights, self.buffers, self.key, self.image = weights, buffers, key, image
        self.rows: dict[str, Rows] = {}
        # The run of the group sets these two: an output written where it will be read, or over an input that nobody needs any
        # more, is a map that is not copied.
        self.target: Tensor | None = None
        self.spare = False
        self._x: Tensor

    def _reserve(self, name: str, shape: tuple[int, ...]) -> None:
        """Reserves rows for the weights called ``name``."""
        self.rows[name] = self.weights.add(shape, self.owners, len(shape) == 1)

    def value(self, name: str) -> Tensor:
        """Returns the weights called ``name``, (n, \\*shape)."""
        return self.rows[name].of(self.weights.values)

    def grad(self, name: str) -> Tensor:
        """Returns their gradients, (n, \\*shape)."""
        return self.rows[name].of(self.weights.grads)

    def _out(self, x: Tensor) -> Tensor:
        """Returns memory for the output."""
        if self.target is not None:
            return self.target
        return self.buffers.take((self.key, "y"), (self.n, *self.shape, x.shape[-1]))

    def _gradient(self, x: Tensor) -> Tensor:
        """Returns memory for the gradient of the input."""
        # Going backwards, a gradient is read by the layer before and by none after it. Two pieces of memory therefore serve all
        # layers: one is read while the other is written.
        turn = self.buffers.turn = not self.buffers.turn
        return self.buffers.take(("gradient", turn), tuple(x.shape))

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output (n, \\*shape, B) of x (n, \\*before, B); x is not changed."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, g: Tensor) -> Tensor | None:
        """Writes the gradients of the weights and returns that of the input (None for the image); g is not changed."""
        raise TypeError(f"{type(self).__name__} has no backward")


# -- Layers without weights that change the size of maps: cuts, pools ---------------------------------------------------
#
# What a cut leaves out has no influence, so its gradient is zero; the rest is copied back to where it came from.


aten = torch.ops.aten


class Narrow(Layer):
    """The first channels."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x = x
        return x[:, : self.shape[0]].contiguous()

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        gx = self._gradient(self._x).zero_()
        gx[:, : self.shape[0]].copy_(g)
        return gx


class Crop(Layer):
    """All but the first row and column."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x = x
        return x[:, :, 1:, 1:].contiguous()

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        gx = self._gradient(self._x).zero_()
        gx[:, :, 1:, 1:].copy_(g)
        return gx


class Pad(Layer):
    """A row and a column of zeros in front."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x, y = x, self._out(x).zero_()
        y[:, :, 1:, 1:].copy_(x)
        return y

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        return self._gradient(self._x).copy_(g[:, :, 1:, 1:])


class Pool(Layer):
    """A pool that PyTorch computes."""

    def _turned(self, x: Tensor) -> Tensor:
        """Returns (n, C, H, W, B) as (n C, B, H, W) without a copy."""
        # Pools treat channels alike, so that images may stand in their place; with these innermost in memory it is a channels-last
        # map, which PyTorch's pools read as it lies.
        return x.flatten(0, 1).permute(0, 3, 1, 2)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x = x
        y = self._pooled(self._turned(x))  # (n C, B, H, W)
        return self._out(x).copy_(y.permute(0, 2, 3, 1).view(self.n, *self.shape, -1))

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        gx = self._back(self._turned(g), self._turned(self._x))
        return self._gradient(self._x).copy_(gx.permute(0, 2, 3, 1).reshape(self._x.shape))

    def _pooled(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no forward")

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no backward")


class AvgPool(Pool):
    """Average of a sliding window."""

    def _pooled(self, x: Tensor) -> Tensor:
        kernel, stride, padding, ceil, include = self.node.attrs
        return aten.avg_pool2d(x, kernel, stride, padding, ceil, include)

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        kernel, stride, padding, ceil, include = self.node.attrs
        return aten.avg_pool2d_backward(g, x, kernel, stride, padding, ceil, include, None)


class MaxPool(Pool):
    """Maximum of a sliding window."""

    # which pixel of each window was the largest: it alone gets the window's gradient
    _indices: Tensor

    def _pooled(self, x: Tensor) -> Tensor:
        kernel, stride, padding, ceil, _ = self.node.attrs
        y, self._indices = aten.max_pool2d_with_indices(x, kernel, stride, padding, [1, 1], ceil)
        return y

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        kernel, stride, padding, ceil, _ = self.node.attrs
        return aten.max_pool2d_with_indices_backward(
            g, x, kernel, stride, padding, [1, 1], ceil, self._indices
        )


class Adaptive(Pool):
    """Average of the parts of a map; of all of it for one pixel."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        if self.shape[1:] != (1, 1):
            return super().forward(x, training)
        self._x = x
        # the last pool of every network; a mean over rows that lie together needs no turned map
        return torch.mean(x.flatten(2, 3), 2, out=self._out(x).view(self.n, self.shape[0], -1)).view(
            self.n, *self.shape, -1
        )

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        if self.shape[1:] != (1, 1):
            return super().backward(g)
        # each pixel was 1 / pixels of the mean
        pixels = self.before[1] * self.before[2]
        return self._gradient(self._x).copy_((g / pixels).expand_as(self._x))

    def _pooled(self, x: Tensor) -> Tensor:
        return aten._adaptive_avg_pool2d(x, self.shape[1:])

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        return aten._adaptive_avg_pool2d_backward(g, x)


# -- Layers with weights, or with something to remember for the way back -------------------------------------------------


class Conv(Layer):
    """A convolution or linear layer, in the way that was measured to be fastest."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        c_in, c_out, kernel, stride, padding, dilation, depthwise, bias = self.node.attrs
        # a linear layer is traced as a 1x1 convolution of one pixel, so that it needs no code of its own
        self.spec = ConvSpec(
            c_in, c_out, kernel, stride, padding, dilation, depthwise, self.before[1:], self.shape[1:]
        )
        self._reserve("weight", (c_out, 1 if depthwise else c_in, *kernel))
        if bias:
            self._reserve("bias", (c_out,))
        self._ways: dict[int, tuple[Way, Way]] = {}

    def _plan(self, x: Tensor) -> tuple[tuple[Way, Way], ConvSpec, int]:
        """Returns how to compute the layer: (the ways forward and backward), the shape of the convolution, and how many there are."""
        # Where all networks read one image, their convolutions are a single one with the filters of all: the image is copied
        # for im2col and the like once, not once a network.
        shared = len(x) < self.n
        n = 1 if shared else self.n
        spec = replace(self.spec, c_out=self.spec.c_out * (self.n // n))
        # by batch size: the last batch of an epoch, or of an evaluation, may be smaller
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
        gy = g.reshape(n, -1, *g.shape[2:])
        way.backward(gy, self._x, w.reshape(shape), spec, self.buffers, gw.view(shape), gx)
        # a bias was added to every pixel of every image: its gradient is the sum over both
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
        # running statistics start as PyTorch's: mean 0, variance 1
        self.mean = torch.zeros(size, device=buffers.device, dtype=buffers.dtype)
        self.var = torch.ones(size, device=buffers.device, dtype=buffers.dtype)
        self.batches = 0
        if self.affine:
            self._reserve("weight", (self.shape[0],))
            self._reserve("bias", (self.shape[0],))
        self._saved: tuple[Tensor, Tensor]

    def _scale(self) -> tuple[Tensor | None, Tensor | None]:
        return (self.value("weight").flatten(), self.value("bias").flatten()) if self.affine else (None, None)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        self._x, y = x, self._out(x)
        # the channels of all networks are rows, one after another: (n C, H W B)
        rows, out = x.view(len(self.mean), -1), y.view(len(self.mean), -1)
        if training:
            mean, var = self._statistics(rows, out)
        else:
            mean, var = self.mean, self.var
        self._saved = mean, (var + self.eps).rsqrt_()
        weight, bias = self._scale()
        unused = rows.new_empty(0)
        # In its evaluation mode, with the statistics given: the fastest multiply-add by rows that PyTorch has. In training mode it
        # would compute the statistics itself, in more passes over the map.
        aten.native_batch_norm(
            rows[None], weight, bias, mean, var, False, 0.0, self.eps,
            out=out[None], save_mean=unused, save_invstd=unused,
        )  # fmt: skip
        return y

    def _statistics(self, rows: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and variance (n C,) of the batch and takes them into the running ones."""
        size = rows.shape[1]
        mean = rows.mean(1)
        # the mean is subtracted before squaring: a difference of large sums of squares would lose the digits of float32
        torch.sub(rows, mean[:, None], out=scratch)
        squares = torch.linalg.vector_norm(scratch, dim=1).square_()
        self.mean.lerp_(mean, self.momentum)
        # as PyTorch: the running variance is the unbiased one, the batch is normalised by the other
        self.var.lerp_(squares / (size - 1), self.momentum)
        self.batches += 1
        return mean, squares.div_(size)

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        size = len(self.mean)
        x, gy = self._x.view(1, size, -1), g.reshape(1, size, -1)
        weight = self._scale()[0]
        mean, inverse = self._saved
        # in training mode, unlike forward: the statistics are functions of x, and their part of the gradient belongs to it
        maps_grad, weight_grad, bias_grad = aten.native_batch_norm_backward(
            gy, x, weight, self.mean, self.var, mean, inverse, True, self.eps,
            [True, self.affine, self.affine],
        )  # fmt: skip
        if self.affine:
            self.grad("weight").copy_(weight_grad.view(self.n, -1))
            self.grad("bias").copy_(bias_grad.view(self.n, -1))
        return maps_grad.view_as(self._x)


class Relu(Layer):
    """ReLU, written over its input where nobody else reads that."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Returns the output; see :class:`Layer`."""
        # the output is remembered, not the input: it is above zero in the same places, and the input may be gone
        self._x = torch.clamp_min(x, 0, out=x if self.spare else self._out(x))
        return self._x

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        return aten.threshold_backward(g, self._x, 0, grad_input=self._gradient(self._x))


class Drop(Layer):
    """Drop path: an operation's output is left out for whole images, by masks that are given from outside."""

    # (network, module) -> (B,), 0 or 1 / (1 - p). The training loop draws them, network by network, from the generators that each
    # would use alone; a layer could not know them.
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
        # the output is the input times the mask, and so is the gradient
        return g if self._mask is None else torch.mul(g, self._mask, out=self._gradient(self._x))


# -- Layers by the name that the graph gives them ------------------------------------------------------------------------

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
