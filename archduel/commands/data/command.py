"""`archduel data`: list, show, fetch, import, clear."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

__all__ = ["Meter", "register"]


class Meter:
    """Progress on stderr: one changing line on a terminal, else a line every tenth."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.last = -1

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are done."""
        percent = 100 * done // max(1, total)
        live = sys.stderr.isatty()
        if percent == self.last or (not live and percent // 10 == self.last // 10):
            return
        self.last = percent
        amount = (
            f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
            if self.unit == "bytes"
            else f"{done:,} of {total:,} {self.unit}"
        )
        line = f"{self.what}: {amount} ({percent} %)"
        end = "\n" if not live or done >= total else "\r"
        print(line, end=end, file=sys.stderr, flush=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    group = typer.Typer(
        help="Data sets: list, show, fetch, import, clear.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group, name="data")
    group.command("list")(list_)
    group.command("show")(show_)
    group.command("fetch")(fetch_)
    group.command("import")(import_)
    group.command("clear")(clear_)


def list_() -> None:
    """Print the data sets there are."""
    from archduel.commands.data.sets import list_sets

    for line in list_sets():
        typer.echo(f"{line.name:<12} {line.state:<12} {line.text}")


def show_(
    source: str = typer.Argument(help="name, folder, .npz or CIFAR archive"),
    image_size: int | None = typer.Option(
        None, help="side in pixels; chosen from the images if not given"
    ),
    seed: int = typer.Option(0, help="of the splits"),
    max_images: int | None = typer.Option(None, help="use about so many"),
) -> None:
    """Read a data set as a search would, and say what is in it."""
    from archduel.commands.data.sets import describe, show

    meter = Meter("decoding", "pictures")
    for line in describe(
        show(source, image_size=image_size, seed=seed, max_images=max_images, progress=meter)
    ):
        typer.echo(line)


def fetch_(name: str = typer.Argument(help="cifar10 or cifar100")) -> None:
    """Download a named set from its original public address."""
    from archduel.commands.data.sets import fetch

    typer.echo(f"{name} is in {fetch(name, progress=Meter(name, 'bytes'))}")


def import_(
    name: str = typer.Argument(help="a name of your choice, or cifar10, cifar100"),
    path: Path = typer.Argument(help="archive or folder of class folders, .npz, or a CIFAR archive"),
    replace: bool = typer.Option(False, "--replace", help="remove a set of that name first"),
) -> None:
    """Keep images under a name; archives are unpacked safely."""
    from archduel.commands.data.sets import import_set

    source = import_set(name, path, replace=replace)
    typer.echo(
        f"{name}: {len(source):,} pictures, {len(source.classes)} classes; try `archduel data show {name}`"
    )


def clear_(
    everything: bool = typer.Option(False, "--all", help="also what was fetched and imported"),
) -> None:
    """Remove decoded images from the cache."""
    from archduel.commands.data.sets import clear

    typer.echo(f"{clear(everything=everything) / 1e6:.1f} MB freed")
