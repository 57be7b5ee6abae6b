"""`archduel bench ...`: comparisons of strategies and rankers on tables, of shared weights, of fused training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import Group
from archduel.commands.options import (
    AsJson,
    Device,
    MaxImages,
    NoProgress,
    RecordFile,
    ResumableFile,
    Seed,
    TableName,
    Track,
    add_command,
    assignments,
    command_line,
    given,
    names,
    numbers,
    parse_seconds,
)
from archduel.commands.progress import Meter, rare_lines, write_json
from archduel.errors import SettingError

__all__ = ["fused", "one_shot", "rank", "register"]

def _trials(out: Path | None) -> Path | None:
    """Returns where the finished trials are kept."""
    return None if out is None else out.with_suffix(".trials.jsonl")


def _said(records: Any, summary: str, *, as_json: bool) -> None:
    """Prints what came out: the records for programs, or the summary for people."""
    typer.echo(json.dumps(records) if as_json else summary)


FORMER = {"--json": "--out"}
"""`--json FILE` was what `--out FILE` is."""


# -- `archduel bench fused`: candidates a second, trained together against one by one -----------------------------------


def fused(
    rows: Annotated[str, typer.Option(help="settings, separated by commas; default all")] = "",
    cores: Annotated[int, typer.Option(help="cores that may be used")] = 2,
    time: Annotated[str, typer.Option(help="of each measurement, at least: 5s")] = "5s",
    repeats: Annotated[int, typer.Option(help="of each measurement; the median counts")] = 2,
    k: Annotated[int | None, typer.Option(help="networks at once; default as measured")] = None,
    out: RecordFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure how many networks a second are trained: several at once in one process (fused) against one by one.

    The other side is the faster of several processes and several threads.

    archduel bench fused --rows nasbench201-4 --time 2s --out out.json
    """
    from archduel.commands.bench.fused import ROWS, bench_fused, line, with_facts

    def show(record: dict[str, Any]) -> None:
        if not as_json:
            typer.echo(line(record))

    seconds = parse_seconds(time, "--time")
    records = bench_fused(names(rows) or list(ROWS), cores=cores, seconds=seconds, repeats=repeats, k=k, on_row=show)
    whole = {"command": command_line(), **with_facts(records)}
    if out is not None:
        write_json(out, whole)
    if out is None or as_json:
        typer.echo(json.dumps(whole if as_json else {record["row"]: round(record["ratio"], 2) for record in records}))


# -- `archduel bench oneshot`: how well shared weights rank architectures whose accuracies are known --------------------


