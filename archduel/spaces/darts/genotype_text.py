"""Genotype texts of DARTS, CNAS, BPE, RelativeNAS and NAS-Bench-301, read without evaluating anything, and written.

All name operations, so the differing operation orders of these codes do not matter. The forms:

=============  =======================================================================================================
``darts``      ``Genotype(normal=[('op', source), ...], normal_concat=..., reduce=[...], reduce_concat=...)``, two
               pairs a node; RelativeNAS and NAS-Bench-301 too
``cnas``       ``Genotype.from_arch(normal_arch=[('op', source, node), ...], normal_concat=..., reduced_arch=...)``
``cnas_json``  the same as a JSON object (keys ``named_normal_arch``, ``named_reduced_arch``)
``bpe``        as ``darts`` with one list of pairs a node, any number of them
``nasbench301``  a dict of strings, keys ``NetworkSelectorDatasetInfo:darts:edge_normal_0`` and so on
=============  =======================================================================================================

Reading goes by the text itself; fields may also be positional, a concat may be a ``range``, and ``NAME =`` may stand in front.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archduel.errors import InvalidArchError, unknown
from archduel.spaces.darts.features import EDGES
from archduel.spaces.darts.genotype import Genotype, Node

__all__ = ["FORMS", "read_genotype", "write_genotype"]

LONGEST = 20_000
"""Characters; the longest published text has under 2,000."""
PREFIX = "NetworkSelectorDatasetInfo:darts:"
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
CNAS_FIELDS = ("normal_arch", "normal_concat", "reduced_arch", "reduced_concat")


def read_genotype(text: str) -> Genotype:
    """Returns the genotype that ``text`` holds in any of the forms.

    Raises:
        InvalidArchError: with the offending part.
    """
    if len(text) > LONGEST:
        raise InvalidArchError(f"a genotype of {len(text)} characters; expected at most {LONGEST}")
    try:
        if text.lstrip().startswith("{"):
            return _from_dict(_read_dict(text))
        name, fields = _read_call(text)
        if name.endswith("from_arch"):
            return _from_cnas(_take(fields, CNAS_FIELDS))
        return _from_lists(_take(fields, FIELDS))
    except (SyntaxError, RecursionError, MemoryError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, InvalidArchError):
            raise
        raise InvalidArchError(f"{_short(text)} is not a genotype: {error}") from error


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}")


def _read_dict(text: str) -> Mapping[str, Any]:
    """Returns the object of JSON or of a Python literal."""
    try:
        value = json.loads(text)
    except ValueError:
        value = _literal(ast.parse(text.strip(), mode="eval").body)
    if not isinstance(value, dict):
        raise InvalidArchError(f"{_short(text)} is not a dict")
    return value


def _read_call(text: str) -> tuple[str, dict[str | int, Any]]:
    """Returns the called name and its arguments, positional ones under their number."""
    body = ast.parse(text.strip()).body
    statement = body[0] if len(body) == 1 else None
    named = isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
    value = statement.value if isinstance(statement, ast.Expr) or (named and isinstance(statement, ast.Assign)) else None
    if not isinstance(value, ast.Call):
        raise InvalidArchError(f"{_short(text)} is not a genotype; expected Genotype(normal=..., reduce=...)")
    name = ast.unparse(value.func)
    if name.split(".")[0] != "Genotype" or name.partition(".")[2] not in ("", "from_arch"):
        raise InvalidArchError(f"{name!r} is called, expected Genotype(...) or Genotype.from_arch(...)")
    fields: dict[str | int, Any] = {i: _literal(argument) for i, argument in enumerate(value.args)}
    for keyword in value.keywords:
        fields[keyword.arg or "**"] = _literal(keyword.value)
    return name, fields


def _literal(node: ast.expr) -> Any:
    """Returns the value of lists, tuples, dicts, texts, integers and ``range(a, b)``; nothing else is read."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(part) for part in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _literal(key): _literal(value) for key, value in zip(node.keys, node.values) if key is not None
        }
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        bounds = [_literal(argument) for argument in node.args]
        if 1 <= len(bounds) <= 2 and all(isinstance(b, int) and 0 <= b <= 99 for b in bounds):
            return list(range(*bounds))
    raise InvalidArchError(
        f"{_short(ast.unparse(node))} is not allowed in a genotype; expected lists, tuples, names in quotes, integers, range(a, b)"
    )


