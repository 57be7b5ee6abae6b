"""`archduel list ROLE`: what there is."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Annotated

import typer

from archduel import registry
from archduel.commands.options import add_command
from archduel.errors import unknown

__all__ = ["menu_lines", "register"]

ROOT = Path(registry.__file__).parent


def menu_lines(role: str) -> list[str]:
    """Returns ``name  what it is`` for every name on the menu of ``role``, in alphabetical order.

    Raises:
        UnknownNameError: for a role that has no menu.
    """
    names = registry.names(role)
    width = max(map(len, names))
    outside = registry.plug_ins(role)
    return [f"{name:<{width}}  {_from_outside(role, name) if registry.MENUS[role][name] in outside else _first_line(_class(role, name))}" for name in names]


def _from_outside(role: str, name: str) -> str:
    """Returns what a plug-in says of itself in its first line, and where it is from."""
    where = registry.MENUS[role][name]
    entry = registry.entry(role, name)
    what = getattr(entry, "space", entry)
    text = inspect.getdoc(getattr(what, "func", what)) if callable(what) else None
    first = (text or "").partition("\n")[0].replace("``", "`").rstrip(".")
    return f"{first} (from outside: {where})" if first else f"from outside: {where}"


def _class(role: str, name: str) -> str:
    """Returns ``archduel.module:Class`` of a name; a family names that of its space."""
    if role != "space":
        return registry.MENUS[role][name]
    from archduel.core.family import family_of  # imports numpy, which the menu of commands does without

    what = family_of(registry.entry(role, name)).space
    return what if isinstance(what, str) else f"{what.__module__}:{what.__name__}"


def _first_line(target: str) -> str:
    """Returns the first line of the docstring of ``archduel.module:Class``, empty without one."""
    module, _, attribute = target.partition(":")
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute), None)
    text = ast.get_docstring(described) if described is not None else None
    return (text or "").partition("\n")[0].replace("``", "`")


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, list_, "list")


def list_(
    what: Annotated[str, typer.Argument(help="spaces, strategies, rankers, policies, trackers, architectures, presets or recipes")],
) -> None:
    """Print the names on a menu and what they are, one a line."""
    for line in _lines(what):
        typer.echo(line)


def _lines(what: str) -> list[str]:
    if what == "architectures":
        from archduel.networks.zoo import summaries

        return list(summaries())
    if what == "recipes":
        from archduel.recipes import summaries as recipes

        return list(recipes())
    if what == "presets":
        from archduel.presets import summaries as presets

        return list(presets())
    menus = {f"{role[:-1]}ies" if role.endswith("y") else f"{role}s": role for role in registry.MENUS}
    if what not in menus:
        raise unknown("menu", what, [*menus, "architectures", "presets", "recipes"])
    return menu_lines(menus[what])
