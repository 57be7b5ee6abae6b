"""`archduel mcp`: a server on the standard streams, for programs that speak the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.options import add_command

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, mcp)


def mcp(root: Annotated[Path, typer.Option(help="folder that tools may read and write; nothing outside it")] = Path()) -> None:
    """Serve search, status, report, compare, predict and export as tools over stdin and stdout (Model Context Protocol).

    archduel mcp --root work/
    """
    from archduel.commands.mcp.server import server

    server(root).run("stdio")
