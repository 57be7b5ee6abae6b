"""Which way of computing a convolution is fastest here: measured once a shape, forward and backward each by itself.

What wins depends on the shape, the number of networks, the batch and the machine (docs/fused.md says what won where), so that it is
tried rather than guessed; a measurement serves all groups of a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from archduel.fusing.convolutions import (
    Columns,
    ConvSpec,
    Point,
    Rowwise,
    Tiles,
    Way,
    bordered,
    multiply,
    windows,
)
from archduel.fusing.memory import Buffers

__all__ = ["WAYS", "Dense", "Grouped", "Halves", "InParts", "Taps", "choices", "fastest", "now", "suitable"]

# -- Ways to compute many convolutions for shapes of their own, and the list of all ways with what each can compute -----
#
# In order: stride 2, small maps as one matrix, depthwise convolutions, PyTorch's grouped convolution, the wrapper that runs a way on a
# few networks after another, and the list :data:`WAYS` with :func:`suitable`. The gradients are the sums that
# :mod:`archduel.fusing.convolutions` begins with.


# -- 3x3 convolutions of stride 2: even and odd rows and columns apart, so that each weight sees one piece of memory


# With stride 2 and padding 1, output i reads the rows 2i - 1, 2i and 2i + 1: the odd row before, the even row, the odd row. Odd and even
# rows apart, with a row of zeros in front, these are three contiguous pieces; taken from the whole map they would be every second row.
SEEN = ((1, 0), (0, 1), (1, 1))
"""By row of the kernel: whether it sees odd rows, and from which on, where row 0 is one of zeros."""


class Halves:
    """3x3, stride 2, padding 1, maps of even height and width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~.convolutions.Way`."""
        n, c_out = y.shape[:2]
        factors = w.permute(0, 3, 1, 4, 2).reshape(n, 3, c_out, -1)  # (n, kh, Co, kw Ci)
        for row, part in enumerate(self._parts(x, buffers)):
            multiply(factors[:, row], part, y.view(n, c_out, -1), add=row > 0)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~.convolutions.Way`."""
        n, c_out, c_in = w.shape[:3]
        gy = g.reshape(n, c_out, -1)
        # dw: what a weight saw, times the gradient of what it gave
        for row, part in enumerate(self._parts(x, buffers)):
            sums = torch.bmm(gy, part.transpose(1, 2))  # (n, Co, kw Ci)
            gw[:, :, :, row].copy_(sums.view(n, c_out, 3, c_in).transpose(2, 3))
        if gx is not None:
            self._spread(g, w, buffers, gx)

    def _parts(self, x: Tensor, buffers: Buffers) -> list[Tensor]:
        """Returns what each row of the kernel sees: (n, kw C, Ho Wo B)."""
        n, c, height, width, b = x.shape
        rows, columns = height // 2, width // 2
        seen = buffers.framed("halves", (n, 2, 3, c, rows + 1, columns, b))
        # (n, row even or odd, C, rows, columns, column even or odd, B)
        halves = x.view(n, c, rows, 2, columns, 2, b).permute(0, 3, 1, 2, 4, 5, 6)
        inner = seen[:, :, :, :, 1:]
        # the kernel's columns see, like its rows, the odd one before, the even one and the odd one
        inner[:, :, 0, :, :, 1:].copy_(halves[:, :, :, :, :-1, 1])
        inner[:, :, 1].copy_(halves[:, :, :, :, :, 0])
        inner[:, :, 2].copy_(halves[:, :, :, :, :, 1])
        by_row, line = seen.view(n, 2, 3 * c, -1), columns * b
        return [by_row[:, odd, :, start * line : (start + rows) * line] for odd, start in SEEN]

    def _spread(self, g: Tensor, w: Tensor, buffers: Buffers, gx: Tensor) -> None:
        """Writes the gradient of the maps."""
        # Along each axis an even pixel 2i was seen by the middle weight of output i alone; an odd one, 2i + 1, by the last weight of
        # output i and by the first of output i + 1. So columns need g and g shifted by one, and rows a second product for odd ones.
        n, c_out, rows, columns, b = g.shape
        c_in = gx.shape[1]
        seen = buffers.framed("halves of g", (n, 2, c_out, rows + 1, columns, b))  # a row of zeros below
        seen[:, 0, :, :-1].copy_(g)
        seen[:, 1, :, :-1, :-1].copy_(g[:, :, :, 1:])
        turned = w.permute(0, 3, 4, 2, 1)  # (n, kh, kw, Ci, Co)
        # (n, row of the kernel, column even or odd, Ci, output here or next, Co): 1 of the 4 places is no weight and stays zero
        factors = w.new_zeros(n, 3, 2, c_in, 2, c_out)
        factors[:, :, 0, :, 0] = turned[:, :, 1]
        factors[:, :, 1, :, 0] = turned[:, :, 2]
        factors[:, :, 1, :, 1] = turned[:, :, 0]
        factors = factors.view(n, 3, 2 * c_in, 2 * c_out)
        size, by_output = rows * columns * b, seen.view(n, 2 * c_out, -1)
        here, below = by_output[:, :, :size], by_output[:, :, columns * b :]
        product = buffers.take("products", (n, 2 * c_in, size))
        # (row even or odd, n, column even or odd, Ci, rows, columns, B)
        into = gx.view(n, c_in, rows, 2, columns, 2, b).permute(3, 0, 5, 1, 2, 4, 6)
        torch.bmm(factors[:, 1], here, out=product)
        into[0].copy_(product.view(into[0].shape))
        torch.bmm(factors[:, 2], here, out=product)
        product.baddbmm_(factors[:, 0], below)
        into[1].copy_(product.view(into[1].shape))


# -- Small maps: one matrix from all pixels to all pixels ----------------------------------------------------------------


# A dense matrix has (pixels in) x (pixels out) numbers a pair of channels: 256 for maps of 4 x 4, where a 3x3 kernel has 9 weights. What
# is larger is not even measured. Depthwise ones have one channel a matrix, so that maps of 8 x 8 are worth a try.
DENSE_PIXELS = 16
DENSE_DEPTHWISE_PIXELS = 64


# the table is made by loops over pixels and weights, and depends on the shape alone
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
        weights = functional.pad(w.reshape(m, -1), (0, 1))  # a zero for pixels that no weight joins
        table = _places(spec, str(x.device))
        maps = x.reshape(m, -1, x.shape[-1])
        return weights.index_select(1, table).view(m, -1, maps.shape[1]), maps

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        matrices, maps = self._matrices(x, w, spec)
        torch.bmm(matrices, maps, out=y.view(len(maps), -1, x.shape[-1]))

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        matrices, maps = self._matrices(x, w, spec)
        gy = g.reshape(len(maps), -1, x.shape[-1])
        # The gradient of each entry of the matrix, then added up by the weight that the entry was copied from; entries that no weight
        # joins add to one more place at the end, which is thrown away.
        pairs = torch.bmm(gy, maps.transpose(1, 2)).view(len(maps), -1)
        sums = pairs.new_zeros(len(maps), gw[0].numel() // (gw.shape[1] if spec.depthwise else 1) + 1)
        sums.index_add_(1, _places(spec, str(x.device)), pairs)
        gw.copy_(sums[:, :-1].reshape(gw.shape))
        if gx is not None:
            torch.bmm(matrices.transpose(1, 2), gy, out=gx.view(len(maps), -1, x.shape[-1]))


# -- Depthwise convolutions: nothing is summed over channels, so a weight is one multiply-add of shifted maps -----------


class Taps:
    """Depthwise: one multiply-add of shifted maps a weight."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`Way`."""
        scale = w[:, :, 0, :, :, None, None, None]
        product = buffers.take("product", tuple(y.shape))
        for i, j, seen in windows(bordered(x, spec, "taps", buffers), spec):
            if i or j:
                # addcmul is slow with a scale a map
                y += torch.mul(seen, scale[:, :, i, j], out=product)
            else:
                torch.mul(seen, scale[:, :, 0, 0], out=y)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`Way`."""
        product = buffers.take("product", tuple(g.shape))
        # a weight multiplied one shifted map: its gradient is the sum of that map times g
        for i, j, seen in windows(bordered(x, spec, "taps", buffers), spec):
            torch.mul(seen, g, out=product)
            gw[:, :, 0, i, j] = product.flatten(2).sum(2)
        if gx is None:
            return
        (ph, pw), (height, width) = spec.padding, spec.size
        # each weight gives its share of g back to the pixels that it saw; what falls on the border is cut off
        whole = buffers.take("folded", (*x.shape[:2], height + 2 * ph, width + 2 * pw, x.shape[-1])).zero_()
        scale = w[:, :, 0, :, :, None, None, None]
        for i, j, seen in windows(whole, spec):
            seen += torch.mul(g, scale[:, :, i, j], out=product)
        gx.copy_(whole[:, :, ph : ph + height, pw : pw + width])


# -- PyTorch's own convolution, for the shapes where two transposes cost less than what it gains ------------------------


class Grouped:
    """PyTorch's grouped convolution on maps turned to (B, n C, H, W) and back."""

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
        # the flags at the end: gradients of the maps, of the weights, of a bias (which Conv adds itself)
        maps_grad, weights_grad, _ = torch.ops.aten.convolution_backward(
            *turned, w.flatten(0, 1), None, stride, padding, dilation, False, [0, 0], self._groups(w, spec),
            [gx is not None, True, False],
        )  # fmt: skip
        gw.copy_(weights_grad.view(gw.shape))
        if gx is not None:
            gx.flatten(0, 1).copy_(maps_grad.permute(1, 2, 3, 0))


