"""3x3 convolutions of stride 2: even and odd rows and columns apart, so that what each weight sees is one piece of memory."""

from __future__ import annotations

import torch
from torch import Tensor

from archduel.nets.fusing.convs import ConvSpec
from archduel.nets.fusing.memory import Buffers

__all__ = ["Halves"]

SEEN = ((1, 0), (0, 1), (1, 1))
"""By row of the kernel: whether it sees odd rows, and from which on, where row 0 is one of zeros."""


class Halves:
    """3x3, stride 2, padding 1, maps of even height and width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~archduel.nets.fusing.convs.Way`."""
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
        """Writes the gradients; see :class:`~archduel.nets.fusing.convs.Way`."""
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
