"""`archduel ls`, `status` and `doctor`: what there is, how far it is, and what this machine can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.options import AsJson, add_command

__all__ = ["register"]

Folder = Annotated[Path, typer.Argument(help="folder of a search or a training")]
BROKEN = 1
"""Exit code of a check that found something missing that archduel cannot do without."""


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    add_command(app, ls)
    add_command(app, status)
    add_command(app, doctor)


def ls(
    folder: Annotated[Path, typer.Argument(help="where to look, two folders deep")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List searches and trainings below a folder: state, data, what came out."""
    from archduel.commands.runs.status import found, line_of, state_of

    states = [state_of(path) for path in found(folder)]
    for state in states:
        typer.echo(json.dumps(state) if as_json else line_of(state))
    if not states and not as_json:
        typer.echo(f"no search or training in {folder}; `archduel search DATA` begins one")


def status(run: Folder, as_json: AsJson = False) -> None:
    """Print how far a search or a training is, who works on it, and what came out so far; nothing is changed."""
    from archduel.commands.runs.status import lines_of, state_of

    state = state_of(run)
    for line in [json.dumps(state)] if as_json else lines_of(state):
        typer.echo(line)


def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, processors and devices, extras, folders that must be writable, free disk."""
    from archduel.commands.runs.doctor import checks

    found = checks()
    for check in found:
        typer.echo(json.dumps(check) if as_json else f"{check['state']:8}{check['what']:14}{check['note']}")
    if any(check["state"] == "broken" for check in found):
        raise typer.Exit(BROKEN)
