"""BPE's published tables, looked at with this package's means: agreement, importance, front, and a replayed pruning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archduel.apps.proxy_text import bounded_text
from archduel.proxies.find import Found, front, recommend
from archduel.proxies.published import Published, read_published
from archduel.reporting.tables import text_table

__all__ = ["published_record", "published_text"]

NAMED = {"bpe1": "test5", "bpe2": "test32"}
BUDGETS = (50.0, 100.0, 200.0, 500.0, float("inf"))


def _replay(tables: Published, found: Found, **settings: Any) -> dict[str, Any]:
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
