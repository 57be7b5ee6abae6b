"""One-shot strategies on digits: found cells trained alone, beside random cells, random search at equal cost and SPOS.

    python benchmarks/oneshot_digits.py --out benchmarks/records/oneshot_digits.json

Each search is one run of the main job with its own seed: shared weights learn from as many images as ``--evaluations`` cheap
trainings, which random search gets instead; both arms' best four are re-evaluated, the choice is trained with one recipe and the
same seeds for all. Random cells are trained with that recipe too. Searches are paired by seed; intervals over searches. The script
continues where it was stopped; ``--minutes`` stops it between two runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import archduel
from archduel import environment
from archduel.commands.search import executors
from archduel.commands.search import run as job
from archduel.core import Arch, Scale, sample
from archduel.execution import Sequential
from archduel.reporting import mean_interval, paired_difference

STRATEGIES = ("spos", "cnas", "relativenas", "darts", "ctnas-oneshot")


def one_search(arguments: argparse.Namespace, strategy: str, seed: int) -> dict[str, Any]:
    """Runs (or continues) one search and returns what it came to; the first strategy's runs have the baselines too."""
    run = archduel.search(
        arguments.data, strategy=strategy, evaluations=arguments.evaluations, seed=seed, workers=1, final_seeds=arguments.final_seeds,
        max_images=arguments.max_images, baselines=strategy == arguments.strategies[0], out=arguments.runs / f"{strategy}-{seed}", quiet=True,
    )  # fmt: skip
    result = run.result
    plan = next(r["plan"] for r in map(json.loads, (run.folder / "journal.jsonl").open()) if r["event"] == "one-shot plan")
    return {
        "strategy": strategy, "seed": seed, "text": result["networks"]["search"]["text"],
        "test": {role: n["test"]["accuracy"] for role, n in result["networks"].items()},
        "params": {role: n["params"] for role, n in result["networks"].items()},
        "one_shot_seconds": result["core_seconds"]["one-shot"], "random_seconds": result["core_seconds"].get("random"),
        "agreement": result["agreement"], "settings": plan["settings"], "batches": plan["batches"], "fidelity": result["fidelity"],
        "scale": result["scale"], "final": result["plan"]["final"], "n_test": result["data"]["splits"]["test"],
    }  # fmt: skip


def random_cells(arguments: argparse.Namespace, seed: int, like: dict[str, Any]) -> list[float]:
    """Returns the test accuracy of random cells, each trained once with the recipe of the final networks."""
    path = arguments.runs / f"random-{seed}.json"
    if path.exists():
        known: list[float] = json.loads(path.read_text())
        return known
    from archduel import Run, build, registry
    from archduel.commands.search.run import load_arguments
    from archduel.data import load
    from archduel.training import Pixels, Recipe, evaluate, seeded_build, train
    from archduel.training.images import side_by_side

    run = Run(arguments.runs / f"{arguments.strategies[0]}-{seed}")
    data = load(arguments.data, **load_arguments(run.settings))
    means = data.preprocessing.mean, data.preprocessing.std
    both = side_by_side(data.train.images, data.validation.images), np.concatenate([data.train.labels, data.validation.labels])
    images, test = Pixels(*both, *means), Pixels(data.test.images, data.test.labels, *means)
    recipe = Recipe(**like["final"]).with_(epochs=float(like["fidelity"].partition("@")[2] or like["final"]["epochs"]))
    space, rng, scores = registry.make("space", run.settings.space), np.random.default_rng([seed, 5]), []
    for i in range(arguments.random_cells):
        arch: Arch = sample(space, rng)
        model = seeded_build(lambda arch=arch: build(arch, Scale(**like["scale"])), i)
        train(model, images, recipe, seed=i)
        scores.append(evaluate(model, test).accuracy)
    path.write_text(json.dumps(scores))
    return scores


def summary(searches: list[dict[str, Any]], cells: dict[int, list[float]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns a row a strategy: mean test accuracy, and paired differences to what it has to beat."""
    first = {s["seed"]: s for s in searches if s["strategy"] == arguments.strategies[0]}
    rivals = {
        "random search at equal cost": {seed: statistics.mean(s["test"]["random"]) for seed, s in first.items() if "random" in s["test"]},
        "standard network": {seed: statistics.mean(s["test"]["standard"]) for seed, s in first.items()},
        "median random cell": {seed: statistics.median(scores) for seed, scores in cells.items()},
        arguments.strategies[0]: {seed: statistics.mean(s["test"]["search"]) for seed, s in first.items()},
    }
    rows = {}
    for name in arguments.strategies:
        own = {s["seed"]: statistics.mean(s["test"]["search"]) for s in searches if s["strategy"] == name}
        taus = [s["agreement"][0]["tau"] for s in searches if s["strategy"] == name and s["agreement"][0]["tau"] is not None]
        rows[name] = {
            "test": mean_interval(list(own.values())).record(),
            "tau": mean_interval(taus).record() if taus else None,
            "one_shot_seconds": [round(s["one_shot_seconds"], 1) for s in searches if s["strategy"] == name],
            "difference": {
                rival: paired_difference([own[k] for k in own if k in theirs], [theirs[k] for k in own if k in theirs]).record()
                for rival, theirs in rivals.items() if rival != name and own.keys() & theirs.keys()
            },
        }  # fmt: skip
    return {"strategies": rows, "rivals": {name: mean_interval(list(values.values())).record() for name, values in rivals.items()}}


def main() -> None:
    """Runs all searches and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--evaluations", type=int, default=16)
    parser.add_argument("--max-images", type=int, default=1000)
    parser.add_argument("--final-seeds", type=int, default=2)
    parser.add_argument("--random-cells", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--runs", type=Path, default=Path("runs/oneshot_digits"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    # only accuracies are wanted: no worker processes to start, nothing to export
    executors.Processes = lambda factory, *, run_seed, **_: Sequential(factory(), run_seed=run_seed)  # type: ignore[assignment, misc]
    job.hand_over = lambda folder, *_: folder.note("handed over")  # type: ignore[assignment]
    began, searches, cells = time.monotonic(), [], {}
    for seed in arguments.seeds:
        for strategy in arguments.strategies:
            if time.monotonic() - began > 60 * arguments.minutes:
                print(f"stopped before {strategy}, seed {seed}; the same command goes on")
                return
            searches.append(one_search(arguments, strategy, seed))
            print(strategy, seed, searches[-1]["test"], searches[-1]["agreement"][0], f"{time.monotonic() - began:.0f} s", flush=True)
        cells[seed] = random_cells(arguments, seed, searches[-1])
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "processes": "one process, one thread",
        "note": "digits has few test pictures: differences of a point are within noise",
        **summary(searches, cells, arguments), "searches": searches, "random_cells": cells,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1))
    print(json.dumps(record["strategies"], indent=1))


if __name__ == "__main__":
    main()
