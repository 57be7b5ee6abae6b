"""Layers without weights that change the size of maps: cuts, pools."""

from __future__ import annotations

import torch
from torch import Tensor

from archduel.nets.fusing.layer import Layer

__all__ = ["Adaptive", "AvgPool", "Crop", "MaxPool", "Narrow", "Pad"]

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
    """Pools by the library, for which the batch are the channels of a channels-last map."""

    def _turned(self, x: Tensor) -> Tensor:
        """Returns (n, C, H, W, B) as (n C, B, H, W) without a copy."""
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
        return torch.mean(x.flatten(2, 3), 2, out=self._out(x).view(self.n, self.shape[0], -1)).view(
            self.n, *self.shape, -1
        )

    def backward(self, g: Tensor) -> Tensor | None:
        """Returns the gradient of the input; see :class:`Layer`."""
        if self.shape[1:] != (1, 1):
            return super().backward(g)
        pixels = self.before[1] * self.before[2]
        return self._gradient(self._x).copy_((g / pixels).expand_as(self._x))

    def _pooled(self, x: Tensor) -> Tensor:
        return aten._adaptive_avg_pool2d(x, self.shape[1:])

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        return aten._adaptive_avg_pool2d_backward(g, x)
