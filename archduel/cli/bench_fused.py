"""`archduel bench fused`: candidates a second, trained together against one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["fused", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the ``bench`` group of ``app``."""
    for group in app.registered_groups:
        if group.name == "bench" and group.typer_instance is not None:
            group.typer_instance.command("fused")(fused)


def fused(
    rows: Annotated[str, typer.Option(help="settings, separated by commas; default all")] = "",
    cores: Annotated[int, typer.Option(help="cores that may be used")] = 2,
    seconds: Annotated[float, typer.Option(help="of each measurement, at least")] = 5.0,
    repeats: Annotated[int, typer.Option(help="of each measurement; the median counts")] = 2,
    k: Annotated[int | None, typer.Option(help="networks at once; default as measured")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="write the records")] = None,
) -> None:
    """Measure how many networks a second are trained: several at once in one process (fused) against one by one.

    The other side is the faster of several processes and several threads.

    archduel bench fused --rows nasbench201-4 --seconds 2 --json out.json
    """
    from archduel.apps.bench_fused import ROWS, bench_fused
    from archduel.apps.bench_fused_output import line, write_json

    def show(record: dict[str, Any]) -> None:
        typer.echo(line(record))

    names = [name.strip() for name in rows.split(",") if name.strip()] or list(ROWS)
    records = bench_fused(names, cores=cores, seconds=seconds, repeats=repeats, k=k, on_row=show)
    if json_ is not None:
        write_json(records, json_)
    else:
        typer.echo(json.dumps({record["row"]: round(record["ratio"], 2) for record in records}))
