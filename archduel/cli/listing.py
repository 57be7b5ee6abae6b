"""`archduel list ROLE`: what there is."""

from __future__ import annotations

import typer

from archduel.errors import unknown

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""

    @app.command("list")
    def list_(what: str = typer.Argument(help="spaces, strategies, rankers, policies, trackers, architectures or recipes")) -> None:
        """Print the names on a menu and what they are, one a line."""
        from archduel import registry

        if what == "architectures":
            from archduel.apps.named import summaries

            for line in summaries():
                typer.echo(line)
            return

        if what == "recipes":
            from archduel.apps.recipes import summaries as recipes

            for line in recipes():
                typer.echo(line)
            return

        menus = {f"{role[:-1]}ies" if role.endswith("y") else f"{role}s": role for role in registry.MENUS}
        if what not in menus:
            raise unknown("menu", what, [*menus, "architectures", "recipes"])
        from archduel.apps.menus import summaries as entries

        for line in entries(menus[what]):
            typer.echo(line)