def _take(fields: Mapping[str | int, Any], names: Sequence[str]) -> list[Any]:
    """Returns the fields in the order of ``names``; the concats may be missing (None)."""
    if extra := [name for name in fields if name not in names and name not in range(len(names))]:
        raise InvalidArchError(f"field {extra[0]!r} is not one of {', '.join(names)}")
    taken = [fields.get(name, fields.get(i)) for i, name in enumerate(names)]
    for name, value in zip(names, taken):
        if not name.endswith("concat") and not isinstance(value, list):
            raise InvalidArchError(
                f"field {name!r} is {'missing' if value is None else repr(value)}, expected a list"
            )
    return taken


def _edge(edge: Any, length: int) -> tuple[str, int, int]:
    """Returns (operation, source, node or -1)."""
    kinds = [str, int, int][:length]
    if not isinstance(edge, list) or list(map(type, edge)) != kinds:
        form = "(operation, source)" if length == 2 else "(operation, source, node)"
        raise InvalidArchError(f"{edge!r} is not {form}")
    return edge[0], edge[1], edge[2] if length == 3 else -1


def _concat(value: Any, nodes: Sequence[Node]) -> tuple[int, ...]:
    if value is None:
        return tuple(range(2, len(nodes) + 2))
    if not isinstance(value, list) or not all(isinstance(state, int) for state in value):
        raise InvalidArchError(f"concat {value!r} is not a list of integers")
    return tuple(value)


def _from_lists(fields: Sequence[Any]) -> Genotype:
    """Returns the genotype of flat pairs or of one list of pairs a node."""
    normal, reduce = (_nodes(cell) for cell in (fields[0], fields[2]))
    return Genotype(normal, reduce, _concat(fields[1], normal), _concat(fields[3], reduce))


def _nodes(cell: list[Any]) -> tuple[Node, ...]:
    nested = all(isinstance(node, list) and all(isinstance(edge, list) for edge in node) for node in cell)
    if not nested and len(cell) % 2:
        raise InvalidArchError(
            f"a flat cell has {len(cell)} pairs, expected two a node; the last is {cell[-1]!r}"
        )
    grouped = cell if nested else [cell[i : i + 2] for i in range(0, len(cell), 2)]
    return tuple(tuple(_edge(edge, 2)[:2] for edge in node) for node in grouped)


def _from_cnas(fields: Sequence[Any]) -> Genotype:
    """Returns the genotype of triples; as in CNAS, the concat is always that of all nodes."""
    cells = []
    for cell in (fields[0], fields[2]):
        triples = [_edge(edge, 3) for edge in cell]
        last = max((node for _, _, node in triples), default=1)
        if outside := [triple for triple in triples if not 2 <= triple[2] <= 99]:
            raise InvalidArchError(f"{outside[0]!r} leads to {outside[0][2]}, nodes start at 2")
        states = range(2, last + 1)
        cells.append(tuple(tuple((op, s) for op, s, to in triples if to == state) for state in states))
    return Genotype(cells[0], cells[1], _concat(None, cells[0]), _concat(None, cells[1]))


def _from_dict(fields: Mapping[str, Any]) -> Genotype:
    if "named_normal_arch" in fields:
        return _from_cnas(
            [fields.get(key) or [] for key in ("named_normal_arch", "", "named_reduced_arch", "")]
        )
    own = {key.removeprefix(PREFIX): value for key, value in fields.items()}
    return Genotype(_cell_301(own, "normal"), _cell_301(own, "reduce"))


