"""`archduel describe`, `sample`, `show` and `draw`: architectures as texts, numbers and drawings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.options import (
    SPACE_SETTINGS,
    AsJson,
    Seed,
    TextSpace,
    add_command,
    assignments,
    parse_count,
)
from archduel.commands.progress import record_lines

__all__ = ["register"]

Archs = Annotated[
    list[str] | None, typer.Argument(help="architectures: SPACE:1.0.4, names, or the space's text")
]
File = Annotated[Path | None, typer.Option(help="CSV or parquet file, one architecture a row")]
Settings = Annotated[list[str] | None, typer.Option("--set", help=SPACE_SETTINGS)]


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    add_command(app, describe, "describe")
    add_command(app, sample, "sample")
    add_command(app, show, "show")
    add_command(app, draw, "draw")


def _print(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        texts = {key: f"{value:,}" if type(value) is int else value for key, value in row.items()}
        typer.echo(json.dumps(row) if as_json else "  ".join(f"{key}={text}" for key, text in texts.items()))


def describe(
    context: typer.Context,
    archs: Archs = None,
    space: TextSpace = "",
    file: File = None,
    arch_column: Annotated[str, typer.Option(help="column of the architecture's text")] = "",
    adjacency_column: Annotated[str, typer.Option(help="nasbench101: column of the matrix")] = "",
    ops_column: Annotated[str, typer.Option(help="nasbench101: column of the operations")] = "",
    channels: Annotated[int, typer.Option(help="width of the network; 0 = as published")] = 0,
    depth: Annotated[int, typer.Option(help="depth; 0 = as published")] = 0,
    image_size: Annotated[int, typer.Option(help="side of the images in pixels; 0 = as published")] = 0,
    in_channels: Annotated[int, typer.Option(help="1 or 3; 0 = as published")] = 0,
    classes: Annotated[int, typer.Option(help="outputs; 0 = as published")] = 0,
    settings: Settings = None,
    machine: Annotated[bool, typer.Option("--machine", help="instead: all commands, options, exit codes and forms of --json, as one JSON document for programs")] = False,
    as_json: AsJson = False,
) -> None:
    """Print hash or fingerprint, parameters and multiply-adds of architectures; of a space alone, what it holds.

    archduel describe --space nasbench201 --file cells.csv --json

    archduel describe --machine
    """
    if machine:
        from archduel.commands.interface import interface

        typer.echo(json.dumps(interface(context.find_root().command)))
        return
    from archduel.commands.spaces import describe as app
    from archduel.spaces import lookup

    scale = {"channels": channels, "depth": depth, "image_size": image_size}
    scale |= {"in_channels": in_channels, "n_classes": classes}
    given = {name: value for name, value in scale.items() if value}
    options = assignments(settings, example="preset=ctnas")
    if file is not None:
        columns = {"arch": arch_column, "adjacency": adjacency_column, "ops": ops_column}
        used = {part: name for part, name in columns.items() if name}
        size = lookup.scale_of(space, given)
        _print(app.describe_file(space, file, columns=used, scale=size, settings=options), as_json)
    elif archs:
        for text in archs:
            holder, arch = lookup.resolve(text, space)
            _print(app.describe(holder, [arch], lookup.scale_of(holder.name, given)), as_json)
    else:
        _print([lookup.facts(lookup.open_space(space, **options))], as_json)


def sample(
    space: Annotated[str, typer.Argument(help="`archduel list spaces`")],
    n: Annotated[int, typer.Option("-n", help="how many")] = 1,
    seed: Seed = 0,
    text: Annotated[bool, typer.Option("--text", help="the space's own text instead of SPACE:1.0.4")] = False,
    distinct: Annotated[bool, typer.Option("--distinct", help="no two with one fingerprint")] = False,
    generator: Annotated[str, typer.Option(help="bpe: as BPE's released generator draws (space darts)")] = "",
    max_params: Annotated[str, typer.Option(help="parameters at most, at the published scale: 400k, 0.4M; 0 = no limit")] = "0",
    settings: Settings = None,
) -> None:
    """Print random architectures, one a line.

    archduel sample darts -n 100 --seed 0 --generator bpe --text
    """
    from archduel.commands.spaces import describe as app
    from archduel.spaces import lookup
    from archduel.spaces.family import family

    holder = lookup.open_space(space, **(assignments(settings, example="preset=ctnas") or family(space).usual))
    constraint = None if max_params.strip() in ("", "0") else app.at_most(parse_count(max_params, "--max-params"))
    archs = app.sampled(holder, n, seed, generator=generator, distinct=distinct, constraint=constraint)
    for arch in archs:
        typer.echo(lookup.write(holder, arch) if text else str(arch))


def show(
    name: Annotated[str, typer.Argument(help="`archduel list architectures`, `archduel list spaces` or `archduel list recipes`")],
    as_json: AsJson = False,
) -> None:
    """Print what is known of a published architecture, a space or a recipe."""
    from archduel.commands.spaces import describe as app

    shown = app.shown(name)
    if as_json:
        typer.echo(json.dumps(next(iter(shown.values())) if len(shown) == 1 else shown))
        return
    counted = {"counts": lambda item: f"{item['params']:,} params, {item['macs']:,} multiply-adds"}
    for kind, facts in shown.items():
        if len(shown) > 1:
            typer.echo(f"{kind} {name}")
        for line in record_lines(facts, within=counted):
            typer.echo(line)


def draw(
    arch: Annotated[str, typer.Argument(help="a name, SPACE:1.0.4, or with --space the space's text")],
    out: Annotated[Path | None, typer.Option(help="the SVG file; without it the SVG is printed")] = None,
    space: TextSpace = "",
    columns: Annotated[int, typer.Option(help="diagrams side by side")] = 2,
) -> None:
    """Draw an architecture as SVG."""
    from archduel.core.disk import write_atomic
    from archduel.networks import zoo as app

    svg = app.drawing(arch, space, columns=columns)
    if out is None:
        typer.echo(svg, nl=False)
    else:
        write_atomic(out, svg.encode())
        typer.echo(f"wrote {out}")
