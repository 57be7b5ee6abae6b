"""The once-for-all MobileNetV3 space: five units of 2 to 4 inverted bottlenecks, kernel 3/5/7, expansion 3/4/6.

7,371^5, about 2.2e19 networks, times the resolutions where they are decided too.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020; decisions and
the 120 numbers as in Chen et al., "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR
2021.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, check_decisions
from archduel.errors import InvalidArchError, SettingError

__all__ = ["DEPTHS", "KERNELS", "MAX_DEPTH", "RATIOS", "RESOLUTIONS", "UNITS", "MobileNetV3", "Spec", "check_spec", "read_spec", "spec_of", "write_spec"]

# -- MobileNetV3 settings and their two text forms: OFA's JSON object and CTNAS's ``depths:kernels:ratios`` -------------


UNITS = 5
DEPTHS = (2, 3, 4)
KERNELS = (3, 5, 7)
RATIOS = (3, 4, 6)
MAX_DEPTH = max(DEPTHS)
_EXAMPLE = "'2,2,2,2,2:KERNEL x 20:RATIO x 20' or a JSON object with ks, e and d"


class Spec(NamedTuple):
    """A network of the space in its own words.

    Attributes:
        depths: blocks of each of the 5 units.
        kernels: kernel side of block j of unit u at 4 u + j (20 in all), 0 where there is no such block.
        ratios: expansion ratios, likewise.
        resolution: side of the input in pixels, None = not decided.
    """

    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    ratios: tuple[int, ...]
    resolution: int | None = None

    def present(self) -> list[bool]:
        """Returns for each of the 20 slots whether it holds a block."""
        return [slot < depth for depth in self.depths for slot in range(MAX_DEPTH)]


def _numbers(values: Any, length: int, what: str) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)) or not all(type(v) is int for v in values):
        raise InvalidArchError(f"mobilenetv3: {what} are {values!r}, expected a list of integers")
    if len(values) != length:
        raise InvalidArchError(f"mobilenetv3: {len(values)} {what} in {list(values)}, expected {length}")
    return tuple(values)


def check_spec(
    depths: Sequence[int], kernels: Sequence[int], ratios: Sequence[int], resolution: int | None = None
) -> Spec:
    """Returns the settings with the entries of absent blocks set to 0, so that equal networks are equal.

    Raises:
        InvalidArchError: naming the first entry that is not a value of the space.
    """
    slots = UNITS * MAX_DEPTH
    depths = _numbers(depths, UNITS, "depths")
    for unit, depth in enumerate(depths, 1):
        if depth not in DEPTHS:
            raise InvalidArchError(f"mobilenetv3: depth of unit {unit} is {depth}, expected one of {DEPTHS}")
    spec = Spec(depths, _numbers(kernels, slots, "kernels"), _numbers(ratios, slots, "ratios"), resolution)
    for what, values, allowed in (("kernel", spec.kernels, KERNELS), ("ratio", spec.ratios, RATIOS)):
        for slot, (value, there) in enumerate(zip(values, spec.present())):
            if there and value not in allowed:
                unit, block = slot // MAX_DEPTH + 1, slot % MAX_DEPTH + 1
                raise InvalidArchError(
                    f"mobilenetv3: {what} of unit {unit}, block {block} is {value}, expected one of {allowed}"
                )
    kernels, ratios = (
        tuple(value * there for value, there in zip(values, spec.present()))
        for values in (spec.kernels, spec.ratios)
    )
    return Spec(depths, kernels, ratios, resolution)


def write_spec(spec: Spec, form: str = "ofa") -> str:
    """Returns the text of a network: ``ofa`` (JSON with ks, e, d and r) or ``ctnas`` (no resolution).

    Raises:
        ValueError: for another form.
    """
    if form == "ctnas":
        return ":".join(",".join(map(str, part)) for part in spec[:3])
    if form != "ofa":
        raise ValueError(f"form {form!r} is unknown; expected 'ofa' or 'ctnas'")
    parts: dict[str, Any] = {"ks": spec.kernels, "e": spec.ratios, "d": spec.depths}
    if spec.resolution is not None:
        parts["r"] = [spec.resolution]
    return json.dumps(parts)


def read_spec(text: str) -> Spec:
    """Returns the settings in a text of either form.

    Raises:
        InvalidArchError: that shows the part that cannot be read.
    """
    text = text.strip()
    if text.startswith("{"):
        return _read_json(text)
    parts = text.split(":")
    if len(parts) != 3:
        raise InvalidArchError(f"mobilenetv3: {text!r} has {len(parts)} parts, expected {_EXAMPLE}")
    lists = []
    for part in parts:
        entries = [entry.strip() for entry in part.split(",")]
        wrong = [entry for entry in entries if not (entry.isascii() and entry.isdigit())]
        if wrong:
            raise InvalidArchError(
                f"mobilenetv3: {wrong[0]!r} in {part.strip()!r} is not a number; expected {_EXAMPLE}"
            )
        lists.append([int(entry) for entry in entries])
    return check_spec(lists[0], lists[1], lists[2])


def _read_json(text: str) -> Spec:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidArchError(
            f"mobilenetv3: {text[:80]!r} is not JSON ({error}); expected {_EXAMPLE}"
        ) from error
    missing = [key for key in ("d", "ks", "e") if key not in found]
    if missing:
        raise InvalidArchError(
            f"mobilenetv3: {missing[0]!r} is missing in {text[:80]!r}; expected {_EXAMPLE}"
        )
    if found.get("wid") is not None:
        raise InvalidArchError(
            f"mobilenetv3: 'wid' is {found['wid']!r}; the width is no decision, expected null"
        )
    resolution = found.get("r", found.get("image_size"))
    if isinstance(resolution, list) and len(resolution) == 1:
        resolution = resolution[0]
    if resolution is not None and type(resolution) is not int:
        raise InvalidArchError(f"mobilenetv3: the resolution is {resolution!r}, expected one integer")
    return check_spec(found["d"], found["ks"], found["e"], resolution)


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