def one_shot(
    data: Annotated[str, typer.Argument(help="images to train the supernet on: a named set, a folder, an archive")],
    table: Annotated[str, typer.Option(help="name (`archduel table list`) or file of the table that knows the truth")],
    cells: Annotated[int, typer.Option(help="architectures of different function that are scored")] = 100,
    passes: Annotated[str, typer.Option(help="lengths of the training in passes over the images, scored on the way")] = "10",
    sampling: Annotated[str, typer.Option(help="uniform, fair (one path a batch), strict (a round a step), or several")] = "fair",
    recalibration: Annotated[str, typer.Option(help="batches that measure batch norm before a score; 0 = off; or several")] = "8",
    tune: Annotated[str, typer.Option(help="batches that each cell learns on its own before its score; or several")] = "0",
    curriculum: Annotated[str, typer.Option(help="share of the training in which operations are added; or several")] = "0",
    labels: Annotated[str, typer.Option(help="true accuracies that `best` learns beside the scores, to order the other cells: 30")] = "",
    seeds: Annotated[int, typer.Option(help="trainings of each variant")] = 1,
    seed: Seed = 0,
    channels: Annotated[int | None, typer.Option(help="width of the supernet")] = None,
    depth: Annotated[int | None, typer.Option(help="cells a stage, or in all (darts)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="images a step")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    image_size: Annotated[int | None, typer.Option(help="side of the images in pixels")] = None,
    max_images: MaxImages = None,
    score_share: Annotated[float, typer.Option(help="share of the validation images that scores read")] = 1.0,
    supernet: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, an option of the supernet such as residual=true; repeat for more")] = None,
    device: Device = "auto",
    out: ResumableFile = None,
    track: Track = "",
    as_json: AsJson = False,
    quiet: NoProgress = False,
) -> None:
    """Train a supernet and compare the order it gives to cells with their accuracies in a table.

    archduel bench oneshot digits --table mine.table --cells 30 --passes 4,8 --sampling uniform,fair --out out.json

    The same command goes on where it was stopped when --out is given.
    """
    from archduel.commands.bench.one_shot import bench_one_shot
    from archduel.commands.bench.output import one_shot_summary
    from archduel.estimators.timing import check_device

    check_device(device)
    bench = bench_one_shot(
        data,
        table,
        labels=numbers(labels, "--labels", int, example="10,30"),
        trials=_trials(out),
        track=track,
        command=command_line(),
        device=device,
        on_batch=None if quiet else rare_lines(),
        cells=cells,
        passes=tuple(numbers(passes, "--passes", float, example="4,8")),
        sampling=tuple(names(sampling)),
        curriculum=tuple(numbers(curriculum, "--curriculum", float, example="4,8")),
        recalibration=tuple(numbers(recalibration, "--recalibration", int, example="0,8")),
        tune=tuple(numbers(tune, "--tune", int, example="0,8")),
        seeds=seeds,
        seed=seed,
        first=seed,
        score_share=score_share,
        recipe=given(channels=channels, depth=depth, batch_size=batch_size, lr=lr),
        supernet=assignments(supernet, "--set", "residual=true"),
        load=given(image_size=image_size, max_images=max_images),
    )
    whole = {"command": command_line(), "facts": bench.facts, "effects": bench.effects, "records": bench.records}
    if out is not None:
        write_json(out, whole)
    _said(whole, one_shot_summary(bench), as_json=as_json)


# -- `archduel bench rank`: compare rankers on a tabular benchmark ------------------------------------------------------


def rank(
    table: TableName,
    rankers: Annotated[str, typer.Option(help="names, with settings: best,nac[epochs=500],renas-6")],
    labels: Annotated[str, typer.Option(help="learn from these numbers of labels: 78,156,469")] = "",
    splits: Annotated[int | None, typer.Option(help="repetitions with other labels; default 20")] = None,
    preset: Annotated[str, typer.Option(help="a protocol of the literature: pinat201, narformer, ctnas, graf ...")] = "",
    learn: Annotated[str | None, typer.Option(help="accuracies that are the labels; default validation"), OneOf("validation", "test")] = None,
    run: Annotated[int | None, typer.Option(help="label = this run; default the mean of all")] = None,
    judge: Annotated[str | None, typer.Option(help="remaining (default), all, or a number of held-out architectures")] = None,
    against: Annotated[str, typer.Option(help="test all others against this ranker; default each against the best other")] = "",
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="processes; 0 = this one")] = 0,
    out: ResumableFile = None,
    track: Track = "",
    as_json: AsJson = False,
    figure: Annotated[Path | None, typer.Option(help="write tau over labels (.svg, .png, .pdf)")] = None,
    quiet: NoProgress = False,
) -> None:
    """Compare rankers: learn from few labels, order the rest, judged by mean test accuracy.

    archduel bench rank --table c10.table --rankers best,nac --labels 50,100 --splits 5 --out out.json

    The same command goes on where it was stopped when --out is given. Results do not depend on --workers.
    """
    from archduel.commands.bench.output import (
        check_figure,
        rank_summary,
        records_of,
        write_figure,
        write_records,
    )
    from archduel.commands.bench.rank import bench_rank

    check_figure(figure)
    bench = bench_rank(
        table,
        rankers,
        preset=preset,
        labels=numbers(labels, "--labels", int, example="78,156"),
        splits=splits,
        seed=seed,
        against=against,
        workers=workers,
        trials=_trials(out),
        track=track,
        command=command_line(),
        on_trial=None if quiet else Meter("fits"),
        learn=learn,
        run=run,
        judge=judge,
    )
    bench.facts["command"] = command_line()
    if out is not None:
        write_records(bench, out)
    if figure is not None:
        write_figure(bench, figure)
    _said(records_of(bench), rank_summary(bench), as_json=as_json)


# -- `archduel bench search`: compare search strategies on a tabular benchmark ------------------------------------------


