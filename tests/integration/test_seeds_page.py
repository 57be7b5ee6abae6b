"""Every command of docs/seeds.md runs, with a tiny budget, on images, tables and checkpoints made here."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.search import run as job
from archduel.core import Scale, sample
from archduel.execution import Sequential
from archduel.networks import zoo
from archduel.presets import names
from archduel.spaces.nasbench101.space import NASBench101

PAGE = Path(__file__).parents[2] / "docs" / "seeds.md"
BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = {
    text.partition("\n")[0]: [line for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith("archduel ")]
    for text in PAGE.read_text(encoding="utf-8").split("\n## ")
}
"""Heading -> its commands, which may need what those before them left behind."""
LINES = [line for lines in SECTIONS.values() for line in lines]
SPACE = NASBench101()

TRAIN = "--set epochs=1 --set channels=4 --set depth=3 --set batch_size=8 --set image_size=8 --set cutout=2 --set crop_pad=0 --quiet"
STREAM = "--set epochs=1 --set channels=4 --set depth=3 --set batch_size=10 --set image_size=16 --workers 0 --quiet"
SEARCH = (
    "--max-images 120 --workers 1 --quiet --set label.epochs=1 --set label.channels=4 --set reevaluate.epochs=1 --set reevaluate.channels=4 "
    "--set reevaluate.depth=3 --set final.epochs=1 --set final.channels=4 --set final.depth=3 --set strategy.batches=1 --set supernet.channels=4 "
    "--set supernet.depth=3 --set supernet.batch_size=16"
)
CELL = "--max-images 60 --quiet --set label.epochs=1 --set label.channels=4 --set label.depth=3 --set label.batch_size=20"
FEW_PAIRS = "--set strategy.epochs=2 --set strategy.average=2 --set strategy.labels=6 --set strategy.iterations=2 --set strategy.samples=4 --set ranker.epochs=2"
CHEAP = "--set epochs=1 --set channels=4 --set depth=3 --set image_size=8 --set batch_size=64 --max-images 60"
EXTRA = {
    r"search .*--preset cnas": f'{SEARCH} --set strategy.warmup_epochs=1 --set strategy.stage_epochs=1 --set strategy.order=[\'sep_conv_3x3\',\'none\']',
    r"search .*--preset relativenas": f"{SEARCH} --set strategy.population=4 --set strategy.generations=1",
    r"search .*--preset ctnas-darts": f"{SEARCH} {FEW_PAIRS}",
    r"search .*--preset ctnas-mobile": f"{SEARCH} {FEW_PAIRS} --set strategy.average=1 --image-size 16 --validation 0.3 --set final.crop_pad=1 --set supernet.crop_pad=1",
    r"search .*--preset bpe-darts": CELL,
    r"search .*--preset bpe-rs": f"{CELL} --evaluations 3",
    r"search .*--preset bpe-rl": f"{CELL} --evaluations 4",
    r"search .*--preset bpe-ea": f"{CELL} --evaluations 4 --set strategy.population=2 --set strategy.tournament=2 --set plan.masks=2",
    r"train .*imagenet": STREAM,
    r"train ": TRAIN,
    r"zoo load .*--data imagenet": "--channels 4 --depth 3 --classes 10",
    r"zoo load ": "--channels 4 --depth 3",
    r"proxy search": f"{CHEAP} --masks 2 --set strategy.population=2 --set strategy.tournament=2",
    r"proxy train": CHEAP,
    r"proxy find": "--truth 5 --samples 2 --levels epochs=1,2 --levels channels=4 --levels depth=3 --max-images 60 --set epochs=2 --set channels=4 --set depth=3 --set image_size=8",
    r"proxy check": "--truth 5 --max-images 60 --set epochs=1 --set channels=4 --set depth=3 --set image_size=8 --reference bpe1 --set-reference epochs=1 --set-reference channels=4 --set-reference depth=3 --set-reference image_size=8",
    r"bench search": "--workers 0",
}  # fmt: skip
"""The first pattern that a line matches says what is added to it."""
FEWER = {
    "'ctnas[labels=413;verify=10]' --queries 423 --runs 10": "'ctnas[labels=8;verify=2;iterations=3;samples=4]' --queries 10 --runs 1 --set 'ctnas.ranker={\"name\":\"nac\",\"epochs\":2}'",
    "'renas[labels=413;top=10]' --queries 423 --runs 10": "'renas[labels=8;top=2]' --queries 10 --runs 1 --set 'renas.ranker={\"name\":\"renas\",\"epochs\":2}'",
    "--rankers renas --labels 423 --splits 10": "--rankers renas[epochs=2] --labels 12 --splits 1",
    "--steps 100": "--steps 4",
    "--time 2h": "--time 60s",
    "--device cuda": "",
    "archduel search cifar10": "archduel search digits",
    "archduel search imagenet/": "archduel search digits",
    "archduel proxy search cifar10": "archduel proxy search digits",
    "archduel proxy train cifar10": "archduel proxy train digits",
    "archduel proxy find cifar10": "archduel proxy find digits",
    "archduel proxy check cifar10": "archduel proxy check digits",
}
"""Parts of lines that are made smaller."""


def tiny(line: str) -> list[str]:
    """Returns the words of a documented line after `archduel`, with a tiny budget."""
    for part, smaller in FEWER.items():
        line = line.replace(part, smaller)
    if re.match(r"archduel (train|eval) ", line):
        line = line.replace("--data cifar100", "--data hundred.npz").replace("--data cifar10", "--data ten.npz")
    extra = next((words for pattern, words in EXTRA.items() if re.match(f"archduel {pattern}", line)), "")
    words = shlex.split(line)[1:]
    return words + [word.replace("'", '"') for word in extra.split()]


def write_sets(folder: Path) -> None:
    """Writes what people would have: CIFAR as arrays, ImageNet as folders and flat, released checkpoints, tables."""
    rng = np.random.default_rng(0)
    for name, classes in (("ten", 10), ("hundred", 100)):
        labels = np.arange(6 * classes) % classes
        pixels = rng.integers(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
        np.savez(folder / f"{name}.npz", x_train=pixels, y_train=labels, x_test=pixels[:classes], y_test=labels[:classes])
    solution = ["ImageId,PredictionString"]
    (folder / "imagenet" / "val_flat").mkdir(parents=True)
    for split, n in (("train", 3), ("val", 2)):
        for number in range(10):
            home = folder / "imagenet" / split / f"n{number:08d}"
            home.mkdir(parents=True)
            for i in range(n):
                image = Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8))
                image.save(home / f"{split}_{number}_{i}.png")
                if split == "val":
                    image.save(folder / "imagenet" / "val_flat" / f"{split}_{number}_{i}.png")
                    solution.append(f"{split}_{number}_{i},n{number:08d} 1 1 9 9")
    (folder / "LOC_val_solution.csv").write_text("\n".join(solution))
    write_checkpoints(folder)
    write_tables(folder)


def write_checkpoints(folder: Path) -> None:
    """Writes tiny networks under the names that DARTS-type codes give their layers."""
    files = {
        "cifar10_model.pt": ("relativenas", Scale(4, 3, 32, 3, 10)), "cifar100_model.pt": ("relativenas", Scale(4, 3, 32, 3, 100)),
        "imagenet_model.pt": ("relativenas", Scale(4, 3, 224, 3, 10)), "cnas-imagenet-602b7057.pth": ("cnas", Scale(4, 3, 224, 3, 10)),
    }  # fmt: skip
    rules = [(r"^stem\.(\d)\.", r"stem\1."), (r"\.before\.", ".preprocess0.op."), (r"\.edges\.(\d+)\.", r"._ops.\1.op."), (r"^tail\.\d", "classifier")]
    for file, (name, scale) in files.items():
        weights = {}
        for key, value in zoo.load(name, scale=scale, auxiliary=True).state_dict().items():
            for pattern, text in rules:
                key = re.sub(pattern, text, key)
            weights[f"module.{key}"] = value
        torch.save({"epoch": 1, "state_dict": weights}, folder / file)


def write_tables(folder: Path) -> None:
    """Writes 40 cells as CTNAS's JSON and as ReNAS's tensors."""
    rng = np.random.default_rng(1)
    cells = list({SPACE.fingerprint(arch): arch for arch in (sample(SPACE, rng) for _ in range(60))}.values())[:40]
    types = {"input": 1, "conv1x1-bn-relu": 2, "conv3x3-bn-relu": 3, "maxpool3x3": 4, "output": 5}
    entries, tensors, labels = [], [], []
    for row, arch in enumerate(cells):
        matrix, ops = SPACE.matrix(arch)
        good = 0.85 + 0.002 * row
        entries.append({
            "matrix": matrix, "ops": ops, "n_params": 1, "training_time": 100.0, "train_accuracy": 1.0, "validation_accuracy": good,
            "test_accuracy": good - 0.01, "hash_": SPACE.fingerprint(arch),
        })  # fmt: skip
        place, full = [*range(len(ops) - 1), 6], np.zeros((19, 7, 7))
        for a, b in np.argwhere(np.array(matrix)).tolist():
            full[0, place[a], place[b]] = types[ops[b]]
        tensors.append(full)
        labels.append([50, 0.5, 0.4, 0.3, 100, 1.0, good, good - 0.01])
    (folder / "nas_bench.json").write_text(json.dumps(entries))
    (folder / "tensors").mkdir()
    np.save(folder / "tensors" / "data_0.npy", np.array(tensors))
    np.save(folder / "tensors" / "label_0.npy", np.array(labels))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with all the files, in which the lines run in the order of the page."""
    folder = tmp_path_factory.mktemp("seeds")
    write_sets(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ARCHDUEL_TABLES", str(folder / "tables"))
        # in this process, and without the hand-over, which has tests of its own: what is tested is that the lines work
        patch.setattr("archduel.commands.search.executors.Processes", lambda factory, *, run_seed, **_: Sequential(factory(), run_seed=run_seed))
        patch.setattr(job, "hand_over", lambda folder, result, progress: folder.note("handed over"))
        yield folder


@pytest.mark.parametrize("section", [section for section, lines in SECTIONS.items() if lines])
def test_the_commands_of_a_paper_run(section: str, workplace: Path) -> None:
    for line in SECTIONS[section]:
        done = CliRunner().invoke(app, tiny(line))
        assert done.exit_code == 0, f"{line}\n{tiny(line)}\n{done.output}\n{done.exception!r}"
        if "sample darts" in line:
            lines = done.output.splitlines()
            assert len(lines) == 100
            (workplace / "random_darts_architecture.txt").write_text("\n".join(lines[:2]))
        check(line, done.output)


def check(line: str, output: str) -> None:
    """Checks what a line must leave behind."""
    words = shlex.split(line)
    out = Path(words[words.index("--out") + 1]) if "--out" in words else None
    if words[1] in ("train", "search") and out is not None:
        assert (out / "result.json").is_file()
    if "--preset" in words:
        cell = words[words.index("--preset") + 1].startswith("bpe")
        assert out is not None
        assert (out / ("genotype.txt" if cell else "run.toml")).is_file()
    if words[1] == "eval":
        assert "top-1" in output
    if line.startswith("archduel zoo load"):
        facts: dict[str, Any] = json.loads((Path(words[words.index("--to") + 1]) / "model.json").read_text())
        assert facts["imported"]["file"] == words[words.index("--checkpoint") + 1]
    if line.startswith("archduel proxy search"):
        assert out is not None
        assert (out / "genotype.txt").is_file()


def test_the_page_has_the_lines() -> None:
    assert len(LINES) > 25
    assert all(any(word in line for line in LINES) for word in ("bench search", "proxy find", "zoo load", "--recipe imagenet"))
    assert all(any(f"--preset {name} " in line for line in LINES) for name in names())  # each is run here
