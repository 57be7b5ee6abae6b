"""The size space of NATS-Bench (Dong et al., TPAMI 2021): one good cell, five widths out of 8, 16, ..., 64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Decision, Scale, check_decisions
from archduel.errors import InvalidArchError
from archduel.spaces.counting import _reduction, conv_bn, halved, stem, tail, total
from archduel.spaces.nasbench201.function import EDGES, OPS

__all__ = ["CELL", "WIDTHS", "NATSBenchSSS", "count_natsbench_sss", "sss_widths"]

NAME = "natsbench_sss"
WIDTHS = tuple(range(8, 72, 8))
CELL = tuple(OPS.index(f"{op}") for op in ("nor_conv_3x3",) * 3 + ("skip_connect",) + ("nor_conv_3x3",) * 2)
"""The fixed cell, as choices of ``nasbench201``."""


class NATSBenchSSS:
    """All 32,768 widths; the five choices are 0..7 for 8..64 channels of stem and cell 1, block 1, cell 2, block 2, cell 3."""

    name = NAME
    kinds: Mapping[str, int] = {"width": len(WIDTHS)}
    size = len(WIDTHS) ** 5

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next width, or None after five."""
        if len(prefix) >= 5:
            return None
        return Decision(f"width{len(prefix) + 1}", "width", tuple(range(len(WIDTHS))))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` has five choices 0..7."""
        check_decisions(self, arch)

    def widths(self, arch: Arch) -> tuple[int, ...]:
        """Returns the five widths in channels."""
        self.validate(arch)
        return tuple(WIDTHS[choice] for choice in arch.choices)

    def read(self, text: str) -> Arch:
        """Returns the architecture of ``8:16:24:32:40``.

        Raises:
            InvalidArchError: with the offending width.
        """
        parts = text.strip().split(":")
        if len(parts) != 5:
            raise InvalidArchError(f"{text!r} has {len(parts)} widths, expected 5 such as 8:16:24:32:40")
        for part in parts:
            if not part.isascii() or not part.isdigit() or int(part) not in WIDTHS:
                raise InvalidArchError(
                    f"width {part!r} in {text!r} is not one of {', '.join(map(str, WIDTHS))}"
                )
        return Arch(NAME, tuple(WIDTHS.index(int(part)) for part in parts))

    def write(self, arch: Arch) -> str:
        """Returns the benchmark's text of ``arch``."""
        return ":".join(map(str, self.widths(arch)))

    def index(self, arch: Arch) -> int:
        """Returns the benchmark's index, 0..32767: the last width counts fastest."""
        self.validate(arch)
        return int(np.ravel_multi_index(arch.choices, (len(WIDTHS),) * 5))

    def at(self, index: int) -> Arch:
        """Returns the architecture with the benchmark's ``index``.

        Raises:
            InvalidArchError: unless 0 <= index <= 32767.
        """
        if not 0 <= index < self.size:
            raise InvalidArchError(f"{NAME} has the indices 0..{self.size - 1}, got {index}")
        return Arch(NAME, tuple(int(i) for i in np.unravel_index(index, (len(WIDTHS),) * 5)))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 69): one-hot widths (40), widths / 64 (5), log2 (5), products of all pairs / 4096 (15), ratios of neighbours (4)."""
        for arch in archs:
            self.validate(arch)
        choices = np.array([arch.choices for arch in archs], np.int64).reshape(-1, 5)
        widths = (choices + 1) / 8.0  # (B, 5)
        one_hot = (choices[:, :, None] == np.arange(len(WIDTHS))).reshape(len(choices), 40)
        first, second = np.triu_indices(5)
        products = widths[:, first] * widths[:, second]
        parts = [one_hot, widths, np.log2(8 * widths), products, widths[:, 1:] / widths[:, :-1]]
        return np.concatenate(parts, 1).astype(np.float32)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the widths: no two are equal."""
        return self.write(arch)


# -- Parameters and multiply-adds of networks of the size space of NATS-Bench, in closed form ---------------------------


def sss_widths(arch: Arch, scale: Scale) -> list[int]:
    """Returns the five widths of a size-space architecture; those of the benchmark at ``scale.channels`` 16.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    return [max(1, width * scale.channels // 16) for width in NATSBenchSSS().widths(arch)]


def _resized_cell(c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of the size space's cell; its skip becomes a 1x1 convolution where the width changes."""
    parts = []
    for op, (source, _) in zip(CELL, EDGES):
        c = c_in if source == 0 else c_out
        if OPS[op] == "nor_conv_3x3":
            parts.append(conv_bn(3, c, c_out, size))
        elif c != c_out:
            parts.append(conv_bn(1, c, c_out, size))
    return total(*parts)


def count_natsbench_sss(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a size-space network; ``scale.depth`` is ignored.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    widths = sss_widths(arch, scale)
    part, size = stem(scale, widths[0])
    parts, c_in = [part], widths[0]
    for block, width in enumerate(widths):
        size = halved(size) if block % 2 else size
        parts.append(_reduction(c_in, width, size) if block % 2 else _resized_cell(c_in, width, size))
        c_in = width
    return total(*parts, Counts(2 * c_in, 0), tail(c_in, scale.n_classes))
