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

from archduel.core import Arch, Counts, Decision, Scale, check_decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.counting import conv_bn, divisible, halved, total

__all__ = ["DEPTHS", "KERNELS", "MAX_DEPTH", "RATIOS", "RESOLUTIONS", "UNITS", "Block", "Layout", "MobileNetV3", "Spec", "check_spec", "count", "divisible", "layout", "read_spec", "spec_of", "squeezed", "write_spec"]

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


# -- Parameters and multiply-adds of once-for-all MobileNetV3 networks in closed form, and their table of layers --------
#
# At 16 channels (width 1.0) and 224 px the counts equal the published ones. Multiply-adds are those of convolutions
# (squeeze-and-excitation included) and linear layers.
#
# Source: Cai et al., ICLR 2020, and the published once-for-all networks.


# width, stride, squeeze-and-excitation, h-swish (else ReLU)
_UNITS = (
    (24, 2, False, False),
    (40, 2, True, False),
    (80, 2, False, True),
    (112, 1, True, True),
    (160, 2, True, True),
)
_EXPAND, _MIX = 960, 1280
_PUBLISHED_STEM = 16
_LEAST_MAP = 4


class Block(NamedTuple):
    """One inverted bottleneck; ``c_mid`` is the width between expansion and projection."""

    c_in: int
    c_mid: int
    c_out: int
    kernel: int
    stride: int
    squeeze: bool
    swish: bool


class Layout(NamedTuple):
    """All that a network is built from.

    Attributes:
        stem: channels of the stem and the first block.
        stem_stride: 2, or 1 for small images.
        blocks: the inverted bottlenecks.
        aux_after: how many of them come before the auxiliary head (the end of unit 4).
        expand: channels of the last convolution.
        mix: channels of the layer before the classifier.
        image_size: side of the input in pixels that the network works at.
    """

    stem: int
    stem_stride: int
    blocks: tuple[Block, ...]
    aux_after: int
    expand: int
    mix: int
    image_size: int


def squeezed(channels: int) -> int:
    """Returns the hidden width of squeeze-and-excitation."""
    return divisible(channels // 4)


def layout(arch: Arch, scale: Scale) -> Layout:
    """Returns the layers of a network.

    The width is ``scale.channels`` / 16 times the published one. Five layers halve the map; for images too small for
    that the first ones do not, so that the last map is at least 4 px (224 px: 7, 32 px: 4). A resolution of the
    architecture's own replaces ``scale.image_size``; ``scale.depth`` is ignored.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    spec, width = spec_of(arch), scale.channels / _PUBLISHED_STEM
    image_size = spec.resolution or scale.image_size
    kept = max(times for times in range(6) if times == 0 or halved(image_size, times) >= _LEAST_MAP)
    spare = 5 - kept  # strides of 2 to leave out, the earliest first
    stem, stem_stride = divisible(_PUBLISHED_STEM * width), 1 if spare else 2
    spare, c, blocks, aux_after = max(0, spare - 1), stem, list[Block](), 0
    for unit, (base, unit_stride, squeeze, swish) in enumerate(_UNITS):
        aux_after = len(blocks)  # in the end: all blocks before unit 5
        if unit_stride == 2 and spare:
            unit_stride, spare = 1, spare - 1
        c_out = divisible(base * width)
        for slot in range(unit * MAX_DEPTH, unit * MAX_DEPTH + spec.depths[unit]):
            stride = unit_stride if slot == unit * MAX_DEPTH else 1
            c_mid = divisible(c * spec.ratios[slot])
            blocks.append(Block(c, c_mid, c_out, spec.kernels[slot], stride, squeeze, swish))
            c = c_out
    ends = divisible(_EXPAND * width), divisible(_MIX * width)
    return Layout(stem, stem_stride, tuple(blocks), aux_after, *ends, image_size)


def _depthwise(kernel: int, channels: int, size: int) -> Counts:
    """Returns the cost of a depthwise convolution, output map ``size`` x ``size``, and its batch norm."""
    weights = kernel * kernel * channels
    return Counts(weights + 2 * channels, weights * size * size)


def _block(block: Block, size: int) -> tuple[Counts, int]:
    """Returns the cost of a block on a map of ``size`` x ``size`` and the side of the map it leaves."""
    parts = [conv_bn(1, block.c_in, block.c_mid, size)]
    size = halved(size) if block.stride == 2 else size
    parts.append(_depthwise(block.kernel, block.c_mid, size))
    if block.squeeze:
        weights, hidden = 2 * block.c_mid * squeezed(block.c_mid), squeezed(block.c_mid)
        parts.append(Counts(weights + hidden + block.c_mid, weights))
    parts.append(conv_bn(1, block.c_mid, block.c_out, size))
    return total(*parts), size


def count(arch: Arch, scale: Scale, *, dropout: float = 0.1) -> Counts:
    """Returns the cost of the network that ``build`` returns.

    Args:
        arch: the architecture; its own resolution replaces ``scale.image_size``.
        scale: width (16 = published), input and classes.
        dropout: costs nothing; here because ``build`` takes it.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    plan = layout(arch, scale)
    size = halved(plan.image_size) if plan.stem_stride == 2 else plan.image_size
    parts = [conv_bn(3, scale.in_channels, plan.stem, size)]
    parts += [_depthwise(3, plan.stem, size), conv_bn(1, plan.stem, plan.stem, size)]
    for block in plan.blocks:
        cost, size = _block(block, size)
        parts.append(cost)
    mix, classifier = plan.expand * plan.mix, plan.mix * scale.n_classes
    parts.append(conv_bn(1, plan.blocks[-1].c_out, plan.expand, size))
    return total(*parts, Counts(mix, mix), Counts(classifier + scale.n_classes, classifier))
