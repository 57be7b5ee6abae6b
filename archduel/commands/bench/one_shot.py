"""How well shared weights rank: accuracies with a supernet's weights against a table's, per way and length of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from archduel.commands.bench.one_shot_labels import with_labels
from archduel.commands.bench.one_shot_trials import OneShot, OneShotProtocol, OneShotTrial, run_variants
from archduel.commands.bench.trials import Kept
from archduel.core.ranks import inherited
from archduel.core.storage import environment
from archduel.reporting.statistics import kendall_tau, rank_quality
from archduel.spaces import family as nets

__all__ = ["OneShotBench", "bench_one_shot", "effects_of", "facts_of", "record_of", "tau_difference"]

RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OneShotBench:
    """A finished comparison.

    Attributes:
        records: one a training, length and recalibration.
        effects: what each option changes, the others being equal.
        facts: protocol, what is trivially known about the cells, versions, hardware.
    """

    records: list[dict[str, Any]]
    effects: list[dict[str, Any]]
    facts: dict[str, Any]


def bench_one_shot(
    data: Any,
    table: str,
    *,
    labels: Sequence[int] = (),
    trials: Path | None = None,
    track: str = "",
    command: str = "",
    device: str = "cpu",
    on_batch: Callable[[str], None] | None = None,
    **settings: Any,
) -> OneShotBench:
    """Returns rank correlations of shared-weight accuracies with the mean test accuracies of a table.

    Args:
        data: images to train supernets on; best those of the table.
        table: name or file.
        labels: numbers of cells whose true accuracies a ranker learns beside the scores, to order the others.
        trials: a file that keeps finished trials, so that the same call goes on where it was stopped.
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`); needs ``trials``.
        command: how it was started, for `archduel resume`.
        device: where supernets are trained.
        on_batch: called now and then with a line that says how far it is.
        settings: further fields of :class:`~archduel.commands.bench.one_shot_trials.OneShotProtocol`.

    Raises:
        SettingError: for settings out of range, or images too small.
        UnknownNameError: for a table that there is not, or one of a space without a supernet.
    """
    protocol = OneShotProtocol(table=table, data=data if isinstance(data, str) else "given images", **settings)
    one_shot = OneShot(protocol, data, device)
    found = run_variants(one_shot, Kept(trials, track, command), on_batch)
    records = [record_of(trial, one_shot.truth) for trial in found]
    sizes = _counts(one_shot)[:, 1]
    for trial, record in zip(found, records):
        column = inherited(trial.scores, trial.losses) if trial.losses else np.asarray(trial.scores)
        record["with_labels"] = {
            str(n): with_labels(one_shot.space, one_shot.archs, column, sizes, one_shot.truth, n, seed=protocol.seed) for n in labels
        }
    facts = {**asdict(protocol), **facts_of(one_shot), "device": device}
    return OneShotBench(records, effects_of(records, one_shot.truth, seed=protocol.seed), facts)


def _counts(one_shot: OneShot) -> Floats:
    """Returns (N, 2) weights and multiply-adds of the cells."""
    return np.array([nets.count(arch, one_shot.scale) for arch in one_shot.archs], np.float64)


def facts_of(one_shot: OneShot) -> dict[str, Any]:
    """Returns what is known without any training, above all how well the number of weights ranks the same cells."""
    counts = _counts(one_shot)
    dataset = one_shot.dataset
    return {
        "space": one_shot.space.name,
        "architectures": [str(arch) for arch in one_shot.archs],
        "truth": one_shot.truth.tolist(),
        "tau_params": kendall_tau(counts[:, 0], one_shot.truth).record(),
        "tau_macs": kendall_tau(counts[:, 1], one_shot.truth).record(),
        "n_train": len(dataset.train),
        "n_validation": len(dataset.validation),
        "resolved_recipe": asdict(one_shot.recipe),
        **environment(),
    }


def record_of(trial: OneShotTrial, truth: Floats) -> dict[str, Any]:
    """Returns a trial with what it says about the order of cells whose true accuracies (N,) are ``truth``."""
    scores = np.asarray(trial.scores)
    quality = rank_quality(scores, truth)
    better = truth >= np.median(truth)
    chosen = int(np.argmax(scores))
    return {
        **asdict(trial),
        "kendall_tau": kendall_tau(scores, truth).record(),
        "kendall_tau_better_half": kendall_tau(scores[better], truth[better]).record(),
        "kendall_tau_of_loss": kendall_tau(-np.asarray(trial.losses), truth).record() if trial.losses else None,
        "spearman": quality.spearman if math.isfinite(quality.spearman) else None,
        "mean_score": float(scores.mean()),
        "best_score": float(scores.max()),
        "truth_of_best": float(truth[chosen]),
        "rank_of_best": int((truth > truth[chosen]).sum()) + 1,
        "best_truth": float(truth.max()),
    }


def tau_difference(
    first: Sequence[float], second: Sequence[float], truth: Floats, seed: int
) -> dict[str, float]:
    """Returns tau of ``first`` minus tau of ``second`` against the same truth, with a 95 % interval.

    The interval is that of a percentile bootstrap over cells; the noise of another training is not in it. Scores that are
    the same for all cells order nothing: their tau counts as 0.
    """
    a, b = np.asarray(first), np.asarray(second)
    rng = np.random.default_rng(seed)

    def difference(rows: NDArray[np.int64]) -> float:
        taus = np.nan_to_num([stats.kendalltau(scores[rows], truth[rows]).statistic for scores in (a, b)])
        return float(taus[0] - taus[1])

    drawn = [difference(rng.integers(len(truth), size=len(truth))) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": difference(np.arange(len(truth))), "low": float(low), "high": float(high), "n": len(truth)}


def effects_of(records: Sequence[Mapping[str, Any]], truth: Floats, *, seed: int) -> list[dict[str, Any]]:
    """Returns for each option the difference in tau to its first value, all else equal; see :func:`tau_difference`."""
    options = ("sampling", "curriculum", "recalibration", "tune")
    effects = []
    for option in options:
        firsts: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for record in records:
            rest = {k: record[k] for k in (*options, "seed", "passes") if k != option}
            base = firsts.setdefault(tuple(rest.values()), record)
            if base is not record:
                difference = tau_difference(record["scores"], base["scores"], truth, seed)
                about = {"option": option, "value": record[option], "against": base[option], **rest}
                effects.append({**about, "difference": difference})
    return effects
