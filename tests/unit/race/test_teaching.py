"""Distillation in a race: when a network above the limits teaches, what its pupil's loss is, and what an interruption costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Counts, Journal, Scale
from archduel.core.storage import read_journal, save_state
from archduel.data import Dataset, load
from archduel.pretrained.prefixes import Proposal
from archduel.race import race as race_module
from archduel.race.newcomers import Asker
from archduel.race.run import RaceResult, race_recipe, run_race
from archduel.race.sides import Side
from archduel.race.teaching import LESSON, SHARE, TEMPERATURE, lesson_loss, taught
from archduel.spaces.family import build
from archduel.spaces.resnet.space import ResNet
from archduel.spaces.stages.space import Stages
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.random import RandomSearch
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

LARGE = Arch("resnet", (1, 1))


@dataclass
class Knowing:
    """Opens nothing within the limits; one network above them may teach."""

    knows: float = 1.0
    wanted: list[tuple[float, float, int]] = field(default_factory=list)
    opened: list[bool] = field(default_factory=list)

    def prepare(self, *given: Any, meet: bool) -> dict[str, Any]:
        return {}

    def first(self) -> list[Any]:
        return []

    def sized(self, arch: Arch) -> tuple[Scale, Counts] | None:
        return None

    def teacher(self, pupil: Arch, reached: float, seconds: float, n: int) -> tuple[Arch, Scale] | None:
        self.wanted.append((reached, seconds, n))
        return (LARGE, Scale(8, 1, 8, 1, 10)) if self.knows > reached else None

    def open(self, arch: Arch, scale: Scale, images: Pixels, seed: int, *, fresh: bool) -> nn.Module:
        self.opened.append(fresh)
        return build(arch, scale, generator=torch.Generator().manual_seed(1))

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        return recipe

    def foretold(self, arch: Arch) -> None:
        return None

    def named(self, arch: Arch) -> str:
        return "the large one"


@dataclass
class Opening(Knowing):
    """Opens small networks within the limits, and one above them may teach those too."""

    def first(self) -> list[Any]:
        return [Proposal("tuned", Arch("resnet", (0, 0)))]

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        return recipe.with_(lr=0.5 * recipe.lr)

    def sized(self, arch: Arch) -> tuple[Scale, Counts] | None:
        return Scale(8, 1, 8, 1, 10), Counts(1_000, 1_000_000)


class Ticking:
    """A clock that goes on whenever it is read."""

    def __init__(self, tick: float = 0.05) -> None:
        self.time, self.tick = 0.0, tick

    def now(self) -> float:
        self.time += self.tick
        return self.time

    def processor(self) -> float:
        return self.time


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", max_images=300)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_module, "LEAST_TO_LEARN", 10.0)


def race(data: Dataset, folder: Path, opener: Knowing, **changes: Any) -> RaceResult:
    side = Side(Asker(RandomSearch(ResNet(), rng=np.random.default_rng(0)), ResNet()), opener=opener)  # type: ignore[arg-type]
    strategy = RegularizedEvolution(Stages(), rng=np.random.default_rng(0), population=3, tournament=2)
    given = {"seconds": 40.0, "max_params": 20_000, "clock": Ticking(), "known": [side], **changes}
    return run_race(data, Stages(), strategy, folder=folder, **given)


def noted(folder: Path, event: str) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder / "race.jsonl") if record["event"] == event]


def test_a_network_above_the_limits_teaches_and_the_race_ends_in_time(digits: Dataset, tmp_path: Path) -> None:
    opener = Knowing()
    result = race(digits, tmp_path, opener)
    (lesson,) = noted(tmp_path, "lesson")
    assert lesson["name"] == "the large one"
    assert opener.opened == [True]
    ((reached, seconds, n),) = opener.wanted
    assert reached == result.winner.accuracy
    assert n == len(digits.train.labels) + len(digits.validation.labels)
    assert seconds == pytest.approx(0.2 * (40.0 - noted(tmp_path, "choice")[0]["began"]), rel=0.05)
    assert lesson["seconds"] == pytest.approx(seconds, abs=1.5)
    assert 38.5 < result.seconds <= 40.5
    said = taught(tmp_path / "checkpoints" / LESSON, n)
    assert said is not None
    assert said.shape == (n, 10)
    assert result.shares["handed over"] >= 0.5
    assert result.lesson["name"] == "the large one"
    assert result.shares["others"] > lesson["seconds"] / 40.0


def test_the_pupil_agrees_more_with_its_teacher_than_one_that_was_not_taught(digits: Dataset, tmp_path: Path) -> None:
    taught_one, alone = race(digits, tmp_path / "taught", Knowing()), race(digits, tmp_path / "alone", Knowing(knows=0.0))
    n = len(digits.train.labels) + len(digits.validation.labels)
    said = taught(tmp_path / "taught" / "checkpoints" / LESSON, n)
    assert said is not None
    look = digits.preprocessing
    images = torch.from_numpy(np.concatenate([digits.train.images, digits.validation.images])).float() / 255
    x = (images - torch.tensor(look.mean).view(1, -1, 1, 1)) / torch.tensor(look.std).view(1, -1, 1, 1)
    target = F.softmax(said / TEMPERATURE, 1)
    with torch.no_grad():
        apart = [float(F.kl_div(F.log_softmax(each.network(x) / TEMPERATURE, 1), target, reduction="batchmean")) for each in (taught_one, alone)]
    assert apart[0] < 0.5 * apart[1]


def test_a_network_that_knows_something_is_taught_with_the_recipe_of_its_side(digits: Dataset, tmp_path: Path) -> None:
    alone = race(digits, tmp_path / "alone", Opening(knows=0.0), scratch=False)
    result = race(digits, tmp_path / "taught", Opening(), scratch=False)
    assert result.lesson["name"] == "the large one"
    assert not alone.lesson
    assert result.recipe == alone.recipe == race_recipe(digits).with_(lr=0.5 * race_recipe(digits).lr)
    again = race(digits, tmp_path / "taught", Opening(), scratch=False)  # the same call, of a race that is over
    assert again.recipe == result.recipe


@pytest.mark.parametrize("changes", [{"evaluations": 4, "seconds": None, "last_epochs": 12.0}, {}], ids=["no clock", "knows less"])
def test_nobody_teaches_without_a_clock_or_who_knows_less(digits: Dataset, tmp_path: Path, changes: dict[str, Any]) -> None:
    opener = Knowing(knows=1.0 if changes else 0.0)
    race(digits, tmp_path, opener, **changes)
    assert not noted(tmp_path, "lesson")
    assert not (tmp_path / "checkpoints" / LESSON).exists()
    assert opener.opened == []


def test_a_side_without_networks_within_the_limits_does_not_end_the_race(digits: Dataset, tmp_path: Path) -> None:
    result = race(digits, tmp_path, Knowing(knows=0.0), seconds=None, evaluations=5, last_epochs=12.0)
    assert len(result.candidates) == 5
    assert {c.entry.side for c in result.candidates} == {0}
    assert [record["side"] for record in noted(tmp_path, "dry")] == [1]


def test_little_time_is_not_spent_on_lessons(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_module, "LEAST_TO_LEARN", 1000.0)
    opener = Knowing()
    race(digits, tmp_path, opener)
    assert opener.wanted == []


class Killed(Exception):
    pass


class Fragile(Journal):
    def append(self, record: Any) -> None:
        super().append(record)
        if record["event"] == "lesson":
            raise Killed


def kill_after_the_lesson(digits: Dataset, folder: Path) -> None:
    fragile = Fragile(folder / "race.jsonl")
    with pytest.raises(Killed):
        race(digits, folder, Knowing(), journal=fragile)
    fragile.close()


def test_a_race_killed_after_the_lesson_does_not_take_it_again(digits: Dataset, tmp_path: Path) -> None:
    kill_after_the_lesson(digits, tmp_path)
    opener = Knowing()
    result = race(digits, tmp_path, opener)
    assert opener.opened == []
    assert len(noted(tmp_path, "lesson")) == 1
    assert 38.5 < result.seconds <= 40.5


def test_a_lost_lesson_is_done_without(digits: Dataset, tmp_path: Path) -> None:
    kill_after_the_lesson(digits, tmp_path)
    (tmp_path / "checkpoints" / LESSON).unlink()
    assert race(digits, tmp_path, Knowing()).winner.passes > 5


def test_a_lesson_of_other_images_is_not_taken(tmp_path: Path) -> None:
    save_state(tmp_path / LESSON, {"lesson": torch.zeros(5, 3)})
    assert taught(tmp_path / LESSON, 6) is None
    found = taught(tmp_path / LESSON, 5)
    assert found is not None
    assert found.shape == (5, 3)
    assert taught(tmp_path / "none", 5) is None


def test_the_loss_is_the_softened_distance_and_a_tenth_of_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, said = torch.randn(6, 4, generator=generator, dtype=torch.float64), torch.randn(6, 4, generator=generator, dtype=torch.float64)
    hard = torch.tensor(1.5, dtype=torch.float64)
    p, q = ((each / 4).exp() / (each / 4).exp().sum(1, keepdim=True) for each in (said, logits))
    expected = 0.1 * 1.5 + 0.9 * 16 * float((p * (p / q).log()).sum(1).mean())
    assert (SHARE, TEMPERATURE) == (0.9, 4.0)
    assert float(lesson_loss(logits, said, hard)) == pytest.approx(expected, rel=1e-5)

    def gradient(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        lesson_loss(at, said, hard).backward()
        assert at.grad is not None
        return at.grad

    assert float(gradient(said).abs().max()) < 1e-6  # nothing to learn where both agree
    assert float(gradient(logits).abs().max()) > 1e-3
