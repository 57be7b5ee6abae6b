"""One reader: every command that takes a recipe takes every name and every file that a command writes, and reads the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archduel.commands import app as cli
from archduel.commands.proxy.check import check_proxy
from archduel.commands.proxy.find import find_proxy
from archduel.commands.proxy.search import search_cell
from archduel.commands.search.one_shot import supernet_recipe
from archduel.commands.search.plan import fixed_plan
from archduel.commands.search.settings import make_settings
from archduel.commands.table.train import train_table
from archduel.commands.train.train import train_network
from archduel.commands.train_file import train_file
from archduel.data import load
from archduel.errors import ArchduelError, UnknownNameError
from archduel.recipes import fitted, names, open_recipe, read, write_recipe
from archduel.training.recipe import Recipe

CELL = "nasbench201:0.1.2.3.4.1"
FEW: dict[str, Any] = {"load_settings": {"max_images": 60}, "quiet": True}
TINY: dict[str, Any] = {"epochs": 1, "channels": 4, "depth": 3, "image_size": 8}


class Reached(Exception):
    """The command has read its recipe; nothing is trained."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe(**recipe)


def stop(monkeypatch: pytest.MonkeyPatch, where: str, recipe: Callable[..., Any]) -> None:
    """Ends a command where it would begin to work."""

    def reached(*given: Any, **named: Any) -> None:
        raise Reached(recipe(*given, **named))

    monkeypatch.setattr(where, reached)


def reached(call: Callable[[], Any]) -> Recipe:
    with pytest.raises(Reached) as caught:
        call()
    return caught.value.recipe


def train(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    stop(monkeypatch, "archduel.commands.train.train.open_task", lambda data, recipe, **_: recipe)
    return reached(lambda: train_network(CELL, "digits", tmp_path / Path(which).name, recipe=which))


def table_train(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    stop(monkeypatch, "archduel.commands.table.train._trained", lambda dataset, recipe, *_: recipe)
    return reached(lambda: train_table("digits", tmp_path / f"{Path(which).name}.table", cells=2, recipe=which, **FEW))


def proxy_train(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    (tmp_path / "cells.txt").write_text(CELL)
    stop(monkeypatch, "archduel.commands.trainings.JobOptions.bench", lambda *given, **_: given[-1]["recipe"])
    return reached(lambda: train_file(tmp_path / "cells.txt", "digits", tmp_path / Path(which).name, recipe=which, **FEW))


def proxy_check(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    stop(monkeypatch, "archduel.commands.trainings.JobOptions.bench", lambda *given, **_: given[-1]["recipe"])
    return reached(lambda: check_proxy("digits", tmp_path / Path(which).name, recipe=which, truth=5, **FEW))


def proxy_search(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    stop(monkeypatch, "archduel.commands.trainings.JobOptions.bench", lambda *given, **_: given[-1]["recipe"])
    return reached(lambda: search_cell("digits", tmp_path / Path(which).name, recipe=which, **FEW))


def proxy_find(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    stop(monkeypatch, "archduel.commands.proxy.find._grid", lambda reference, *_: reference)
    return reached(lambda: find_proxy("digits", tmp_path / Path(which).name, time="1m", reference=which, truth=5, **FEW))


def search(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    settings = make_settings(data="digits", space="nasbench201", evaluations=6, set={f"{part}.recipe": which for part in ("label", "final")})
    plan = fixed_plan(settings, load("digits", max_images=60), ((8, 1), (16, 2)))
    assert plan.label == plan.final
    return plan.final


def supernet(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    return supernet_recipe(Recipe(image_size=8, flip=False), "spos", {"recipe": which}, "nasbench201")


COMMANDS = {command.__name__: command for command in (train, table_train, proxy_train, proxy_check, proxy_find, proxy_search, search, supernet)}
AS_IT_IS = ("train",)
"""Commands that have the images made as large as the recipe wants them; the others fit the recipe to the images."""
OF_A_SUPERNET = ("image_size", "epochs", "batch_size", "lr", "weight_decay", "channels", "depth")
"""What shared weights take over from a recipe."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of file with a recipe in it, as the commands write them."""
    folder = tmp_path_factory.mktemp("written")
    sets = [word for name, value in {**TINY, "batch_size": 32}.items() for word in ("--set", f"{name}={value}")]
    words = ["train", CELL, "--data", "digits", "--max-images", "120", "--out", str(folder / "t"), "--quiet"]
    assert CliRunner().invoke(cli, [*words, *sets], catch_exceptions=False).exit_code == 0
    changes = {**TINY, "batch_size": 32}
    find_proxy("digits", folder / "p", time=5, truth=5, changes=changes, levels={"epochs": [0.5, 1]}, samples=2, **FEW)
    files = [folder / "t" / "train.toml", folder / "t" / "model.json"]
    files += [path for path in (folder / "p" / "quick.json", folder / "p" / "trusted.json") if path.exists()]
    return {path.name: path for path in [*files, write_recipe(Recipe(epochs=0.5, image_size=8, channels=4, depth=3), folder / "own.json")]}


def expected(which: Any, command: str) -> Recipe:
    recipe = read(which, "darts" if command == "proxy_search" else "nasbench201")
    return recipe if command in AS_IT_IS else fitted(recipe, 8, False)[0]


def agrees(command: str, which: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, right = COMMANDS[command](str(which), tmp_path, monkeypatch), expected(which, command)
    if command == "supernet":
        assert [getattr(seen, name) for name in OF_A_SUPERNET] == [getattr(right, name) for name in OF_A_SUPERNET]
    else:
        assert seen == right


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_name(command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(command, name, tmp_path, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_file_that_a_command_writes(
    command: str, written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.suffix for path in written.values()} == {".toml", ".json"}
    for path in written.values():
        agrees(command, path, tmp_path, monkeypatch)


def test_a_written_file_says_what_was_trained_with(written: dict[str, Path]) -> None:
    record = json.loads(written["model.json"].read_text())["recipe"]
    for name in ("train.toml", "model.json"):
        recipe = open_recipe(written[name])
        assert recipe.recipe == Recipe(**{key: value for key, value in record.items() if key not in ("name", "source")})
        assert (recipe.recipe.epochs, recipe.recipe.channels) == (1, 4)
        assert recipe.source == open_recipe(record["name"]).source


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_unknown_name_in_the_same_words(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = CliRunner().invoke(cli, ["list", "recipes"], catch_exceptions=False).stdout.splitlines()
    assert [line.split()[0] for line in listed] == names()
    with pytest.raises(UnknownNameError, match=f"recipe 'bpe9' is unknown; .*`archduel list recipes` shows all {len(listed)}"):
        COMMANDS[command]("bpe9", tmp_path, monkeypatch)
    for wrong in ("missing.json", "missing.toml"):
        with pytest.raises(ArchduelError, match="there is no recipe file"):
            COMMANDS[command](wrong, tmp_path, monkeypatch)


def test_full_is_the_final_training_of_darts_whatever_it_is_called() -> None:
    assert read("full") == read("cifar_darts") == read("darts600")
    assert read("full", "nasbench201") == read("cifar_darts", "nasbench201")


def test_a_mapping_is_a_recipe_too() -> None:
    assert read({"epochs": 3}) == Recipe(epochs=3)
    assert read({"recipe": {"epochs": 3, "channels": 4}}, "nasbench201") == Recipe(epochs=3, channels=4, depth=5)
    assert read(Recipe(epochs=2), "nasbench201", {"lr": 0.5}) == Recipe(epochs=2, lr=0.5)
