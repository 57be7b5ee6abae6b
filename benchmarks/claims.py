"""What RelativeNAS, CNAS and BPE claim, as far as tables say: seconds to minutes of a core, no image is trained on.

    python benchmarks/claims.py relativenas --tables tables/ --runs 30 --out benchmarks/records/claims_relativenas.json
    python benchmarks/claims.py curriculum --tables tables/ --runs 10 --out benchmarks/records/claims_curriculum_table.json
    ARCHDUEL_DATA=DATA python benchmarks/claims.py bpe --out benchmarks/records/claims_bpe.json

``tables/`` is written by ``benchmarks/label_tables.py``; ``digits201`` comes with archduel.

``relativenas``: the strategy with the paper's 20 learners and 50 generations, through its continuous coding, where a race is decided by the table's
validation accuracies instead of shared weights: the movement alone. Opponents change one thing each: nobody moves; who leads a pair is a coin's toss;
pairs are drawn once and kept; all move towards the best of the population instead of their partner. Beside them uniform draws and regularized evolution
(population 20). All begin with the same 20 cells but the two beside them, which draw their own. A query is a cell that was not asked before; arms are compared at equal numbers of
queries, and one that asks nothing new keeps its incumbent. The incumbent is chosen by validation; test accuracies are read at the end.

``curriculum``: CNAS's policy (LSTM of 128, Adam at 3e-3, four draws an update, otherwise the paper's) rewarded with the table's validation accuracy: the
effect of the curriculum on the policy alone, without shared weights. Equal updates for all: operations added one at a time (the 3x3 convolution first, as
in the paper the first has weights), the whole space from the start, operations with the 3x3 convolution last, in any order, and node by node.

``bpe``: the sheets of BPE's workbooks beside its 37 settings: one-shot supernets, DARTS under 15 recipes, evolution and reinforcement, random search.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recording import command, write_record
from scipy.stats import kendalltau, pearsonr, spearmanr, wilcoxon

from archduel import environment
from archduel.assemble import assemble
from archduel.core import Arch, Budget, Cost, Estimate, Local, Query, search
from archduel.reporting.statistics import mean_interval, paired_difference
from archduel.strategies import CNAS, RelativeNAS
from archduel.strategies.cnas import growing_options, operation_stages
from archduel.tables import TableEstimator, open_table
from archduel.tables.estimator import searchable


def compared(values: Mapping[str, Sequence[float]], reference: str, *, from_reference: bool = True) -> dict[str, Any]:
    """Returns mean and interval of each, and the paired difference of the reference minus it, or of it minus the reference."""
    found: dict[str, Any] = {}
    for name, own in values.items():
        found[name] = {"mean": mean_interval(own).record(), "median": float(np.median(own))}
        if name != reference and len(own) > 1:
            first, second = (values[reference], own) if from_reference else (own, values[reference])
            p = float(wilcoxon(np.subtract(first, second)).pvalue) if np.any(np.subtract(first, second)) else 1.0
            key = "reference_minus_this" if from_reference else "minus_reference"
            found[name] |= {key: paired_difference(first, second).record(), "p_wilcoxon": p}
    return found


# -- A table in place of shared weights ----------------------------------------------------------------------------------


class TableShared:
    """Answers what a one-shot strategy asks of shared weights with a table's validation accuracies; nothing is learned."""

    metric = "validation_accuracy"
    lr = momentum = weight_decay = 0.0

    def __init__(self, table: Any, updates: int = 1) -> None:
        self.estimator, self.table, self.updates = TableEstimator(table), table, updates
        self.rows: list[int] = []  # of every cell that was judged, in order

    def n_batches(self, split: str) -> int:
        """Returns how many rewards an epoch has."""
        return self.updates

    def learn(self, archs: Any, n_batches: int, *, lr: float | None = None) -> Cost:
        """Learns nothing."""
        return Cost()

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns validation accuracies of the table."""
        self.rows += [self.table.find(query.arch) for query in queries]
        return self.estimator.estimate([Query(query.arch) for query in queries])

    def compete(self, first: Arch, second: Arch, n_batches: int, **_: Any) -> tuple[Estimate, Estimate]:
        """Returns both, with 1 - accuracy as the loss by which a race is decided."""
        both = self.estimate([Query(first), Query(second)])
        one, other = (Estimate(e.score, Cost(), {"val_loss": 1 - e.score}) for e in both)
        return one, other

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Keeps nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing."""
        return {}


