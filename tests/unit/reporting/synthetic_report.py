"""Made-up data of a whole report, for tests and for looking at the page. None of these numbers was measured."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from archduel.reporting.statistics import gain_sentence, kendall_tau

CLASSES = ("daisy", "dandelion", "iris", "lily", "orchid", "poppy", "rose", "sunflower", "tulip & <other>", "violet")

CELL = """<svg viewBox="0 0 460 120" width="460" height="120" fill="none" stroke="currentColor" font-size="12">
<g><rect x="5" y="45" width="80" height="30" rx="5"/><rect x="190" y="5" width="80" height="30" rx="5"/>
<rect x="190" y="85" width="80" height="30" rx="5"/><rect x="370" y="45" width="80" height="30" rx="5"/>
<path d="M85 60 190 20M85 60 190 100M270 20 370 60M270 100 370 60"/></g>
<g fill="currentColor" stroke="none" text-anchor="middle"><text x="45" y="64">in</text><text x="230" y="24">conv 3x3</text>
<text x="230" y="104">skip</text><text x="410" y="64">out</text></g></svg>"""


def make_image(rng: np.random.Generator, side: int = 24) -> str:
    """Returns a random image as a PNG data URI."""
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def arm(rng: np.random.Generator, name: str, rise: float) -> dict[str, Any]:
    """Returns 60 made-up evaluations."""
    scores: list[float | None] = [float(0.71 + rise * (1 - np.exp(-i / 25)) + rng.normal(0, 0.02)) for i in range(60)]
    scores[17] = None
    return {"name": name, "seconds": np.cumsum(rng.uniform(30, 70, 60)).tolist(), "scores": scores}


def curve(rng: np.random.Generator, name: str, measure: str, end: float) -> dict[str, Any]:
    """Returns a made-up learning curve over 40 epochs with a band."""
    x = np.arange(1, 41)
    values = end * (1 - np.exp(-x / 8)) if "loss" not in measure else end + 2 * np.exp(-x / 7)
    values = values + rng.normal(0, 0.006, 40)
    return {
        "name": name, "measure": measure, "x": x.tolist(), "values": values.tolist(),
        "low": (values - 0.02).tolist(), "high": (values + 0.02).tolist(),
    }  # fmt: skip


def points(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Returns 80 made-up architectures and the named ones."""
    sizes = np.exp(rng.uniform(np.log(8e4), np.log(1e6), 80))
    found: list[dict[str, Any]] = [
        {
            "arch": "nasbench201:" + ".".join(map(str, rng.integers(0, 5, 6))), "params": int(size), "macs": int(60 * size),
            "score": float(0.6 + 0.05 * np.log10(size) + rng.normal(0, 0.02)), "kind": "evaluated",
        }
        for size in sizes
    ]  # fmt: skip
    found += [
        {**found[0], "name": "CTNAS", "params": 610_000, "score": 0.925, "kind": "winner"},
        {**found[1], "name": "random search", "params": 640_000, "score": 0.921, "kind": "winner of random search"},
        {"name": "ResNet-20 (width 12)", "params": 580_000, "score": 0.902, "kind": "standard network"},
    ]
    return found


