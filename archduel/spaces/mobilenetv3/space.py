"""The once-for-all MobileNetV3 space: five units of 2 to 4 inverted bottlenecks, kernel 3/5/7, expansion 3/4/6.

7,371^5, about 2.2e19 networks, times the resolutions where they are decided too.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020; decisions and
the 120 numbers as in Chen et al., "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR
2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, check_decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.mobilenetv3.text import (
    DEPTHS,
    KERNELS,
    MAX_DEPTH,
    RATIOS,
    UNITS,
    Spec,
    check_spec,
    read_spec,
    write_spec,
)

__all__ = ["RESOLUTIONS", "MobileNetV3", "spec_of"]

NAME = "mobilenetv3"
RESOLUTIONS = tuple(range(96, 257, 4))
"""Inputs in pixels that a resolution decision can name; a space offers some of them."""
_PER_UNIT = 1 + 2 * MAX_DEPTH  # depth, then ratio and kernel of four slots
_LENGTH = UNITS * _PER_UNIT
_WAYS = [(len(KERNELS) * len(RATIOS)) ** depth for depth in DEPTHS]  # networks of one unit by its depth


class MobileNetV3:
    """Networks as 45 decisions: each unit's depth, then ratio and kernel of its four slots (the order of CTNAS).

    A slot beyond the depth has one option, 0 = absent; so positions never shift, and each network has one encoding. With
    ``resolutions`` a 46th decision names the input size. Uniform answers favour shallow units, as drawing depths first
    does in OFA and CTNAS; ``draw`` is uniform over networks unless ``uniform_depths`` is set.

    Args:
        resolutions: input sizes to choose from, multiples of 4 from 96 to 256; empty = not decided.
        uniform_depths: whether ``draw`` draws depths uniformly, as OFA and CTNAS do.

    Raises:
        SettingError: for a resolution that is not in ``RESOLUTIONS``.
    """

    name = NAME
    kinds: Mapping[str, int] = {
        "depth": len(DEPTHS),
        "ratio": 1 + len(RATIOS),
        "kernel": 1 + len(KERNELS),
        "resolution": len(RESOLUTIONS),
    }

    def __init__(self, *, resolutions: Sequence[int] = (), uniform_depths: bool = False) -> None:
        for resolution in resolutions:
            if resolution not in RESOLUTIONS:
                raise SettingError(f"resolution {resolution!r} must be a multiple of 4 from 96 to 256")
        self.resolutions = tuple(sorted(set(resolutions)))
        self.uniform_depths = uniform_depths

    @property
    def size(self) -> int:
        """The number of different networks."""
        return sum(_WAYS) ** UNITS * max(1, len(self.resolutions))

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question: a depth (- 2), or a ratio or kernel (0 = absent, 1..3), or the resolution."""
        at = len(prefix)
        if at >= _LENGTH:
            if at > _LENGTH or not self.resolutions:
                return None
            return Decision("resolution", "resolution", tuple(RESOLUTIONS.index(r) for r in self.resolutions))
        unit, place = divmod(at, _PER_UNIT)
        if place == 0:
            return Decision(f"unit{unit + 1}/depth", "depth", tuple(range(len(DEPTHS))))
        slot, kind = (place - 1) // 2, ("ratio", "kernel")[(place - 1) % 2]
        absent = slot >= DEPTHS[prefix[unit * _PER_UNIT]]
        return Decision(f"unit{unit + 1}/block{slot + 1}/{kind}", kind, (0,) if absent else (1, 2, 3))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless every answer is an option."""
        check_decisions(self, arch)

    def from_spec(self, spec: Spec) -> Arch:
        """Returns the architecture of depths, kernels, ratios and (where the space decides it) resolution.

        Raises:
            InvalidArchError: for a value that is not in the space.
        """
        spec = check_spec(*spec)
        choices: list[int] = []
        for unit, depth in enumerate(spec.depths):
            choices.append(DEPTHS.index(depth))
            for slot in range(unit * MAX_DEPTH, (unit + 1) * MAX_DEPTH):
                choices += [(0, *RATIOS).index(spec.ratios[slot]), (0, *KERNELS).index(spec.kernels[slot])]
        if self.resolutions:
            if spec.resolution not in self.resolutions:
                raise InvalidArchError(
                    f"{NAME}: the resolution is {spec.resolution}, expected one of {list(self.resolutions)}"
                )
            choices.append(RESOLUTIONS.index(spec.resolution))
        return Arch(NAME, tuple(choices))

    def read(self, text: str) -> Arch:
        """Returns the architecture of OFA's JSON or CTNAS's text.

        A resolution in the text counts only where the space decides it.
        """
        return self.from_spec(read_spec(text))

    def write(self, arch: Arch, form: str = "ofa") -> str:
        """Returns OFA's JSON (``form="ofa"``) or ``depths:kernels:ratios`` (``form="ctnas"``), absent blocks 0."""
        self.validate(arch)
        return write_spec(spec_of(arch), form)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the depths, kernels, ratios and resolution: each network has one encoding."""
        spec = spec_of(arch)
        tail = "" if spec.resolution is None else f":{spec.resolution}"
        return write_spec(spec, "ctnas") + tail

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns a random network, uniform over all networks (or over depths first, see the class)."""
        choices: tuple[int, ...] = ()
        bounds = np.cumsum(_WAYS)
        while (decision := self.decision(choices)) is not None:
            if decision.kind == "depth" and not self.uniform_depths:
                answer = int(np.searchsorted(bounds, rng.integers(bounds[-1]), side="right"))
            else:
                answer = decision.options[int(rng.integers(len(decision.options)))]
            choices = (*choices, answer)
        return Arch(NAME, choices)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 120): 20 slots x kernel 3/5/7, then 20 slots x ratio 3/4/6, 1 where chosen, absent blocks 0.

        Where resolutions are decided one more column holds the resolution / 224.
        """
        length = _LENGTH + bool(self.resolutions)
        choices = np.array([arch.choices for arch in archs], dtype=np.int64).reshape(-1, length)
        units = choices[:, :_LENGTH].reshape(-1, UNITS, _PER_UNIT)
        ratios, kernels = (
            units[:, :, first::2].reshape(-1, UNITS * MAX_DEPTH, 1) for first in (1, 2)
        )  # (B, 20, 1)
        parts = [(part == np.arange(1, 4)).reshape(-1, 3 * UNITS * MAX_DEPTH) for part in (kernels, ratios)]
        if self.resolutions:
            parts.append(np.array(RESOLUTIONS)[choices[:, _LENGTH:]] / 224)
        return np.concatenate(parts, axis=1).astype(np.float32)


def spec_of(arch: Arch) -> Spec:
    """Returns the settings of an architecture, with a resolution if it has one.

    Raises:
        InvalidArchError: unless it is an architecture of the space with or without resolutions.
    """
    MobileNetV3(resolutions=RESOLUTIONS if len(arch.choices) > _LENGTH else ()).validate(arch)
    units = [arch.choices[first : first + _PER_UNIT] for first in range(0, _LENGTH, _PER_UNIT)]
    return Spec(
        tuple(DEPTHS[unit[0]] for unit in units),
        tuple((0, *KERNELS)[choice] for unit in units for choice in unit[2::2]),
        tuple((0, *RATIOS)[choice] for unit in units for choice in unit[1::2]),
        RESOLUTIONS[arch.choices[-1]] if len(arch.choices) > _LENGTH else None,
    )
