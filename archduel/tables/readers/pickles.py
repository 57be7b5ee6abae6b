"""Reads the data in a pickle without unpickling: no class is imported, no function of the file's choosing is called.

The pickle language is a stack machine. This one knows the operations of protocols 2 to 5 that make numbers, text, bytes,
lists, dicts, sets and tuples; a class or function that a pickle names is looked up in a dict of *makers*, and a name that is
not there ends the reading. Sizes are bounded, equal texts are one object, and a hook sees every dict when it is filled, so
that a reader of a 5 GB file can keep the twenty numbers of a training and drop its learning curves on the way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from archduel.errors import TableError

__all__ = ["ATOMS", "Limits", "Maker", "PickleReader", "PickleStream", "Settable", "integer_run", "known_run", "plain", "shown", "text_run"]

# -- Learning curves inside a pickle, read a whole curve at a time: runs of (key, float) pairs of one kind --------------
#
# Each function does exactly what the single operations would do, only faster; where there is no run it returns None.


_INTEGERS = re.compile(rb"(?:K.G.{8}){4,}", re.DOTALL)
_KNOWN = re.compile(rb"(?:j.{4}G.{8}){4,}", re.DOTALL)
_INTEGER_PAIR = np.dtype([("k", "u1"), ("key", "u1"), ("g", "u1"), ("value", ">f8")])
_KNOWN_PAIR = np.dtype([("j", "u1"), ("key", "<u4"), ("g", "u1"), ("value", ">f8")])


def _texts(head: bytes, tail: bytes) -> re.Pattern[bytes]:
    """Returns a pattern of texts of 5 to 24 bytes, each remembered and followed by a float."""
    each = b"|".join(re.escape(head % n) + b".{%d}" % n for n in range(5, 25))
    return re.compile(b"(?:(?:" + each + b")" + tail + rb"G.{8}){4,}", re.DOTALL)


_TEXTS = {
    ord("X"): (5, 5, _texts(b"X%c\0\0\0", b"r.{4}")),  # protocol 2: four bytes of length, a numbered place
    0x8C: (2, 1, _texts(b"\x8c%c", b"\x94")),  # protocol 4: one byte of length, the next place
}


def _flat(keys: Iterable[Any], values: list[float]) -> list[Any]:
    flat: list[Any] = [None] * (2 * len(values))
    flat[::2], flat[1::2] = keys, values
    return flat


def integer_run(buffer: bytes, at: int) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [0, 91.2, 1, 91.3, ...]) of small integers and floats at ``at``."""
    match = _INTEGERS.match(buffer, at)
    if match is None:
        return None
    pairs = np.frombuffer(match[0], _INTEGER_PAIR)
    return len(match[0]), _flat(pairs["key"].tolist(), pairs["value"].tolist())


def known_run(buffer: bytes, at: int, memo: list[Any]) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [text, 91.2, ...]) of things remembered before and floats at ``at``."""
    match = _KNOWN.match(buffer, at)
    if match is None:
        return None
    pairs = np.frombuffer(match[0], _KNOWN_PAIR)
    return len(match[0]), _flat(map(memo.__getitem__, pairs["key"].tolist()), pairs["value"].tolist())


def text_run(
    buffer: bytes, at: int, memo: list[Any], decode: Callable[[bytes], str]
) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [text, 91.2, ...]) of new texts and floats at ``at``; the texts are remembered in ``memo``."""
    head, tail, pattern = _TEXTS[buffer[at]]
    match = pattern.match(buffer, at)
    if match is None:
        return None
    flat: list[Any] = []
    place, end = at, match.end()
    while place < end:
        text = place + head
        stop = text + buffer[place + 1]
        if tail > 1 and int.from_bytes(buffer[stop + 1 : stop + 5], "little") != len(memo):
            break  # not the next place: left to the single operations
        memo.append(decode(buffer[text:stop]))
        flat += (memo[-1], struct.unpack_from(">d", buffer, stop + tail + 1)[0])
        place = stop + tail + 9
    return (place - at, flat) if flat else None


# -- Bounds and stand-ins for reading pickles ---------------------------------------------------------------------------


Maker = Callable[..., Any]
"""What is called where a pickle names a class or function."""
ATOMS = {str, int, float, bytes, bool, type(None)}
"""Types of values that hold no others."""


