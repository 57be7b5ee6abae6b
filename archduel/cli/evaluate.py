"""`archduel eval`: a trained network on test images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("eval")(evaluate)


def evaluate(
    network: Annotated[str, typer.Argument(help="folder of a training or of a finished search, or zoo:NAME")],
    data: Annotated[str | None, typer.Option(help="test images; default: the test split of its own data")] = None,
    split: Annotated[str, typer.Option(help="test; nothing else is taken")] = "test",
    labels: Annotated[Path | None, typer.Option(help="flat folder of images: file with NAME CLASS lines")] = None,
    max_images: Annotated[int | None, typer.Option(help="a random part of the test images")] = None,
    corrupt: Annotated[
        list[str] | None, typer.Option(help="also spoiled copies: noise, blur, contrast, jpeg or all; repeat")
    ] = None,
    severity: Annotated[list[int] | None, typer.Option(help="of the spoiling, 1 to 5; repeat; default 1 3 5")] = None,
    batch_size: Annotated[int, typer.Option(help="images a forward pass")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    seed: Annotated[int, typer.Option(help="of --max-images and of the noise")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the JSON record to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the JSON record instead of lines")] = False,
) -> None:
    """Judge a trained network: top-1, top-5, loss, confusions, calibration, classes; on test images only.

    archduel eval runs/net --data cifar10 --corrupt all
    """
    from archduel.apps import evaluation as app

    record = app.evaluate_network(
        network, data, split=split, labels=labels, max_images=max_images, corruptions=corrupt or (),
        severities=severity or (1, 3, 5), batch_size=batch_size, device=device, seed=seed,
    )  # fmt: skip
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(record))
        return
    for line in app.text_of(record):
        typer.echo(line)
