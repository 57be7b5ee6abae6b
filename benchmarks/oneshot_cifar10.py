"""What the one-shot benchmarks on CIFAR-10 share: the pictures, and the options that every one of them has."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_folder import stored


def pictures(root: Path, n: int, parts: Sequence[str] = ("train_a", "train_b")) -> tuple[Any, Any]:
    """Returns the first ``n`` pictures (n, 32, 32, 3) of some files, and labels; their stored order is random."""
    images, labels = [], []
    for image, label in stored(root / "cifar10", list(parts)):
        images.append(np.asarray(image.convert("RGB")))
        labels.append(label)
        if len(images) == n:
            break
    return np.stack(images), np.unique(labels, return_inverse=True)[1]


def parser_of(description: str | None, *, images: int, channels: int = 8, depth: int = 1) -> argparse.ArgumentParser:
    """Returns a parser with the options of all: how many images, which network, where things are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=channels)
    parser.add_argument("--depth", type=int, default=depth)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def root_of(parser: argparse.ArgumentParser) -> Path:
    """Returns the folder of the data; without one the parser says what is missing."""
    if "ARCHDUEL_DATA" not in os.environ:
        parser.error("set ARCHDUEL_DATA to the folder that holds cifar10/train_a.npz, train_b.npz and test.npz")
    return Path(os.environ["ARCHDUEL_DATA"])
