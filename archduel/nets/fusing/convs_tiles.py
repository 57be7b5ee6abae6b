"""3x3 convolutions of stride 1 by Winograd's F(2, 3) along the rows: two thirds of the multiplications.

Two neighbouring outputs of a row of three weights need four products instead of six. Four sums of neighbouring pixels are computed
once for all filters, the rows of the kernel are shifts of a view as in ``rows``, and two sums of the four products are the outputs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from archduel.nets.fusing.convs import ConvSpec
from archduel.nets.fusing.memory import Buffers

__all__ = ["Tiles"]

FILTER = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""What a row of three weights becomes: the factors of the four products."""


@lru_cache(8)
def _filter(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(FILTER, dtype=dtype, device=device)


class Tiles:
    """3x3, stride 1, padding 1, maps of even width."""

    def forward(self, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, y: Tensor) -> None:
        """Writes the outputs; see :class:`~archduel.nets.fusing.convs.Way`."""
        self._correlate(self._seen(x, buffers), w, buffers, y)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, spec: ConvSpec, buffers: Buffers, gw: Tensor, gx: Tensor | None
    ) -> None:
        """Writes the gradients; see :class:`~archduel.nets.fusing.convs.Way`."""
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
