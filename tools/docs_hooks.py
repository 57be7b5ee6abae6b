"""What the pages say of the program itself is made when they are built: help of all commands, all public names, all records."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "spaces", "strategies", "rankers", "policies", "estimators", "tables", "data", "training", "networks", "export", "reporting", "testing")


def on_config(config: Any) -> Any:
    """Adds pages that the navigation does not name, under "More": a new page is never lost."""
    named = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    new = sorted(path.name for path in Path(config.docs_dir).glob("*.md") if path.name not in named)
    if new:
        config.nav.append({"More": new})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns the text of a page with what belongs to it at its end; what lies outside the pages is named and not linked."""
    markdown = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"`\1`", markdown)
    made = {"reference_cli.md": commands, "reference_api.md": names, "records.md": records}.get(page.file.src_uri)
    if made is None:
        return markdown
    return markdown.partition("\n::: archduel\n")[0] + "\n" + made()


def commands() -> str:
    """Returns the help of every command."""
    import typer.main

    from archduel.commands import app

    def all_of(command: Any, words: list[str]) -> list[str]:
        if hasattr(command, "commands"):
            return [part for name, inner in command.commands.items() for part in all_of(inner, [*words, name])]
        return ["## " + " ".join(words), *_shown(command)]

    return "\n".join(all_of(typer.main.get_command(app), ["archduel"]))


def _shown(command: Any) -> list[str]:
    lines = ["", inspect.cleandoc(command.help or ""), "", "| argument or option | default | what |", "| --- | --- | --- |"]
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        default = "" if parameter.default in (None, False, ()) or callable(parameter.default) else f"`{parameter.default}`"
        lines.append(f"| {flags} | {default} | {' '.join((getattr(parameter, 'help', None) or '').split()).replace('|', chr(92) + '|')} |")
    return [*lines, ""]


def names() -> str:
    """Returns a directive for every public name."""
    import archduel

    lines = ["## archduel", *(_directive(archduel, name) for name in archduel.__all__ if not name.startswith("_"))]
    for package in PACKAGES:
        module = importlib.import_module(f"archduel.{package}")
        lines += [f"\n## archduel.{package}\n", inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0], ""]
        lines += [f"- `{name}`: {_first_line(module, name)}" for name in module.__all__]
    return "\n".join(lines)


def _directive(module: Any, name: str) -> str:
    """Returns the directive for a name: its docstring is read where it is defined, shown under the name that is public."""
    value = getattr(module, name)
    return f"\n::: {value.__module__}.{value.__qualname__}\n    options:\n      heading: {module.__name__}.{name}\n"


def _first_line(module: Any, name: str) -> str:
    value = getattr(module, name)
    said = inspect.getdoc(value) if callable(value) or inspect.ismodule(value) else ""
    return (said or "").partition("\n")[0].replace("<", "&lt;")


def records() -> str:
    """Returns a table of all records with the commands that made them."""
    lines = ["## All of them", "", "| record | command |", "| --- | --- |"]
    for path in sorted((ROOT / "benchmarks" / "records").glob("*.json*")):
        command = _command(path)
        shown = f"`{command.replace('|', ' ')}`" if command else "see the page that names it"
        lines.append(f"| `{path.name}` | {shown} |")
    return "\n".join(lines)


def _command(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    node: Any = json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text)
    while isinstance(node, list) and node:
        node = node[0]
    said = node.get("command") or node.get("commands") or "" if isinstance(node, dict) else ""
    return " ".join((said if isinstance(said, str) else str(next(iter(said), ""))).split())
