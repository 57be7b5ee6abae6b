"""MobileNetV3 settings and their two text forms: OFA's JSON object and CTNAS's ``depths:kernels:ratios``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from archduel.errors import InvalidArchError

__all__ = [
    "DEPTHS",
    "KERNELS",
    "MAX_DEPTH",
    "RATIOS",
    "UNITS",
    "Spec",
    "check_spec",
    "read_spec",
    "write_spec",
]

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
