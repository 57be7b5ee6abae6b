"""`archduel zoo`: published networks, our weights for some, released weights from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import Group
from archduel.commands.options import AsJson, add_command, numbers
from archduel.commands.progress import record_lines
from archduel.text import typed

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="`archduel zoo list`; NAME.TAG for particular weights")]


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``."""
    zoo = typer.Typer(cls=Group, help="Published networks by name, with weights.", no_args_is_help=True)
    add_command(zoo, list_, "list")
    add_command(zoo, show, "show")
    add_command(zoo, load, "load")
    app.add_typer(zoo, name="zoo")


def list_(as_json: AsJson = False) -> None:
    """Print the networks: name, space, parameters at the published size, our weights, source."""
    from dataclasses import asdict

    from archduel.networks import zoo as app

    for entry in app.entries():
        if as_json:
            typer.echo(json.dumps(asdict(entry)))
            continue
        weights = ", ".join(entry.weights) or "no weights"
        typer.echo(f"{entry.name:20}{entry.space:13}{entry.params / 1e6:6.2f} M  {weights:24}{entry.source}")


def show(name: Name, as_json: AsJson = False) -> None:
    """Print what is known of a network: what was published, our counts, how our weights were trained."""
    from archduel.networks import zoo as app

    shown = app.record_of(name)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for line in record_lines(shown, within={"weights": app.weights_line}):
        typer.echo(line)


def load(
    name: Name,
    to: Annotated[Path, typer.Option(help="folder to write: model.safetensors and model.json")],
    checkpoint: Annotated[Path | None, typer.Option(help="a released .pt, .pth or .safetensors file instead of our weights")] = None,
    data: Annotated[str, typer.Option(help="of the checkpoint"), OneOf("cifar10", "cifar100", "imagenet")] = "cifar10",
    channels: Annotated[int, typer.Option(help="of the checkpoint's network; 0 = as published")] = 0,
    depth: Annotated[int, typer.Option(help="cells in all; 0 = as published")] = 0,
    classes: Annotated[int, typer.Option(help="outputs; 0 = as published")] = 0,
    mean: Annotated[str, typer.Option(help="of the checkpoint's normalisation, values in 0..1: 0.49,0.48,0.45")] = "",
    std: Annotated[str, typer.Option(help="likewise")] = "",
) -> None:
    """Write a network with weights as a folder for eval, export, predict and train --from.

    archduel zoo load relativenas --checkpoint cifar10_model.pt --to nets/relativenas
    """
    from archduel.networks import zoo as app

    if checkpoint is None:
        facts = app.load_to(name, to)
    else:
        size = {"channels": channels, "depth": depth, "n_classes": classes}
        means, stds = (numbers(text, f"--{option}", float, example="0.49,0.48,0.45") for option, text in (("mean", mean), ("std", std)))
        facts = app.import_weights(name, checkpoint, to, data=data, mean=means, std=stds, size={k: v for k, v in size.items() if v})
    typer.echo(f"{to}: {name}, {app.size_words(facts)}, {len(facts['classes'])} classes; `archduel eval {typed(to)} --data ...` checks it")
