"""`archduel train`: one network, one recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from archduel.errors import SettingError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command()(train)


def train(
    arch: str | None = typer.Argument(None, help="a name (`archduel list architectures`), text, genotype, file, or run folder; not needed with --from or --file"),
    data: str = typer.Option("cifar10", help="cifar10, cifar100, digits, a folder, .npz; ImageNet's folder or tar shards"),
    out: Path = typer.Option(..., help="folder of the training; the same command continues it"),
    recipe: str = typer.Option("", help="`archduel list recipes`, or a .toml file; default by data and space"),
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE of the recipe, such as --set epochs=2"),
    space: str = typer.Option("", help="space of ARCH where its text does not say so"),
    file: Path | None = typer.Option(None, help="train every architecture of a file, one a line, into a table"),
    from_: Path | None = typer.Option(None, "--from", help="training folder or zoo:NAME whose weights to start from (fine-tuning)"),
    seed: int = typer.Option(0, help="seed of everything"),
    device: str = typer.Option("cpu", help="cpu, cuda (under torchrun: one a process), cuda:1"),
    hold_out: bool = typer.Option(False, help="keep the validation split out of training and watch it"),
    max_images: int | None = typer.Option(None, help="use at most so many images"),
    accumulate: int = typer.Option(1, help="micro-batches a process adds up before a step"),
    sync_norm: bool = typer.Option(False, help="batch norm over all processes"),
    compiled: bool = typer.Option(False, "--compile", help="through torch.compile"),
    deterministic: bool = typer.Option(False, help="only algorithms that repeat bit for bit, also on CUDA"),
    workers: int | None = typer.Option(None, help="processes that read images from disk (default one a core); with --file trainings at a time"),
    track: str = typer.Option("", help="also tell a tracker: tensorboard, or package.module:Class"),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="print nothing"),
) -> None:
    """Train a named or found architecture with a recipe, test it once, keep it in a folder."""
    from archduel.commands.options import settings_of

    if file is not None:
        if arch or from_ or track:
            raise SettingError("--file trains all architectures of a file; leave ARCH, --from and --track out")
        from archduel.commands.proxy.train import train_file

        trained = train_file(
            file, data, out, recipe=recipe or "bpe1", changes=settings_of(set_), space=space, seed=seed, device=device,
            workers=workers or 1, load_settings={"max_images": max_images} if max_images else None, quiet=quiet,
        )  # fmt: skip
        if not quiet:
            typer.echo(trained.best())
        return
    from archduel.commands.tracking import followed
    from archduel.commands.train.train import train_network

    try:
        with followed(track, out) as on_epoch:
            train_network(
                arch, data, out, recipe=recipe, changes=settings_of(set_), space=space, start=from_, seed=seed, device=device,
                hold_out=hold_out, max_images=max_images, accumulate=accumulate, sync_norm=sync_norm, compiled=compiled,
                deterministic=deterministic, workers=workers, quiet=quiet, on_epoch=on_epoch,
                command=shlex.join(["archduel", *sys.argv[1:]]),
            )  # fmt: skip
    except KeyboardInterrupt as stop:  # said already; some versions of typer would make it exit code 1
        raise typer.Exit(130) from stop
