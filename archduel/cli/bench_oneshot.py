"""`archduel bench oneshot`: how well shared weights rank architectures whose accuracies are known."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.errors import SettingError

__all__ = ["oneshot", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command to the ``bench`` group of ``app``."""
    for group in app.registered_groups:
        if group.name == "bench" and group.typer_instance is not None:
            group.typer_instance.command("oneshot")(oneshot)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingError(f"--{option} {text}: expected numbers separated by commas, such as 4,8") from error


def _assigned(text: str) -> tuple[str, Any]:
    """Returns ("residual", True) of "residual=true"."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), json.loads(value)
    except ValueError as error:
        raise SettingError(f"--supernet {text}: expected NAME=VALUE, such as residual=true") from error


def oneshot(
    data: Annotated[str, typer.Argument(help="images to train the supernet on: a named set, a folder, an archive")],
    table: Annotated[str, typer.Option(help="name (`archduel table list`) or file of the table that knows the truth")],
    cells: Annotated[int, typer.Option(help="architectures of different function that are scored")] = 100,
    passes: Annotated[str, typer.Option(help="lengths of the training in passes over the images, scored on the way")] = "10",
    sampling: Annotated[str, typer.Option(help="uniform, fair (one path a batch), strict (a round a step), or several")] = "fair",
    recalibration: Annotated[str, typer.Option(help="batches that measure batch norm before a score; 0 = off; or several")] = "8",
    tune: Annotated[str, typer.Option(help="batches that each cell learns on its own before its score; or several")] = "0",
    curriculum: Annotated[str, typer.Option(help="share of the training in which operations are added; or several")] = "0",
    seeds: Annotated[int, typer.Option(help="trainings of each variant")] = 1,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    channels: Annotated[int | None, typer.Option(help="width of the supernet")] = None,
    depth: Annotated[int | None, typer.Option(help="cells a stage, or in all (darts)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="images a step")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    image_size: Annotated[int | None, typer.Option(help="side of the images in pixels")] = None,
    max_images: Annotated[int | None, typer.Option(help="use about so many images")] = None,
    score_share: Annotated[float, typer.Option(help="share of the validation images that scores read")] = 1.0,
    supernet: Annotated[list[str], typer.Option(help="NAME=VALUE, an option of the supernet such as residual=true; repeat for more")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    json_: Annotated[Path | None, typer.Option("--json", help="write the records; finished trials are kept beside it")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print no progress")] = False,
) -> None:
    """Train a supernet and compare the order it gives to cells with their accuracies in a table.

    archduel bench oneshot digits --table mine.table --cells 30 --passes 4,8 --sampling uniform,fair --json out.json

    The same command goes on where it was stopped when --json is given.
    """
    from archduel.apps.bench_oneshot import bench_oneshot
    from archduel.apps.devices import check_device
    from archduel.apps.oneshot_output import summary, write_json

    check_device(device)
    given = {"channels": channels, "depth": depth, "batch_size": batch_size, "lr": lr}
    load = {"image_size": image_size, "max_images": max_images}
    bench = bench_oneshot(
        data,
        table,
        trials=None if json_ is None else json_.with_suffix(".trials.jsonl"),
        device=device,
        on_batch=None if quiet else _Told(),
        cells=cells,
        passes=_numbers("passes", passes),
        sampling=tuple(part.strip() for part in sampling.split(",")),
        curriculum=_numbers("curriculum", curriculum),
        recalibration=tuple(int(n) for n in _numbers("recalibration", recalibration)),
        tune=tuple(int(n) for n in _numbers("tune", tune)),
        seeds=seeds,
        seed=seed,
        first=seed,
        score_share=score_share,
        recipe={name: value for name, value in given.items() if value is not None},
        supernet=dict(_assigned(text) for text in supernet),
        load={name: value for name, value in load.items() if value is not None},
    )
    if json_ is not None:
        write_json(bench, json_, command=shlex.join(["archduel", *sys.argv[1:]]))
    typer.echo(summary(bench))


class _Told:
    """Prints a line at most every few seconds."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, line: Any) -> None:
        now = time.monotonic()
        if now - self.last > (2 if sys.stderr.isatty() else 20):
            self.last = now
            print(line, file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)
