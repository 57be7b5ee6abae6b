"""BPE's published tables with this package's means: all rank correlations, importance, front, and replayed prunings.

    python benchmarks/bpe_published.py --tables bpe/ --out benchmarks/records/bpe_published.json

The tables are CSV files (``architectures.csv``, ``settings.csv``, ``proxy_accuracies.csv``) made from the authors' workbooks: 100
architectures, 37 cheap settings. Accuracies there are percentages of CIFAR-10's test images; costs are GPU hours an architecture.
Without ``--tables`` they are ``bpe/`` in the folder named by ``ARCHDUEL_DATA``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archduel import environment
from archduel.commands.proxy.check import bounded_text
from archduel.errors import TableError
from archduel.proxies.agreement import agreement
from archduel.proxies.factors import Factor, Grid, Setting
from archduel.proxies.find import MinimumImportancePruning, RecipeSearch, Trial, find, front, recommend
from archduel.proxies.importance import Importance, Levels, forest_importance
from archduel.recipes import read
from archduel.reporting import text_table

COLUMNS = {
    "epochs": ("epochs",),
    "batch": ("batch_size", "lr"),
    "layers": ("depth",),
    "precision": ("precision",),
    "channels": ("channels",),
    "cutout": ("cutout",),
    "image_size": ("image_size",),
}
"""Hyper-parameter -> settings of a recipe; batch size and learning rate change together in the trials."""
DEAREST_FIRST = ("batch",)
"""Where the larger value is the cheaper one."""
TRIAL = re.compile(r"test([1-9]|[12]\d|3[0-2])")


@dataclass(frozen=True)
class Published:
    """The tables.

    Attributes:
        genotypes: the architectures' texts.
        truth: (100,) accuracy after full training, fractions.
        trials: the 37 settings in the order of the table; ``setting`` is set for the 32 trials of the pruning.
        reported: setting -> the authors' rank correlation.
        scores: setting -> (100,) accuracies, fractions.
        grid: hyper-parameters and levels of the 32 trials.
    """

    genotypes: list[str]
    truth: np.ndarray
    trials: list[Trial]
    reported: dict[str, float]
    scores: dict[str, np.ndarray]
    grid: Grid

    @property
    def pool(self) -> list[Trial]:
        """The 32 trials."""
        return [trial for trial in self.trials if trial.setting]

    def importance(self, *, trees: int = 300, seed: int = 0) -> dict[str, float]:
        """Returns main effects over the grid of levels, from all 32 trials, the largest first."""
        scores = [trial.agreement.spearman.value for trial in self.pool]
        settings = [trial.setting for trial in self.pool]
        found: Importance = forest_importance(
            settings, scores, [Levels.equal(n) for n in self.grid.sizes], trees=trees, seed=seed
        )
        names = [each.name for each in self.grid.factors]
        return dict(sorted(zip(names, map(float, found.main)), key=lambda item: -item[1]))

    def replay(
        self, *, budget: float = float("inf"), samples: int = 6, sampling: str = "cheapest", seed: int = 0,
        scope: str = "open", keep: float = 0.25, trees: int = 300,
    ) -> RecipeSearch:  # fmt: skip
        """Returns what Minimum Importance Pruning does when every measurement is looked up.

        Args:
            budget: GPU hours for all measurements (one of an architecture times 100).
            samples: recipes a round.
            sampling: see :mod:`archduel.proxies.find`.
            seed: of draws and forest.
            scope: likewise.
            keep: likewise.
            trees: in the forest.
        """
        by_setting = {trial.setting: trial for trial in self.pool}
        pruning = MinimumImportancePruning(
            self.grid,
            lambda setting: by_setting[setting].cost,
            rng=np.random.default_rng(seed),
            pool=list(by_setting),
            samples=samples,
            sampling=sampling,
            scope=scope,
            keep=keep,
            trees=trees,
            seed=seed,
        )
        return find(pruning, by_setting.__getitem__, budget=budget, predict=lambda s: by_setting[s].paid)


def _rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}; expected one of BPE's tables as CSV") from error
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise TableError(f"{path} has no column {missing[0]!r} or no rows; expected one of BPE's tables as CSV")
    return rows


def _values(row: dict[str, str]) -> dict[str, object]:
    """Returns the recipe settings of a row."""
    whole = {"epochs": "epochs", "batch_size": "batch_size", "depth": "n_layers", "channels": "init_channels",
             "cutout": "cutout_length", "image_size": "image_size"}  # fmt: skip
    found: dict[str, object] = {name: int(row[column]) for name, column in whole.items()}
    return found | {"lr": float(row["learning_rate"]), "precision": f"fp{int(row['fp_bits'])}"}


def _grid(rows: list[dict[str, str]]) -> Grid:
    """Returns the hyper-parameters and levels that occur in ``rows``."""
    factors = []
    for name, keys in COLUMNS.items():
        levels = sorted({tuple(_values(row)[key] for key in keys) for row in rows}, reverse=name in DEAREST_FIRST)  # type: ignore[type-var]
        factors.append(Factor(name, tuple(dict(zip(keys, level)) for level in levels)))
    return Grid(read("bpe1"), tuple(factors))


def read_published(folder: Path, *, draws: int = 1000) -> Published:
    """Returns BPE's tables from a folder of CSV files.

    Args:
        folder: where they are.
        draws: resamples of the intervals.

    Raises:
        TableError: for a file that is missing or is another one.
    """
    archs = _rows(folder / "architectures.csv", ("arch_id", "genotype", "test_acc_full"))
    settings = _rows(folder / "settings.csv", ("setting", "epochs", "fp_bits", "gpu_hours_mean", "reported_rank_correlation"))
    cells = _rows(folder / "proxy_accuracies.csv", ("arch_id", *(row["setting"] for row in settings)))
    if [row["arch_id"] for row in archs] != [row["arch_id"] for row in cells]:
        raise TableError(f"{folder}: architectures.csv and proxy_accuracies.csv list different architectures")
    truth = np.array([float(row["test_acc_full"]) for row in archs]) / 100
    pool = [row for row in settings if TRIAL.fullmatch(row["setting"])]
    grid, trials, scores = _grid(pool), [], {}
    for row in settings:
        name, hours = row["setting"], float(row["gpu_hours_mean"])
        scores[name] = np.array([float(cell[name]) for cell in cells]) / 100
        setting: Setting = grid.read(_values(row)) if row in pool else ()
        trials.append(Trial(name, hours, agreement(scores[name], truth, draws=draws), setting, len(archs) * hours))
    reported = {row["setting"]: float(row["reported_rank_correlation"]) for row in settings}
    return Published([row["genotype"] for row in archs], truth, trials, reported, scores, grid)


NAMED = {"bpe1": "test5", "bpe2": "test32"}
BUDGETS = (50.0, 100.0, 200.0, 500.0, float("inf"))


def _replay(tables: Published, found: RecipeSearch, **settings: Any) -> dict[str, Any]:
    factors = tables.grid.factors
    chosen = recommend(found.trials)
    return {
        "settings": {name: None if value == float("inf") else value for name, value in settings.items()},
        "measured": [trial.name for trial in found.trials],
        "gpu_hours": found.paid,
        "pruned": [
            {"fixed": factors[p.factor].name, "at": factors[p.factor].label(p.level), "measured": p.measured,
             "importance": dict(zip([f.name for f in factors], map(float, p.importance.main)))}
            for p in found.prunings
        ],
        "chosen": {
            kind: {"setting": trial.name, "recipe": tables.grid.text(trial.setting), "gpu_hours_each": trial.cost,
                   "spearman": trial.agreement.spearman.value}
            for kind, trial in chosen.items()
        },
        "front": [trial.name for trial in front(found.trials)],
        "ended": found.ended,
    }  # fmt: skip


def published_record(folder: str | Path, *, trees: int = 300, seeds: int = 10, draws: int = 1000) -> dict[str, Any]:
    """Returns all that the tables say: every setting's agreement, importance, front, replays at several budgets.

    Args:
        folder: ``architectures.csv``, ``settings.csv``, ``proxy_accuracies.csv``.
        trees: in every forest.
        seeds: of forests, and of replays that are drawn at random.
        draws: resamples of the intervals.

    Raises:
        TableError: for a file that is missing or is another one.
    """
    tables = read_published(Path(folder), draws=draws)
    on_front = [trial.name for trial in front(tables.pool)]
    everywhere = [trial.name for trial in front(tables.trials)]
    total = sum(trial.paid for trial in tables.pool)
    forests = [tables.importance(trees=trees, seed=seed) for seed in range(seeds)]
    return {
        "architectures": len(tables.truth),
        "settings": [
            {"setting": trial.name, "gpu_hours_each": trial.cost, **trial.agreement.record(),
             "reported_spearman": tables.reported[trial.name], "on_front": trial.name in everywhere}
            for trial in tables.trials
        ],
        "largest_difference_to_reported": max(
            abs(trial.agreement.spearman.value - tables.reported[trial.name]) for trial in tables.trials
        ),
        "importance": {name: [found[name] for found in forests] for name in forests[0]},
        "front_of_32": on_front,
        "front_of_37": everywhere,
        "places": {name: _place(tables, setting) for name, setting in NAMED.items()},
        "gpu_hours_of_all_32": total,
        "chosen_from_all_32": {kind: trial.name for kind, trial in recommend(tables.pool).items()},
        "replays": [
            _replay(tables, tables.replay(budget=budget, samples=6, trees=trees), sampling="cheapest", samples=6, budget=budget)
            for budget in BUDGETS
        ],
        "replays_drawn_at_random": [
            _replay(tables, tables.replay(sampling="random", samples=6, seed=seed, trees=trees), sampling="random", samples=6, seed=seed)
            for seed in range(seeds)
        ],
    }  # fmt: skip


def _place(tables: Published, setting: str) -> dict[str, Any]:
    """Returns whether a setting is on the front of all 37, and which settings beat it (cheaper or as cheap, and agreeing better)."""
    own = next(trial for trial in tables.trials if trial.name == setting)
    value = own.agreement.spearman.value
    better = [t.name for t in tables.trials if t.cost <= own.cost and t.agreement.spearman.value > value]
    return {
        "setting": setting, "gpu_hours_each": own.cost, "spearman": own.agreement.spearman.record(),
        "on_front_of_32": setting in [t.name for t in front(tables.pool)],
        "on_front_of_37": setting in [t.name for t in front(tables.trials)], "beaten_by": better,
    }  # fmt: skip


def published_text(record: Mapping[str, Any]) -> str:
    """Returns the record as text."""
    settings = sorted(record["settings"], key=lambda row: row["gpu_hours_each"])
    rows = [
        [row["setting"], f"{row['gpu_hours_each']:.4f}", bounded_text(row["spearman"]), f"{row['reported_spearman']:.4f}",
         bounded_text(row["kendall"]), "yes" if row["on_front"] else ""]
        for row in settings
    ]  # fmt: skip
    headers = ["setting", "GPU hours", "Spearman", "reported", "Kendall", "front"]
    importance = ", ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in record["importance"].items())
    total = record["gpu_hours_of_all_32"]
    replays = [
        [("all" if r["settings"]["budget"] is None else f"{r['settings']['budget']:g}"), str(len(r["measured"])),
         f"{r['gpu_hours']:.0f} ({r['gpu_hours'] / total:.0%})", ", ".join(p["fixed"] for p in r["pruned"]),
         *(f"{r['chosen'][k]['setting']} {r['chosen'][k]['spearman']:.3f}" if k in r["chosen"] else "–" for k in ("quick", "trusted"))]
        for r in record["replays"]
    ]  # fmt: skip
    return "\n".join(
        [
            text_table(headers, rows), "",
            f"largest difference to the reported rank correlations: {record['largest_difference_to_reported']:.1e}",
            f"importance (main effects of a forest on 32 trials): {importance}", "",
            text_table(["budget, GPU h", "measured", "paid, GPU h", "fixed in this order", "quick", "trusted"], replays),
        ]
    )  # fmt: skip


def main() -> None:
    """Writes the record and prints it as text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, help="folder of the CSV files; default bpe/ in $ARCHDUEL_DATA")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    began = time.process_time()
    record = published_record(arguments.tables or Path(os.environ["ARCHDUEL_DATA"]) / "bpe")
    facts = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1,
        "cpu_seconds": round(time.process_time() - began, 1), "source": "BPE's two workbooks, as CSV",
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**facts, **record}, indent=1) + "\n", encoding="utf-8")
    print(published_text(record))


if __name__ == "__main__":
    main()
