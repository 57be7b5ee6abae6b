"""Figures of comparisons: tau over labels, regret over queries or seconds, the critical-difference diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.errors import SettingError
from archduel.reporting.statistics import Nemenyi

__all__ = ["check_matplotlib", "critical_difference", "tau_by_labels", "trajectories"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c6bb1", "#7f7f7f", "#a6761d")
"""Okabe and Ito's, told apart by colour-blind readers, and three more."""
Point = tuple[int, float | None, float | None, float | None]


def check_matplotlib() -> None:
    """Raises SettingError where figures cannot be drawn, so that nothing is computed for them first."""
    if find_spec("matplotlib") is None:
        raise SettingError("figures need matplotlib, which is not installed: pip install 'archduel[figures]', or leave the option out")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """Returns figure and axes without touching the global state of matplotlib."""
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _style(number: int) -> dict[str, Any]:
    """Returns colour and dashes of line ``number``: the dashes change when the colours are used up."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": ("-", "--", ":")[number // len(COLOURS) % 3]}


def _finish(axes: Any, title: str, size: int) -> None:
    axes.set_title(title, fontsize=size)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)


def _save(figure: Any, path: Path, **settings: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **settings)


def tau_by_labels(path: Path, curves: Mapping[str, Sequence[Point]], *, title: str) -> None:
    """Writes Kendall's tau over the number of labels, with intervals where they are known.

    Args:
        path: of the image; its suffix says the format (svg, png, pdf).
        curves: ranker -> (labels, tau, low, high) in ascending order of labels.
        title: over the figure.
    """
    figure, axes = _figure(6.4, 4.2)
    for i, (name, points) in enumerate(curves.items()):
        labels, tau, low, high = (np.array(column, dtype=float) for column in zip(*points))
        axes.plot(labels, tau, label=name, marker="o", markersize=3.5, **_style(i))
        axes.fill_between(labels, low, high, color=_style(i)["color"], alpha=0.15, linewidth=0)
    ticks = sorted({point[0] for points in curves.values() for point in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("labelled architectures")
    axes.set_ylabel("Kendall's tau on the others")
    _finish(axes, title, 9)
    _save(figure, path)


def trajectories(
    path: Path,
    regrets: Mapping[str, NDArray[np.float64]],
    *,
    title: str,
    seconds: Mapping[str, NDArray[np.float64]] | None = None,
) -> None:
    """Writes mean validation regret with 95 % intervals, over queries or over mean simulated seconds.

    Args:
        path: of the image; its suffix says the format (svg, png, pdf).
        regrets: strategy -> (R, Q) validation regret of the incumbent, fractions of 1.
        title: over the figure.
        seconds: strategy -> (R, Q) simulated seconds; None = draw over queries.
    """
    figure, axes = _figure(7.0, 4.2)
    for i, (name, regret) in enumerate(regrets.items()):
        mean = 100 * regret.mean(0)
        half = 196 * regret.std(0, ddof=1) / np.sqrt(len(regret)) if len(regret) > 1 else np.zeros_like(mean)
        x = np.arange(1, len(mean) + 1) if seconds is None else seconds[name].mean(0)
        axes.plot(x, mean, label=name, **_style(i))
        axes.fill_between(x, np.maximum(mean - half, 0), mean + half, color=_style(i)["color"], alpha=0.15, linewidth=0)
    axes.set_xlabel("queries" if seconds is None else "simulated seconds")
    axes.set_ylabel("validation regret, points")
    axes.set_yscale("symlog", linthresh=0.05)
    axes.set_ylim(bottom=0)
    _finish(axes, title, 10)
    _save(figure, path)


def critical_difference(path: Path, ranks: Nemenyi, *, title: str) -> None:
    """Writes average ranks on a line; bars join strategies whose difference is not significant.

    Args:
        path: of the image; its suffix says the format.
        ranks: average ranks and groups.
        title: over the figure.
    """
    names, k = list(ranks.ranks), len(ranks.ranks)
    half = (k + 1) // 2
    figure, axes = _figure(7.0, 1.3 + 0.3 * half + 0.12 * len(ranks.groups))
    axes.set_xlim(0.0, k + 1.0)
    axes.hlines(0, 1, k, color="black", linewidth=1)
    for rank in range(1, k + 1):
        axes.vlines(rank, 0, 0.15, color="black", linewidth=1)
        axes.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=8)
    low = -0.3 - 0.22 * len(ranks.groups)
    for i, group in enumerate(ranks.groups):
        left, right = ranks.ranks[group[0]], ranks.ranks[group[-1]]
        axes.hlines(-0.25 - 0.22 * i, left - 0.04, right + 0.04, color="black", linewidth=3)
    for i, name in enumerate(names):
        first = i < half
        y = low - 0.45 * (i if first else k - 1 - i) - 0.3
        edge = 0.6 if first else k + 0.4
        axes.plot([ranks.ranks[name], ranks.ranks[name], edge], [0, y, y], color="#555555", linewidth=0.8)
        text = f"{name} ({ranks.ranks[name]:.2f})"
        axes.text(edge - 0.05 if first else edge + 0.05, y, text, ha="right" if first else "left", va="center", fontsize=8)
    axes.hlines(0.95, 1, 1 + ranks.critical_difference, color="black", linewidth=2)
    axes.text(1 + ranks.critical_difference / 2, 1.0, f"critical difference {ranks.critical_difference:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_ylim(low - 0.45 * half, 1.6)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
    _save(figure, path, bbox_inches="tight")
