"""What a search gains over random search at equal cost: several independent searches, paired, with an interval.

    python benchmarks/gain.py digits --time 4m --searches 3 --out benchmarks/records/gain_digits.json

Each search is one run of the main job with its own seed (splits, labels, comparator, final trainings). The interval of the
mean over searches covers search noise and training noise.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import archduel
from archduel import environment
from archduel.commands.options import parse_seconds
from archduel.reporting import gain_interval, gain_sentence


def one(arguments: argparse.Namespace, seed: int, runs: Path) -> dict[str, object]:
    """Runs (or continues) one search and returns what it came to."""
    run = archduel.search(
        arguments.data, time=arguments.time, out=runs / f"seed{seed}", seed=seed, space=arguments.space,
        final_seeds=arguments.final_seeds, max_images=arguments.max_images, max_params=arguments.max_params,
        image_size=arguments.image_size, device=arguments.device, rank_by=arguments.rank_by,
        size_belief=arguments.size_belief, strategy=arguments.strategy, workers=arguments.workers, race=False,
    )  # fmt: skip
    result = run.result
    return {
        "seed": seed,
        "seconds": result["clock"],
        "core_seconds": result["core_seconds"],
        "labels": len(result["search"]),
        "random_labels": len(result["random"]),
        "networks": {role: {k: n[k] for k in ("arch", "params", "macs", "test")} for role, n in result["networks"].items()},
        "agreement": result["agreement"],
        "fidelity": result["fidelity"],
        "scale": result["scale"],
        "label_recipe": {k: result["plan"]["label"][k] for k in ("epochs", "channels", "depth", "data_fraction", "image_size")},
        "n_test": result["data"]["splits"]["test"],
        "rank_by": arguments.rank_by,
        "size_belief": arguments.size_belief,
    }


def main() -> None:
    """Runs all searches and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--time", default="4m")
    parser.add_argument("--searches", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--final-seeds", type=int, default=3)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--max-params")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rank-by", default="likelihood", help="what ranks cheap trainings: likelihood or metric")
    parser.add_argument("--size-belief", type=float, default=0.5, help="how much larger networks are believed to gain")
    parser.add_argument("--strategy", default="ctnas")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.searches)
    searches = [one(arguments, seed, arguments.runs / arguments.out.stem) for seed in seeds]
    record = {"command": shlex.join(["python", *sys.argv]), **environment(), "time": parse_seconds(arguments.time), "gain": {}}
    for other in ("random", "standard"):
        pairs = [(s["networks"]["search"]["test"]["accuracy"], s["networks"][other]["test"]["accuracy"]) for s in searches]
        differences = [a - b for ours, theirs in pairs for a, b in zip(ours, theirs)]
        n, each, n_test = len(searches), arguments.final_seeds, searches[0]["n_test"]
        record["gain"][other] = {
            **gain_interval(differences, n, each, n_test=n_test).record(),
            "sentence": gain_sentence(differences, n, each, other=other, n_test=n_test),
            "differences": differences,
        }
    record["searches"] = searches
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1))
    print(json.dumps(record["gain"], indent=1))


if __name__ == "__main__":
    main()
