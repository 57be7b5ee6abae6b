"""`archduel bench search`: compare search strategies on a tabular benchmark."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.errors import SettingError

__all__ = ["add", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the ``bench`` group of ``app``, which is made if there is none."""
    for group in app.registered_groups:
        if group.name == "bench" and group.typer_instance is not None:
            add(group.typer_instance)
            return
    bench = typer.Typer(help="Measurements: strategies and rankers on tables, shared weights, fused training.", no_args_is_help=True)
    add(bench)
    app.add_typer(bench, name="bench")


def add(bench: typer.Typer) -> None:
    """Adds ``search`` to a group that does not have it yet."""
    if not any(command.name == "search" for command in bench.registered_commands):
        bench.command("search")(search)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SettingError(f"--queries {text}: expected numbers separated by commas, such as 50,100,150") from error


def _settings(values: list[str]) -> dict[str, dict[str, Any]]:
    """Returns ``{"evolution": {"population": 50}}`` of ``["evolution.population=50"]``; values are JSON where they can be."""
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        key, equals, text = value.partition("=")
        strategy, dot, name = key.strip().partition(".")
        if not equals or not dot:
            raise SettingError(f"--set {value}: expected STRATEGY.NAME=VALUE, such as --set evolution.population=50")
        try:
            found.setdefault(strategy, {})[name] = json.loads(text)
        except ValueError:
            found.setdefault(strategy, {})[name] = text
    return found


def _progress(done: int, all_: int) -> None:
    """Tells how far it is: one line that changes on a terminal, twenty lines elsewhere."""
    live = sys.stderr.isatty()
    if live or done == all_ or done % max(1, all_ // 20) == 0:
        end = "\n" if done == all_ or not live else ""
        print(f"{chr(13) if live else ''}{done} of {all_} searches", file=sys.stderr, end=end, flush=True)


def search(
    table: Annotated[str, typer.Option(help="name (`archduel table list`) or file of a table")],
    strategies: Annotated[str, typer.Option(help="names, with settings: best,ctnas[baseline=fixed;lr=1e-3]")],
    queries: Annotated[str, typer.Option(help="compare at these numbers of distinct queries: 50,100,150")] = "150",
    runs: Annotated[int, typer.Option(help="paired repetitions")] = 100,
    seed: Annotated[int, typer.Option(help="seed of everything")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="STRATEGY.NAME=VALUE; repeat for more")] = None,
    fidelity: Annotated[str | None, typer.Option(help="of the evaluations; default the most expensive")] = None,
    reduce: Annotated[str, typer.Option(help="what a search is told: mean, sample or a run's number")] = "mean",
    against: Annotated[str, typer.Option(help="test all others against this strategy; default best")] = "",
    workers: Annotated[int | None, typer.Option(help="processes; default one a core, 0 = this one")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="write the records; finished searches are kept beside it")] = None,
    csv: Annotated[Path | None, typer.Option(help="write the records as CSV")] = None,
    figures: Annotated[Path | None, typer.Option(help="folder for figures and trajectories")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print no progress")] = False,
) -> None:
    """Compare strategies: equal queries, paired seeds; the best so far is chosen by validation and judged by test accuracy.

    archduel bench search --table mine.table --strategies random,evolution,best --queries 50,100 --runs 20 --json out.json

    The same command goes on where it was stopped when --json is given. Results do not depend on --workers.
    """
    from archduel.apps.bench_output import summary, write_csv, write_figures, write_json, write_trajectories
    from archduel.apps.bench_search import bench_search

    bench = bench_search(
        table,
        strategies,
        queries=_numbers(queries),
        runs=runs,
        seed=seed,
        settings=_settings(set_ or []),
        fidelity=fidelity,
        reduce=reduce,
        against=against,
        workers=workers,
        trials=None if json_ is None else json_.with_suffix(".trials.jsonl"),
        on_trial=None if quiet else _progress,
    )
    bench.facts["command"] = shlex.join(["archduel", *sys.argv[1:]])
    if json_ is not None:
        write_json(bench, json_)
    if csv is not None:
        write_csv(bench, csv)
    if figures is not None:
        write_figures(bench, figures)
        write_trajectories(bench, figures / "trajectories.csv")
    typer.echo(summary(bench))
