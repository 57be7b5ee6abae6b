"""Whole recipes against published accuracies: BPE's 100 DARTS cells, or random NAS-Bench-201 cells, as resumable jobs.

    python benchmarks/recipe_agreement.py cifar10 --cells bpe --recipes bpe1 --device cuda --fused auto --work runs/bpe --out bpe1_cells.json
    python benchmarks/recipe_agreement.py cifar10 --cells nasbench201 --n 60 --recipes bpe1,bpe2 --device cuda --fused auto --work runs/nb201 --out nb201.json
    python benchmarks/recipe_agreement.py stored --images 1024 --validation 1000 --cells bpe --recipes bpe1,narrow_half --fused 3,8 --work runs/sample --out sample.json

The first two are for a GPU, where all of CIFAR-10 and the published recipes fit; the third trains on a sample, as a CPU core can.
Data ``stored`` is ``cifar10/train_a.npz`` below ``ARCHDUEL_DATA``, where the published accuracies are found too (``bpe/*.csv``,
``nasbench201/nasbench201.parquet``). Cells come in rounds, each trained with every recipe, so that a job that is stopped has compared
recipes on the same cells. The same command continues; ``--report`` only reads what is there. Rounds and groups may change between calls.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bpe_published import read_published
from cifar_agreement import QUICK
from PIL import Image

from archduel import environment
from archduel.commands.options import assignments
from archduel.commands.proxy.check import bounded_text
from archduel.commands.spaces.describe import sampled
from archduel.commands.train_file import read_archs, train_file
from archduel.core import Arch, Estimate, Journal, Scale
from archduel.core.storage import read_journal, record_estimate, record_query
from archduel.proxies import agreement_difference, agreement_of_like_size, rank_agreement
from archduel.proxies.agreement import MEASURES, READINGS, SIZES, readings
from archduel.recipes import read, write_recipe
from archduel.reporting import text_table
from archduel.spaces import NASBench201
from archduel.spaces import family as nets

OWN = {
    "quick_half": QUICK.with_(epochs=5),  # as in cifar_agreement.py, where it was chosen
    "narrow_half": QUICK.with_(epochs=5, channels=4),
}
"""Recipes of this benchmark; like those of BPE, their depth counts the cells of a DARTS network."""
BPE_SETTINGS = {"bpe1": "test5", "bpe2": "test32", "bpe1, linear": "linear_lr"}
"""What the authors call them in their tables."""
ANCHORS = (("bpe1", "score"), ("bpe2", "score"), ("published bpe1", "score"), ("published bpe2", "score"))
"""What every recipe and reading is compared with, pair by pair, where it is there."""
FEWEST = 10  # recipes with fewer cells so far are left out of a report


def wanted(cells: str, n: int, file: Path) -> tuple[list[Arch], np.ndarray, dict[str, np.ndarray]]:
    """Writes the cells, one a line; returns them, their published accuracies, and those under BPE's own cheap settings."""
    root, cheap = Path(os.environ["ARCHDUEL_DATA"]), {}
    if cells == "bpe":
        tables = read_published(root / "bpe", draws=0)
        lines, truth = tables.genotypes[:n], tables.truth[:n]
        cheap = {f"published {name}": tables.scores[setting][:n] for name, setting in BPE_SETTINGS.items()}
    else:
        import pyarrow.parquet as parquet

        path = root / "nasbench201" / "nasbench201.parquet"
        table = parquet.read_table(path, columns=["cifar10_test"])["cifar10_test"].to_numpy()
        archs = sampled(NASBench201(), n, 0, distinct=True)
        lines, truth = [str(arch) for arch in archs], np.array([table[NASBench201().index(arch)] / 100 for arch in archs])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [arch for _, arch in read_archs(file)], np.asarray(truth), cheap


