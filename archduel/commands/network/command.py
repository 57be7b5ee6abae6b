"""`archduel export`, `predict`, `eval`, `compare`, `latency` and `track`: what trained networks are used for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.choices import OneOf
from archduel.commands.options import (
    AsJson,
    BatchSize,
    CheckedData,
    Device,
    FlatLabels,
    TextSpace,
    add_command,
    parse_seconds,
)
from archduel.commands.progress import write_json
from archduel.errors import DataError, SettingError
from archduel.text import print_line, printable

__all__ = ["register"]

INCOMPLETE = 3
"""Exit code where all was done but a part that could be expected is missing."""
Member = Annotated[int | None, typer.Option(help="of a search with several objectives: which member of the front, from 1; default the knee")]
TrainedNetwork = Annotated[str, typer.Argument(help="folder of a training or of a finished search, or zoo:NAME")]


# -- `archduel eval`: a trained network on test images ------------------------------------------------------------------


def evaluate(
    network: TrainedNetwork,
    data: CheckedData = None,
    split: Annotated[str, typer.Option(help="test; nothing else is taken")] = "test",
    labels: FlatLabels = None,
    max_images: Annotated[int | None, typer.Option(help="a random part of the test images")] = None,
    corrupt: Annotated[
        list[str] | None, typer.Option(help="also spoiled copies; repeat for more"), OneOf("noise", "blur", "contrast", "jpeg", "all")
    ] = None,
    severity: Annotated[list[int] | None, typer.Option(help="of the spoiling, 1 to 5; repeat; default 1 3 5")] = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="of --max-images and of the noise")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the JSON record to this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a trained network: top-1, top-5, loss, confusions, calibration, classes; on test images only.

    archduel eval runs/net --data cifar10 --corrupt all
    """
    from archduel.commands.network import evaluate as app

    record = app.evaluate_network(
        network, data, split=split, labels=labels, max_images=max_images, corruptions=corrupt or (),
        severities=severity or (1, 3, 5), batch_size=batch_size, device=device, seed=seed,
    )  # fmt: skip
    if out is not None:
        write_json(out, record)
    if as_json:
        typer.echo(json.dumps(record))
        return
    for line in app.text_of(record):
        typer.echo(line)


def export(
    network: TrainedNetwork,
    to: Annotated[Path, typer.Option("--to", help="folder to write")],
    int8: Annotated[bool, typer.Option("--int8", help="also an int8 network (ONNX), checked on validation images")] = False,
    data: Annotated[str | None, typer.Option(help="with --int8: the data the network was trained on, where they are not where they were")] = None,
    hub: Annotated[bool, typer.Option("--hub", help="also config.json and a model card, for the Hugging Face Hub; nothing is sent")] = False,
    licence: Annotated[str, typer.Option("--license", help="with --hub: as the Hub calls it, such as mit; without it the card says that none is stated")] = "",
    member: Member = None,
) -> None:
    """Write the trained network (a search's winner) as a folder that needs nothing of archduel."""
    from archduel.export.folder import missing_packages
    from archduel.networks.trained import export_network, member_folder, open_network

    if data is not None and not int8:
        raise SettingError("--data is for --int8 alone: only that looks at images")
    if licence and not hub:
        raise SettingError("--license is for --hub alone: it stands in the model card")
    if hub:
        from archduel.networks.hub import check_licence, write_hub

        check_licence(licence)
    opened = open_network(member_folder(network, member))
    report = export_network(opened, to)
    typer.echo(report.summary)
    incomplete = report.onnx_difference is None and not missing_packages()  # all packages are here and it did not succeed: a script must notice
    if int8 and not incomplete:
        from archduel.commands.int8 import export_int8

        typer.echo(export_int8(opened, to, data=data).summary)
    if hub:
        written = write_hub(opened, to, licence=licence)
        typer.echo(f"for the Hub: {', '.join(written)}; `hf upload YOU/NAME {to}` sends the folder")
    if incomplete:
        raise typer.Exit(INCOMPLETE)


