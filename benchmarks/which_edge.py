"""Can a ranker tell which edge of a NAS-Bench-201 cell carries an operation?

    python benchmarks/which_edge.py --out benchmarks/records/which_edge.json

For each of the six edges, random cells are labelled 1 where that edge is a 3x3 convolution and 0 elsewhere; a ranker learns from
400 of them and orders 1,000 others. Recorded is the probability that it puts a cell with the convolution there above one without it
(area under the curve: 1 = it can tell, 0.5 = it cannot).
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from archduel import environment
from archduel.commands.bench.rank import parse_entrants
from archduel.core import sample
from archduel.spaces import NASBench201

EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
CONV3X3 = 3
LEARNED, JUDGED = 400, 1000


def area(scores: np.ndarray, there: np.ndarray) -> float:
    """Returns the probability that a cell with the convolution scores above one without."""
    ranks, n = rankdata(scores), int(there.sum())
    return float((ranks[there].sum() - n * (n + 1) / 2) / (n * (len(there) - n)))


def main() -> None:
    """Measures every ranker on every edge and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rankers", default="best,boosting,nac[epochs=200],nac-paper[epochs=200],gcn,onehot_mlp")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(2 * (LEARNED + JUDGED))))[: LEARNED + JUDGED]
    choices = np.array([arch.choices for arch in archs])
    found: dict[str, dict[str, float]] = {}
    record = {"command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1, "learned": LEARNED, "judged": JUDGED}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for entrant in parse_entrants(arguments.rankers):
        found[entrant.title] = {}
        for edge, name in enumerate(EDGES):
            there = choices[:, edge] == CONV3X3
            ranker = entrant.make(space, 0)
            ranker.fit(archs[:LEARNED], there[:LEARNED].astype(float))
            found[entrant.title][name] = area(ranker.predict(archs[LEARNED:]), there[LEARNED:])
        print(entrant.title, {name: round(value, 3) for name, value in found[entrant.title].items()}, flush=True)
        arguments.out.write_text(json.dumps({**record, "area_under_curve": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
