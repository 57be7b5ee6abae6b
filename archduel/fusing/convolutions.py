"""Ways to compute many different convolutions of one shape at once, forward and backward.

Maps are (n, C, H, W, B): n networks, the batch innermost, so that neighbouring pixels are blocks of B numbers: shifts and
copies run at memory speed, a 1x1 convolution is a batched matrix product of views, and a small map's convolution is one of a
dense matrix. Which way is fastest depends on the shape; :mod:`archduel.fusing.fastest` measures. More ways are in ``convs_small``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from archduel.fusing.memory import Buffers

__all__ = ["Columns", "ConvSpec", "Pair", "Point", "Rowwise", "Tiles", "Way", "strided"]

Pair = tuple[int, int]


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


def strided(x: Tensor, stride: Pair, out: Pair) -> Tensor:
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
            part.copy_(strided(x, spec.stride, spec.out))
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
        strided(gx, spec.stride, spec.out).copy_(torch.bmm(wt, gf).view(n, spec.c_in, *spec.out, b))


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
        for row in range(kh):
            start = row * spec.dilation[0] * width * b
            part = side[:, :, start : start + pixels].transpose(1, 2)
            found = torch.bmm(flat, part)  # (n, C', kw C); the smaller matrix first is up to twice as fast
            if gx is None:
                gw[:, :, :, row].copy_(found.view(n, spec.c_out, kw, c).transpose(2, 3))
            else:
                turned = found.view(n, c, kw, spec.c_out).flip(2)
                gw[:, :, :, kh - 1 - row].copy_(turned.permute(0, 3, 1, 2))


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
                strided(whole[:, :, i * dh :, j * dw :], (sh, sw), spec.out).add_(back[:, :, i, j])
        gx.copy_(whole[:, :, ph : ph + spec.size[0], pw : pw + spec.size[1]])


# -- 3x3 convolutions of stride 1 by Winograd's F(2, 3) along the rows: two thirds of the multiplications ---------------
#
# Two neighbouring outputs of a row of three weights need four products instead of six. Four sums of neighbouring pixels are computed
# once for all filters, the rows of the kernel are shifts of a view as in ``rows``, and two sums of the four products are the outputs.


FILTER = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""What a row of three weights becomes: the factors of the four products."""


@lru_cache(8)
def _filter(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(FILTER, dtype=dtype, device=device)


class Tiles:
    """3x3, stride 1, padding 1, maps of even width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~archduel.fusing.convolutions.Way`."""
        self._correlate(self._seen(x, buffers), w, buffers, y)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~archduel.fusing.convolutions.Way`."""
        if gx is None:  # the image
            seen, other = self._seen(x, buffers), g
        else:  # sums of the gradients give both
            seen, other = self._seen(g, buffers), x
            self._correlate(seen, w.flip(3, 4).transpose(1, 2), buffers, gx)
        for row, found in enumerate(self._weights(seen, other, buffers)):
            if gx is None:
                gw[:, :, :, row].copy_(found)
            else:  # (n, Ci, Co, 3), mirrored
                gw[:, :, :, 2 - row].copy_(found.flip(3).transpose(1, 2))

    def _seen(self, x: Tensor, buffers: Buffers) -> Tensor:
        """Returns what is multiplied: (n, 4, C, H + 2, W / 2, B), rows of zeros above and below."""
        n, c, height, width, b = x.shape
        seen = buffers.framed("tiles", (n, 4, c, height + 2, width // 2, b))
        first, second, third, fourth = seen[:, :, :, 1:-1].unbind(1)
        even, odd = x[:, :, :, 0::2], x[:, :, :, 1::2]  # a tile sees odd, even, odd, even
        torch.neg(odd[:, :, :, 0], out=first[:, :, :, 0])
        torch.sub(odd[:, :, :, :-1], odd[:, :, :, 1:], out=first[:, :, :, 1:])
        torch.add(even, odd, out=second)
        torch.sub(odd, even, out=third)
        torch.sub(even[:, :, :, :-1], even[:, :, :, 1:], out=fourth[:, :, :, :-1])
        fourth[:, :, :, -1].copy_(even[:, :, :, -1])
        return seen

    def _correlate(self, seen: Tensor, w: Tensor, buffers: Buffers, y: Tensor) -> None:
        """Writes the convolution of what ``seen`` was computed from with w (n, Co, Ci, 3, 3)."""
        n, _, c, _, half, b = seen.shape
        c_out, height = y.shape[1:3]
        factors = (w @ _filter(w.dtype, w.device).T).permute(0, 4, 3, 1, 2)  # (n, 4, kh, Co, Ci)
        factors = factors.reshape(4 * n, 3, c_out, c)
        products = buffers.take("products", (4 * n, c_out, height * half * b))
        for row in range(3):
            part = self._row(seen, row)
            if row:
                products.baddbmm_(factors[:, row], part)
            else:
                torch.bmm(factors[:, row], part, out=products)
        first, second, third, fourth = products.view(n, 4, c_out, height, half, b).unbind(1)
        left, right = y.view(n, c_out, height, half, 2, b).unbind(4)
        torch.add(first, second, out=first)
        torch.add(first, third, out=left)
        torch.sub(second, third, out=second)
        torch.sub(second, fourth, out=right)

    def _row(self, seen: Tensor, row: int) -> Tensor:
        """Returns what the kernel's row sees: (4 n, C, H W / 2 B)."""
        n, _, c, height, half, b = seen.shape
        start, size = row * half * b, (height - 2) * half * b
        return seen.view(4 * n, c, -1)[:, :, start : start + size]

    def _weights(self, seen: Tensor, other: Tensor, buffers: Buffers) -> list[Tensor]:
        """Returns, by row of the kernel, (n, C of other, C of seen, 3): sums over pixels of one times the other, shifted."""
        n, c, height, width, b = other.shape
        spread = buffers.take("products", (n, 4, c, height, width // 2, b))
        left, right = other.view(n, c, height, width // 2, 2, b).unbind(4)
        spread[:, 0].copy_(left)
        torch.add(left, right, out=spread[:, 1])
        torch.sub(left, right, out=spread[:, 2])
        torch.neg(right, out=spread[:, 3])
        flat = spread.view(4 * n, c, -1)
        found = []
        for row in range(3):
            product = torch.bmm(flat, self._row(seen, row).transpose(1, 2)).view(n, 4, c, -1)
            found.append(product.permute(0, 2, 3, 1) @ _filter(product.dtype, product.device))
        return found
