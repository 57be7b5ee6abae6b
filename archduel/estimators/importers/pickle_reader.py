"""Reads the data in a pickle without unpickling: no class is imported, no function of the file's choosing is called.

The pickle language is a stack machine. This one knows the operations of protocols 2 to 5 that make numbers, text, bytes,
lists, dicts, sets and tuples; a class or function that a pickle names is looked up in a dict of *makers*, and a name that is
not there ends the reading. Sizes are bounded, equal texts are one object, and a hook sees every dict when it is filled, so
that a reader of a 5 GB file can keep the twenty numbers of a training and drop its learning curves on the way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from archduel.errors import TableError
from archduel.estimators.importers.pickle_runs import integer_run, known_run, text_run
from archduel.estimators.importers.pickle_stream import PickleStream
from archduel.estimators.importers.pickle_values import ATOMS, Limits, Maker, Settable, plain

__all__ = ["PickleReader"]

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
