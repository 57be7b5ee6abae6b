"""`archduel table ...`: import published benchmark files, look at tables, hand them on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import Group
from archduel.commands.options import (
    SPACE_SETTINGS,
    Fused,
    Images,
    Quiet,
    RecipeChanges,
    SpaceName,
    Workers,
    add_command,
    assignments,
    command_line,
    json_or_text,
)

__all__ = ["register"]

# -- `archduel table train`: a table of one's own -----------------------------------------------------------------------


def train(
    data: Images,
    out: Annotated[Path, typer.Option(help="the .table file; OUT.jsonl beside it continues an interrupted call")],
    space: SpaceName = "nasbench201",
    cells: Annotated[int, typer.Option(min=2, help="functionally different architectures")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each; a run has one seed for all architectures")] = 3,
    seed: Annotated[int, typer.Option(help="which architectures, and the seeds of their trainings")] = 0,
    mean_of: Annotated[int, typer.Option(min=1, help="trainings whose mean is one of --seeds: less noise, more time")] = 1,
    workers: Workers = 1,
    fused: Fused = "off",
    recipe: Annotated[str, typer.Option(help="`archduel list recipes`, or a .toml or .json file; default that of a search")] = "",
    set_: RecipeChanges = None,
    quiet: Quiet = False,
) -> None:
    """Train many architectures with one recipe and several seeds, and keep the numbers as a table."""
    from archduel.commands.table.train import train_table

    path = train_table(
        data,
        out,
        space=space,
        cells=cells,
        seeds=seeds,
        seed=seed,
        mean_of=mean_of,
        recipe=recipe,
        changes=assignments(set_),
        workers=workers,
        fused=json_or_text(fused),
        command=command_line(),
        quiet=quiet,
    )
    if not quiet:
        typer.echo(path)


_VALUES = "COLUMN, COLUMN,COLUMN (runs) or FIDELITY=COLUMN,...; repeat for more fidelities"


TableOrFile = Annotated[str, typer.Argument(help="a name of `archduel table list`, or a file")]
_Value = TypeVar("_Value")


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    table = typer.Typer(cls=Group, help="Tabular benchmarks: import, show, list, export, train.", no_args_is_help=True)
    add_command(table, import_, "import", former={"--space-set": "--set"})
    add_command(table, show, "show")
    add_command(table, list_, "list")
    add_command(table, export, "export")
    add_command(table, train, "train")
    app.add_typer(table, name="table")


def import_(
    source: Annotated[Path, typer.Argument(help="the published file or folder, or a CSV or parquet file")],
    out: Annotated[Path | None, typer.Option(help="the table file to write")] = None,
    name: Annotated[str, typer.Option(help="what the table is called; without --out it is kept under this name")] = "",
    space: Annotated[str, typer.Option(help="the space of a CSV or parquet file: `archduel list spaces`")] = "",
    arch_column: Annotated[str, typer.Option(help="column of the architecture's text")] = "",
    adjacency_column: Annotated[str, typer.Option(help="nasbench101: column of the matrix (adjacency)")] = "",
    ops_column: Annotated[str, typer.Option(help="nasbench101: column of the operations (ops)")] = "",
    kernels_column: Annotated[str, typer.Option(help="mobilenetv3: column of the kernel sizes (kernel_sizes)")] = "",
    expansions_column: Annotated[str, typer.Option(help="mobilenetv3: column of the expansions (expand_ratios)")] = "",
    depths_column: Annotated[str, typer.Option(help="mobilenetv3: column of the depths (depths)")] = "",
    resolution_column: Annotated[str, typer.Option(help="mobilenetv3: column of the image size (resolution)")] = "",
    validation: Annotated[list[str] | None, typer.Option(help=f"validation accuracy: {_VALUES}")] = None,
    test: Annotated[list[str] | None, typer.Option(help="test accuracy, written alike")] = None,
    train: Annotated[list[str] | None, typer.Option(help="training accuracy, written alike")] = None,
    seconds: Annotated[list[str] | None, typer.Option(help="training time in seconds, written alike")] = None,
    column: Annotated[list[str] | None, typer.Option(help="a column of numbers to keep, such as params; repeat for more")] = None,
    percent: Annotated[bool, typer.Option(help="accuracies are percentages")] = False,
    repeats: Annotated[str, typer.Option(help="what repeated architectures are"), OneOf("error", "first", "mean", "runs")] = "error",
    join: Annotated[Path | None, typer.Option(help="a second CSV or parquet file with further columns")] = None,
    on: Annotated[str, typer.Option(help="the column that tells which rows of the two files belong together")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help=SPACE_SETTINGS)] = None,
    dataset: Annotated[str, typer.Option(help="of NAS-Bench-201 and NATS-Bench"), OneOf("cifar10", "cifar100", "ImageNet16-120")] = "cifar10",
    halfway: Annotated[bool, typer.Option(help="NAS-Bench-101: also keep half-time values")] = False,
    format_: Annotated[str, typer.Option("--format", help="of a published file, where its name does not say it")] = "",
    note: Annotated[str, typer.Option(help="a sentence to keep in the table")] = "",
) -> None:
    """Write one compact table file.

    archduel table import data.parquet --space nasbench201 --arch-column arch_str
    --validation cifar100_val --test cifar100_test --percent --out c100.table
    """
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
            space_settings=assignments(set_, "--set", "preset=ctnas"),
        )
    typer.echo(describe(made))


def _given(**options: _Value | None) -> dict[str, _Value]:
    """Returns the options that were given."""
    return {name: value for name, value in options.items() if value}


def show(
    table: TableOrFile,
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
    table: TableOrFile,
    out: Annotated[Path, typer.Argument(help="the CSV file to write")],
    test: Annotated[bool, typer.Option(help="also write test values")] = False,
) -> None:
    """Write a table as CSV."""
    from archduel.tables.store import export_csv

    typer.echo(f"{export_csv(table, out, test=test):,} architectures to {out}")
