"""Figures of a comparison of rankers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

__all__ = ["tau_by_labels"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c6bb1", "#7f7f7f", "#a6761d")
"""Okabe and Ito's, told apart by colour-blind readers, and three more."""
Point = tuple[int, float | None, float | None, float | None]


def tau_by_labels(path: Path, curves: Mapping[str, Sequence[Point]], *, title: str) -> None:
    """Writes Kendall's tau over the number of labels, with intervals where they are known.

    Args:
        path: of the picture; its suffix says the format (svg, png, pdf).
        curves: ranker -> (labels, tau, low, high) in ascending order of labels.
        title: over the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (name, points) in enumerate(curves.items()):
        labels, tau, low, high = (np.array(column, dtype=float) for column in zip(*points))
        colour, line = COLOURS[i % len(COLOURS)], ("-", "--", ":")[i // len(COLOURS) % 3]
        axes.plot(labels, tau, label=name, marker="o", markersize=3.5, color=colour, linestyle=line)
        axes.fill_between(labels, low, high, color=colour, alpha=0.15, linewidth=0)
    ticks = sorted({point[0] for points in curves.values() for point in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("labelled architectures")
    axes.set_ylabel("Kendall's tau on the others")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
