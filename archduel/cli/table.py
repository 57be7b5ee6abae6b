"""`archduel table ...`: import published benchmark files, look at tables, hand them on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

_VALUES = "COLUMN, COLUMN,COLUMN (runs) or FIDELITY=COLUMN,...; repeat for more fidelities"


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    table = typer.Typer(help="Tabular benchmarks: import, show, list, export.", no_args_is_help=True)
    table.command("import")(import_)
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
    repeats: Annotated[str, typer.Option(help="repeated architectures: error, first, mean, runs")] = "error",
    note: Annotated[str, typer.Option(help="a sentence to keep in the table")] = "",
) -> None:
    """Write one compact table file.

    archduel table import data.parquet --space nasbench201 --arch-column arch_str
    --validation cifar100_val --test cifar100_test --percent --out c100.table
    """
    from archduel.apps.tables import ImportPlan, describe, import_columns

    parts = {
        "arch": arch_column,
        "adjacency": adjacency_column,
        "ops": ops_column,
        "kernels": kernels_column,
        "expansions": expansions_column,
        "depths": depths_column,
        "resolution": resolution_column,
    }
    specs = {"validation": validation, "test": test, "train": train, "seconds": seconds}
    made = import_columns(
        source,
        space,
        ImportPlan(out, name, {"note": note} if note else {}),
        columns={part: text for part, text in parts.items() if text},
        values={split: texts for split, texts in specs.items() if texts},
        extra=column or (),
        percent=percent,
        repeats=repeats,
    )
    typer.echo(describe(made))
