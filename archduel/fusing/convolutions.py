"""Ways to compute many different convolutions of one shape at once, forward and backward.

Maps are (n, C, H, W, B): n networks, the batch innermost, so that neighbouring pixels are blocks of B numbers: shifts and
copies run at memory speed, a 1x1 convolution is a batched matrix product of views, and a small map's convolution is one of a
dense matrix. Which way is fastest depends on the shape; :mod:`archduel.fusing.fastest` measures.

In order: what a way is, what ways share (windows, zero borders, products that add up), then 1x1 convolutions, rows shifted side by
side, im2col, and Winograd. :mod:`archduel.fusing.fastest` holds the others and the list of all.

Every gradient here is the same pair of sums. With y[o, p] = sum over c, t of w[o, c, t] x[c, p + t] for outputs o, inputs c, pixels p
and places t of the kernel: dw[o, c, t] is the sum over p of dy[o, p] x[c, p + t], and dx[c, q] the sum over o, t of w[o, c, t] dy[o, q - t],
which is a convolution of dy with the kernel mirrored and its channels swapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from archduel.fusing.memory import Buffers

__all__ = ["Columns", "ConvSpec", "Pair", "Point", "Rowwise", "Tiles", "Way", "bordered", "multiply", "strided", "windows"]

# -- What a way is, and what several share: windows, borders of zeros, products that add up -----------------------------

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


def bordered(x: Tensor, spec: ConvSpec, key: str, buffers: Buffers) -> Tensor:
    """Returns x (n, C, H, W, B) with the padding of ``spec`` around it."""
    (ph, pw), (height, width) = spec.padding, x.shape[2:4]
    # Padding is part of the key: 8 x 8 padded by 2 and 4 x 4 padded by 4 have one shape, but not one border, and the larger map
    # would leave its pixels where the smaller one needs zeros.
    whole = buffers.framed((key, spec.padding), (*x.shape[:2], height + 2 * ph, width + 2 * pw, x.shape[-1]))
    whole[:, :, ph : ph + height, pw : pw + width].copy_(x)
    return whole


def windows(whole: Tensor, spec: ConvSpec) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (row, column of the kernel, the pixels that its weight sees), views of a padded map."""
    for i in range(spec.kernel[0]):
        for j in range(spec.kernel[1]):
            shifted = whole[:, :, i * spec.dilation[0] :, j * spec.dilation[1] :]
            yield i, j, strided(shifted, spec.stride, spec.out)


def multiply(first: Tensor, second: Tensor, out: Tensor, *, add: bool) -> None:
    """Writes the batched product of two stacks of matrices to ``out``, or adds it to what is there."""
    # the first product of a sum overwrites: memory is kept from step to step, and nobody sets it to zero
    if add:
        out.baddbmm_(first, second)
    else:
        torch.bmm(first, second, out=out)


# -- 1x1 convolutions: a product of the maps as they lie ----------------------------------------------------------------

