"""More ways to compute many convolutions at once: dense matrices for small maps, depthwise ones, the library's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from archduel.fusing.convolutions import Columns, ConvSpec, Point, Rowwise, Tiles, Way, strided
from archduel.fusing.memory import Buffers

__all__ = ["WAYS", "Dense", "Grouped", "Halves", "InParts", "Taps", "suitable"]

# -- 3x3 convolutions of stride 2: even and odd rows and columns apart, so that what each weight sees is one piece of memory 


SEEN = ((1, 0), (0, 1), (1, 1))
"""By row of the kernel: whether it sees odd rows, and from which on, where row 0 is one of zeros."""


class Halves:
    """3x3, stride 2, padding 1, maps of even height and width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~archduel.fusing.convolutions.Way`."""
        n, c_out = y.shape[:2]
        factors = w.permute(0, 3, 1, 4, 2).reshape(n, 3, c_out, -1)  # (n, kh, Co, kw Ci)
        out = y.view(n, c_out, -1)
        for row, part in enumerate(self._parts(x, buffers)):
            if row:
                out.baddbmm_(factors[:, row], part)
            else:
                torch.bmm(factors[:, row], part, out=out)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~archduel.fusing.convolutions.Way`."""
        n, c_out, c_in = w.shape[:3]
        flat = g.reshape(n, c_out, -1)
        for row, part in enumerate(self._parts(x, buffers)):
            found = torch.bmm(flat, part.transpose(1, 2))  # (n, Co, kw Ci)
            gw[:, :, :, row].copy_(found.view(n, c_out, 3, c_in).transpose(2, 3))
        if gx is not None:
            self._spread(g, w, buffers, gx)

    def _parts(self, x: Tensor, buffers: Buffers) -> list[Tensor]:
        """Returns what each row of the kernel sees: (n, kw C, Ho Wo B)."""
        n, c, height, width, b = x.shape
        rows, columns = height // 2, width // 2
        seen = buffers.framed("halves", (n, 2, 3, c, rows + 1, columns, b))
        halves = x.view(n, c, rows, 2, columns, 2, b).permute(
            0, 3, 1, 2, 4, 5, 6
        )  # (n, 2, C, rows, columns, 2, B)
        inner = seen[:, :, :, :, 1:]
        inner[:, :, 0, :, :, 1:].copy_(halves[:, :, :, :, :-1, 1])  # the odd column before
        inner[:, :, 1].copy_(halves[:, :, :, :, :, 0])
        inner[:, :, 2].copy_(halves[:, :, :, :, :, 1])
        flat, line = seen.view(n, 2, 3 * c, -1), columns * b
        return [flat[:, odd, :, start * line : (start + rows) * line] for odd, start in SEEN]

    def _spread(self, g: Tensor, w: Tensor, buffers: Buffers, gx: Tensor) -> None:
        """Writes the gradient of the maps: an even pixel was seen by the middle weight, an odd one by the others of two outputs."""
        n, c_out, rows, columns, b = g.shape
        c_in = gx.shape[1]
        seen = buffers.framed("halves of g", (n, 2, c_out, rows + 1, columns, b))  # a row of zeros below
        seen[:, 0, :, :-1].copy_(g)
        seen[:, 1, :, :-1, :-1].copy_(g[:, :, :, 1:])
        turned = w.permute(0, 3, 4, 2, 1)  # (n, kh, kw, Ci, Co)
        factors = w.new_zeros(
            n, 3, 2, c_in, 2, c_out
        )  # kernel's row, column even or odd, Ci, output here or next, Co
        factors[:, :, 0, :, 0] = turned[:, :, 1]
        factors[:, :, 1, :, 0] = turned[:, :, 2]
        factors[:, :, 1, :, 1] = turned[:, :, 0]
        factors = factors.view(n, 3, 2 * c_in, 2 * c_out)
        size, flat = rows * columns * b, seen.view(n, 2 * c_out, -1)
        here, below = flat[:, :, :size], flat[:, :, columns * b :]
        product = buffers.take("products", (n, 2 * c_in, size))
        into = gx.view(n, c_in, rows, 2, columns, 2, b).permute(
            3, 0, 5, 1, 2, 4, 6
        )  # (2, n, 2, Ci, rows, columns, B)
        torch.bmm(factors[:, 1], here, out=product)
        into[0].copy_(product.view(into[0].shape))
        torch.bmm(factors[:, 2], here, out=product)
        product.baddbmm_(factors[:, 0], below)
        into[1].copy_(product.view(into[1].shape))


DENSE_PIXELS = 16  # a dense matrix has (pixels in) x (pixels out) numbers a pair of channels
DENSE_DEPTHWISE_PIXELS = 64
CACHE_BYTES = (
    3 << 20
)  # copies of 1 to 6 MiB were read back fastest, those of all networks slower by a quarter


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
                strided(framed[:, :, i * spec.dilation[0] :, j * spec.dilation[1] :], spec.stride, spec.out),
            )
            for i in range(spec.kernel[0])
            for j in range(spec.kernel[1])
        ]

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        scale = w[:, :, 0, :, :, None, None, None]
        product = buffers.take("product", tuple(y.shape))
        for i, j, seen in self._windows(self._framed(x, spec, buffers), spec):
            if i or j:
                y += torch.mul(seen, scale[:, :, i, j], out=product)  # addcmul is slow with a scale a map
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
            seen += torch.mul(g, scale[:, :, i, j], out=product)
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


class InParts:
    """A way that copies maps, for a few networks after another, so that the copies are still in the cache when they are used.

    Args:
        way: what computes.
        copied: spec -> numbers of a copy an image and network.
    """

    def __init__(self, way: Way, copied: Callable[[ConvSpec], int]) -> None:
        self.way, self.copied = way, copied

    def _parts(self, x: Tensor, spec: ConvSpec) -> list[slice]:
        n, size = len(x), self.copied(spec) * x.shape[-1] * x.element_size()
        width = n if x.is_cuda else max(1, CACHE_BYTES // size)
        return [slice(start, start + width) for start in range(0, n, width)]

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~archduel.fusing.convolutions.Way`."""
        for part in self._parts(x, spec):
            self.way.forward(x[part], w[part], spec, buffers, y[part])

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~archduel.fusing.convolutions.Way`."""
        for part in self._parts(x, spec):
            into = None if gx is None else gx[part]
            self.way.backward(g[part], x[part], w[part], spec, buffers, gw[part], into)


WAYS: Mapping[str, Way] = {
    "point": Point(),
    "rows": InParts(Rowwise(), lambda s: s.kernel[1] * s.c_in * (s.size[0] + 2 * s.padding[0]) * s.size[1]),
    "columns": InParts(Columns(), lambda s: s.kernel[0] * s.kernel[1] * s.c_in * s.out[0] * s.out[1]),
    "halves": InParts(Halves(), lambda s: 3 * s.c_in * (s.size[0] + 2) * s.size[1] // 2),
    "tiles": InParts(Tiles(), lambda s: 2 * (s.c_in * (s.size[0] + 2) + s.c_out * s.size[0]) * s.size[1]),
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
    plain = spec.kernel == (3, 3) and spec.dilation == (1, 1) and spec.padding == (1, 1)
    even = [size % 2 == 0 for size in spec.size]
    if spec.stride == (1, 1) and same:
        ways += ["rows", "tiles"] if plain and even[1] else ["rows"]
    elif spec.stride == (2, 2) and plain and all(even):
        ways.append("halves")
    return ways