def _cell_301(fields: Mapping[str, Any], kind: str) -> tuple[Node, ...]:
    """Returns a cell of NAS-Bench-301's dict: the operations of chosen edges and the two sources of each node."""
    nodes = []
    for state in range(2, 6):
        inputs = fields.get(f"inputs_node_{kind}_{state}", "0_1" if state == 2 else None)
        sources = [int(part) for part in str(inputs).split("_")] if isinstance(inputs, str) else []
        edges = {
            source: f"edge_{kind}_{EDGES.index((source, state))}" for source in sources if source < state
        }
        if len(edges) != 2 or any(key not in fields for key in edges.values()):
            raise InvalidArchError(
                f"node {state} of the {kind} cell has inputs {inputs!r} and needs the keys {list(edges.values())}"
            )
        nodes.append(tuple((str(fields[key]), source) for source, key in edges.items()))
    return tuple(nodes)


def _write_call(
    genotype: Genotype, cell: Callable[[tuple[Node, ...]], Any], head: str, fields: Sequence[str]
) -> str:
    parts = []
    for (_, nodes, concat), name, concat_name in zip(genotype.cells(), fields[::2], fields[1::2]):
        whole = concat == tuple(range(2, len(nodes) + 2))
        states = f"range(2, {len(nodes) + 2})" if whole else str(list(concat))
        parts += [f"{name}={cell(nodes)}", f"{concat_name}={states}"]
    return f"{head}({', '.join(parts)})"


def _flat(nodes: tuple[Node, ...]) -> list[Any]:
    for state, node in enumerate(nodes, 2):
        if len(node) != 2:
            raise InvalidArchError(
                f"node {state} has {len(node)} edges; the flat form holds two a node, use the form 'bpe'"
            )
    return [edge for node in nodes for edge in node]


def _triples(nodes: tuple[Node, ...]) -> list[Any]:
    return [(op, source, state) for state, node in enumerate(nodes, 2) for op, source in node]


def _write_cnas_json(genotype: Genotype) -> str:
    (_, normal, _), (_, reduce, _) = genotype.cells()
    fields = {
        "named_normal_arch": _triples(normal),
        "normal_concat": list(genotype.normal_concat),
        "named_reduced_arch": _triples(reduce),
        "reduced_concat": list(genotype.reduce_concat),
    }
    return json.dumps(fields)


def _write_301(genotype: Genotype) -> str:
    """Returns the 22 keys of NAS-Bench-301 as JSON; doubled sources and ``none`` cannot be said."""
    fields: dict[str, str] = {}
    for kind, nodes, _ in genotype.cells():
        for state, node in enumerate(nodes, 2):
            ops = {source: op for op, source in node}
            if len(nodes) != 4 or len(ops) != 2 or len(node) != 2 or "none" in ops.values():
                raise InvalidArchError(
                    f"node {state} of the {kind} cell, {list(node)}, cannot be written for NAS-Bench-301"
                )
            for source in sorted(ops):
                fields[f"{PREFIX}edge_{kind}_{EDGES.index((source, state))}"] = ops[source]
            if state > 2:
                fields[f"{PREFIX}inputs_node_{kind}_{state}"] = "_".join(map(str, sorted(ops)))
    return json.dumps(fields)


FORMS: Mapping[str, Callable[[Genotype], str]] = {
    "darts": lambda genotype: _write_call(genotype, _flat, "Genotype", FIELDS),
    "bpe": lambda genotype: _write_call(
        genotype, lambda nodes: [list(node) for node in nodes], "Genotype", FIELDS
    ),
    "cnas": lambda genotype: _write_call(genotype, _triples, "Genotype.from_arch", CNAS_FIELDS),
    "cnas_json": _write_cnas_json,
    "nasbench301": _write_301,
}
"""Form -> how a genotype is written in it."""


def write_genotype(genotype: Genotype, form: str = "darts") -> str:
    """Returns the text of ``genotype``.

    Args:
        genotype: the cells.
        form: one of ``FORMS``.

    Raises:
        UnknownNameError: for another form.
        InvalidArchError: for a genotype that the form cannot hold.
    """
    if form not in FORMS:
        raise unknown("genotype form", form, FORMS)
    return FORMS[form](genotype)
