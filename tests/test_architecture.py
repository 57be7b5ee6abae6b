"""The import table, no cycles, menus that resolve, and documented public names."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from archduel import registry

ROOT = Path(__file__).resolve().parent.parent / "archduel"
EVERYTHING = {
    "errors", "core", "data", "spaces", "nets", "policies", "rankers", "strategies", "training", "supernets",
    "estimators", "execution", "proxies", "export", "reporting", "apps", "testing", "registry", "tables", "networks",
    "fusing", "version",
}  # fmt: skip
NAMES = "_lazy"
"""Every package may name what it offers with it; it imports nothing of archduel."""
ALLOWED = {
    "errors": set(),
    "version": set(),
    NAMES: set(),
    "core": {"errors"},
    "registry": {"errors"},
    **{
        part: {"core", "errors"}
        for part in ("data", "spaces", "policies", "rankers", "strategies", "training", "execution", "reporting")
    },
    "nets": {"spaces", "core", "errors"},
    "supernets": {"nets", "training", "spaces", "core", "errors"},
    "estimators": {"nets", "training", "core", "errors"},
    "export": {"nets", "core", "errors"},
    "proxies": {"training", "estimators", "core", "errors"},
    "testing": {"core", "errors"},
    "apps": EVERYTHING - {"testing", "tables", "networks"},
    "cli": {"apps", "registry", "core", "errors", "version"},
    "tables": {"apps", "estimators", "core", "errors"},
    "networks": {"apps", "core", "errors"},
    "fusing": {"nets", "training", "estimators", "core", "errors"},
    "__main__": {"cli"},
    "__init__": EVERYTHING,
}


ELSEWHERE = {"spaces": {"apps", "nets"}}
"""Packages whose list of names still points at modules that will move into them."""


def part_of(module: str) -> str:
    """Returns the part of the house that ``archduel.x.y`` belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """Returns the parts of archduel that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("archduel"):
            if node.module == "archduel":
                found |= {alias.name for alias in node.names if alias.name in ALLOWED}
            else:
                found.add(part_of(node.module))
        elif isinstance(node, ast.Import):
            found |= {part_of(alias.name) for alias in node.names if alias.name.startswith("archduel")}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_what_the_table_allows(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in ALLOWED, f"{path} is a part that the import table does not know"
    names = {NAMES, *ELSEWHERE.get(part, ())} if path.name == "__init__.py" else set()
    assert imports(path) - {part} - names <= ALLOWED[part]


def test_the_import_table_has_no_cycle() -> None:
    done: set[str] = set()
    waiting = {part: set(needs) - {part} for part, needs in ALLOWED.items() if part != "__init__"}
    while waiting:
        ready = {part for part, needs in waiting.items() if needs <= done}
        assert ready, f"cycle among {sorted(waiting)}"
        done |= ready
        waiting = {part: needs for part, needs in waiting.items() if part not in ready}


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in registry.MENUS for name in registry.names(role)])
def test_every_menu_line_resolves(role: str, name: str) -> None:
    assert callable(registry.entry(role, name))


def documented(path: Path) -> list[str]:
    """Returns the public modules, classes and functions of a file that lack a docstring."""
    tree = ast.parse(path.read_text())
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