@dataclass(frozen=True)
class Limits:
    """What a pickle may cost to read.

    Attributes:
        size: bytes of the pickle (after decompression).
        containers: lists, dicts, sets and tuples.
        items: values held at a time.
        text: bytes of one text or bytes object; all long ones together may have 16 times as many.
        depth: nesting.
        memo: objects that the pickle numbers in order to refer to them.
    """

    size: int = 1 << 26
    containers: int = 1 << 20
    items: int = 1 << 22
    text: int = 1 << 22
    depth: int = 200
    memo: int = 1 << 22


class Settable:
    """A stand-in that takes the state a pickle gives it."""

    def set_state(self, state: Any) -> None:
        """Takes the state."""
        raise TypeError(f"{type(self).__name__} takes no state")


def plain(value: object) -> bool:
    """Whether a value may be a key: a number, a text, or a flat tuple of such (hashing a deep one could crash)."""
    return type(value) in ATOMS or (type(value) is tuple and set(map(type, value)) <= ATOMS)


def shown(value: object) -> str:
    """Returns a short text of something from a file: never the whole of a list that may hold itself a million times."""
    return repr(value)[:80] if type(value) in ATOMS else type(value).__name__


# -- The bytes of a pickle as they come, and the count of what was made of them so far ----------------------------------


CHUNK = 1 << 20
TEXTS = 1 << 16
LONG = 256
"""Texts above this many bytes count together; shorter ones count as values, unless they are one of the first TEXTS."""


class PickleStream:
    """Hands out bytes and refuses what costs too much.

    Args:
        read: returns up to so many bytes, b"" at the end.
        limits: what reading may cost.
        what: the file, for messages.
    """

    def __init__(self, read: Callable[[int], bytes], limits: Limits, what: str) -> None:
        self._read, self._limits, self._what = read, limits, what
        self._buffer, self._at, self._before = b"", 0, 0
        self._texts: dict[bytes, str] = {}
        self._containers = self._items = self._long = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: list[Any] = []

    def _refuse(self, why: str) -> NoReturn:
        raise TableError(f"{self._what}: the pickle at byte {self._before + self._at} {why}")

    def _take(self, n: int) -> bytes:
        end = self._at + n
        if end > len(self._buffer):
            self._fill(n)
            end = n
        piece = self._buffer[self._at : end]
        self._at = end
        return piece

    def _fill(self, n: int) -> None:
        """Makes at least ``n`` bytes and, if there are more, a good number of them readable from position 0."""
        parts = [self._buffer[self._at :]]
        self._before += self._at
        size = len(parts[0])
        while size < n and (part := self._read(max(CHUNK, n - size))):
            parts.append(part)
            size += len(part)
        self._buffer, self._at = b"".join(parts), 0
        if size < n:
            self._refuse("ends too early; the file is truncated")
        waiting = len(self._stack) + sum(map(len, self._below))
        if self._before > self._limits.size or self._items + waiting > self._limits.items:
            self._refuse(f"is longer than {self._limits.size} bytes or {self._limits.items} values")

    def _count(self, n_items: int) -> None:
        """Counts a container and what went into it."""
        self._containers += 1
        if self._containers > self._limits.containers:
            self._refuse(f"makes more than {self._limits.containers} lists and dicts")
        self._hold(n_items)

    def _hold(self, n_items: int) -> None:
        """Counts values that are kept (or, below 0, were thrown away)."""
        self._items += n_items
        if self._items > self._limits.items:
            self._refuse(f"holds more than {self._limits.items} values")

    def _sized(self, width: int) -> bytes:
        """Returns the bytes of a text or bytes object whose length stands in ``width`` bytes before it."""
        length = int.from_bytes(self._take(width), "little")
        self._long += length if length > LONG else 0
        if length > self._limits.text or self._long > 16 * self._limits.text:
            self._refuse(f"holds texts of {max(length, self._long)} bytes")
        return self._take(length)

    def _text(self, data: bytes) -> str:
        """Returns the text of UTF-8 bytes; equal short texts are one object."""
        text = self._texts.get(data)
        if text is None:
            text = data.decode("utf-8", "surrogatepass")
            if len(self._texts) < TEXTS and len(data) <= LONG:
                self._texts[data] = text
            else:
                self._hold(1)
        return text


_DAMAGE = (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError, struct.error)


class _Global:
    """A name in the pickle and what is called in its place."""

    def __init__(self, name: str, maker: Maker) -> None:
        self.name, self.maker = name, maker


class _Done(Exception):
    """The pickle's last operation."""


