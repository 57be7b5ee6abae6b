"""The rules of the house: the import table and no circle among files, names at home, sizes, menus, documented names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from archduel import registry

ROOT = Path(__file__).resolve().parent.parent / "archduel"
FILES = sorted(ROOT.rglob("*.py"))
NEEDS: dict[str, set[str]] = {
    **{part: set() for part in ("text", "version", "_lazy")},
    "errors": {"text"},
    **{part: {"errors"} for part in ("registry",)},
    "core": {"errors", "version"},
    **{part: {"core"} for part in ("strategies", "rankers", "policies", "data", "training", "execution", "reporting", "testing")},
    **{part: {"registry", "core"} for part in ("assemble", "spaces", "tables")},
    "fusing": {"spaces", "training", "core"},
    "optuna": {"assemble", "strategies", "spaces", "registry", "core"},
    "presets": {"core"},
    "proxies": {"training", "core"},
    "race": {"spaces", "training", "core"},
    "recipes": {"spaces", "training", "core"},
    "export": {"spaces", "core"},
    "devices": {"export", "rankers", "spaces", "core"},
    "estimators": {"fusing", "spaces", "training", "core"},
    "networks": {"export", "spaces", "data", "registry", "core"},
    "pretrained": {"networks", "spaces", "training", "data", "registry", "core"},
}
"""Part of the house -> the parts that its files may import; errors, text, version and lazy lists of names are free for all."""
FREE = {"errors", "text", "version", "_lazy"}
SHARED_BY_COMMANDS = {"again", "choices", "dialect", "int8", "options", "progress", "trainings", "train_file", "tracking", "candidates", "interface", "schemas", "listing", "report", "zoo", "priors", "published", "journals", "live", "notebook"}
"""Modules of ``commands`` that its folders share; the folders never import each other."""


def module_of(path: Path) -> str:
    """Returns the dotted name of a file."""
    return ".".join(("archduel", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    """Returns a file as a tree, which many tests look at and none changes."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[str]:
    """Returns the modules of archduel that a file imports, also inside functions; lists for type checkers are no imports."""
    tree = tree_of(path)
    typed = [n for n in ast.walk(tree) if isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING"]
    lists = {id(n) for block in typed for line in block.body for n in ast.walk(line)} if path.name == "__init__.py" else set()
    found = set()
    for node in ast.walk(tree):
        if id(node) in lists:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "archduel":
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found - {module_of(path)}


def part_of(module: str) -> str:
    """Returns the part of the house that ``archduel.x.y`` belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_imports_only_what_the_table_allows(module: str) -> None:
    part = part_of(module)
    if part in ("commands", "__init__", "__main__"):
        return
    assert part in NEEDS, f"{module} is in a part that the import table does not know"
    above = {other for other in imports(MODULES[module]) if part_of(other) not in NEEDS[part] | FREE | {part}}
    assert not above, f"{module} may import {sorted(NEEDS[part])}, it imports {sorted(above)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.count(".") > 2 and part_of(m) == "commands"))
def test_folders_of_commands_do_not_import_each_other(module: str) -> None:
    own = module.split(".")[2]
    others = {m.split(".")[2] for m in imports(MODULES[module]) if part_of(m) == "commands" and m.count(".") > 1}
    assert others <= SHARED_BY_COMMANDS | {own}


def test_no_file_needs_itself() -> None:
    waiting = {module: imports(path) for module, path in MODULES.items()}
    done: set[str] = set()
    while waiting:
        ready = {module for module, needs in waiting.items() if needs <= done}
        assert ready, f"these files import each other in a circle, or need one that does: {sorted(waiting)}"
        done |= ready
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}


SPACES = sorted(registry.names("space"))
STRATEGIES = sorted(registry.names("strategy"))


@cache
def words_of(path: Path) -> set[str]:
    """Returns the strings of a file that stand in code: neither docstrings nor defaults of parameters."""
    tree = tree_of(path)
    free: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            free.add(id(node.value))
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            free |= {id(n) for default in (*node.args.defaults, *node.args.kw_defaults) if default for n in ast.walk(default)}
        if isinstance(node, ast.AnnAssign) and node.value is not None:  # the default of a field
            free.add(id(node.value))
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in free}


ORDINARY = {"pretrained"}
"""Names of spaces that are also a word of ``--start``."""


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part_of(m) not in ("spaces", "registry")))
def test_no_space_is_named_outside_its_home(module: str) -> None:
    assert not words_of(MODULES[module]) & (set(SPACES) - ORDINARY)


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part_of(m) not in ("strategies", "registry", "rankers", "spaces", "tables")))
def test_no_strategy_is_named_outside_its_home(module: str) -> None:
    # Papers have spaces, published networks and files of their own name: presets of spaces, formats of tables.
    alone = set(STRATEGIES) - {"random", "best", "local", "optuna"}  # words of their own right; a package
    assert not words_of(MODULES[module]) & (alone - set(SPACES))


LIGHT = sorted(m for m in MODULES if part_of(m) == "spaces" and m.rsplit(".")[-1] in ("space", "features", "cost"))


@cache
def after_torch() -> set[str]:
    """Returns the modules of ``LIGHT`` with which, or after which, torch is there, each imported after the one before it by one process."""
    code = f"import sys\nfor name in {LIGHT}:\n    __import__(name)\n    if 'torch' in sys.modules: print(name)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_spaces_features_and_costs_need_no_torch(module: str) -> None:
    assert module not in after_torch()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_and_functions_stay_readable(module: str) -> None:
    path = MODULES[module]
    text = path.read_text()
    assert text.count("\n") <= 500, f"{path} has {text.count(chr(10))} lines, at most 500"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{module}.{node.name} has {lines} lines of code, at most 40"


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in registry.MENUS for name in registry.names(role)])
def test_every_menu_line_resolves(role: str, name: str) -> None:
    assert callable(registry.entry(role, name))


def documented(path: Path) -> list[str]:
    """Returns the public modules, classes and functions of a file that lack a docstring."""
    tree = tree_of(path)
    missing = [] if ast.get_docstring(tree) or not path.read_text().strip() else [str(path)]

    def visit(body: list[ast.stmt], prefix: str, protocol: bool) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                setter = any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list)
                if not ast.get_docstring(node) and not protocol and not setter:  # a property is documented at its getter
                    missing.append(f"{path.relative_to(ROOT)}: {prefix}{node.name}")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.", False)

    visit(tree.body, "", False)
    return missing


def test_public_names_have_docstrings() -> None:
    missing = [name for path in FILES for name in documented(path)]
    assert not missing, f"{len(missing)} public names lack a docstring: {missing[:20]}"


def test_all_lists_exist_and_name_real_things() -> None:
    for path in FILES:
        if path.name in ("__init__.py", "cli.py") or path.parent == ROOT / "testing":
            continue
        module = importlib.import_module("archduel." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert hasattr(module, "__all__"), f"{path} has no __all__"
        assert all(hasattr(module, name) for name in module.__all__), path
