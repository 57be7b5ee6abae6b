"""`archduel table ...`: import published benchmark files, look at tables, hand them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from archduel.errors import SettingError

__all__ = ["register"]

# -- `archduel table train`: a table of one's own -----------------------------------------------------------------------


def train(
    data: str = typer.Argument(help="what `archduel search` takes: a folder, .npz, digits ..."),
    out: Path = typer.Option(..., help="the .table file; OUT.jsonl beside it continues an interrupted call"),
    space: str = typer.Option("nasbench201", help="`archduel list spaces`"),
    cells: int = typer.Option(300, min=2, help="functionally different architectures"),
    seeds: int = typer.Option(3, min=1, help="runs of each; a run has one seed for all architectures"),
    seed: int = typer.Option(0, help="which architectures, and the seeds of their trainings"),
    mean_of: int = typer.Option(
        1, min=1, help="trainings whose mean is one of --seeds: less noise, more time"
    ),
    workers: int = typer.Option(1, min=1, help="trainings at a time"),
    fused: str = typer.Option(
        "off", help="networks a worker trains at once: a number, auto (measured) or off"
    ),
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE of the recipe, such as --set epochs=20"),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="print nothing"),
) -> None:
    """Train many architectures with one recipe and several seeds, and keep the numbers as a table."""
    from archduel.commands.table.train import train_table

    recipe = {}
    for value in set_:
        name, equals, text = value.partition("=")
        if not equals:
            raise SettingError(f"--set {value}: expected NAME=VALUE, such as --set epochs=20")
        try:
            recipe[name.strip()] = json.loads(text)
        except ValueError:
            recipe[name.strip()] = text
    path = train_table(
        data,
        out,
        space=space,
        cells=cells,
        seeds=seeds,
        seed=seed,
        mean_of=mean_of,
        recipe=recipe,
        workers=workers,
        fused=int(fused) if fused.isdecimal() else fused,
        quiet=quiet,
    )
    if not quiet:
        typer.echo(path)


_VALUES = "COLUMN, COLUMN,COLUMN (runs) or FIDELITY=COLUMN,...; repeat for more fidelities"


_Source = Annotated[Path, typer.Argument(help="the published file or folder, or a CSV or parquet file")]
_Out = Annotated[Path | None, typer.Option(help="the table file to write")]
_Name = Annotated[
    str, typer.Option(help="what the table is called; without --out it is kept under this name")
]
_Space = Annotated[str, typer.Option(help="the space of a CSV or parquet file: `archduel list spaces`")]
_ArchColumn = Annotated[str, typer.Option(help="column of the architecture's text")]
_AdjacencyColumn = Annotated[str, typer.Option(help="nasbench101: column of the matrix (adjacency)")]
_OpsColumn = Annotated[str, typer.Option(help="nasbench101: column of the operations (ops)")]
_KernelsColumn = Annotated[str, typer.Option(help="mobilenetv3: column of the kernel sizes (kernel_sizes)")]
_ExpansionsColumn = Annotated[str, typer.Option(help="mobilenetv3: column of the expansions (expand_ratios)")]
_DepthsColumn = Annotated[str, typer.Option(help="mobilenetv3: column of the depths (depths)")]
_ResolutionColumn = Annotated[str, typer.Option(help="mobilenetv3: column of the image size (resolution)")]
_Validation = Annotated[list[str] | None, typer.Option(help=f"validation accuracy: {_VALUES}")]
_Test = Annotated[list[str] | None, typer.Option(help="test accuracy, written alike")]
_Train = Annotated[list[str] | None, typer.Option(help="training accuracy, written alike")]
_Seconds = Annotated[list[str] | None, typer.Option(help="training time in seconds, written alike")]
_Column = Annotated[
    list[str] | None, typer.Option(help="a column of numbers to keep, such as params; repeat for more")
]
_Percent = Annotated[bool, typer.Option(help="accuracies are percentages")]
_Repeats = Annotated[str, typer.Option(help="repeated architectures: error, first, mean, runs")]
_Join = Annotated[Path | None, typer.Option(help="a second CSV or parquet file with further columns")]
_On = Annotated[str, typer.Option(help="the column that tells which rows of the two files belong together")]
_SpaceSet = Annotated[list[str] | None, typer.Option(help="KEY=JSON: a setting of the space, such as preset")]
_Dataset = Annotated[str, typer.Option(help="NAS-Bench-201, NATS-Bench: cifar10, cifar100, ImageNet16-120")]
_Halfway = Annotated[bool, typer.Option(help="NAS-Bench-101: also keep half-time values")]
_Format = Annotated[str, typer.Option("--format", help="of a published file, where its name does not say it")]
_Note = Annotated[str, typer.Option(help="a sentence to keep in the table")]
_Value = TypeVar("_Value")


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    table = typer.Typer(help="Tabular benchmarks: import, show, list, export, train.", no_args_is_help=True)
    table.command("import")(import_)
    table.command("show")(show)
    table.command("list")(list_)
    table.command("export")(export)
    table.command("train")(train)
    app.add_typer(table, name="table")


def import_(
    source: _Source,
    out: _Out = None,
    name: _Name = "",
    space: _Space = "",
    arch_column: _ArchColumn = "",
    adjacency_column: _AdjacencyColumn = "",
    ops_column: _OpsColumn = "",
    kernels_column: _KernelsColumn = "",
    expansions_column: _ExpansionsColumn = "",
    depths_column: _DepthsColumn = "",
    resolution_column: _ResolutionColumn = "",
    validation: _Validation = None,
    test: _Test = None,
    train: _Train = None,
    seconds: _Seconds = None,
    column: _Column = None,
    percent: _Percent = False,
    repeats: _Repeats = "error",
    join: _Join = None,
    on: _On = "",
    space_set: _SpaceSet = None,
    dataset: _Dataset = "cifar10",
    halfway: _Halfway = False,
    format_: _Format = "",
    note: _Note = "",
) -> None:
    """Write one compact table file.

    archduel table import data.parquet --space nasbench201 --arch-column arch_str
    --validation cifar100_val --test cifar100_test --percent --out c100.table
    """
    from archduel.commands.options import settings_of
    from archduel.tables.importing import ImportPlan, find_format, import_columns, import_published
    from archduel.tables.store import describe

    plan = ImportPlan(out, name, {"note": note} if note else {})
    if (format_ or find_format(source)) != "columns":
        made = import_published(source, plan, format_=format_, dataset=dataset, halfway=halfway)
    else:
        made = import_columns(
            source,
            space,
            plan,
            columns=_given(
                arch=arch_column,
                adjacency=adjacency_column,
                ops=ops_column,
                kernels=kernels_column,
                expansions=expansions_column,
                depths=depths_column,
                resolution=resolution_column,
            ),
            values=_given(validation=validation, test=test, train=train, seconds=seconds),
            extra=column or (),
            percent=percent,
            repeats=repeats,
            join=(join, on) if join else None,
            space_settings=settings_of(space_set or []),
        )
    typer.echo(describe(made))


def _given(**options: _Value | None) -> dict[str, _Value]:
    """Returns the options that were given."""
    return {name: value for name, value in options.items() if value}


def show(
    table: Annotated[str, typer.Argument(help="a name of `archduel table list`, or a file")],
    verify: Annotated[bool, typer.Option(help="read all of it and compare the SHA-256")] = False,
) -> None:
    """Print what a table holds and where it is from."""
    from archduel.tables.store import show_table

    typer.echo(show_table(table, verify=verify))


def list_() -> None:
    """Print the tables that every --table option knows by name."""
    from archduel.tables.store import known_tables, table_folder

    known = known_tables()
    for name, path in known.items():
        typer.echo(f"{name:<28} {path}")
    if not known:
        typer.echo(f"none yet; `archduel table import FILE --name NAME` keeps one in {table_folder()}")


def export(
    table: Annotated[str, typer.Argument(help="a name of `archduel table list`, or a file")],
    out: Annotated[Path, typer.Argument(help="the CSV file to write")],
    test: Annotated[bool, typer.Option(help="also write test values")] = False,
) -> None:
    """Write a table as CSV."""
    from archduel.tables.store import export_csv

    typer.echo(f"{export_csv(table, out, test=test):,} architectures to {out}")
