"""`archduel search`, `report`, `export`, `predict`: the main job and what can be made of it."""

from __future__ import annotations

import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import typer

from archduel.errors import SettingError

__all__ = ["register"]


def _assignments(values: list[str]) -> dict[str, Any]:
    """Returns ``{"strategy.lr": 0.0001}`` of ``["strategy.lr=1e-4"]``; values are JSON where they can be."""
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise SettingError(f"--set {value}: expected SECTION.NAME=VALUE, such as --set strategy.lr=1e-4")
        try:
            found[key.strip()] = json.loads(text)
        except ValueError:
            found[key.strip()] = text
    return found


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    for command in (search, report, export, predict):
        app.command()(command)


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
    from archduel.apps import main

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


def report(
    run: list[Path] = typer.Argument(help="folder of a search or a training, finished or not; or several trainings"),
    out: Path | None = typer.Option(None, help="the file, for trainings; default report.html in the (first) folder"),
) -> None:
    """Write report.html: of a search, or the learning curves of trainings."""
    if len(run) > 1 or (run[0] / "train.toml").is_file():
        from archduel.apps.curves import write_curves

        typer.echo(write_curves(run, out))
        return
    from archduel.apps.main import Run

    typer.echo(Run(run[0]).report())


def export(
    run: str = typer.Argument(help="folder of a finished search or training, or zoo:NAME"),
    to: Path = typer.Option(..., "--to", help="folder to write"),
) -> None:
    """Write the trained network (a search's winner) as a folder that needs nothing of archduel."""
    from archduel.apps.handover import export_from

    typer.echo(export_from(run, to))


def predict(
    run: str = typer.Argument(help="folder of a finished search or training, or zoo:NAME"),
    pictures: list[Path] = typer.Argument(help="image files of any size and mode"),
    top: int = typer.Option(1, help="classes to print"),
    as_json: bool = typer.Option(False, "--json", help="one JSON object an image"),
) -> None:
    """Print what the network (a search's winner) sees in images."""
    from archduel.apps.handover import predict_from

    for picture, answer in zip(pictures, predict_from(run, pictures)):
        if as_json:
            typer.echo(json.dumps({"file": str(picture), "classes": dict(answer[:top])}))
        else:
            typer.echo(f"{picture}  " + "  ".join(f"{name} {p:.1%}" for name, p in answer[:top]))