def stored(n_train: int, n_validation: int, cache: Path) -> tuple[Any, dict[str, Any]]:
    """Returns CIFAR-10's first pictures, whose order is random, and how they are loaded: exactly so many of each split."""
    n = n_train + n_validation + 10  # a test split of one a class is never read
    with np.load(Path(os.environ["ARCHDUEL_DATA"]) / "cifar10" / "train_a.npz") as file:
        data, ends, labels = file["data"], file["offsets"], file["labels"][:n].astype(np.int64)
    pictures = [Image.open(io.BytesIO(data[ends[i] : ends[i + 1]].tobytes())).convert("RGB") for i in range(n)]
    settings = {"validation": n_validation / n, "test": 10 / n, "cache": cache, "image_size": 32}
    return (np.stack([np.asarray(picture) for picture in pictures]), labels), settings


def done_in(folder: Path) -> dict[Arch, Estimate]:
    """Returns what was trained in a job's folder."""
    records = read_journal(folder / "journal.jsonl") if (folder / "journal.jsonl").exists() else []
    return {record_query(r).arch: record_estimate(r) for r in records if r["event"] == "estimate"}


def train(arguments: argparse.Namespace, archs: list[Arch], recipes: dict[str, str]) -> None:
    """Trains round after round of cells with every recipe; processor time goes to ``cpu.jsonl``."""
    data, settings = arguments.data, {"max_images": arguments.max_images} if arguments.max_images else {}
    if data == "stored":
        data, settings = stored(arguments.images, arguments.validation, arguments.work / "cache")
    groups = [int(k) if k.isdigit() else k for k in arguments.fused.split(",")]
    spent = Journal(arguments.work / "cpu.jsonl")
    for upto in [*range(arguments.round, len(archs), arguments.round), len(archs)]:
        file = arguments.work / "round.txt"
        file.write_text("\n".join(map(str, archs[:upto])) + "\n", encoding="utf-8")
        for place, (name, recipe) in enumerate(recipes.items()):
            folder, began = arguments.work / name, time.process_time()
            before = len(done_in(folder))
            if before >= upto:
                continue
            train_file(
                file, data, folder, recipe=recipe, changes=assignments(arguments.set), device=arguments.device,
                fused=groups[place % len(groups)], load_settings=settings,
            )  # fmt: skip
            spent.append({"recipe": name, "cells": upto - before, "cpu_seconds": time.process_time() - began})


def costs(name: str, done: dict[Arch, Estimate], recipe: Any, work: Path) -> dict[str, float]:
    """Returns what a training of the recipe costs on average."""
    scale = Scale(recipe.channels, recipe.depth, recipe.image_size, 3, 10)
    images = float(np.mean([estimate.cost.images for estimate in done.values()]))
    macs = float(np.mean([nets.count(arch, scale).macs for arch in done]))
    spent = [record for record in read_journal(work / "cpu.jsonl") if record["recipe"] == name] if (work / "cpu.jsonl").exists() else []
    cells = sum(record["cells"] for record in spent)
    return {
        "images": images, "mean_macs": macs, "images_x_macs": images * macs,
        "cpu_seconds": sum(record["cpu_seconds"] for record in spent) / cells if cells else float("nan"),
        "seconds": float(np.mean([estimate.cost.seconds for estimate in done.values()])),
    }  # fmt: skip


def measured(
    trained: dict[str, dict[Arch, Estimate]], archs: list[Arch], truth: np.ndarray, cheap: dict[str, np.ndarray]
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], np.ndarray]]:
    """Returns a row for every recipe and reading, with differences to the anchors, and the scores (nan = not trained)."""
    scores: dict[tuple[str, str], np.ndarray] = {}
    for name, done in trained.items():
        estimates = [done.get(arch, Estimate(float("nan"))) for arch in archs]
        scores |= {(name, kind): np.array(readings(estimates, kind)) for kind in READINGS}
    counts = [nets.count(arch, Scale(8, 6, 16, 3, 10) if arch.space == "darts" else Scale(16, 5)) for arch in archs]
    scores |= {("untrained", kind): np.array([getattr(count, kind) for count in counts], float) for kind in SIZES}
    scores |= {(name, "score"): values for name, values in cheap.items()}
    rows = []
    for (name, kind), own in scores.items():
        pairs, like = agreement_of_like_size(own, truth, scores["untrained", "macs"], within=0.01)
        row = {"recipe": name, "reading": kind, **rank_agreement(own, truth).record(), "of_like_size": {"pairs": pairs, **like.record()}}
        for anchor in ANCHORS:
            if anchor in scores and anchor != (name, kind):
                both = np.isfinite(own) & np.isfinite(scores[anchor])
                found = {m: agreement_difference(own, scores[anchor], truth, measure=m).record() for m in MEASURES}
                row[f"against {anchor[0]}"] = {"n": int(both.sum()), **found}
        rows.append(row)
    return rows, scores


