"""Cells that one-shot searches found on CIFAR-10, trained alone on a sample of it, beside random cells and random search.

    ARCHDUEL_DATA=... python benchmarks/oneshot_alone.py --found benchmarks/records/oneshot_found.json --work /tmp/alone --out benchmarks/records/oneshot_alone.json

Every cell is trained with one recipe and the same seeds on the images that the searches had, and tested on CIFAR-10's test images, which
no search saw. Random search at equal cost trains ``--drawn`` random cells alone for an epoch each (about the 1,200 batches that
``oneshot_found.py --batches 1200`` gave each search) and takes the best on the searches' validation images. Cells are trained in
fused groups. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oneshot_cifar10 import parser_of, pictures, root_of
from recording import write_record

from archduel import build, environment
from archduel.core import Arch, Scale, parse, sample
from archduel.data import load
from archduel.fusing import train_together
from archduel.reporting import mean_interval, paired_difference
from archduel.spaces import NASBench201
from archduel.training import Pixels, Recipe, seeded_build

SPACE = NASBench201()
RANDOM = "random search at equal cost"


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Returns how every cell is trained."""
    return Recipe(
        epochs=arguments.epochs, batch_size=arguments.batch_size, lr=0.1, weight_decay=5e-4, crop_pad=arguments.image_size // 8,
        channels=arguments.channels, depth=arguments.depth, image_size=arguments.image_size,
    )  # fmt: skip


def trained(cells: list[Arch], train: Pixels, judged: Pixels, recipe: Recipe, seed: int) -> list[float]:
    """Returns the accuracies of cells that are trained as one group."""
    scale = Scale(recipe.channels, recipe.depth, recipe.image_size, 3, 10)
    networks = [seeded_build(lambda cell=cell: build(cell, scale), seed) for cell in cells]
    judged = judged.resized(recipe.image_size)
    results = train_together(networks, scale, train, recipe, seeds=[seed], validations=[judged])
    if wrong := [one.reason for one, said in results if said is None]:
        raise RuntimeError(f"a training failed: {wrong[0]}")
    return [float(said[0].accuracy) for _, said in results if said]


def drawn(arguments: argparse.Namespace, dataset: Any, seed: int) -> tuple[list[Arch], list[float]]:
    """Returns some random cells, and their accuracies after an epoch each on the validation images of the searches."""
    means = dataset.preprocessing.mean, dataset.preprocessing.std
    train, validation = (Pixels(part.images, part.labels, *means) for part in (dataset.train, dataset.validation))
    rng = np.random.default_rng([seed, 31])
    cells = [sample(SPACE, rng) for _ in range(arguments.drawn)]
    short = recipe_of(arguments).with_(epochs=1, channels=8, depth=1)
    return cells, trained(cells, train, validation, short, seed)


def random_search(arguments: argparse.Namespace, dataset: Any, seed: int) -> Arch:
    """Returns the best of the random cells."""
    cells, scores = drawn(arguments, dataset, seed)
    return cells[int(np.argmax(scores))]


def contents(arguments: argparse.Namespace, dataset: Any) -> dict[str, list[str]]:
    """Returns the cells by where they come from: one a search, in the order of the searches' seeds."""
    searches = sorted(json.loads(arguments.found.read_text())["searches"], key=lambda row: row["seed"])
    searches = [row for row in searches if row["seed"] < arguments.searches]
    names = dict.fromkeys(row["strategy"] for row in searches)
    cells = {name: [row["found"] for row in searches if row["strategy"] == name] for name in names}
    cells[RANDOM] = [str(random_search(arguments, dataset, row["seed"])) for row in searches if row["strategy"] == searches[0]["strategy"]]
    rng = np.random.default_rng(77)
    cells["random"] = [str(sample(SPACE, rng)) for _ in range(arguments.random)]
    cells["all 3x3"] = ["nasbench201:3.3.3.3.3.3"]
    return cells


