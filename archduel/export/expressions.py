"""What a network's constructor is made of: expressions with holes where the numbers are, and their code.

Two modules with the same expression, numbers aside, become one function or class with parameters: that is how twenty
cells of three widths turn into a few readable definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Union

__all__ = ["Arg", "Call", "Definition", "Expr", "Half", "Hole", "Items", "Text", "holes", "shape", "write"]

# Longest line of the exported source, which people read: what does not fit is broken, one argument a line.
WIDTH = 104

# -- What expressions are made of -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hole:
    """A number that may become a parameter; ``role`` is what it would be called."""

    value: int
    role: str


@dataclass(frozen=True)
class Half:
    """Half of the hole before it (the padding that goes with a kernel)."""


@dataclass(frozen=True)
class Text:
    """Code as it stands."""

    code: str


@dataclass(frozen=True)
class Arg:
    """An argument; one that equals ``default`` once written is left out."""

    value: Expr
    keyword: str = ""
    default: str = ""


@dataclass(frozen=True)
class Call:
    """A call of a torch class."""

    name: str
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True)
class Items:
    """A list or, with keys, a dict."""

    items: tuple[Expr, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Use:
    """A call of one of our own definitions, with the numbers that its body has here."""

    definition: Definition
    numbers: tuple[Hole, ...]


Expr = Union[Hole, Half, Text, Call, Items, Use]  # noqa: UP007 - evaluated at run time, where Python 3.10 has no |


@dataclass(eq=False)
class Definition:
    """A class or function of the exported source.

    Attributes:
        name: as it will be called.
        doc: one line.
        members: attribute -> constructor expression; a function has the single member ``return``.
        forward: lines of ``forward``; None for a function.
        inputs: parameters of ``forward``.
        instances: the numbers of every module that it stands for.
    """

    name: str
    doc: str
    members: dict[str, Expr]
    forward: tuple[str, ...] | None = None
    inputs: tuple[str, ...] = ()
    instances: list[tuple[Hole, ...]] = field(default_factory=list)

    @property
    def inlined(self) -> bool:
        """Whether it is written where it is used: a function that is used once."""
        return self.forward is None and len(self.instances) == 1

    def columns(self) -> tuple[list[str], list[int]]:
        """Returns what stands in each hole (a literal or a parameter), and the hole that gives each parameter's value."""
        table = [[hole.value for hole in column] for column in zip(*self.instances)]
        roles: dict[tuple[int, ...], list[str]] = {}
        for hole, values in zip(self.instances[0], table):
            if len(set(values)) > 1:
                roles.setdefault(tuple(values), []).append(hole.role)
        names = _names(list(roles.values()))
        # holes with the same numbers in every instance are one parameter: c_in and c_out of a cell that keeps its width
        called = dict(zip(roles, names))
        texts = [called.get(tuple(values), str(values[0])) for values in table]
        return texts, [texts.index(name) for name in names]


def _names(roles: Sequence[Sequence[str]]) -> list[str]:
    """Returns a distinct parameter name for each group of roles."""
    names: list[str] = []
    for group in roles:
        name = "c" if {"c_in", "c_out"} <= set(group) else group[0]
        taken = sum(other.rstrip("0123456789") == name for other in names)
        names.append(f"{name}{taken + 1}" if taken else name)
    return names


# -- Reading an expression: its numbers, and what is left without them ----------------------------------------------------


def _parts(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, Call):
        yield from (arg.value for arg in expr.args)
    elif isinstance(expr, Items):
        yield from expr.items


def holes(expr: Expr) -> tuple[Hole, ...]:
    """Returns the numbers of an expression in the order of writing."""
    if isinstance(expr, Hole):
        return (expr,)
    if isinstance(expr, Use):
        return expr.numbers
    return tuple(hole for part in _parts(expr) for hole in holes(part))


def shape(expr: Expr) -> str:
    """Returns a text that is equal for expressions that differ in their numbers alone."""
    if isinstance(expr, Hole):
        return "#"
    if isinstance(expr, Use):
        return f"@{id(expr.definition)}"
    if isinstance(expr, Text):
        return expr.code
    if isinstance(expr, Call):
        return f"{expr.name}({','.join(arg.keyword + '=' + shape(arg.value) for arg in expr.args)})"
    if isinstance(expr, Items):
        return f"{list(expr.keys)}[{','.join(map(shape, expr.items))}]"
    return "half"


# -- Writing an expression as code ------------------------------------------------------------------------------------------


def write(expr: Expr, texts: Sequence[str], indent: int = 0, lead: int = 0) -> str:
    """Returns the code of an expression.

    Args:
        expr: the expression.
        texts: what stands in its holes.
        indent: where its lines begin.
        lead: how long the text before it on its first line is.
    """
    return _write(expr, list(texts), [0], indent, lead)


def _write(expr: Expr, texts: list[str], at: list[int], indent: int, lead: int = 0) -> str:
    if isinstance(expr, Hole):
        at[0] += 1
        return texts[at[0] - 1]
    if isinstance(expr, Half):
        whole = texts[at[0] - 1]
        return str(int(whole) // 2) if whole.isdigit() else f"{whole} // 2"
    if isinstance(expr, Text):
        return expr.code
    if isinstance(expr, Use):
        return _write_use(expr, texts, at, indent)
    if isinstance(expr, Items):
        return _write_items(expr, texts, at, indent, lead)
    written = [(arg, _write(arg.value, texts, at, indent + 4)) for arg in expr.args]
    arguments = [(f"{a.keyword}={code}" if a.keyword else code) for a, code in written if not a.default or code != a.default]
    # nn.ModuleList([ ... ]) opens both brackets at once
    if len(arguments) == 1 and arguments[0].startswith(("[", "{")):
        lone = expr.args[0].value
        return f"{expr.name}({_write(lone, texts, [at[0] - len(holes(lone))], indent, lead + len(expr.name) + 2)})"
    return _broken(f"{expr.name}(", arguments, ")", indent, lead)


def _write_use(use: Use, texts: list[str], at: list[int], indent: int) -> str:
    first = at[0]
    if use.definition.inlined:
        return _write(use.definition.members["return"], texts, at, indent)
    at[0] += len(use.numbers)
    _, sources = use.definition.columns()
    return _broken(f"{use.definition.name}(", [texts[first + source] for source in sources], ")", indent)


def _write_items(expr: Items, texts: list[str], at: list[int], indent: int, lead: int) -> str:
    codes = [_write(item, texts, at, indent + 4) for item in expr.items]
    if expr.keys:
        return _broken("{", [f'"{key}": {code}' for key, code in zip(expr.keys, codes)], "}", indent, lead)
    codes = [code for run, times in _runs(codes) for code in ([f"*({run} for _ in range({times}))"] if times > 2 else [run] * times)]
    return _broken("[", codes, "]", indent, lead)


def _runs(codes: Sequence[str]) -> list[tuple[str, int]]:
    return [(code, len(list(same))) for code, same in groupby(codes)]


def _broken(start: str, parts: Sequence[str], end: str, indent: int, lead: int = 0) -> str:
    """Returns the parts on one line if they fit, else one a line."""
    line = start + ", ".join(parts) + end
    if len(line) + indent + lead <= WIDTH and "\n" not in line:
        return line
    margin = " " * (indent + 4)
    return start + "\n" + "".join(f"{margin}{part},\n" for part in parts) + " " * indent + end
