"""`archduel ls`, `status`, `watch` and `doctor`: what there is, how far it is, a page that follows it, and what this machine can do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.options import AsJson, add_command

__all__ = ["register"]

Folder = Annotated[Path, typer.Argument(help="folder of a search or a training")]
PORT = 8640
BROKEN = 1
"""Exit code of a check that found something missing that archduel cannot do without."""


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    add_command(app, ls)
    add_command(app, status)
    add_command(app, watch)
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


def watch(
    run: Annotated[Path, typer.Argument(help="folder of a search, a training, a study or a proxy job; the --out file of a comparison or a table")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the page on this machine; 0 takes a free one")] = PORT,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="open the page in a browser, where there is a screen")] = True,
) -> None:
    """Serve a page on this machine that follows a job while it works; Ctrl-C ends the page, not the job.

    archduel watch runs/flowers

    Works on running, stopped and finished jobs; nothing of them is changed, and nothing but the page is served.
    """
    from archduel.commands.journals import place_of
    from archduel.commands.runs.watch import HOST, serve

    with serve(place_of(run), port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        typer.echo(f"{run}: {address}   (Ctrl-C ends the page, not the job)")
        if open_page and _screen():
            import webbrowser

            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("the page has ended")


def _screen() -> bool:
    """Returns whether a browser can open a window; elsewhere a text browser would take the terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, processors and devices, extras, folders that must be writable, free disk."""
    from archduel.commands.runs.doctor import checks

    found = checks()
    for check in found:
        typer.echo(json.dumps(check) if as_json else f"{check['state']:8}{check['what']:14}{check['note']}")
    if any(check["state"] == "broken" for check in found):
        raise typer.Exit(BROKEN)