# -- RelativeNAS ---------------------------------------------------------------------------------------------------------


class Still(RelativeNAS):
    """Nobody moves."""

    def _move(self) -> None:
        self.races = []


class Coin(RelativeNAS):
    """Who leads a pair is a coin's toss."""

    def _move(self) -> None:
        self.races = [race if self.rng.random() < 0.5 else race[::-1] for race in self.races]
        super()._move()


class FixedPairs(RelativeNAS):
    """The pairs that were drawn for the first generation meet in every one."""

    def step(self) -> Any:
        """Pairs the learners as in the first generation."""
        if not len(self.positions):
            self._begin()
            self.first = self.rng.permutation(self.population).reshape(-1, 2).tolist()
        if not self.pairs:
            self.pairs = [list(pair) for pair in self.first]
        return super().step()


class TowardsBest(RelativeNAS):
    """The slower of a pair moves towards the best of the whole population."""

    def _move(self) -> None:
        table: TableShared = self.shared  # type: ignore[assignment]
        scores = [e.score for e in table.estimator.estimate([Query(arch) for arch in self.archs()])]
        best = int(np.argmax(scores))
        self.races = [[best, slow] for _, slow in self.races if slow != best]
        super()._move()


MOVEMENTS: dict[str, type[RelativeNAS]] = {
    "slow-fast pairs": RelativeNAS, "no movement": Still, "random leader": Coin, "fixed pairs": FixedPairs, "towards the best": TowardsBest,
}  # fmt: skip
QUERIES = (50, 100, 150, 200)


def moved(kind: type[RelativeNAS], table: Any, space: Any, run: int) -> dict[str, Any]:
    """Returns the cells that one search asked, in order, its last population and its choice."""
    shared = TableShared(table)
    made = kind(space, shared, rng=np.random.default_rng(run), judged_by="score")  # type: ignore[arg-type]
    while made.step() is not None:
        pass
    last = [table.find(arch) for arch in made.archs()]
    return {"rows": list(dict.fromkeys(shared.rows)), "last": last, "chosen": table.find(made.best()), "judged": len(shared.rows), "diversity": made.diversity()}


def drawn(strategy: str, settings: Mapping[str, Any], table: Any, space: Any, run: int) -> dict[str, Any]:
    """Returns the cells that a strategy asked of the table."""
    made = assemble(strategy, space, seed=run, settings=dict(settings))
    found = search(made, Local(TableEstimator(table).estimate), budget=Budget(QUERIES[-1]), key=lambda query: table.find(query.arch), clock=None)
    return {"rows": list(dict.fromkeys(table.find(told.query.arch) for told in found.told))}


def relativenas(name: str, runs: int) -> dict[str, Any]:
    """Returns the figures of all arms on one table."""
    table = open_table(name)
    space, test, validation = searchable(table), table.test(), table.validation()
    arms = {arm: [moved(kind, table, space, run) for run in range(runs)] for arm, kind in MOVEMENTS.items()}
    arms["uniform draws"] = [drawn("random", {}, table, space, run) for run in range(runs)]
    arms["evolution"] = [drawn("evolution", {"population": 20}, table, space, run) for run in range(runs)]

    def incumbent(rows: Sequence[int], n: int) -> float:
        some = list(rows[:n])
        return float(test[some[int(np.argmax(validation[some]))]])

    found: dict[str, Any] = {"cells": len(table), "best_test": float(test.max()), "mean_test": float(np.mean(test)), "n": runs}
    for n in QUERIES:
        found[f"incumbent_test_at_{n}"] = compared({arm: [incumbent(each["rows"], n) for each in own] for arm, own in arms.items()}, "slow-fast pairs")
    moving = {arm: arms[arm] for arm in MOVEMENTS}
    found["distinct_cells"] = {arm: float(np.mean([len(each["rows"]) for each in own])) for arm, own in arms.items()}
    found["evaluations"] = {arm: float(np.mean([each["judged"] for each in own])) for arm, own in moving.items()}
    found["diversity_at_the_end"] = {arm: float(np.mean([each["diversity"] for each in own])) for arm, own in moving.items()}
    last = {arm: [float(np.mean(test[each["last"]])) for each in own] for arm, own in moving.items()}
    found["mean_test_of_last_population"] = compared(last, "slow-fast pairs")
    found["test_of_best_of_last_population"] = compared({arm: [float(test[each["chosen"]]) for each in own] for arm, own in moving.items()}, "slow-fast pairs")
    return found


