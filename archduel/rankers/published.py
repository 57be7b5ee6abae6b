"""How papers measured rankers, and which settings of a ranker are a paper's: names that ``archduel bench rank`` knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PROTOCOLS", "VARIANTS"]

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "pinat201": {"labels": (78, 156, 469, 781, 1563), "splits": 20, "judge": "all"},
    "pinat101": {"labels": (100, 172, 424, 4236), "splits": 20, "judge": "all", "run": 0},
    "narformer": {"labels": (78, 156, 469, 781, 1563), "splits": 1, "judge": "all", "draw": "first"},
    "ctnas": {"labels": (423,), "splits": 10, "judge": "100"},
    "graf": {"labels": (32, 128, 1024), "splits": 50, "learn": "test"},
    "emprox": {"labels": (121,), "splits": 20, "judge": "100"},
}
"""Protocols of the literature: labels, splits, what is learned and judged.

``pinat*``: PINAT and TNASP (one split there); ``narformer``: first entries of the file, one split (extra labelled cells for the
choice of a checkpoint are not given); ``ctnas``: tau on 100 held-out cells; ``graf``: test labels on both sides, unreachable
operations not removed; ``emprox``: the NASLib setting.
"""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "best+zc": ("archduel.commands.bench.measured_jury:MeasuredJury", {}),
    "nac-paper": ("nac", {"variant": "paper"}),
    "nac-published": ("nac", {"antisymmetric": False}),
    "renas-1": ("renas", {"tensor": "type", "loss": "mse"}),
    "renas-2": ("renas", {"tensor": "full", "loss": "mse"}),
    "renas-3": ("renas", {"tensor": "type", "loss": "logistic"}),
    "renas-4": ("renas", {"tensor": "full", "loss": "logistic"}),
    "renas-5": ("renas", {"tensor": "type", "loss": "logistic", "consistency": 0.1}),
    "renas-6": ("renas", {"tensor": "full", "loss": "logistic", "consistency": 0.1}),
}
"""Names that stand for a ranker with settings; ``best+zc`` is told its data: ``best+zc[data=digits]``."""
