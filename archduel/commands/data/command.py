"""`archduel data`: list, show, fetch, import, clear."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.options import ImageSize, MaxImages, Seed, add_command
from archduel.commands.progress import Meter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    group = typer.Typer(
        help="Data sets: list, show, fetch, import, clear.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group, name="data")
    add_command(group, list_, "list")
    add_command(group, show_, "show")
    add_command(group, fetch_, "fetch")
    add_command(group, import_, "import")
    add_command(group, clear_, "clear")


def list_() -> None:
    """Print the data sets there are."""
    from archduel.commands.data.sets import list_sets

    for line in list_sets():
        typer.echo(f"{line.name:<12} {line.state:<12} {line.text}")


def show_(
    source: Annotated[str, typer.Argument(help="name, folder, .npz or CIFAR archive")],
    image_size: ImageSize = None,
    seed: Seed = 0,
    max_images: MaxImages = None,
) -> None:
    """Read a data set as a search would, and say what is in it."""
    from archduel.commands.data.sets import describe, show

    meter = Meter("images", "decoding")
    for line in describe(
        show(source, image_size=image_size, seed=seed, max_images=max_images, progress=meter)
    ):
        typer.echo(line)


def fetch_(name: Annotated[str, typer.Argument(help="cifar10 or cifar100")]) -> None:
    """Download a named set from its original public address."""
    from archduel.commands.data.sets import fetch

    folder = fetch(name, progress=Meter("bytes", name))
    typer.echo(f"{name} is in {folder}")


def import_(
    name: Annotated[str, typer.Argument(help="a name of your choice, or cifar10, cifar100")],
    path: Annotated[Path, typer.Argument(help="archive or folder of class folders, .npz, or a CIFAR archive")],
    replace: Annotated[bool, typer.Option("--replace", help="remove a set of that name first")] = False,
) -> None:
    """Keep images under a name; archives are unpacked safely."""
    from archduel.commands.data.sets import import_set

    source = import_set(name, path, replace=replace)
    typer.echo(
        f"{name}: {len(source):,} images, {len(source.classes)} classes; try `archduel data show {name}`"
    )


def clear_(
    everything: Annotated[bool, typer.Option("--all", help="also what was fetched, imported and added")] = False,
) -> None:
    """Remove decoded images from the cache."""
    from archduel.commands.data.sets import clear

    typer.echo(f"{clear(everything=everything) / 1e6:.1f} MB freed")