def agreement(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Returns made-up rank agreements, one of which says nothing."""
    entries = []
    for first, second, n, noise in (("label", "comparator", 60, 0.5), ("label", "re-evaluation", 12, 1.5), ("re-evaluation", "final", 4, 0.2)):
        a = rng.normal(0, 1, n)
        tau = kendall_tau(a, a + rng.normal(0, noise, n)).record()
        entries.append({"first": first, "second": second, "tau": tau["value"], "low": tau["low"], "high": tau["high"], "n": n})
    return entries


def report_data() -> dict[str, Any]:
    """Returns a whole, finished, made-up run."""
    rng = np.random.default_rng(0)
    names = [f"nasbench201:{'.'.join(map(str, rng.integers(0, 5, 6)))}" for _ in range(8)]
    strength = np.sort(rng.normal(0, 1.2, 8))[::-1]
    counts = rng.poisson(0.7, (10, 10)) + np.diag(rng.integers(60, 95, 10))
    search, other, standard = [0.9312, 0.9345, 0.9301], [0.9244, 0.9262, 0.9207], [0.9051, 0.9102, 0.9077]
    return {
        "title": "flowers",
        "subtitle": "made-up example · 10 classes · 4,212 images · 64 × 64 RGB",
        "created": "2025-01-01 12:00",
        "sentence": gain_sentence(np.subtract(search, other), 1, 3, n_test=842),
        "sentence_note": gain_sentence(np.subtract(search, standard), 1, 3, other="the standard network ResNet-20 (width 12)", n_test=842, coverage=False),
        "key_figures": [
            {"label": "Test accuracy", "value": "93.2 %", "note": "± 0.6, n = 3 seeds, 842 images"},
            {"label": "Parameters", "value": "610 k", "note": "limit 1 M"},
            {"label": "Multiply-adds", "value": "86.2 M", "note": "one image, 64 × 64"},
            {"label": "Latency", "value": "4.1 ms", "note": "CPU, batch 1, median of 100"},
            {"label": "Time", "value": "1 h 54 min", "note": "of 2 h"},
        ],
        "finals": [
            {"name": "CTNAS", "arch": names[0], "params": 610_000, "macs": 86_200_000, "latency_ms": 4.1, "test": search},
            {"name": "random search", "arch": names[1], "params": 640_000, "macs": 90_000_000, "latency_ms": 4.4, "test": other},
            {"name": "ResNet-20 (width 12)", "arch": "resnet20", "params": 580_000, "macs": 70_000_000, "latency_ms": 3.0, "test": standard},
        ],
        "n_test": 842,
        "metric": "validation accuracy",
        "arms": [arm(rng, "search (ctnas)", 0.21), arm(rng, "random search", 0.17)],
        "agreement": agreement(rng),
        "wins": {"names": names, "prob": (1 / (1 + np.exp(strength[None, :] - strength[:, None]))).tolist()},
        "points": points(rng),
        "cells": [{"title": "Normal cell", "svg": CELL, "text": "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"}],
        "curves": [
            curve(rng, name, measure, end)
            for measure, ends in (("validation accuracy", (0.93, 0.92, 0.90)), ("training loss", (0.2, 0.23, 0.3)))
            for name, end in zip(("CTNAS", "random search", "ResNet-20 (width 12)"), ends)
        ],
        "confusion": {"classes": list(CLASSES), "counts": counts.tolist(), "network": "CTNAS, seed 0,", "split": "test"},
        "mistakes": [
            {
                "image": make_image(rng), "file": f"flowers/{CLASSES[i]}/IMG_{1000 + i}.jpg", "truth": CLASSES[i],
                "guess": CLASSES[(i + 3) % 10], "probability": 0.99 - 0.01 * i,
            }
            for i in range(10)
        ],
        "balance": [
            {"name": name, "train": int(n), "validation": int(n // 4), "test": int(n // 4)}
            for name, n in zip(CLASSES, rng.integers(120, 420, 10))
        ],
        "skipped": {"flowers/rose/broken.jpg": "truncated after 1,024 bytes", "flowers/<script>alert(1)</script>.png": "not an image"},
        "failures": [{"arch": names[5], "stage": "label", "reason": "loss became nan in epoch 3"}],
        "costs": [
            {"stage": "labels", "seconds": 2900.0, "evaluations": 60, "images": 4_200_000},
            {"stage": "comparator", "seconds": 64.0},
            {"stage": "policy", "seconds": 31.0},
            {"stage": "re-evaluation", "seconds": 1400.0, "evaluations": 12, "images": 1_800_000},
            {"stage": "final training", "seconds": 2445.0, "evaluations": 9, "images": 5_100_000},
        ],
        "budget_seconds": 7200.0,
        "clock_seconds": 6840.0,
        "environment": {"archduel": "0.1.0", "torch": "2.13.0", "device": "CPU, 2 cores", "seed": "0", "commit": "0123abc"},
        "command": "archduel search flowers/ --time 2h --max-params 1M --out runs/flowers",
        "settings": 'strategy = "ctnas"\nspace = "nasbench201"\ntime = "2h"\n',
        "warnings": ["class 'iris' has 96 images, the largest 612: consider --metric balanced_accuracy", "2 files were skipped"],
    }  # fmt: skip