def report(arguments: argparse.Namespace, archs: list[Arch], truth: np.ndarray, cheap: dict[str, np.ndarray], recipes: dict[str, str]) -> None:
    """Writes the record and prints it."""
    found = {name: done_in(arguments.work / name) for name in recipes}
    trained = {name: done for name, done in found.items() if len(done.keys() & set(archs)) >= FEWEST}
    rows, scores = measured(trained, archs, truth, cheap)
    used = {name: read(recipes[name], archs[0].space, assignments(arguments.set)) for name in trained}
    cost = {name: costs(name, done, used[name], arguments.work) for name, done in trained.items()}
    whole = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "data": arguments.data, "cells": arguments.cells,
        "images": {"train": arguments.images, "validation": arguments.validation} if arguments.data == "stored" else arguments.max_images,
        "device": arguments.device, "fused": arguments.fused, "recipes": {name: asdict(recipe) for name, recipe in used.items()},
        "cost_each": cost, "rows": rows, "archs": [str(arch) for arch in archs], "published_accuracy": truth.tolist(),
        "scores": {f"{n}/{k}": [None if v != v else round(float(v), 6) for v in values] for (n, k), values in scores.items()},
    }  # fmt: skip
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    lines = [
        [r["recipe"], r["reading"], r["n"], bounded_text(r["kendall"]), bounded_text(r["spearman"]), bounded_text(r["of_like_size"]),
         *(bounded_text(r[f"against {a}"]["spearman"]) if f"against {a}" in r else "" for a, _ in ANCHORS[:2]),
         f"{cost[r['recipe']]['cpu_seconds']:.1f}" if r["recipe"] in cost else "",
         f"{cost[r['recipe']]['images_x_macs']:.2e}" if r["recipe"] in cost else ""]
        for r in rows
    ]  # fmt: skip
    headers = ["recipe", "reading", "n", "Kendall", "Spearman", "tau, one size", "rho to bpe1", "rho to bpe2", "CPU s each", "images x MACs"]
    print(text_table(headers, lines))


def main() -> None:
    """Trains under every recipe, writes the record and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="what archduel takes, or 'stored'")
    parser.add_argument("--cells", choices=("bpe", "nasbench201"), required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--round", type=int, default=24, help="cells that every recipe trains before the next ones come")
    parser.add_argument("--recipes", default="bpe1,bpe2", help=f"names, files, or of this benchmark: {', '.join(OWN)}")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of all recipes")
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--images", type=int, default=1024, help="training pictures of 'stored'")
    parser.add_argument("--validation", type=int, default=1000, help="validation pictures of 'stored'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fused", default="off", help="a number, auto or off; several with commas, one a recipe")
    parser.add_argument("--skip", type=int, default=0, help="report without the first cells, such as those a choice was made on")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    archs, truth, cheap = wanted(arguments.cells, arguments.n, arguments.work / "cells.txt")
    recipes = {Path(name).stem: name for name in arguments.recipes.split(",")}
    for name in set(recipes) & set(OWN):
        own = OWN[name].with_(depth=read("bpe1", archs[0].space).depth)  # six cells of DARTS, one a stage elsewhere
        recipes[name] = str(write_recipe(own, arguments.work / f"{name}.json"))
    if not arguments.report:
        train(arguments, archs, recipes)
    there = slice(arguments.skip, None)
    report(arguments, archs[there], truth[there], {name: values[there] for name, values in cheap.items()}, recipes)


if __name__ == "__main__":
    main()
