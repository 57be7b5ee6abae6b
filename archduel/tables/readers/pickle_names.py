"""What the pickles of published benchmarks may name, and what stands in for it: plain values, nothing executed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.tables.readers.pickles import Maker, Settable

__all__ = ["CONTAINERS", "NUMPY", "WEIGHTS", "Array", "Inert", "inert"]

CODES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
LARGEST = 1 << 24


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    return {key: value for key, value in pairs if isinstance(key, (str, int))}


def _set(items: Any = ()) -> list[Any]:
    return list(items)


def _encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, with which protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an encoding that is not latin1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """Stands for ``bytes()``, with which protocol 2 writes the empty bytes."""
    return b""


class Dtype(Settable):
    """Stands for ``numpy.dtype``: a code and a byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode() if isinstance(code, bytes) else code
        if not isinstance(code, str) or (code not in CODES and code[:1] != "O"):
            raise ValueError("a dtype that is no number")
        self.code, self.order = code, "<"

    def set_state(self, state: Any) -> None:
        """Takes the byte order."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        if order not in ("<", ">", "|", "="):
            raise ValueError("a byte order that there is not")
        self.order = "<" if order == "=" else str(order)

    def read(self, data: Any) -> NDArray[Any]:
        """Returns the numbers in ``data``."""
        if self.code not in CODES or not isinstance(data, (bytes, str)):
            raise ValueError("an array of objects where numbers are expected")
        data = data.encode("latin-1") if isinstance(data, str) else data
        order = "|" if self.code[1] == "1" else self.order.replace("|", "<")
        return np.frombuffer(data, np.dtype(order + self.code))


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, Dtype):
        raise TypeError("a scalar without a dtype")
    (value,) = dtype.read(data).tolist()
    return value


def _shaped(values: NDArray[Any], shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and 0 <= n <= LARGEST for n in shape):
        raise TypeError("an array without a shape")
    if math.prod(shape) != values.size:
        raise ValueError(f"an array of {values.size} values with another shape")
    return values.reshape(shape, order="F" if order in ("F", True) else "C")


class Array(Settable):
    """Stands for ``numpy.ndarray``; ``value`` is an array of numbers or a list of objects."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, dtype, Fortran order, data)."""
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):
            self.value = data
        elif isinstance(dtype, Dtype):
            self.value = _shaped(dtype.read(data), shape, fortran)
        else:
            raise TypeError("an array without a dtype")


def _reconstruct(*_: Any) -> Array:
    return Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    if not isinstance(dtype, Dtype):
        raise TypeError("an array without a dtype")
    return Array(_shaped(dtype.read(data), shape, order))


class Inert(Settable):
    """Stands for an object of a class that is not loaded: what it was made from, and its state."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def set_state(self, state: Any) -> None:
        """Takes the state."""
        self.state = state


def inert(name: str) -> Maker:
    """Returns a maker of stand-ins called ``name``."""
    return lambda *arguments: Inert(name, arguments)


CONTAINERS: Mapping[str, Maker] = {
    "collections.OrderedDict": _ordered_dict,
    "__builtin__.set": _set,
    "builtins.set": _set,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "builtins.bytes": _no_bytes,
}
NUMPY: Mapping[str, Maker] = {
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    "numpy.ndarray": inert("ndarray"),
    "numpy.dtype": Dtype,
}
WEIGHTS: Mapping[str, Maker] = {
    name: inert("weights")
    for name in (
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.storage._load_from_bytes",
        *(f"torch.{kind}Storage" for kind in ("Float", "Long", "Half", "Double")),
    )
}
"""Tensors become stand-ins: a table has no use for weights."""
