"""`archduel search`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.options import (
    FieldsOf,
    Quiet,
    add_command,
    assignments,
    command_line,
    parse_count,
    parse_seconds,
    running_for,
)

__all__ = ["register"]

Fields = Annotated[
    dict[str, Any],
    FieldsOf(
        "archduel.commands.search.settings:Settings",
        without=("seconds", "threads", "set"),  # --time and --set are written in other words; threads is for Python alone
        texts=("max_params", "max_macs"),
        decided=("workers", "space"),
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, search, bare={"--audit": "half"})
    add_command(app, audit)


def search(
    *,
    time: Annotated[str | None, typer.Option(help="wall-clock budget: 90s, 20m, 2h (a bare number is seconds), default by the number of images; +30m trains a finished run on")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; the same command continues it")] = None,
    fields: Fields,
    audit: Annotated[str | None, typer.Option(help="further time, such as 30m, to measure what the search gained: `archduel audit`; alone half of the run's time")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="SECTION.NAME=VALUE changes a setting, such as strategy.lr=1e-3 or final.batch_size=64; repeat for more")] = None,
    quiet: Quiet = False,
) -> None:
    """Turn a folder of images into a trained, exported network and an honest report."""
    from archduel.commands.search import run as main
    from archduel.commands.search.more import is_more

    changes = assignments(set_, example="strategy.lr=1e-4", form="SECTION.NAME=VALUE")
    data = fields.pop("data")
    seconds = time if time is None or is_more(time) else parse_seconds(time, "--time")
    for name, option in (("max_params", "--max-params"), ("max_macs", "--max-macs")):
        fields[name] = None if fields[name] is None else parse_count(fields[name], option)
    try:
        main.search(data, time=seconds, out=out, audit=audit, set=changes, quiet=quiet, command=command_line(), gone=running_for(), **fields)
    except KeyboardInterrupt as stop:  # the job said so already; some versions of typer would make it exit code 1
        raise typer.Exit(130) from stop


def audit(
    run: Annotated[Path, typer.Argument(help="folder of a finished race")],
    *,
    time: Annotated[str | None, typer.Option(help="all that the audit may take: 30m; default as long as the run; more adds seeds")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure what a finished search gained: paired seeds against random search at equal cost and a standard network."""
    from archduel.commands.search.audit import audit as main

    try:
        main(run, time=time, quiet=quiet, command=command_line(), gone=running_for())
    except KeyboardInterrupt as stop:
        raise typer.Exit(130) from stop