# -- The ways by name, those that copy maps a few networks at a time, and which can compute what ------------------------


# Copies of 1 to 6 MiB were read back fastest, those of all networks slower by a quarter: a copy is worth its time while it is still
# in the cache when it is multiplied.
CACHE_BYTES = 3 << 20


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
        # on an accelerator each call costs, and CACHE_BYTES was measured on a CPU: all at once
        width = n if x.is_cuda else max(1, CACHE_BYTES // size)
        return [slice(start, start + width) for start in range(0, n, width)]

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~.convolutions.Way`."""
        for part in self._parts(x, spec):
            self.way.forward(x[part], w[part], spec, buffers, y[part])

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~.convolutions.Way`."""
        for part in self._parts(x, spec):
            into = None if gx is None else gx[part]
            self.way.backward(g[part], x[part], w[part], spec, buffers, gw[part], into)


WAYS: Mapping[str, Way] = {
    "point": Point(),
    # the numbers that a way copies for an image and a network: kernel columns x channels x padded map for "rows", and so on
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
    # What is not suitable is not measured: some ways cannot compute a shape at all (rows: stride 1 only), others are
    # not worth the seconds (1x1 is a product of views without a copy, dense matrices of large maps fill the memory).
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


# The shortest of a few times is the one that others disturbed least; one more goes first and is thrown away, as it finds memory to
# allocate and caches cold.
REPEATS = 3

# The clock of processor time ticks 64 times a second on some systems, which is too coarse for a pass.
FINE = time.get_clock_info("process_time").resolution <= 1e-6

_measured: dict[tuple[object, ...], tuple[str, str]] = {}


def choices() -> dict[tuple[object, ...], tuple[str, str]]:
    """Returns what was measured so far in this process.

    Returns:
        (shape, networks, batch, threads, device, type, whether maps need a gradient) -> the ways forward and backward.
    """
    return dict(_measured)


def fastest(spec: ConvSpec, n: int, batch: int, buffers: Buffers, *, needs_input: bool) -> tuple[Way, Way]:
    """Returns the fastest way to compute ``n`` convolutions like ``spec``, and the fastest to compute their gradients.

    Numbers of networks and batch sizes are taken in powers of two, so that few are measured.

    Args:
        n: networks at once.
        batch: images.
        buffers: gives device and type.
        needs_input: whether the gradient of the maps is needed (not for the image).
    """
    names = suitable(spec)
    if len(names) == 1:
        return WAYS[names[0]], WAYS[names[0]]
    n, batch = 1 << (n - 1).bit_length(), 1 << (batch - 1).bit_length()
    device, dtype = buffers.device, buffers.dtype
    key = (spec, n, batch, torch.get_num_threads(), str(device), dtype, needs_input)
    if key not in _measured:
        # memory of its own, so that what is tried here does not stay with the networks
        scratch = Buffers(device, dtype)
        seconds = {name: _seconds(WAYS[name], spec, n, batch, scratch, needs_input) for name in names}
        forward, backward = (min(names, key=lambda name: seconds[name][part]) for part in (0, 1))
        _measured[key] = forward, backward
    forward, backward = _measured[key]
    return WAYS[forward], WAYS[backward]


def _seconds(
    way: Way, spec: ConvSpec, n: int, batch: int, buffers: Buffers, needs_input: bool
) -> tuple[float, float]:
    """Returns the shortest of a few times of a pass forward and of one backward."""
    # numbers of a usual size, not whatever the memory holds: denormal numbers are multiplied far more slowly on CPUs
    x = buffers.take("x", (n, spec.c_in, *spec.size, batch)).normal_(generator=_generator(buffers))
    y = buffers.take("y", (n, spec.c_out, *spec.out, batch))
    w = buffers.take("w", (n, spec.c_out, 1 if spec.depthwise else spec.c_in, *spec.kernel)).normal_(
        generator=_generator(buffers)
    )
    gw, gx = torch.empty_like(w), torch.empty_like(x) if needs_input else None
    times = []
    for _ in range(1 + REPEATS):
        marks = [now(buffers.device)]
        way.forward(x, w, spec, buffers, y)
        marks.append(now(buffers.device))
        way.backward(y, x, w, spec, buffers, gw, gx)
        marks.append(now(buffers.device))
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    return min(forward for forward, _ in times), min(backward for _, backward in times)


def _generator(buffers: Buffers) -> torch.Generator:
    return torch.Generator(buffers.device).manual_seed(0)


def now(device: torch.device) -> float:
    """Returns the seconds of a clock, once all that was asked of ``device`` is done.

    One thread of a CPU is measured by the processor time of this process, which others on a busy machine do not change.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (
        time.process_time()
        if FINE and device.type == "cpu" and torch.get_num_threads() == 1
        else time.perf_counter()
    )
