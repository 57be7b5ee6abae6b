"""`archduel proxy`: cheap training recipes that keep the ranking: find, check, use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from archduel.commands.options import _changes, _pair, _value

__all__ = ["register"]

proxy = typer.Typer(help="Cheap training recipes that keep the ranking: find, check, use.", no_args_is_help=True)
RECIPE = "bpe1, bpe2, darts_search, full, nasbench201, or a JSON file"

# options of several commands
DATA = typer.Argument(help="what `archduel search` takes: a folder, .npz, digits ...")
OUT = typer.Option(..., help="folder of the job; the same command continues it")
SPACE = typer.Option("nasbench201", help="`archduel list spaces`")
CHEAP = typer.Option("bpe1", help=RECIPE)
CHANGES = typer.Option([], "--set", help="NAME=VALUE of the recipe, such as --set epochs=4")
READING = typer.Option("score", help="what of a training is compared: score, val_loss, train_loss, late_losses or all_losses")
MAX_IMAGES = typer.Option(None, help="use at most so many images")
IMAGE_SIZE = typer.Option(None, help="side in pixels; default chosen from the images")
METRIC = typer.Option("accuracy", help="accuracy, balanced_accuracy or macro_f1")
SEED = typer.Option(0, help="of everything that is drawn: architectures, splits, trainings")
DEVICE = typer.Option("cpu", help="cpu, cuda, cuda:1")
WORKERS = typer.Option(1, min=1, help="trainings at a time")
FUSED = typer.Option("off", help="trained at once in one process: a number, auto (measured) or off")
QUIET = typer.Option(False, "--quiet", "-q", help="print nothing")


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``."""
    app.add_typer(proxy, name="proxy")


def _levels(texts: list[str]) -> dict[str, list[Any]]:
    pairs = (_pair(text, "--levels") for text in texts)
    return {name: [_value(part) for part in values.split(",")] for name, values in pairs}


def _job(max_images: int | None, image_size: int | None, *, fused: str, **options: Any) -> dict[str, Any]:
    """Returns the options of several commands as :class:`archduel.commands.trainings.JobOptions` names them."""
    given = {"max_images": max_images, "image_size": image_size}
    return {"load_settings": {name: value for name, value in given.items() if value is not None}, "fused": _value(fused), **options}


@proxy.command()
def find(
    data: str = DATA,
    time: str = typer.Option(..., help="for all trainings: 20m, 2h"),
    out: Path = OUT,
    space: str = SPACE,
    truth: int = typer.Option(20, min=5, help="random architectures that every recipe trains"),
    reference: str = typer.Option("auto", help=f"the trusted recipe: auto (as large as fits), {RECIPE}"),
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE of the reference, such as --set epochs=40"),
    levels: list[str] = typer.Option([], help="NAME=VALUE,VALUE cheapest first instead of the usual; one value = not varied"),
    by: str = typer.Option("spearman", help="spearman or kendall"),
    reading: str = READING,
    samples: int = typer.Option(6, min=2, help="recipes a round"),
    sampling: str = typer.Option("spread", help="spread, cheapest or random"),
    scope: str = typer.Option("open", help="importance over the open hyper-parameters, or all"),
    cost: str = typer.Option("seconds", help="seconds, or macs (independent of the machine)"),
    max_images: int | None = MAX_IMAGES,
    image_size: int | None = IMAGE_SIZE,
    metric: str = METRIC,
    seed: int = SEED,
    device: str = DEVICE,
    workers: int = WORKERS,
    fused: str = FUSED,
    quiet: bool = QUIET,
) -> None:
    """Find the cheapest recipes whose ranking can be trusted on your images (Minimum Importance Pruning)."""
    from archduel.commands.proxy.find import find_proxy

    find_proxy(
        data, out, time=time, space=space, truth=truth, reference=reference, changes=_changes(set_), levels=_levels(levels), by=by,
        reading=reading, samples=samples, sampling=sampling, scope=scope, cost=cost,
        **_job(max_images, image_size, seed=seed, metric=metric, device=device, workers=workers, fused=fused, quiet=quiet),
    )  # fmt: skip


