"""`archduel bench rank`: compare rankers on a tabular benchmark."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from archduel.errors import SettingError

__all__ = ["rank", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the ``bench`` group of ``app``."""
    for group in app.registered_groups:
        if group.name == "bench" and group.typer_instance is not None:
            group.typer_instance.command("rank")(rank)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SettingError(f"--labels {text}: expected numbers separated by commas, such as 78,156") from error


def rank(
    table: Annotated[str, typer.Option(help="name (`archduel table list`) or file of a table")],
    rankers: Annotated[str, typer.Option(help="names, with settings: best,nac[epochs=500],renas-6")],
    labels: Annotated[str, typer.Option(help="learn from these numbers of labels: 78,156,469")] = "",
    splits: Annotated[int | None, typer.Option(help="repetitions with other labels; default 20")] = None,
    preset: Annotated[str, typer.Option(help="a protocol of the literature: pinat201, narformer, ctnas, graf ...")] = "",
    learn: Annotated[str | None, typer.Option(help="validation (default) or test accuracies are the labels")] = None,
    run: Annotated[int | None, typer.Option(help="label = this run; default the mean of all")] = None,
    judge: Annotated[str | None, typer.Option(help="remaining (default), all, or a number of held-out architectures")] = None,
    against: Annotated[str, typer.Option(help="test all others against this ranker; default each against the best other")] = "",
    seed: Annotated[int, typer.Option(help="of splits and rankers")] = 0,
    workers: Annotated[int, typer.Option(help="processes; 0 = this one")] = 0,
    json_: Annotated[Path | None, typer.Option("--json", help="write the records; finished trials are kept beside it")] = None,
    figure: Annotated[Path | None, typer.Option(help="write tau over labels (.svg, .png, .pdf)")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print no progress")] = False,
) -> None:
    """Compare rankers: learn from few labels, order the rest, judged by mean test accuracy.

    archduel bench rank --table c10.table --rankers best,nac --labels 50,100 --splits 5 --json out.json

    The same command goes on where it was stopped when --json is given. Results do not depend on --workers.
    """
    from archduel.apps.bench_rank import bench_rank
    from archduel.apps.rank_output import check_figure, summary, write_figure, write_json

    check_figure(figure)

    def progress(done: int, all_: int) -> None:
        """Tells how far it is: one line that changes on a terminal, twenty lines elsewhere."""
        live = sys.stderr.isatty()
        if not quiet and (live or done == all_ or done % max(1, all_ // 20) == 0):
            print(f"{done} of {all_} fits", file=sys.stderr, end="\r" if live and done < all_ else "\n", flush=True)

    bench = bench_rank(
        table,
        rankers,
        preset=preset,
        labels=_numbers(labels),
        splits=splits,
        seed=seed,
        against=against,
        workers=workers,
        trials=None if json_ is None else json_.with_suffix(".trials.jsonl"),
        on_trial=progress,
        learn=learn,
        run=run,
        judge=judge,
    )
    if json_ is not None:
        write_json(bench, json_, command=shlex.join(["archduel", *sys.argv[1:]]))
    if figure is not None:
        write_figure(bench, figure)
    typer.echo(summary(bench))
