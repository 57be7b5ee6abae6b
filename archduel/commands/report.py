"""`archduel report`: what a finished or unfinished run says, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.options import add_command

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, report)


def report(
    run: Annotated[list[Path], typer.Argument(help="folder of a search or a training, finished or not; or several trainings")],
    out: Annotated[Path | None, typer.Option(help="the file; default report.html in the (first) folder")] = None,
) -> None:
    """Write report.html: of a search, or the learning curves of trainings."""
    if len(run) > 1 or (run[0] / "train.toml").is_file():
        from archduel.commands.network.curves import write_curves

        typer.echo(write_curves(run, out))
        return
    from archduel.commands.search.run import Run

    typer.echo(Run(run[0]).report(out))
