"""Ways to compute many different convolutions of one shape at once, forward and backward.

Maps are (n, C, H, W, B): n networks, the batch innermost, so that neighbouring pixels are blocks of B numbers: shifts and
copies run at memory speed, a 1x1 convolution is a batched matrix product of views, and a small map's convolution is one of a
dense matrix. Which way is fastest depends on the shape; :mod:`archduel.nets.fusing.choice` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from archduel.nets.fusing.memory import Buffers

__all__ = ["WAYS", "ConvSpec", "Way", "suitable"]

Pair = tuple[int, int]
DENSE_PIXELS = 16  # a dense matrix has (pixels in) x (pixels out) numbers a pair of channels
DENSE_DEPTHWISE_PIXELS = 64


@dataclass(frozen=True)
class ConvSpec:
    """A convolution's shape: as in the attributes of a traced ``conv``, and the size of its maps."""

    c_in: int
    c_out: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    depthwise: bool
    size: Pair
    out: Pair


class Way(Protocol):
    """One way to compute a convolution."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs (n, c_out, \\*out, B) of maps x (n, c_in, \\*size, B) and weights (n, c_out, c_in, \\*kernel)."""

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients of the weights, and of the maps unless ``gx`` is None."""


def _strided(x: Tensor, stride: Pair, out: Pair) -> Tensor:
    """Returns ``out`` pixels of x, every ``stride``-th."""
    return x[:, :, : (out[0] - 1) * stride[0] + 1 : stride[0], : (out[1] - 1) * stride[1] + 1 : stride[1]]


class Point:
    """1x1: a batched product of the maps as they lie."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        n, b = x.shape[0], x.shape[-1]
        flat = self._flat(x, spec, buffers)
        torch.bmm(w.reshape(n, spec.c_out, spec.c_in), flat, out=y.view(n, spec.c_out, flat.shape[2]))
        assert y.shape[-1] == b

    def _flat(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        n, b = x.shape[0], x.shape[-1]
        if spec.stride != (1, 1):
            part = buffers.take("point", (n, spec.c_in, *spec.out, b))
            part.copy_(_strided(x, spec.stride, spec.out))
            x = part
        return x.reshape(n, spec.c_in, -1)  # (n, C, HWB)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        n, b = x.shape[0], x.shape[-1]
        gf = g.reshape(n, spec.c_out, -1)
        flat = self._flat(x, spec, buffers)
        torch.bmm(gf, flat.transpose(1, 2), out=gw.view(n, spec.c_out, spec.c_in))
        if gx is None:
            return
        wt = w.reshape(n, spec.c_out, spec.c_in).transpose(1, 2)
        if spec.stride == (1, 1):
            torch.bmm(wt, gf, out=gx.view(n, spec.c_in, -1))
            return
        gx.zero_()
        _strided(gx, spec.stride, spec.out).copy_(torch.bmm(wt, gf).view(n, spec.c_in, *spec.out, b))


class Rowwise:
    """Stride 1: maps shifted left and right stand side by side, up and down is a shift of the view: no other copies."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        self._correlate(x, w.permute(0, 3, 1, 4, 2), spec, buffers, y)  # (n, kh, Co, kw, Ci)

    def _shifted(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        """Returns (n, kw C, (H + 2 ph) W B): one copy a column of the kernel, rows of zeros above and below."""
        n, c, height, width, b = x.shape
        kw, ph, pw, d = spec.kernel[1], spec.padding[0], spec.padding[1], spec.dilation[1]
        side = buffers.framed("rows", (n, kw, c, height + 2 * ph, width, b))
        for place in range(kw):
            shift = place * d - pw
            a, z = max(0, -shift), width - max(0, shift)
            if a < z:
                side[:, place, :, ph : ph + height, a:z].copy_(x[:, :, :, a + shift : z + shift])
        return side.view(n, kw * c, -1)

    def _correlate(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> Tensor:
        n, _, height, width, b = x.shape
        c_out, pixels = w.shape[2], height * width * b
        side = self._shifted(x, spec, buffers)
        w = w.reshape(n, spec.kernel[0], c_out, -1)  # (n, kh, Co, kw Ci), a copy
        out = y.view(n, c_out, pixels)
        for row in range(spec.kernel[0]):
            start = row * spec.dilation[0] * width * b
            part = side[:, :, start : start + pixels]
            if row:
                out.baddbmm_(w[:, row], part)
            else:
                torch.bmm(w[:, row], part, out=out)
        return side

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        n, c, height, width, b = x.shape
        kh, kw = spec.kernel
        pixels = height * width * b
        if gx is None:  # the image: copies of x give the weights' gradient
            side, flat = self._shifted(x, spec, buffers), g.reshape(n, spec.c_out, pixels)
        else:  # copies of g give both
            turned = w.flip(3, 4).permute(0, 3, 2, 4, 1)  # (n, kh, Ci, kw, Co)
            side, flat = self._correlate(g, turned, spec, buffers, gx), x.reshape(n, c, pixels)
        flat = flat.transpose(1, 2)
        for row in range(kh):
            start = row * spec.dilation[0] * width * b
            found = torch.bmm(side[:, :, start : start + pixels], flat)  # (n, kw C, C')
            if gx is None:
                gw[:, :, :, row].copy_(found.view(n, kw, c, spec.c_out).permute(0, 3, 2, 1))
            else:
                gw[:, :, :, kh - 1 - row].copy_(found.view(n, kw, spec.c_out, c).flip(1).permute(0, 2, 3, 1))


class Columns:
    """Any kernel: all pixels that a window sees as one column (im2col), then a batched product."""

    def _columns(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        """Returns (n, Ci kh kw, Ho Wo B)."""
        n, c, height, width, b = x.shape
        (ph, pw), (kh, kw), (sh, sw), (dh, dw) = spec.padding, spec.kernel, spec.stride, spec.dilation
        if ph or pw:
            framed = buffers.framed("columns", (n, c, height + 2 * ph, width + 2 * pw, b))
            framed[:, :, ph : ph + height, pw : pw + width].copy_(x)
            x = framed
        s = x.stride()
        windows = x.as_strided(
            (n, c, kh, kw, *spec.out, b), (s[0], s[1], dh * s[2], dw * s[3], sh * s[2], sw * s[3], s[4])
        )
        columns = buffers.take("windows", (n, c, kh, kw, *spec.out, b))
        columns.copy_(windows)
        return columns.view(n, c * kh * kw, -1)

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        n = x.shape[0]
        torch.bmm(
            w.reshape(n, spec.c_out, -1), self._columns(x, spec, buffers), out=y.view(n, spec.c_out, -1)
        )

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        n, b = x.shape[0], x.shape[-1]
        gf = g.reshape(n, spec.c_out, -1)
        torch.bmm(gf, self._columns(x, spec, buffers).transpose(1, 2), out=gw.view(n, spec.c_out, -1))
        if gx is None:
            return
        (ph, pw), (kh, kw), (sh, sw), (dh, dw) = spec.padding, spec.kernel, spec.stride, spec.dilation
        back = buffers.take("windows", (n, spec.c_in, kh, kw, *spec.out, b))
        torch.bmm(w.reshape(n, spec.c_out, -1).transpose(1, 2), gf, out=back.view(n, spec.c_in * kh * kw, -1))
        whole = buffers.take(
            "folded", (n, spec.c_in, spec.size[0] + 2 * ph, spec.size[1] + 2 * pw, b)
        ).zero_()
        for i in range(kh):
            for j in range(kw):
                _strided(whole[:, :, i * dh :, j * dw :], (sh, sw), spec.out).add_(back[:, :, i, j])
        gx.copy_(whole[:, :, ph : ph + spec.size[0], pw : pw + spec.size[1]])


@lru_cache(256)
def _places(spec: ConvSpec, device: str) -> Tensor:
    """Returns (Co Ho Wo Ci H W) which weight joins two pixels; the number after the last weight = none."""
    (kh, kw), (height, width) = spec.kernel, spec.size
    taps = torch.full((*spec.out, height, width), -1)
    for i in range(spec.out[0]):
        for j in range(spec.out[1]):
            for a in range(kh):
                for e in range(kw):
                    row = i * spec.stride[0] - spec.padding[0] + a * spec.dilation[0]
                    column = j * spec.stride[1] - spec.padding[1] + e * spec.dilation[1]
                    if 0 <= row < height and 0 <= column < width:
                        taps[i, j, row, column] = a * kw + e
    pairs = 1 if spec.depthwise else spec.c_out * spec.c_in
    rows = 1 if spec.depthwise else spec.c_out
    base = (torch.arange(pairs) * kh * kw).view(rows, 1, 1, -1, 1, 1)
    table = torch.where(taps[None, :, :, None] < 0, pairs * kh * kw, base + taps[None, :, :, None])
    return table.flatten().to(device)


class Dense:
    """Small maps: a matrix from all pixels to all pixels; where a window mostly hangs over the border it is the least work."""

    def _matrices(self, x: Tensor, w: Tensor, spec: ConvSpec) -> tuple[Tensor, Tensor]:
        """Returns the matrices (m, D', D) and the maps (m, D, B); m = n, or n C for depthwise."""
        m = w.shape[0] * (w.shape[1] if spec.depthwise else 1)
        flat = functional.pad(w.reshape(m, -1), (0, 1))  # a zero for pixels that no weight joins
        table = _places(spec, str(x.device))
        maps = x.reshape(m, -1, x.shape[-1])
        return flat.index_select(1, table).view(m, -1, maps.shape[1]), maps

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        matrices, maps = self._matrices(x, w, spec)
        torch.bmm(matrices, maps, out=y.view(len(maps), -1, x.shape[-1]))

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        matrices, maps = self._matrices(x, w, spec)
        gf = g.reshape(len(maps), -1, x.shape[-1])
        pairs = torch.bmm(gf, maps.transpose(1, 2)).view(len(maps), -1)
        flat = pairs.new_zeros(len(maps), gw[0].numel() // (gw.shape[1] if spec.depthwise else 1) + 1)
        flat.index_add_(1, _places(spec, str(x.device)), pairs)
        gw.copy_(flat[:, :-1].reshape(gw.shape))
        if gx is not None:
            torch.bmm(matrices.transpose(1, 2), gf, out=gx.view(len(maps), -1, x.shape[-1]))


class Taps:
    """Depthwise: one multiply-add of shifted maps a weight."""

    def _framed(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        (ph, pw), (height, width) = spec.padding, spec.size
        framed = buffers.framed("taps", (*x.shape[:2], height + 2 * ph, width + 2 * pw, x.shape[-1]))
        framed[:, :, ph : ph + height, pw : pw + width].copy_(x)
        return framed

    def _windows(self, framed: Tensor, spec: ConvSpec) -> list[tuple[int, int, Tensor]]:
        return [
            (
                i,
                j,
                _strided(framed[:, :, i * spec.dilation[0] :, j * spec.dilation[1] :], spec.stride, spec.out),
            )
            for i in range(spec.kernel[0])
            for j in range(spec.kernel[1])
        ]

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        scale = w[:, :, 0, :, :, None, None, None]
        for i, j, seen in self._windows(self._framed(x, spec, buffers), spec):
            if i or j:
                y.addcmul_(seen, scale[:, :, i, j])
            else:
                torch.mul(seen, scale[:, :, 0, 0], out=y)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        product = buffers.take("product", tuple(g.shape))
        for i, j, seen in self._windows(self._framed(x, spec, buffers), spec):
            torch.mul(seen, g, out=product)
            gw[:, :, 0, i, j] = product.flatten(2).sum(2)
        if gx is None:
            return
        (ph, pw), (height, width) = spec.padding, spec.size
        whole = buffers.take("folded", (*x.shape[:2], height + 2 * ph, width + 2 * pw, x.shape[-1])).zero_()
        scale = w[:, :, 0, :, :, None, None, None]
        for i, j, seen in self._windows(whole, spec):
            seen.addcmul_(g, scale[:, :, i, j])
        gx.copy_(whole[:, :, ph : ph + height, pw : pw + width])


class Grouped:
    """The library's grouped convolution on maps turned to (B, n C, H, W) and back."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        groups = self._groups(w, spec)
        out = functional.conv2d(
            self._turned(x, "grouped x", buffers),
            w.flatten(0, 1),
            None,
            spec.stride,
            spec.padding,
            spec.dilation,
            groups,
        )
        y.flatten(0, 1).copy_(out.permute(1, 2, 3, 0))

    def _groups(self, w: Tensor, spec: ConvSpec) -> int:
        return w.shape[0] * (w.shape[1] if spec.depthwise else 1)

    def _turned(self, x: Tensor, key: str, buffers: Buffers) -> Tensor:
        """Returns (n, C, H, W, B) as (B, n C, H, W)."""
        n, c, height, width, b = x.shape
        turned = buffers.take(key, (b, n * c, height, width))
        return turned.copy_(x.flatten(0, 1).permute(3, 0, 1, 2))

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        stride, padding, dilation = list(spec.stride), list(spec.padding), list(spec.dilation)
        turned = self._turned(g, "grouped g", buffers), self._turned(x, "grouped x", buffers)
        found = torch.ops.aten.convolution_backward(
            *turned, w.flatten(0, 1), None, stride, padding, dilation, False, [0, 0], self._groups(w, spec),
            [gx is not None, True, False],
        )  # fmt: skip
        gw.copy_(found[1].view(gw.shape))
        if gx is not None:
            gx.flatten(0, 1).copy_(found[0].permute(1, 2, 3, 0))


WAYS: Mapping[str, Way] = {
    "point": Point(),
    "rows": Rowwise(),
    "columns": Columns(),
    "dense": Dense(),
    "taps": Taps(),
    "grouped": Grouped(),
}


def suitable(spec: ConvSpec) -> list[str]:
    """Returns the names of the ways that can compute ``spec``; never empty."""
    pixels = max(spec.size[0] * spec.size[1], spec.out[0] * spec.out[1])
    if spec.depthwise:
        return ["taps", "grouped"] + (["dense"] if pixels <= DENSE_DEPTHWISE_PIXELS else [])
    if spec.kernel == (1, 1) and spec.padding == (0, 0):
        return ["point"]
    ways = ["columns", "grouped"] + (["dense"] if pixels <= DENSE_PIXELS else [])
    same = all(2 * p == d * (k - 1) for p, d, k in zip(spec.padding, spec.dilation, spec.kernel))
    return ways + (["rows"] if spec.stride == (1, 1) and same else [])
