"""`archduel table train`: a table of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from archduel.errors import SettingError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the ``table`` group of ``app``."""
    for group in app.registered_groups:
        if group.name == "table" and group.typer_instance is not None:
            group.typer_instance.command("train")(train)


def train(
    data: str = typer.Argument(help="what `archduel search` takes: a folder, .npz, digits ..."),
    out: Path = typer.Option(..., help="the .table file; OUT.jsonl beside it continues an interrupted call"),
    space: str = typer.Option("nasbench201", help="`archduel list spaces`"),
    cells: int = typer.Option(300, min=2, help="functionally different architectures"),
    seeds: int = typer.Option(3, min=1, help="runs of each; a run has one seed for all architectures"),
    seed: int = typer.Option(0, help="which architectures, and the seeds of their trainings"),
    mean_of: int = typer.Option(
        1, min=1, help="trainings whose mean is one of --seeds: less noise, more time"
    ),
    workers: int = typer.Option(1, min=1, help="trainings at a time"),
    fused: str = typer.Option(
        "off", help="networks a worker trains at once: a number, auto (measured) or off"
    ),
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE of the recipe, such as --set epochs=20"),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="print nothing"),
) -> None:
    """Train many architectures with one recipe and several seeds, and keep the numbers as a table."""
    from archduel.apps.table_train import train_table

    recipe = {}
    for value in set_:
        name, equals, text = value.partition("=")
        if not equals:
            raise SettingError(f"--set {value}: expected NAME=VALUE, such as --set epochs=20")
        try:
            recipe[name.strip()] = json.loads(text)
        except ValueError:
            recipe[name.strip()] = text
    path = train_table(
        data,
        out,
        space=space,
        cells=cells,
        seeds=seeds,
        seed=seed,
        mean_of=mean_of,
        recipe=recipe,
        workers=workers,
        fused=int(fused) if fused.isdecimal() else fused,
        quiet=quiet,
    )
    if not quiet:
        typer.echo(path)
