"""`archduel proxy`: cheap training recipes that keep the ranking: find, check, use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import Group
from archduel.commands.options import (
    FieldsOf,
    Images,
    JobFolder,
    RecipeChanges,
    SpaceName,
    add_command,
    assignment,
    assignments,
    given,
    json_or_text,
)

__all__ = ["register"]

RECIPE = "`archduel list recipes`, or a .toml or .json file"

CheapRecipe = Annotated[str, typer.Option(help=RECIPE)]
Reading = Annotated[str, typer.Option(help="what of a training is compared"), OneOf("score", "val_loss", "train_loss", "late_losses", "all_losses")]
Training = Annotated[dict[str, Any], FieldsOf("archduel.commands.options:TrainingOptions")]


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``."""
    group = typer.Typer(cls=Group, help="Cheap training recipes that keep the ranking: find, check, use.", no_args_is_help=True)
    for command in (find, check, train, search):
        add_command(group, command)
    app.add_typer(group, name="proxy")


def _levels(texts: list[str] | None) -> dict[str, list[Any]]:
    pairs = (assignment(text, "--levels", "epochs=5,10", form="NAME=VALUE,VALUE") for text in texts or ())
    return {name: [json_or_text(part) for part in values.split(",")] for name, values in pairs}


def _job(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of several commands as :class:`archduel.commands.trainings.JobOptions` names them."""
    reading = given(max_images=options.pop("max_images"), image_size=options.pop("image_size"))
    return {**options, "load_settings": reading, "fused": json_or_text(options["fused"])}


def find(
    *,
    data: Images,
    time: Annotated[str, typer.Option(help="for all trainings: 20m, 2h")],
    out: JobFolder,
    space: SpaceName = "nasbench201",
    truth: Annotated[int, typer.Option(min=5, help="random architectures that every recipe trains")] = 20,
    reference: Annotated[str, typer.Option(help=f"the trusted recipe: auto (as large as fits), {RECIPE}")] = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of the reference, such as --set epochs=40")] = None,
    levels: Annotated[list[str] | None, typer.Option(help="NAME=VALUE,VALUE cheapest first instead of the usual; one value = not varied")] = None,
    by: Annotated[str, typer.Option(help="measure of agreement"), OneOf("spearman", "kendall")] = "spearman",
    reading: Reading = "score",
    samples: Annotated[int, typer.Option(min=2, help="recipes a round")] = 6,
    sampling: Annotated[str, typer.Option(help="how a round's recipes are drawn"), OneOf("spread", "cheapest", "random")] = "spread",
    scope: Annotated[str, typer.Option(help="importance over the open hyper-parameters, or all"), OneOf("open", "all")] = "open",
    cost: Annotated[str, typer.Option(help="what is to be cheap; macs do not depend on the machine"), OneOf("seconds", "macs")] = "seconds",
    training: Training,
) -> None:
    """Find the cheapest recipes whose ranking can be trusted on your images (Minimum Importance Pruning)."""
    from archduel.commands.proxy.find import find_proxy

    find_proxy(
        data, out, time=time, space=space, truth=truth, reference=reference, changes=assignments(set_), levels=_levels(levels), by=by,
        reading=reading, samples=samples, sampling=sampling, scope=scope, cost=cost,
        **_job(training),
    )  # fmt: skip


def check(
    *,
    data: Images,
    out: JobFolder,
    recipe: CheapRecipe = "bpe1",
    space: SpaceName = "nasbench201",
    truth: Annotated[int, typer.Option(min=5, help="random architectures")] = 20,
    reference: Annotated[str, typer.Option(help=f"the trusted recipe: auto, {RECIPE}")] = "auto",
    time: Annotated[str | None, typer.Option(help="for the trusted trainings; decides --reference auto")] = None,
    set_: RecipeChanges = None,
    set_reference: Annotated[list[str] | None, typer.Option("--set-reference", help="NAME=VALUE of the reference")] = None,
    again: Annotated[bool, typer.Option(help="train the reference twice: what agreement can be hoped for")] = False,
    training: Training,
) -> None:
    """How far can this recipe be trusted on these images: rank agreement with a reference, with intervals and cost."""
    from archduel.commands.proxy.check import check_proxy, check_text

    result = check_proxy(
        data, out, recipe=recipe, space=space, truth=truth, reference=reference, time=time, changes=assignments(set_),
        reference_changes=assignments(set_reference, "--set-reference"), again=again,
        **_job(training),
    )  # fmt: skip
    if not training["quiet"]:
        typer.echo(check_text(result))


def train(
    *,
    data: Images,
    file: Annotated[Path, typer.Option(help="one architecture a line: genotypes, NAS-Bench-201 strings, names, space:1.0.4")],
    out: JobFolder,
    recipe: CheapRecipe = "bpe1",
    set_: RecipeChanges = None,
    space: Annotated[str, typer.Option(help="of lines that do not say it themselves")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each")] = 1,
    training: Training,
) -> None:
    """Train a file of architectures with one recipe as one job; the result is a table."""
    from archduel.commands.train_file import train_file

    trained = train_file(
        file, data, out, recipe=recipe, changes=assignments(set_), space=space, seeds=seeds,
        **_job(training),
    )  # fmt: skip
    if not training["quiet"]:
        typer.echo(f"{trained.best()}\n{trained.csv}")


def search(
    *,
    data: Images,
    out: JobFolder,
    method: Annotated[str, typer.Option(help="random, rl, ea or darts")] = "random",
    recipe: CheapRecipe = "bpe1",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the recipe, or strategy.NAME=VALUE such as --set strategy.lr=0.1; repeat for more")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="trainings of the search (epochs of the supernet are in the recipe)")] = 100,
    masks: Annotated[int, typer.Option(min=1, help="ea: prunings of the best super-cell that are trained")] = 10,
    reading: Reading = "score",
    training: Training,
) -> None:
    """BPE's searches: a DARTS cell chosen under a cheap recipe, ready for final training."""
    from archduel.commands.proxy.search import search_cell

    result = search_cell(
        data, out, method=method, recipe=recipe, changes=assignments(set_), steps=steps, masks=masks, reading=reading,
        **_job(training),
    )  # fmt: skip
    typer.echo(result["genotype"])
