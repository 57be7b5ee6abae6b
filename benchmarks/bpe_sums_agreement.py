"""Two cheap trainings instead of one dear one: sums of BPE's published settings against BPE-1 and BPE-2 at no more than their cost.

    python benchmarks/bpe_sums_agreement.py --out benchmarks/records/bpe_sums_agreement.json

Nothing is trained. The accuracies of an architecture under several settings are standardised and added, their GPU hours too. The best
of many sums looks better than it is, so sums are also chosen on a random half of the architectures and compared on the other half.
The tables are found by ``ARCHDUEL_DATA`` (``bpe/*.csv``).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from bpe_published import Published, read_published
from scipy.stats import rankdata

from archduel import environment
from archduel.commands.proxy.check import bounded_text
from archduel.proxies import agreement_difference, rank_agreement
from archduel.proxies.agreement import MEASURES

BASES = {"BPE-1": "test5", "BPE-2": "test32"}
MOST = 4  # settings in a sum
HALVES = 1000
DRAWS = 2000


def affordable(tables: Published, limit: float) -> list[tuple[str, ...]]:
    """Returns all sums of at most ``MOST`` settings that cost no more than ``limit`` GPU hours an architecture."""
    cost = {trial.name: trial.cost for trial in tables.trials if trial.cost <= limit}
    sums = (some for n in range(1, MOST + 1) for some in combinations(cost, n))
    return [some for some in sums if sum(cost[name] for name in some) <= limit * (1 + 1e-9)]


def correlations(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns (S,) Spearman's rho of score lists (S, N) with ``truth`` (N,)."""
    ranks, true = rankdata(scores, axis=1), rankdata(truth)
    ranks, true = ranks - ranks.mean(1, keepdims=True), true - true.mean()
    return np.asarray(ranks @ true / np.sqrt((ranks**2).sum(1) * (true**2).sum()))


def halves(scores: np.ndarray, base: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Returns what the sum that is best on one half gains over ``base`` on the other: mean, and share of halves with a gain."""
    rng, gains, chosen = np.random.default_rng(0), [], np.zeros(len(scores), int)
    for _ in range(HALVES):
        order = rng.permutation(len(truth))
        here, there = order[: len(order) // 2], order[len(order) // 2 :]
        best = int(np.argmax(correlations(scores[:, here], truth[here])))
        chosen[best] += 1
        gains.append(correlations(np.stack([scores[best, there], base[there]]), truth[there]) @ [1, -1])
    top = np.argsort(-chosen)[:5]
    return {
        "halves": HALVES, "mean": float(np.mean(gains)), "share_above_0": float(np.mean(np.array(gains) > 0)),
        "most_often": [(int(i), int(chosen[i])) for i in top],
    }  # fmt: skip


def compared(tables: Published, base: str) -> dict[str, Any]:
    """Returns the best sums that cost no more than ``base``, with differences to it."""
    cost = {trial.name: trial.cost for trial in tables.trials}
    standard = {name: (values - values.mean()) / values.std() for name, values in tables.scores.items()}
    sums = affordable(tables, cost[base])
    scores = np.stack([np.sum([standard[name] for name in some], axis=0) for some in sums])
    reached = correlations(scores, tables.truth)
    rows = []
    for i in np.argsort(-reached, kind="stable")[:10]:
        rows.append({
            "settings": sums[i], "gpu_hours": sum(cost[name] for name in sums[i]), **rank_agreement(scores[i], tables.truth).record(),
            "difference": {
                m: agreement_difference(scores[i], standard[base], tables.truth, measure=m, draws=DRAWS).record() for m in MEASURES
            },
        })  # fmt: skip
    split = halves(scores, standard[base], tables.truth)
    split["most_often"] = [{"settings": sums[i], "halves": times} for i, times in split["most_often"]]
    return {"setting": base, "gpu_hours": cost[base], "sums": len(sums), "best": rows, "chosen_on_a_half": split}


def main() -> None:
    """Writes the record and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tables = read_published(Path(os.environ["ARCHDUEL_DATA"]) / "bpe", draws=0)
    found = {name: compared(tables, setting) for name, setting in BASES.items()}
    record = {"command": shlex.join(["python", *sys.argv]), **environment(), "most": MOST, "draws": DRAWS, "against": found}
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, one in found.items():
        print(f"{name}: {one['sums']} sums of at most {one['gpu_hours']} GPU hours; chosen on a half: {one['chosen_on_a_half']}")
        for row in one["best"][:4]:
            print(f"  {'+'.join(row['settings'])} {row['gpu_hours']:.3f} h, rho {bounded_text(row['spearman'])},"
                  f" to {name} {bounded_text(row['difference']['spearman'])}, tau {bounded_text(row['difference']['kendall'])}")  # fmt: skip


if __name__ == "__main__":
    main()
