"""What is on a menu, a line each: the name and the first sentence of its class, read without importing anything heavy."""

from __future__ import annotations

import ast
from pathlib import Path

from archduel import registry

__all__ = ["summaries"]

ROOT = Path(registry.__file__).parent


def summaries(role: str) -> list[str]:
    """Returns ``name  what it is`` for every name on the menu of ``role``, in alphabetical order.

    Raises:
        UnknownNameError: for a role that has no menu.
    """
    names = registry.names(role)
    width = max(map(len, names))
    return [f"{name:<{width}}  {_first_line(registry.MENUS[role][name])}" for name in names]


def _first_line(target: str) -> str:
    """Returns the first line of the docstring of ``archduel.module:Class``, empty without one."""
    module, _, attribute = target.partition(":")
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute), None)
    text = ast.get_docstring(found) if found is not None else None
    return (text or "").partition("\n")[0].replace("``", "`")
