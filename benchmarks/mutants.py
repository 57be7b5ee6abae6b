"""Mutation score: the share of small changes to a module that its own tests notice.

    nice -n 19 python benchmarks/mutants.py --out benchmarks/records/mutants.json
    python benchmarks/mutants.py --modules race/plan,race/rungs --sample 60 --show

A mutant is a module with one change to its syntax tree: a comparison, an arithmetic operator, a number, and/or, a condition turned round, a
statement left out, a result left out, two arguments swapped, min for max. Texts, annotations and docstrings stay. Of all mutants of a module
a sample is drawn by a seed, and the test files that belong to the module are run on each, in a forked process, until the first failure. A
mutant that no test notices survives, unless ``EQUIVALENT`` says why it cannot be noticed; one that runs too long is noticed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import io
import json
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES: dict[str, tuple[str, ...]] = {
    "race/plan": ("unit/race/test_race_numbers.py", "unit/race/test_race_plan.py"),
    "race/rungs": ("unit/race/test_race_numbers.py", "unit/race/test_rungs.py"),
    "race/sides": ("unit/race/test_sides_by_hand.py", "unit/race/test_sides.py"),
    "race/clock": ("unit/race/test_race_numbers.py", "unit/race/test_race_plan.py"),
    "race/sizes": ("unit/race/test_race_numbers.py", "unit/race/test_sizes.py"),
    "race/race": ("unit/race/test_race_by_hand.py",),
    "race/newcomers": ("unit/race/test_sides_by_hand.py", "unit/race/test_newcomers.py"),
    "race/candidates": ("unit/race/test_race_numbers.py",),
    "commands/search/plan": ("unit/apps/test_plan_numbers.py",),
    "commands/search/pace": ("unit/apps/test_pace.py",),
    "commands/search/result": ("unit/apps/test_result.py", "unit/race/test_sentence.py"),
    "core/spending": ("unit/test_spending.py",),
}
"""Module below ``archduel`` -> the test files that belong to it."""
EQUIVALENT: dict[str, str] = {
    "race/sizes: return tuple(sorted({depth for _, depth in family(space.name).ladder or ((16, 1), (16, 2), (16, 3))})[:3]) -> "
    "return tuple(sorted({depth for _, depth in family(space.name).ladder or ((16, 1), (17, 2), (16, 3))})[:3])": "the width beside a depth is not read here",
}
"""``module: text of the mutant`` -> why no test could tell it from the original."""
SLOW = 60
"""Seconds after which a mutant counts as noticed, beside ten times what the unchanged module takes."""

Change = Callable[[], None]
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
OTHERS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


# -- The changes that a tree allows --------------------------------------------------------------------------------------


def setter(node: ast.AST, field: str, value: Any) -> Change:
    """Returns a change that sets a field of a node."""
    return lambda: setattr(node, field, value)


def replaced(holder: list[Any], at: int, value: Any) -> Change:
    """Returns a change that puts another item into a list."""

    def change() -> None:
        """Puts it there."""
        holder[at] = value

    return change


def _of_expression(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Yields the changes of an expression, with what is done."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            yield "comparison", replaced(node.ops, at, COMPARISONS[type(operator)]())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield "arithmetic", setter(node, "op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "and/or", setter(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield "sign", setter(node, "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not())
        if isinstance(node.op, ast.Not):
            yield "not", setter(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield "number", setter(node, "value", not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        plain = len(node.args) > 1 and ast.dump(node.args[0]) != ast.dump(node.args[1]) and not any(isinstance(a, ast.Starred) for a in node.args[:2])
        if plain and name not in ("min", "max"):  # whose order means nothing
            yield "swapped arguments", setter(node, "args", [node.args[1], node.args[0], *node.args[2:]])
        if name in OTHERS:
            yield "another function", setter(node.func, "id" if isinstance(node.func, ast.Name) else "attr", OTHERS[name])
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "condition", setter(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _of_statements(body: list[ast.stmt]) -> Iterator[tuple[str, Change, ast.stmt]]:
    """Yields the changes that leave something out of a block."""
    for at, statement in enumerate(body):
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if isinstance(statement, (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)) and not text:
            yield "left out", replaced(body, at, ast.Pass()), statement
        elif isinstance(statement, ast.Return) and statement.value is not None and not (isinstance(statement.value, ast.Constant) and statement.value.value is None):
            yield "no result", setter(statement, "value", ast.Constant(None)), statement


def _ignored(tree: ast.AST) -> set[int]:
    """Returns the nodes that are texts, annotations, or what is for type checkers alone."""
    out: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.arg, ast.AnnAssign)):
            parts = [node.annotation]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            parts = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.decorator_list, *node.bases]
            if any(getattr(base, "id", "") == "Protocol" for base in node.bases):
                parts.append(node)
        elif isinstance(node, (ast.JoinedStr, ast.Raise)):
            parts = [node] if isinstance(node, ast.JoinedStr) else [node.exc]  # a message; that it is raised is a change of its own
        for part in parts:
            if part is not None:
                out |= {id(inner) for inner in ast.walk(part)}
    return out


def changes(tree: ast.Module) -> list[tuple[str, int, Change]]:
    """Returns kind, line and change of all mutants of a tree, in the order of the text."""
    ignored = _ignored(tree)
    found: list[tuple[int, int, str, Change]] = []
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        for kind, change in _of_expression(node):
            if kind == "sign" and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
                continue
            found.append((node.lineno, node.col_offset, kind, change))  # type: ignore[attr-defined]
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                found += [(s.lineno, s.col_offset, kind, change) for kind, change, s in _of_statements(body) if id(s) not in ignored]
    found.sort(key=lambda entry: entry[:3])
    return [(kind, line, change) for line, _, kind, change in found]


def mutant(source: str, number: int) -> tuple[ast.Module, str]:
    """Returns the tree of a mutant and what was changed: kind, line, and the statement before and after."""
    tree = ast.parse(source)
    kind, line, change = changes(tree)[number]
    holder = min(
        (n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or n.lineno)),
        key=lambda n: ((n.end_lineno or n.lineno) - n.lineno, -n.col_offset),
    )
    before = ast.unparse(holder).splitlines()
    change()
    ast.fix_missing_locations(tree)
    after = ast.unparse(holder).splitlines() if kind != "left out" else ["pass"]
    differ = next(((a, b) for a, b in zip(before, after) if a != b), (before[0], after[0]))
    return tree, f"{kind}, line {line}: {differ[0].strip()} -> {differ[1].strip()}"


# -- Running the tests on one --------------------------------------------------------------------------------------------


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree in place of its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Returns the specification of the module, None for others."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module: Any) -> None:
        """Runs the tree."""
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def _tests(module: str) -> list[str]:
    return [str(path) for name in MODULES[module] if (path := ROOT / "tests" / name).is_file()]


def noticed(module: str, tree: ast.Module, seconds: float) -> bool:
    """Returns whether the tests of a module fail on a tree, or do not end in time."""
    child = os.fork()
    if not child:
        import pytest

        os.setsid()
        signal.alarm(int(seconds) + 1)
        sys.meta_path.insert(0, Importer("archduel." + module.replace("/", "."), ROOT / "archduel" / f"{module}.py", tree))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--assert=plain", f"--rootdir={ROOT}", *_tests(module)])
        os._exit(int(code))
    _, status = os.waitpid(child, 0)
    return status != 0


def score(module: str, sample: int, seed: int, show: bool) -> dict[str, Any]:
    """Returns the record of one module."""
    source = (ROOT / "archduel" / f"{module}.py").read_text()
    every = list(range(len(changes(ast.parse(source)))))
    chosen = sorted(random.Random(f"{seed}/{module}").sample(every, min(sample, len(every))))
    began = time.monotonic()
    if noticed(module, ast.parse(source), 600):
        raise SystemExit(f"the tests of {module} fail without a change: {_tests(module)}")
    limit = SLOW + 10 * (time.monotonic() - began)
    survivors, equivalent, killed = [], {}, 0
    for number in chosen:
        tree, text = mutant(source, number)
        if reason := EQUIVALENT.get(f"{module}: {text.split(': ', 1)[1]}"):
            equivalent[text] = reason
        elif noticed(module, tree, limit):
            killed += 1
        else:
            survivors.append(text)
            if show:
                print(f"  {module} #{number} {text}", flush=True)
    n = killed + len(survivors)
    return {
        "module": module, "possible": len(every), "n": n, "killed": killed, "score": round(killed / max(n, 1), 3), "interval": interval(killed, n),
        "survivors": survivors, "equivalent": equivalent, "tests": [name for name in MODULES[module] if (ROOT / "tests" / name).is_file()],
    }  # fmt: skip


def interval(killed: int, n: int) -> list[float]:
    """Returns the 95 % interval of a share by Wilson."""
    if not n:
        return [0.0, 1.0]
    z, p = 1.96, killed / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return [round(max(0.0, middle - half), 3), round(min(1.0, middle + half), 3)]


def main() -> None:
    """Scores the modules and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default=",".join(MODULES))
    parser.add_argument("--sample", type=int, default=40, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print survivors as they are found")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # what every mutant needs is imported once, before the forks; of archduel nothing, since the changed module may be among it
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401
    import pydantic  # noqa: F401
    import pytest  # noqa: F401
    import torch  # noqa: F401

    records = []
    for module in chosen.modules.split(","):
        records.append(score(module, chosen.sample, chosen.seed, chosen.show))
        print(json.dumps({key: records[-1][key] for key in ("module", "possible", "n", "killed", "score", "interval")}), flush=True)
        if chosen.out:
            # after the forks of this module, in a process of its own: archduel must not be imported here
            chosen.out.write_text(json.dumps({"command": shlex.join(["python", *sys.argv]), "seed": chosen.seed, **totals(records), "modules": records}, indent=1) + "\n")


def totals(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the sums over modules."""
    n, killed = sum(record["n"] for record in records), sum(record["killed"] for record in records)
    return {"n": n, "killed": killed, "score": round(killed / max(n, 1), 3), "interval": interval(killed, n), "equivalent": sum(len(r["equivalent"]) for r in records)}


if __name__ == "__main__":
    main()
