"""`archduel list ROLE`: what there is."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""

    @app.command("list")
    def list_(what: str = typer.Argument(help="spaces, strategies, rankers, policies, ..., architectures")) -> None:
        """Print the names on a menu, one a line."""
        from archduel import registry

        if what == "architectures":
            from archduel.apps.named import summaries

            for line in summaries():
                typer.echo(line)
            return

        singular = {"strategies": "strategy", "policies": "policy"}.get(what, what.removesuffix("s"))
        for name in registry.names(singular):
            typer.echo(name)