class PickleReader(PickleStream):
    """Reads one pickle after another from a stream.

    Args:
        read: returns up to so many bytes, b"" at the end.
        makers: ``module.name`` -> what is called instead.
        on_dict: called with each dict when items were put into it; returns how many values it threw away.
        limits: what reading may cost.
        what: the file, for messages.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        makers: Mapping[str, Maker],
        *,
        on_dict: Callable[[dict[Any, Any]], int] | None = None,
        limits: Limits | None = None,
        what: str = "the file",
    ) -> None:
        super().__init__(read, limits or Limits(), what)
        self._makers, self._on_dict = makers, on_dict

    def load(self) -> Any:
        """Returns the next object.

        Raises:
            TableError: if the pickle is damaged, too large, or names anything but the makers.
        """
        self._stack, self._below, self._memo = [], [], []
        try:
            while True:
                code = self._take(1)[0]
                _OPERATIONS.get(code, _unknown)(self, code)
        except _Done:
            return self._stack[-1]
        except TableError:
            raise
        except _DAMAGE as error:
            self._refuse(f"is damaged or no plain data ({type(error).__name__}: {str(error)[:100]})")

    # ---------------------------------------------------------------- operations, by what they push

    def _run(self, run: tuple[int, list[Any]] | None) -> bool:
        """Pushes a whole curve, if there is one."""
        if run is None:
            return False
        self._at += run[0] - 1
        self._stack += run[1]
        return True

    def _push_small(self, code: int) -> None:
        if not self._run(integer_run(self._buffer, self._at - 1)):
            self._stack.append(self._take(1)[0])

    def _push_known(self, code: int) -> None:
        if not self._run(known_run(self._buffer, self._at - 1, self._memo)):
            self._stack.append(self._memo[int.from_bytes(self._take(4), "little")])

    def _push_text(self, code: int) -> None:
        if code == 0x8D or not self._run(text_run(self._buffer, self._at - 1, self._memo, self._text)):
            self._stack.append(self._text(self._sized(_LENGTHS[code])))

    def _push_old_text(self, code: int) -> None:
        self._stack.append(self._sized(_LENGTHS[code]).decode("latin-1"))

    def _push_bytes(self, code: int) -> None:
        self._stack.append(self._sized(_LENGTHS[code]))

    def _push_float(self, code: int) -> None:
        self._stack.append(struct.unpack(">d", self._take(8))[0])

    def _push_integer(self, code: int) -> None:
        self._stack.append(
            int.from_bytes(self._take(_INTEGER_WIDTHS[code]), "little", signed=code == ord("J"))
        )

    def _push_long(self, code: int) -> None:
        width = self._take(1)[0]
        if width > 16:
            self._refuse(f"holds an integer of {width} bytes")
        self._stack.append(int.from_bytes(self._take(width), "little", signed=True))

    def _push_constant(self, code: int) -> None:
        self._stack.append(_CONSTANTS[code])

    def _push_empty(self, code: int) -> None:
        self._count(0)
        self._stack.append({ord("}"): dict, ord("]"): list, 0x8F: set}[code]())

    def _push_tuple(self, code: int) -> None:
        if code == ord("t"):
            self._stack, items = self._below.pop(), self._stack
        else:
            n = code - 0x84
            items = self._stack[-n:]
            if len(items) < n:
                raise IndexError("a tuple of more than there is")
            del self._stack[-n:]
        self._count(len(items))
        self._stack.append(tuple(items))

    def _push_mark(self, code: int) -> None:
        if len(self._below) >= self._limits.depth:
            self._refuse(f"is nested more than {self._limits.depth} deep")
        self._below.append(self._stack)
        self._stack = []

    # ---------------------------------------------------------------- operations on what is there

    def _remember(self, code: int) -> None:
        memo, top = self._memo, self._stack[-1]
        width = {ord("q"): 1, ord("r"): 4}.get(code)
        place = len(memo) if width is None else int.from_bytes(self._take(width), "little")
        self._items += type(top) not in (str, dict, list, tuple)
        if place >= self._limits.memo:
            self._refuse(f"remembers more than {self._limits.memo} objects")
        if place == len(memo):
            memo.append(top)
        elif place < len(memo):
            memo[place] = top
        else:
            self._refuse(f"remembers object {place} after {len(memo)}")

    def _recall(self, code: int) -> None:
        self._stack.append(self._memo[self._take(1)[0]])

    def _set_items(self, code: int) -> None:
        if code == ord("s"):
            items = self._stack[-2:]
            del self._stack[-2:]
        else:
            self._stack, items = self._below.pop(), self._stack
        target, keys = self._stack[-1], items[::2]
        if (
            type(target) is not dict
            or len(items) % 2
            or not (set(map(type, keys)) <= ATOMS or all(map(plain, keys)))
        ):
            raise TypeError(f"keys of {type(target).__name__} that are no plain values")
        target.update(zip(keys, items[1::2]))
        self._hold(len(items) - (self._on_dict(target) if self._on_dict is not None else 0))

    def _add_items(self, code: int) -> None:
        if code == ord("a"):
            items = [self._stack.pop()]
        else:
            self._stack, items = self._below.pop(), self._stack
        target = self._stack[-1]
        self._hold(len(items))
        if type(target) is list and code != 0x90:
            target.extend(items)
        elif type(target) is set and code == 0x90 and all(map(plain, items)):
            target.update(items)
        else:
            raise TypeError(f"items for a {type(target).__name__}")

    def _name(self, code: int) -> None:
        if code == 0x93:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, name = self._line(), self._line()
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        full = f"{module}.{name}"[:200]
        if full not in self._makers:
            self._refuse(f"names {full!r}; this file may hold plain data only, so it is not read further")
        self._stack.append(_Global(full, self._makers[full]))

    def _line(self) -> str:
        line = bytearray()
        while (byte := self._take(1)) != b"\n":
            line += byte
            if len(line) > 200:
                raise ValueError("a name of more than 200 characters")
        return line.decode("ascii")

    def _call(self, code: int) -> None:
        arguments, named = self._stack.pop(), self._stack.pop()
        if type(named) is not _Global or type(arguments) is not tuple:
            raise TypeError(f"a call of {type(named).__name__}")
        self._count(0)
        self._stack.append(named.maker(*arguments))

    def _give_state(self, code: int) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not isinstance(target, Settable):
            raise TypeError(f"a state for a {type(target).__name__}")
        target.set_state(state)

    def _drop(self, code: int) -> None:
        self._stack.pop()

    def _skip(self, code: int) -> None:
        self._take({0x80: 1, 0x95: 8}.get(code, 0))

    def _weights(self, code: int) -> None:
        self._stack[-1] = None  # a tensor kept elsewhere in the file: weights are not read

    def _stop(self, code: int) -> None:
        if len(self._stack) != 1 or self._below:
            raise ValueError(f"{len(self._stack)} objects at its end")
        raise _Done


def _unknown(reader: PickleReader, code: int) -> None:
    raise ValueError(f"operation {chr(code)!r} is not one that plain data needs")


_CONSTANTS: dict[int, Any] = {ord("N"): None, 0x88: True, 0x89: False, ord(")"): ()}
_INTEGER_WIDTHS = {ord("J"): 4, ord("M"): 2}
_LENGTHS = {
    ord("X"): 4,
    0x8C: 1,
    0x8D: 8,
    ord("U"): 1,
    ord("T"): 4,
    ord("C"): 1,
    ord("B"): 4,
    0x8E: 8,
    0x96: 8,
}
"""Operation -> bytes of the length of its text or bytes."""
_Method = Callable[[PickleReader, int], None]
_BY_METHOD: dict[_Method, tuple[int, ...]] = {
    PickleReader._push_small: (ord("K"),),
    PickleReader._push_known: (ord("j"),),
    PickleReader._push_text: (ord("X"), 0x8C, 0x8D),
    PickleReader._push_old_text: (ord("U"), ord("T")),
    PickleReader._push_bytes: (ord("C"), ord("B"), 0x8E, 0x96),
    PickleReader._push_float: (ord("G"),),
    PickleReader._push_integer: (ord("J"), ord("M")),
    PickleReader._push_long: (0x8A,),
    PickleReader._push_constant: tuple(_CONSTANTS),
    PickleReader._push_empty: (ord("}"), ord("]"), 0x8F),
    PickleReader._push_tuple: (ord("t"), 0x85, 0x86, 0x87),
    PickleReader._push_mark: (ord("("),),
    PickleReader._remember: (ord("q"), ord("r"), 0x94),
    PickleReader._recall: (ord("h"),),
    PickleReader._set_items: (ord("s"), ord("u")),
    PickleReader._add_items: (ord("a"), ord("e"), 0x90),
    PickleReader._name: (ord("c"), 0x93),
    PickleReader._call: (ord("R"), 0x81),
    PickleReader._give_state: (ord("b"),),
    PickleReader._drop: (ord("0"),),
    PickleReader._skip: (0x80, 0x95, 0x98),
    PickleReader._weights: (ord("Q"),),
    PickleReader._stop: (ord("."),),
}
_OPERATIONS: dict[int, _Method] = {code: method for method, codes in _BY_METHOD.items() for code in codes}