@proxy.command()
def check(
    data: str = DATA,
    out: Path = OUT,
    recipe: str = CHEAP,
    space: str = SPACE,
    truth: int = typer.Option(20, min=5, help="random architectures"),
    reference: str = typer.Option("auto", help=f"the trusted recipe: auto, {RECIPE}"),
    time: str | None = typer.Option(None, help="for the trusted trainings; decides --reference auto"),
    set_: list[str] = CHANGES,
    set_reference: list[str] = typer.Option([], "--set-reference", help="NAME=VALUE of the reference"),
    again: bool = typer.Option(False, help="train the reference twice: what agreement can be hoped for"),
    max_images: int | None = MAX_IMAGES,
    image_size: int | None = IMAGE_SIZE,
    metric: str = METRIC,
    seed: int = SEED,
    device: str = DEVICE,
    workers: int = WORKERS,
    fused: str = FUSED,
    quiet: bool = QUIET,
) -> None:
    """How far can this recipe be trusted on these images: rank agreement with a reference, with intervals and cost."""
    from archduel.commands.proxy.check import check_proxy, check_text

    result = check_proxy(
        data, out, recipe=recipe, space=space, truth=truth, reference=reference, time=time, changes=_changes(set_),
        reference_changes=_changes(set_reference, "--set-reference"), again=again,
        **_job(max_images, image_size, seed=seed, metric=metric, device=device, workers=workers, fused=fused, quiet=quiet),
    )  # fmt: skip
    if not quiet:
        typer.echo(check_text(result))


@proxy.command()
def train(
    data: str = DATA,
    file: Path = typer.Option(..., help="one architecture a line: genotypes, NAS-Bench-201 strings, names, space:1.0.4"),
    out: Path = OUT,
    recipe: str = CHEAP,
    set_: list[str] = CHANGES,
    space: str = typer.Option("", help="of lines that do not say it themselves"),
    seeds: int = typer.Option(1, min=1, help="trainings of each"),
    seed: int = SEED,
    max_images: int | None = MAX_IMAGES,
    image_size: int | None = IMAGE_SIZE,
    metric: str = METRIC,
    device: str = DEVICE,
    workers: int = WORKERS,
    fused: str = FUSED,
    quiet: bool = QUIET,
) -> None:
    """Train a file of architectures with one recipe as one job; the result is a table."""
    from archduel.commands.proxy.train import train_file

    trained = train_file(
        file, data, out, recipe=recipe, changes=_changes(set_), space=space, seeds=seeds,
        **_job(max_images, image_size, seed=seed, metric=metric, device=device, workers=workers, fused=fused, quiet=quiet),
    )  # fmt: skip
    if not quiet:
        typer.echo(f"{trained.best()}\n{trained.csv}")


@proxy.command()
def search(
    data: str = DATA,
    out: Path = OUT,
    method: str = typer.Option("random", help="random, rl, ea or darts"),
    recipe: str = CHEAP,
    set_: list[str] = CHANGES,
    steps: int = typer.Option(100, min=2, help="trainings of the search (epochs of the supernet are in the recipe)"),
    masks: int = typer.Option(10, min=1, help="ea: prunings of the best super-cell that are trained"),
    reading: str = READING,
    seed: int = SEED,
    max_images: int | None = MAX_IMAGES,
    image_size: int | None = IMAGE_SIZE,
    metric: str = METRIC,
    device: str = DEVICE,
    workers: int = WORKERS,
    fused: str = FUSED,
    quiet: bool = QUIET,
) -> None:
    """BPE's searches: a DARTS cell chosen under a cheap recipe, ready for final training."""
    from archduel.commands.proxy.search import search_cell

    result = search_cell(
        data, out, method=method, recipe=recipe, changes=_changes(set_), steps=steps, masks=masks, reading=reading,
        **_job(max_images, image_size, seed=seed, metric=metric, device=device, workers=workers, fused=fused, quiet=quiet),
    )  # fmt: skip
    typer.echo(result["genotype"])


@proxy.command()
def published(
    folder: Path = typer.Argument(help="BPE's tables as CSV: architectures, settings, proxy_accuracies"),
    json_: Path | None = typer.Option(None, "--json", help="write everything to this file"),
) -> None:
    """BPE's own tables: agreement of all settings, importance, front, and what pruning would have chosen."""
    from archduel.commands.proxy.published import published_record, published_text

    record = published_record(folder)
    if json_ is not None:
        json_.parent.mkdir(parents=True, exist_ok=True)
        json_.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    typer.echo(published_text(record))