# -- CNAS's curriculum, the policy alone ---------------------------------------------------------------------------------

NODES = (("edge 0->2", "edge 1->2", "edge 2->3"), ())
"""What is idle while there is one inner node, and when there are two."""


class ByNodes(CNAS):
    """Grows NAS-Bench-201's cell by inner nodes: what leads to or from a node that is not there yet has the operation ``none``."""

    @property
    def stages(self) -> list[Any]:
        """One inner node, then two; both stages are long enough to make as many epochs as five stages of operations."""
        return [dict.fromkeys(idle, (0,)) for idle in NODES]


def orders(space: Any, rng: np.random.Generator) -> dict[str, list[int]]:
    """Returns orders of the operations: the 3x3 convolution first, last, and wherever chance puts it."""
    known, _ = growing_options(space, "op")
    strong = space.words("op").index("nor_conv_3x3")
    rest = [known[i] for i in rng.permutation(len(known)).tolist() if known[i] != strong]
    anywhere = [known[i] for i in rng.permutation(len(known)).tolist()]
    return {"3x3 first": [strong, *rest], "3x3 last": [*rest, strong], "any order": anywhere}


EPOCHS, UPDATES, DRAWS = 10, 16, 4
"""Epochs of a stage, updates an epoch, draws an update: 800 updates of the policy, 3,200 rewards."""