def accuracies(arguments: argparse.Namespace, cells: list[str], train: Pixels, test: Pixels) -> dict[str, list[float]]:
    """Returns the test accuracies of each cell, one a seed; those in the folder are not trained again."""
    path, recipe = arguments.work / "alone.jsonl", recipe_of(arguments)
    known: dict[tuple[str, int], float] = {}
    if path.exists():
        for line in map(json.loads, path.read_text().splitlines()):
            if line["recipe"] == asdict(recipe):
                known[line["cell"], line["seed"]] = line["test"]
    for seed in range(arguments.seeds):
        left = [cell for cell in cells if (cell, seed) not in known]
        for start in range(0, len(left), arguments.together):
            group, began = left[start : start + arguments.together], time.perf_counter()
            if time.monotonic() - arguments.began > 60 * arguments.minutes:
                sys.exit("stopped between two groups; the same command goes on")
            found = trained([parse(cell) for cell in group], train, test, recipe, seed)
            print(f"seed {seed}, {start + len(group)} of {len(left)}: {time.perf_counter() - began:.0f} s", flush=True)
            with open(path, "a") as file:
                for cell, accuracy in zip(group, found):
                    known[cell, seed] = accuracy
                    file.write(json.dumps({"cell": cell, "seed": seed, "test": accuracy, "recipe": asdict(recipe)}) + "\n")
    return {cell: [known[cell, seed] for seed in range(arguments.seeds)] for cell in cells}


def rows(cells: dict[str, list[str]], tests: dict[str, list[float]]) -> dict[str, Any]:
    """Returns each strategy's mean over its searches, and paired differences to what it has to beat."""
    means = {name: [statistics.mean(tests[cell]) for cell in found] for name, found in cells.items()}
    median = statistics.median(means["random"])
    found = {}
    for name, own in means.items():
        row: dict[str, Any] = {"n": len(own), "test": mean_interval(own).record(), "each": own, "median": statistics.median(own)}
        if name not in ("random", "all 3x3"):
            row["minus median of random cells"] = mean_interval([value - median for value in own]).record()
            for rival in (RANDOM, "spos"):
                if name != rival and len(means[rival]) == len(own):
                    row[f"minus {rival}"] = paired_difference(own, means[rival]).record()
        found[name] = row
    return found


def main() -> None:
    """Trains what is not there yet and writes the record."""
    parser = parser_of(__doc__, images=10_000)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=3, help="of each strategy")
    parser.add_argument("--random", type=int, default=12, help="random cells")
    parser.add_argument("--drawn", type=int, default=8, help="cells of a random search")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--together", type=int, default=8)
    arguments = parser.parse_args()
    root, arguments.began = root_of(parser), time.monotonic()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    images, labels = pictures(root, arguments.images)
    dataset = load((images, labels), seed=0, image_size=arguments.image_size, validation=0.1, test=0.02)  # as the searches had them
    means = dataset.preprocessing.mean, dataset.preprocessing.std
    tested = pictures(root, arguments.test_images, ["test"])
    train, test = (Pixels(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y, *means) for x, y in ((images, labels), tested))
    train, test = train.resized(arguments.image_size), test.resized(arguments.image_size)
    cells = contents(arguments, dataset)
    tests = accuracies(arguments, list(dict.fromkeys(cell for found in cells.values() for cell in found)), train, test)
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1, "processes": 1,
        "data": f"CIFAR-10, {len(train)} training images, {len(test)} test images, at {arguments.image_size} px",
        "recipe": asdict(recipe_of(arguments)), "seeds": arguments.seeds, "minutes": round((time.monotonic() - arguments.began) / 60, 1),
        "strategies": rows(cells, tests), "found": cells, "tests": tests,
    }  # fmt: skip
    write_record(arguments.out, record)
    for name, row in record["strategies"].items():
        print(name, json.dumps({key: value for key, value in row.items() if key != "each"}), flush=True)


if __name__ == "__main__":
    main()
