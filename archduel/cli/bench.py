"""`archduel bench ...`: comparisons on tabular benchmarks; each command is in a module of its own."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``; modules that come later in the alphabet fill it."""
    bench = typer.Typer(help="Measurements: strategies and rankers on tables, shared weights, fused training.", no_args_is_help=True)
    app.add_typer(bench, name="bench")
