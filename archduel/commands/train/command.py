"""`archduel train`: one network, one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.dialect import usable_device
from archduel.commands.options import (
    MaxImages,
    Quiet,
    RecipeChanges,
    Seed,
    TextSpace,
    Track,
    add_command,
    assignments,
    command_line,
    given,
)
from archduel.errors import SettingError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, train)


def train(
    *,
    arch: Annotated[str | None, typer.Argument(help="a name (`archduel list architectures`), text, genotype, file, or run folder; not needed with --from or --file")] = None,
    data: Annotated[str | None, typer.Argument(help="cifar10, cifar100, digits, a folder, .npz; ImageNet's folder or tar shards  [default: cifar10]")] = None,
    named: Annotated[str | None, typer.Option("--data", hidden=True, help="what DATA was before it had a place of its own")] = None,
    out: Annotated[Path, typer.Option(help="folder of the training; the same command continues it")],
    recipe: Annotated[str, typer.Option(help="`archduel list recipes`, or a .toml or .json file; default by data and space")] = "",
    set_: RecipeChanges = None,
    space: TextSpace = "",
    file: Annotated[Path | None, typer.Option(help="train every architecture of a file, one a line, into a table")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="training, finished search or zoo:NAME whose weights to start from (fine-tuning)")] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(callback=usable_device, help="auto (cuda where it is, else cpu), cpu, cuda (under torchrun: one a process), cuda:1")] = "auto",
    hold_out: Annotated[bool, typer.Option(help="keep the validation split out of training and watch it")] = False,
    max_images: MaxImages = None,
    accumulate: Annotated[int, typer.Option(help="micro-batches a process adds up before a step")] = 1,
    sync_norm: Annotated[bool, typer.Option(help="batch norm over all processes")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="through torch.compile")] = False,
    deterministic: Annotated[bool, typer.Option(help="only algorithms that repeat bit for bit, also on CUDA")] = False,
    workers: Annotated[int | None, typer.Option(help="processes that read images from disk (default one a core); with --file trainings at a time")] = None,
    track: Track = "",
    quiet: Quiet = False,
) -> None:
    """Train an architecture, named or found by a search, with a recipe; test it once and keep it in a folder."""
    arch, data = _which(arch, data, named, alone=file is not None)
    if file is not None:
        if arch or from_ or track:
            raise SettingError("--file trains all architectures of a file; leave ARCH, --from and --track out")
        from archduel.commands.train_file import train_file

        trained = train_file(
            file, data, out, recipe=recipe or "bpe1", changes=assignments(set_), space=space, seed=seed, device=device,
            workers=workers or 1, load_settings=given(max_images=max_images), quiet=quiet,
        )  # fmt: skip
        if not quiet:
            typer.echo(trained.best())
        return
    from archduel.commands.tracking import followed
    from archduel.commands.train.train import train_network

    try:
        with followed(track, out) as on_epoch:
            train_network(
                arch, data, out, recipe=recipe, changes=assignments(set_), space=space, start=from_, seed=seed, device=device,
                hold_out=hold_out, max_images=max_images, accumulate=accumulate, sync_norm=sync_norm, compiled=compiled,
                deterministic=deterministic, workers=workers, quiet=quiet, on_epoch=on_epoch,
                command=command_line(),
            )  # fmt: skip
    except KeyboardInterrupt as stop:  # the training said so already; some versions of typer would make it exit code 1
        raise typer.Exit(130) from stop


def _which(arch: str | None, data: str | None, named: str | None, *, alone: bool) -> tuple[str | None, str]:
    """Returns architecture and data; ``alone``: a single word is the data, since the architectures come from elsewhere."""
    if alone and arch and data is None and named is None:
        arch, data = None, arch
    if data is not None and named is not None:
        raise SettingError(f"data is named twice: {data} and --data {named}; leave --data out")
    return arch, data or named or "cifar10"