def search(
    table: TableName,
    strategies: Annotated[str, typer.Option(help="names, with settings: best,ctnas[baseline=fixed;lr=1e-3]")],
    queries: Annotated[str | None, typer.Option(help="compare at these numbers of distinct queries, default 150, with objectives 25,50,100,200")] = None,
    runs: Annotated[int, typer.Option(help="paired repetitions")] = 100,
    seed: Seed = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="STRATEGY.NAME=VALUE; repeat for more")] = None,
    fidelity: Annotated[str | None, typer.Option(help="of the evaluations; default the most expensive")] = None,
    reduce: Annotated[str, typer.Option(help="what a search is told: mean, sample or a run's number")] = "mean",
    against: Annotated[str, typer.Option(help="test all others against this strategy; default best")] = "",
    equal_start: Annotated[bool, typer.Option("--equal-start", help="as many random labels first, and as many at a time, as best")] = False,
    objectives: Annotated[str, typer.Option(help="search for a front: val_error and columns of the table, such as val_error,macs")] = "",
    known: Annotated[str | None, typer.Option(help="objectives that a search knows before it asks; default params and macs")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core, 0 = this one")] = None,
    out: ResumableFile = None,
    track: Track = "",
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="write the records as CSV")] = None,
    figures: Annotated[Path | None, typer.Option(help="folder for figures and trajectories")] = None,
    quiet: NoProgress = False,
) -> None:
    """Compare strategies: equal queries, paired seeds; the best so far is chosen by validation and judged by test accuracy.

    archduel bench search --table mine.table --strategies random,evolution,best --queries 50,100 --runs 20 --out out.json

    With --objectives, compare how much of the table's true front they have.

    The same command goes on where it was stopped when --out is given. Results do not depend on --workers.
    """
    from archduel.commands.bench.output import (
        records_of,
        search_summary,
        write_csv,
        write_figures,
        write_records,
        write_trajectories,
    )
    from archduel.commands.bench.search import bench_search
    from archduel.reporting.figures import check_matplotlib

    shared: dict[str, Any] = {
        "runs": runs, "seed": seed, "settings": _by_strategy(set_), "fidelity": fidelity, "against": against, "workers": workers,
        "trials": _trials(out), "track": track, "command": command_line(), "on_trial": None if quiet else Meter("searches"),
    }  # fmt: skip
    if objectives or known is not None:
        if reduce != "mean" or figures is not None or equal_start:
            raise SettingError("--objectives: fronts are of the mean of all runs, and have neither --figures nor --equal-start; leave --reduce and these out")
        return _fronts(table, strategies, objectives, known, queries, out, csv, shared, as_json)
    if figures is not None:
        check_matplotlib()
    bench = bench_search(table, strategies, queries=numbers(queries or "150", "--queries", int), reduce=reduce, equal_start=equal_start, **shared)
    bench.facts["command"] = command_line()
    if out is not None:
        write_records(bench, out)
    if csv is not None:
        write_csv(bench, csv)
    if figures is not None:
        write_figures(bench, figures)
        write_trajectories(bench, figures / "trajectories.csv")
    _said(records_of(bench), search_summary(bench), as_json=as_json)


def _fronts(
    table: str, strategies: str, objectives: str, known: str | None, queries: str | None, out: Path | None, csv: Path | None,
    shared: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Compares how much of a table's true front strategies have."""
    from archduel.commands.bench.fronts import bench_fronts, fronts_summary
    from archduel.commands.bench.output import records_of, write_csv, write_records

    bench = bench_fronts(
        table, strategies, names(objectives), known=None if known is None else names(known),
        queries=numbers(queries or "25,50,100,200", "--queries", int), **shared,
    )  # fmt: skip
    bench.facts["command"] = command_line()
    if out is not None:
        write_records(bench, out)
    if csv is not None:
        write_csv(bench, csv)
    _said(records_of(bench), fronts_summary(bench), as_json=as_json)


def _by_strategy(texts: list[str] | None) -> dict[str, dict[str, Any]]:
    """Returns ``{"evolution": {"population": 50}}`` of ``["evolution.population=50"]``."""
    example, form = "evolution.population=50", "STRATEGY.NAME=VALUE"
    settings: dict[str, dict[str, Any]] = {}
    for key, value in assignments(texts, example=example, form=form).items():
        strategy, dot, name = key.rpartition(".")  # the last dot: a strategy of one's own is package.module:Class
        if not dot:
            raise SettingError(f"--set {key}: expected {form}, such as --set {example}")
        settings.setdefault(strategy, {})[name] = value
    return settings


def register(app: typer.Typer) -> None:
    """Adds the group with its commands to ``app``."""
    bench = typer.Typer(cls=Group, help="Measurements: strategies and rankers on tables, shared weights, fused training.", no_args_is_help=True)
    for command, name in ((search, "search"), (rank, "rank"), (one_shot, "oneshot"), (fused, "fused")):
        add_command(bench, command, name, former={**FORMER, "--supernet": "--set", "--seconds": "--time"})
    app.add_typer(bench, name="bench")