class Point:
    """1x1: a batched product of the maps as they lie."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        n = x.shape[0]
        seen = self._seen(x, spec, buffers)
        torch.bmm(w.reshape(n, spec.c_out, spec.c_in), seen, out=y.view(n, spec.c_out, seen.shape[2]))

    def _seen(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        """Returns the pixels that the stride leaves, (n, C, Ho Wo B)."""
        n, b = x.shape[0], x.shape[-1]
        if spec.stride != (1, 1):
            part = buffers.take("point", (n, spec.c_in, *spec.out, b))
            part.copy_(strided(x, spec.stride, spec.out))
            x = part
        return x.reshape(n, spec.c_in, -1)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        n, b = x.shape[0], x.shape[-1]
        gy = g.reshape(n, spec.c_out, -1)
        # y = w x for each network: dw = dy x^T and dx = w^T dy
        torch.bmm(gy, self._seen(x, spec, buffers).transpose(1, 2), out=gw.view(n, spec.c_out, spec.c_in))
        if gx is None:
            return
        wt = w.reshape(n, spec.c_out, spec.c_in).transpose(1, 2)
        if spec.stride == (1, 1):
            torch.bmm(wt, gy, out=gx.view(n, spec.c_in, -1))
            return
        # pixels between the strides were read by nobody: their gradient is zero
        gx.zero_()
        strided(gx, spec.stride, spec.out).copy_(torch.bmm(wt, gy).view(n, spec.c_in, *spec.out, b))


# -- Stride 1, any kernel: one copy a column of the kernel, its rows are shifts of a view ------------------------------


class Rowwise:
    """Stride 1: maps shifted left and right stand side by side, up and down is a shift of the view: no other copies."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        self._correlate(x, w.permute(0, 3, 1, 4, 2), spec, buffers, y)  # (n, kh, Co, kw, Ci)

    def _shifted(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        """Returns (n, kw C, (H + 2 ph) W B): one copy a column of the kernel, rows of zeros above and below."""
        n, c, height, width, b = x.shape
        kw, ph, pw, d = spec.kernel[1], spec.padding[0], spec.padding[1], spec.dilation[1]
        # a shift leaves the same columns zero in every step, so that they are written once, when the memory is made
        side = buffers.framed(("rows", pw, d), (n, kw, c, height + 2 * ph, width, b))
        for place in range(kw):
            shift = place * d - pw
            start, stop = max(0, -shift), width - max(0, shift)
            # a dilated kernel wider than the map has columns that see zeros only
            if start < stop:
                side[:, place, :, ph : ph + height, start:stop].copy_(x[:, :, :, start + shift : stop + shift])
        return side.view(n, kw * c, -1)

    def _correlate(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> Tensor:
        """Writes the convolution of x with w (n, kh, Co, kw, Ci) and returns the copies of x, which the gradient of w needs too."""
        n, _, height, width, b = x.shape
        c_out, pixels = w.shape[2], height * width * b
        side = self._shifted(x, spec, buffers)
        w = w.reshape(n, spec.kernel[0], c_out, -1)  # (n, kh, Co, kw Ci), a copy
        for row in range(spec.kernel[0]):
            # the rows above and below are zeros of the same memory: a shift down is a later start, not another copy
            start = row * spec.dilation[0] * width * b
            multiply(w[:, row], side[:, :, start : start + pixels], y.view(n, c_out, pixels), add=row > 0)
        return side

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        n, c, height, width, b = x.shape
        kh, kw = spec.kernel
        pixels = height * width * b
        # dw is a sum of products of shifted x with g, or just as well of x with g shifted the other way. The gradient of the maps
        # needs the copies of g anyway, so that they serve both; the image needs no gradient, and its copies are fewer (1 to 3 channels).
        if gx is None:
            side, other = self._shifted(x, spec, buffers), g.reshape(n, spec.c_out, pixels)
        else:
            mirrored = w.flip(3, 4).permute(0, 3, 2, 4, 1)  # (n, kh, Ci, kw, Co)
            side, other = self._correlate(g, mirrored, spec, buffers, gx), x.reshape(n, c, pixels)
        for row in range(kh):
            start = row * spec.dilation[0] * width * b
            part = side[:, :, start : start + pixels].transpose(1, 2)
            # the smaller matrix first is up to twice as fast
            sums = torch.bmm(other, part)  # (n, C of other, kw C of side)
            if gx is None:
                gw[:, :, :, row].copy_(sums.view(n, spec.c_out, kw, c).transpose(2, 3))
            else:
                # g was shifted, not x: row and column of the kernel come out mirrored
                gw[:, :, :, kh - 1 - row].copy_(sums.view(n, c, kw, spec.c_out).flip(2).permute(0, 3, 1, 2))


# -- Any kernel and stride: im2col ---------------------------------------------------------------------------------------


class Columns:
    """Any kernel: all pixels that a window sees as one column (im2col), then a batched product."""

    def _columns(self, x: Tensor, spec: ConvSpec, buffers: Buffers) -> Tensor:
        """Returns (n, Ci kh kw, Ho Wo B)."""
        n, c, *_, b = x.shape
        (kh, kw), (sh, sw), (dh, dw) = spec.kernel, spec.stride, spec.dilation
        if any(spec.padding):
            x = bordered(x, spec, "columns", buffers)
        # one strided view of all windows makes the copy a single call instead of one a weight
        s = x.stride()
        seen = x.as_strided(
            (n, c, kh, kw, *spec.out, b), (s[0], s[1], dh * s[2], dw * s[3], sh * s[2], sw * s[3], s[4])
        )
        columns = buffers.take("windows", (n, c, kh, kw, *spec.out, b))
        columns.copy_(seen)
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
        gy = g.reshape(n, spec.c_out, -1)
        torch.bmm(gy, self._columns(x, spec, buffers).transpose(1, 2), out=gw.view(n, spec.c_out, -1))
        if gx is None:
            return
        (ph, pw), (kh, kw) = spec.padding, spec.kernel
        # the columns of x were read for dw by now: their memory takes the gradient of the columns
        back = buffers.take("windows", (n, spec.c_in, kh, kw, *spec.out, b))
        torch.bmm(w.reshape(n, spec.c_out, -1).transpose(1, 2), gy, out=back.view(n, spec.c_in * kh * kw, -1))
        # a pixel stands in up to kh kw columns, and its gradient is the sum of theirs (col2im)
        whole = buffers.take("folded", (n, spec.c_in, spec.size[0] + 2 * ph, spec.size[1] + 2 * pw, b)).zero_()
        for i, j, seen in windows(whole, spec):
            seen.add_(back[:, :, i, j])
        gx.copy_(whole[:, :, ph : ph + spec.size[0], pw : pw + spec.size[1]])


# -- 3x3 convolutions of stride 1 by Winograd's F(2, 3) along the rows: two thirds of the multiplications ---------------
#
# Two neighbouring outputs of a row of three weights need four products instead of six. Four sums of neighbouring pixels are computed
# once for all filters, the rows of the kernel are shifts of a view as in ``rows``, and two sums of the four products are the outputs.
# For pixels d0..d3 and weights g0..g2: m1 = (d0 - d2) g0, m2 = (d1 + d2) (g0 + g1 + g2) / 2, m3 = (d2 - d1) (g0 - g1 + g2) / 2 and
# m4 = (d1 - d3) g2; the outputs are m1 + m2 + m3 and m2 - m3 - m4. Pixels are summed along rows only, so that the rows of the
# kernel stay views: F(2 x 2, 3 x 3) would spare more multiplications, but needs sums across rows.
#
# Source: Lavin, Gray: "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.


FILTER = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""What a row of three weights becomes: the factors of the four products."""


# made once: from Python numbers in every step, it would be a copy to the device each time
@lru_cache(8)
def _filter(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(FILTER, dtype=dtype, device=device)


class Tiles:
    """3x3, stride 1, padding 1, maps of even width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        self._correlate(self._seen(x, buffers), w, buffers, y)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        # as in ``rows``: the sums of g that give dx also give dw, mirrored; without dx, those of x are fewer
        if gx is None:
            seen, other = self._seen(x, buffers), g
        else:
            seen, other = self._seen(g, buffers), x
            self._correlate(seen, w.flip(3, 4).transpose(1, 2), buffers, gx)
        for row, sums in enumerate(self._weights(seen, other, buffers)):
            if gx is None:
                gw[:, :, :, row].copy_(sums)
            else:  # (n, Ci, Co, 3)
                gw[:, :, :, 2 - row].copy_(sums.flip(3).transpose(1, 2))

    def _seen(self, x: Tensor, buffers: Buffers) -> Tensor:
        """Returns what is multiplied: (n, 4, C, H + 2, W / 2, B), rows of zeros above and below."""
        n, c, height, width, b = x.shape
        seen = buffers.framed("tiles", (n, 4, c, height + 2, width // 2, b))
        first, second, third, fourth = seen[:, :, :, 1:-1].unbind(1)
        # A tile of two outputs 2i, 2i + 1 sees the pixels 2i - 1 .. 2i + 2: odd, even, odd, even. Pixels before the first and behind
        # the last are zeros, which leaves one term of a sum at either end.
        even, odd = x[:, :, :, 0::2], x[:, :, :, 1::2]
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
            multiply(factors[:, row], self._row(seen, row), products, add=row > 0)
        # The kernel's rows were added up before the sums of the outputs: these are linear, and so made once instead of three times.
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
        # The transposes of the steps forward, backwards: what an output gave to each of the four products, then the products with the
        # sums of pixels, then FILTER from the other side. Still four products for six.
        spread = buffers.take("products", (n, 4, c, height, width // 2, b))
        left, right = other.view(n, c, height, width // 2, 2, b).unbind(4)
        spread[:, 0].copy_(left)
        torch.add(left, right, out=spread[:, 1])
        torch.sub(left, right, out=spread[:, 2])
        torch.neg(right, out=spread[:, 3])
        sums = []
        for row in range(3):
            product = torch.bmm(spread.view(4 * n, c, -1), self._row(seen, row).transpose(1, 2)).view(n, 4, c, -1)
            sums.append(product.permute(0, 2, 3, 1) @ _filter(product.dtype, product.device))
        return sums
