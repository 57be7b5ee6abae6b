"""`archduel search`: the main job."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import usable_device
from archduel.commands.options import (
    FieldsOf,
    Quiet,
    Track,
    add_command,
    assignments,
    command_line,
    parse_bytes,
    parse_count,
    parse_seconds,
    running_for,
)
from archduel.errors import SettingError

__all__ = ["register"]

Fields = Annotated[
    dict[str, Any],
    FieldsOf(
        "archduel.commands.search.settings:Settings",
        without=("seconds", "threads", "set", "objectives"),  # --time and --set are written in other words; threads is for Python alone
        texts=("max_params", "max_macs", "max_ram", "max_flash"),
        decided=("data", "workers", "space", "device", "strategy", "ranker"),
        flags=(("prior", "--from"),),
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    add_command(app, search, bare={"--audit": "half"})
    add_command(app, audit)
    add_command(app, resume)
    add_command(app, worker)


def search(
    context: typer.Context,
    *,
    time: Annotated[str | None, typer.Option(help="wall-clock budget: 90s, 20m, 2h (a bare number is seconds), default by the number of images; +30m trains a finished run on")] = None,
    objective: Annotated[list[str] | None, typer.Option(help="accuracy and others; repeat: the outcome is a front of trade-offs"), OneOf("accuracy", "params", "macs", "latency_ms", "ram", "flash")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; the same command continues it")] = None,
    fields: Fields,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings, such as the run.toml of a run; options on the command line go before")] = None,
    audit: Annotated[str | None, typer.Option(help="further time, such as 30m, to measure what the search gained: `archduel audit`; alone half of the run's time")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="SECTION.NAME=VALUE changes a setting, such as strategy.lr=1e-3 or final.batch_size=64; repeat for more")] = None,
    track: Track = "",
    plan: Annotated[bool, typer.Option("--plan", help="say what would be done, and do nothing")] = False,
    quiet: Quiet = False,
) -> None:
    """Turn a folder of images into a trained, exported network and an honest report."""
    from archduel.commands.search import run as main
    from archduel.commands.search.more import is_more
    from archduel.presets import open_preset

    changes = assignments(set_, example="strategy.lr=1e-4", form="SECTION.NAME=VALUE")
    from_file: set[str] = set()
    if config is not None:
        time, changes, from_file = _filled(context, fields, config, time, changes)
    if fields["preset"] is not None:
        fields = {name: value if name in from_file or _typed(context, name) else None for name, value in fields.items()}
    fields |= {"objectives": objective} if objective else {}
    data = fields.pop("data")
    if data is None:
        raise SettingError("say which data: `archduel search DATA`, a folder of images, an .npz file, or digits, cifar10, cifar100")
    seconds = time if time is None or is_more(time) else parse_seconds(time, "--time")
    for name, parse in (("max_params", parse_count), ("max_macs", parse_count), ("max_ram", parse_bytes), ("max_flash", parse_bytes)):
        fields[name] = None if fields[name] is None else parse(fields[name], f"--{name.replace('_', '-')}")
    if fields["preset"] is not None and open_preset(fields["preset"]).command != "search":
        from archduel.commands.published import search_for_cell

        asked = {name: value for name, value in {**fields, "time": seconds, "audit": audit}.items() if value is not None}
        typer.echo(search_for_cell(fields["preset"], data, out, asked, changes, quiet=quiet, plan=plan), nl=not plan)
        return
    if plan:
        from archduel.commands.search.dry import plan as say_plan

        say_plan(data, audit=audit, track=track, quiet=quiet, seconds=None if seconds is None or is_more(time) else seconds, set=changes, **{**fields, "device": usable_device(fields["device"] or "auto")})
        return
    try:
        main.search(data, time=seconds, out=out, audit=audit, set=changes, track=track, quiet=quiet, command=command_line(), gone=running_for(), **fields)
    except KeyboardInterrupt as stop:  # the job said so already; some versions of typer would make it exit code 1
        raise typer.Exit(130) from stop


def _filled(
    context: typer.Context, fields: dict[str, Any], config: Path, time: str | None, changes: dict[str, Any]
) -> tuple[Any, dict[str, Any], set[str]]:
    """Gives ``fields`` the settings of a file where the command line is silent; returns the time, the changes of ``--set``, and the file's names."""
    from archduel.commands.search.settings import settings_in

    given = settings_in(config)
    seconds, more = given.pop("seconds", None), given.pop("set", None) or {}
    for name, value in given.items():
        if name not in fields or not _typed(context, name):
            fields[name] = value
    if time is None and seconds is not None:
        time = seconds if isinstance(seconds, str) else f"{seconds}s"
    return time, {**more, **changes}, set(given)


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line; else it has its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def audit(
    run: Annotated[Path, typer.Argument(help="folder of a finished race")],
    *,
    time: Annotated[str | None, typer.Option(help="all that the audit may take: 30m; default as long as the run; more adds seeds")] = None,
    data: Annotated[str | None, typer.Option(help="where the run's images are now, if they were moved")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure what a finished search gained: paired seeds against random search at equal cost and a standard network."""
    from archduel.commands.search.audit import audit as main

    try:
        main(run, time=time, data=data, quiet=quiet, command=command_line(), gone=running_for())
    except KeyboardInterrupt as stop:
        raise typer.Exit(130) from stop


def resume(run: Annotated[Path, typer.Argument(help="folder of a search, a training or a proxy job; the --out file of a comparison or a table")], quiet: Quiet = False) -> None:
    """Go on with what was stopped, from its folder alone: what repeating its command does."""
    from archduel.commands.again import words_of
    from archduel.commands.search.dry import resume as main

    words = words_of(run)
    try:
        if words is not None:  # another program: the command says its options, and a training under way has no part of this one
            typer.echo(f"archduel {shlex.join(words)}", err=True)
            raise typer.Exit(subprocess.run([sys.executable, "-m", "archduel", *words, *(["--quiet"] if quiet and "--quiet" not in words else [])]).returncode)
        main(run, quiet=quiet, command=command_line(), gone=running_for())
    except KeyboardInterrupt as stop:
        raise typer.Exit(130) from stop


def worker(
    *,
    join: Annotated[Path, typer.Option("--join", help="folder of a search with --executor folder, as this machine sees it")],
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="trainings at a time on this machine; default one, on cuda one a GPU")] = None,
    data: Annotated[str | None, typer.Option(help="where the images lie on this machine; default as the run says")] = None,
    device: Annotated[str | None, typer.Option(help="where to train here, of the kind that the run has: cuda (all GPUs), cuda:1; default as the run says")] = None,
    wait: Annotated[str, typer.Option(help="leave after so long without a driver: 10m, 2h")] = "10m",
    quiet: Quiet = False,
) -> None:
    """Train for a search that is driven elsewhere, until it is finished: on any machine that sees its folder."""
    from archduel.commands.search.joining import joined

    try:
        joined(join, workers=workers, data=data, device=None if device is None else usable_device(device), wait=parse_seconds(wait, "--wait"), quiet=quiet)
    except KeyboardInterrupt as stop:
        raise typer.Exit(130) from stop