def predict(
    network: TrainedNetwork,
    images: Annotated[list[Path], typer.Argument(help="image files of any size and mode")],
    top: Annotated[int, typer.Option(help="classes to print")] = 1,
    member: Member = None,
    as_json: AsJson = False,
) -> None:
    """Print what the network (a search's winner) sees in images: a line each, exit code 1 where some cannot be read."""
    from archduel.networks.predictions import answers
    from archduel.networks.trained import member_folder, open_network

    if top < 1:
        raise SettingError(f"--top must be at least 1, got {top}")
    unreadable = 0
    for image, answer in zip(images, answers(open_network(member_folder(network, member)), images)):
        name = printable(image)
        if isinstance(answer, DataError):
            unreadable += 1
            if as_json:
                typer.echo(json.dumps({"file": name, "error": str(answer)}))
            else:
                print_line(f"error: {answer}", error=True)
        elif as_json:
            typer.echo(json.dumps({"file": name, "classes": dict(answer[:top])}))
        else:
            typer.echo(f"{name}  " + "  ".join(f"{printable(label)} {p:.1%}" for label, p in answer[:top]))
    if unreadable:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    add_command(app, export, "export")
    add_command(app, predict, "predict")
    add_command(app, evaluate, "eval")
    add_command(app, compare, "compare")
    add_command(app, latency, "latency", former={"--seconds": "--time"})
    add_command(app, track, "track")


def compare(
    first: Annotated[Path, typer.Argument(help="training folder, or a folder with one training a seed")],
    second: Annotated[Path, typer.Argument(help="likewise, the same recipe, images and seeds")],
    data: CheckedData = None,
    labels: FlatLabels = None,
    max_images: Annotated[int | None, typer.Option(help="a random part of the test images")] = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare two networks that were trained alike, with a test of significance.

    archduel compare runs/relativenas runs/cnas
    """
    from archduel.commands.network import compare as app

    record = app.compare(first, second, data, labels=labels, max_images=max_images, batch_size=batch_size, device=device)
    for line in [json.dumps(record)] if as_json else app.text_of(record):
        typer.echo(line)


def latency(
    networks: Annotated[list[str], typer.Argument(help="names, texts, training folders, finished searches, zoo:NAME")],
    space: TextSpace = "",
    batch: Annotated[int, typer.Option(help="images a batch")] = 1,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(help="of torch on a CPU")] = 1,
    channels: Annotated[int, typer.Option(help="width; 0 = as trained or published")] = 0,
    depth: Annotated[int, typer.Option(help="depth; 0 = as trained or published")] = 0,
    image_size: Annotated[int, typer.Option(help="side in pixels; 0 = as trained or published")] = 0,
    repetitions: Annotated[int, typer.Option(help="batches that are timed")] = 100,
    time: Annotated[str, typer.Option(help="ends a measurement early, not before 5 batches: 5s")] = "5s",
    as_json: AsJson = False,
) -> None:
    """Measure the time of a forward pass: median and distance of the quartiles in milliseconds.

    archduel latency relativenas cnas --batch 32
    """
    from archduel.commands.network import latency as app

    size = {name: value for name, value in (("channels", channels), ("depth", depth), ("image_size", image_size)) if value}
    records = app.measure(
        networks, space=space, size=size, batch_size=batch, device=device, threads=threads, repetitions=repetitions,
        seconds=parse_seconds(time, "--time"),
    )  # fmt: skip
    for record in records:
        typer.echo(json.dumps(record) if as_json else app.text_of(record))


def track(
    run: Annotated[Path, typer.Argument(help="folder of a search, a training, a study or a proxy job, finished or not; the --out file of a comparison or a table")],
    to: Annotated[str, typer.Option(help="tensorboard, mlflow, wandb, optuna, or package.module:Class")] = "tensorboard",
    out: Annotated[Path | None, typer.Option(help="where the tracker writes; default tracking/ in the folder")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on while the job works; Ctrl-C ends the telling, not the job")] = False,
) -> None:
    """Tell a tracker what a job wrote, or writes; `--track` of searches, trainings and comparisons does it while they run.

    archduel track runs/relativenas --to tensorboard
    """
    from archduel.commands import tracking as app

    place = out or app.tracking_folder(run)
    tracker = app.make_tracker(to, place)
    steps = app.follow(run, tracker) if follow else app.replay(run, tracker)
    typer.echo(f"{steps} step{'s' * (steps != 1)} told to {to} in {place}")