def curricula(space: Any, run: int) -> dict[str, tuple[type[CNAS], dict[str, Any]]]:
    """Returns the arms: class and settings."""
    order = orders(space, np.random.default_rng(1_000 + run))
    stages = {"stage_epochs": EPOCHS}
    arms: dict[str, tuple[type[CNAS], dict[str, Any]]] = {name: (CNAS, {"order": order[name], **stages}) for name in order}
    arms["whole space"] = (CNAS, {"order": order["3x3 first"], "grow": "fixed", **stages})
    arms["node by node"] = (ByNodes, {"order": order["3x3 first"], "stage_epochs": EPOCHS * len(order["3x3 first"]) // 2})
    return arms


def learned(kind: type[CNAS], settings: Mapping[str, Any], table: Any, space: Any, run: int) -> dict[str, Any]:
    """Returns what a policy draws after its lessons, and the choice of the search."""
    import torch

    from archduel.policies import LSTMPolicy

    shared = TableShared(table, UPDATES * DRAWS)
    policy = LSTMPolicy(space, generator=torch.Generator().manual_seed(run), hidden=128)
    made = kind(
        space, policy, shared, rng=np.random.default_rng(run), generator=torch.Generator().manual_seed(1_000 + run), warmup_epochs=0,  # type: ignore[arg-type]
        batch=DRAWS, lr=3e-3, judged_by="score", **settings,
    )  # fmt: skip
    began, stages = time.process_time(), []
    while (report := made.step()) is not None:
        if report.metrics["stage_done"]:
            stages.append(float(table.test()[table.find(made.best())]))
    with torch.no_grad():
        draws = [table.find(arch) for arch in policy.draw(200, torch.Generator().manual_seed(0)).archs]
    return {
        "chosen": table.find(made.best()), "draws": float(np.mean(table.test()[draws])), "distinct": len(dict.fromkeys(shared.rows)),
        "rewards": len(shared.rows), "stages": stages, "seconds": time.process_time() - began,
    }  # fmt: skip


def curriculum(name: str, runs: int) -> dict[str, Any]:
    """Returns the figures of all arms on one table."""
    table = open_table(name)
    space, test = table.space, table.test()
    found: dict[str, list[dict[str, Any]]] = {}
    for run in range(runs):
        for arm, (kind, settings) in curricula(space, run).items():
            found.setdefault(arm, []).append(learned(kind, settings, table, space, run))
    only = operation_stages(space, "op", orders(space, np.random.default_rng(0))["3x3 first"])[0]["op"]
    return {
        "cells": len(table), "best_test": float(test.max()), "n": runs,
        "only_cell_of_the_first_stage": {"operations": list(only), "test": float(test[table.find(Arch(space.name, tuple(only) * 6))])},
        "chosen_test": compared({arm: [float(test[each["chosen"]]) for each in own] for arm, own in found.items()}, "3x3 first"),
        "mean_test_of_200_draws": compared({arm: [each["draws"] for each in own] for arm, own in found.items()}, "3x3 first"),
        "rewards": {arm: float(np.mean([each["rewards"] for each in own])) for arm, own in found.items()},
        "distinct_cells": {arm: float(np.mean([each["distinct"] for each in own])) for arm, own in found.items()},
        "seconds": {arm: float(np.mean([each["seconds"] for each in own])) for arm, own in found.items()},
    }  # fmt: skip


# -- BPE's other sheets --------------------------------------------------------------------------------------------------


def sheet(folder: Path, name: str) -> list[dict[str, str]]:
    """Returns the rows of a sheet."""
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def correlation(first: Sequence[float], second: Sequence[float], *, draws: int = 2_000) -> dict[str, Any]:
    """Returns Spearman, Kendall and Pearson, and a bootstrap interval of Spearman."""
    a, b = np.array(first, float), np.array(second, float)
    rng = np.random.default_rng(0)
    again = [spearmanr(a[i], b[i]).statistic for i in rng.integers(len(a), size=(draws, len(a)))]
    again = [value for value in again if not math.isnan(value)]
    low, high = np.quantile(again, [0.025, 0.975])
    ranked = spearmanr(a, b)
    return {
        "spearman": float(ranked.statistic), "low": float(low), "high": float(high), "p": float(ranked.pvalue),
        "kendall": float(kendalltau(a, b).statistic), "pearson": float(pearsonr(a, b).statistic), "n": len(a),
    }  # fmt: skip


def one_shot(rows: Sequence[Mapping[str, str]], truth: str) -> dict[str, Any]:
    """Returns how one-shot accuracies agree with stand-alone ones: within a supernet at an epoch (8 paths each), and over all of its paths."""
    known = [row for row in rows if float(row[truth]) > 0]
    cells: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in known:
        cells.setdefault((row["run"], row["epoch"]), []).append((float(row["one_shot_acc"]), float(row[truth])))
    local = {key: float(spearmanr(*zip(*pairs)).statistic) for key, pairs in cells.items()}
    last = [value for (_, epoch), value in local.items() if epoch == "600"]
    runs = sorted({run for run, _ in cells})
    whole = {run: correlation(*zip(*[pair for (own, _), pairs in cells.items() if own == run for pair in pairs]))["spearman"] for run in runs}
    return {
        "paths": len(known), "within": {"values": list(local.values()), "mean": mean_interval(list(local.values())).record(), "least": min(local.values()), "most": max(local.values())},
        "within_after_600_epochs": mean_interval(last).record(), "over_a_supernet": whole,
        "over_all": correlation([a for pairs in cells.values() for a, _ in pairs], [b for pairs in cells.values() for _, b in pairs]),
    }  # fmt: skip


def bpe(folder: Path) -> dict[str, Any]:
    """Returns what the sheets say."""
    found: dict[str, Any] = {"one_shot": {}}
    for kind in ("fair", "random"):
        rows = sheet(folder, f"supernet_{kind}")
        truths = [column for column in rows[0] if column.startswith("standalone")]
        found["one_shot"][kind] = {truth.removeprefix("standalone_acc_"): one_shot(rows, truth) for truth in truths}
    darts = sheet(folder, "darts_search_results")
    final = [float(row["full_test_acc_of_found"]) for row in darts]
    found["darts_under_recipes"] = correlation([float(row["rank_correlation"]) for row in darts], final) | {
        "with_search_accuracy": correlation([float(row["search_acc_of_found"]) for row in darts], final), "mean_final": mean_interval(final).record(),
    }  # fmt: skip
    found["evolution_and_reinforcement"] = searches(sheet(folder, "ea_rl_results"))
    drawn_cells = sheet(folder, "random_search_100")
    found["random_search"] = correlation([float(row["bpe1_acc"]) for row in drawn_cells], [float(row["bpe2_acc"]) for row in drawn_cells])
    best = max(range(len(drawn_cells)), key=lambda i: float(drawn_cells[i]["bpe1_acc"]))
    by_second = sorted((float(row["bpe2_acc"]) for row in drawn_cells), reverse=True)
    found["random_search"]["place_of_the_best_by_bpe1_under_bpe2"] = 1 + by_second.index(float(drawn_cells[best]["bpe2_acc"]))
    truth = [float(row["test_acc_full"]) for row in sheet(folder, "architectures")]
    found["trained_at_random"] = {"mean": mean_interval(truth).record(), "sd": float(np.std(truth, ddof=1)), "best": max(truth)}
    return found


def searches(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Returns the final accuracies of three searches a method and recipe, of super-cells (A) and of their prunings (B)."""
    found: dict[str, Any] = {}
    for row in rows:
        if row["net"] in ("A", "B"):
            found.setdefault(f"{row['method']}, {row['setting']}, {row['net']}", {})[row["run"]] = float(row["test_acc"])
    means = {name: {"values": list(own.values()), **mean_interval(list(own.values())).record()} for name, own in found.items()}
    pairs = [(found[f"{m}, {s}, A"][r], found[f"{m}, {s}, B"][r]) for m in ("EA", "RL") for s in ("test5", "test32") for r in ("first", "second", "third")]
    methods = [(found[f"EA, {s}, B"][r], found[f"RL, {s}, B"][r]) for s in ("test5", "test32") for r in ("first", "second", "third")]
    recipes = [(found[f"{m}, test32, B"][r], found[f"{m}, test5, B"][r]) for m in ("EA", "RL") for r in ("first", "second", "third")]
    gaps = {"super_cell_minus_pruning": pairs, "evolution_minus_reinforcement": methods, "bpe2_minus_bpe1": recipes}
    return {"searches": means, **{name: paired_difference(*zip(*both)).record() for name, both in gaps.items()}, "best_pruning": max(v for k, own in found.items() if k.endswith("B") for v in own.values())}


def main() -> None:
    """Measures one part and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("relativenas", "curriculum", "bpe"))
    parser.add_argument("--tables", type=Path, help="folder written by label_tables.py")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record: dict[str, Any] = {"command": command(), **environment(), "threads": 1}
    began = time.process_time()
    if arguments.part == "bpe":
        record["figures"] = bpe(Path(os.environ["ARCHDUEL_DATA"]) / "bpe")
    else:
        if arguments.tables is None:
            parser.error("say where the tables are: --tables FOLDER")
        measured = {"relativenas": relativenas, "curriculum": curriculum}[arguments.part]
        names = {"c10": str(arguments.tables / "c10.table")}
        if arguments.part == "relativenas":
            names |= {"c100": str(arguments.tables / "c100.table"), "digits201": "digits201"}
        record["figures"] = {name: measured(path, arguments.runs) for name, path in names.items()}
    record["cpu_seconds"] = round(time.process_time() - began, 1)
    write_record(arguments.out, record)
    print(json.dumps(record["figures"], indent=1))


if __name__ == "__main__":
    main()
