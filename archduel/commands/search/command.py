"""`archduel search`: the main job."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path

import typer

from archduel.commands.options import _assignments

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command()(search)


def search(
    data: str = typer.Argument(help="folder of images (one subfolder a class), .npz file, or digits, cifar10, cifar100"),
    time: str | None = typer.Option(None, help="wall-clock budget: 90s, 20m, 2h (a bare number is seconds); default by the number of images"),
    evaluations: int | None = typer.Option(None, help="number of cheap trainings; alone it makes runs repeat exactly"),
    max_params: str | None = typer.Option(None, help="most parameters: 500k, 1M"),
    max_macs: str | None = typer.Option(None, help="most multiply-adds for one image: 20M"),
    max_latency_ms: float | None = typer.Option(None, help="most milliseconds a batch on this device, measured"),
    latency_batch: int = typer.Option(1, help="images a batch when latency is measured"),
    out: Path | None = typer.Option(None, help="folder of the run; the same command continues it"),
    space: str = typer.Option("nasbench201", help="which networks there are to choose from: `archduel list spaces`"),
    strategy: str = typer.Option("ctnas", help="how the search goes: `archduel list strategies`"),
    ranker: str = typer.Option("nac", help="what compares networks, in strategies that have a ranker: `archduel list rankers`"),
    metric: str = typer.Option("accuracy", help="accuracy, balanced_accuracy or macro_f1"),
    rank_by: str = typer.Option("likelihood", help="what networks are chosen by: likelihood (of the right classes) or metric"),
    size_belief: float = typer.Option(0.5, help="how much larger networks are believed to gain from longer training; 0 = not"),
    image_size: int | None = typer.Option(None, help="side in pixels; default chosen from the images"),
    max_images: int | None = typer.Option(None, help="use at most so many images"),
    flip: bool | None = typer.Option(None, help="mirrored images keep their class; default yes, no for digits"),
    final_seeds: int = typer.Option(3, help="trainings of each final network"),
    baselines: bool = typer.Option(True, help="train random search's and a standard network for comparison"),
    seed: int = typer.Option(0, help="seed of everything"),
    device: str = typer.Option("cpu", help="cpu, cuda, cuda:1"),
    workers: int | None = typer.Option(None, help="trainings at a time; default one a core, one on a GPU"),
    set_: list[str] = typer.Option([], "--set", help="SECTION.NAME=VALUE changes a setting, such as strategy.lr=1e-3 or final.epochs=50; repeat for more"),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="print nothing"),
) -> None:
    """Turn a folder of images into a trained, exported network and an honest report."""
    from archduel.commands.search import run as main

    call = partial(
        main.search, data, time=time, evaluations=evaluations, max_params=max_params, max_macs=max_macs,
        max_latency_ms=max_latency_ms, latency_batch=latency_batch, out=out, space=space, strategy=strategy,
        ranker=ranker, metric=metric, rank_by=rank_by, size_belief=size_belief, image_size=image_size, max_images=max_images,
        flip=flip, final_seeds=final_seeds, baselines=baselines, seed=seed, device=device, workers=workers,
        set=_assignments(set_), quiet=quiet, command=shlex.join(["archduel", *sys.argv[1:]]),
    )  # fmt: skip
    try:
        call()
    except KeyboardInterrupt as stop:  # said already; some versions of typer would make it exit code 1
        raise typer.Exit(130) from stop
