"""Writes real CIFAR-10 pictures as an image folder, to measure searches on what users have: files.

    ARCHDUEL_DATA=... python benchmarks/cifar10_folder.py cifar10_5k --per-class 500 --test-per-class 1000

The folder gets `train/` and `test/` with one subfolder a class and PNG files; with `--test-per-class 0` just class folders.
Pictures are taken in the order of the stored files, which is random, so a smaller sample is part of a larger one.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image


def stored(root: Path, parts: list[str]) -> Iterator[tuple[Image.Image, str]]:
    """Yields (picture, class name) of the lossless WebP collections `parts` below ``root``."""
    for part in parts:
        with np.load(root / f"{part}.npz") as found:
            data, ends, labels = found["data"], found["offsets"].tolist(), found["labels"].tolist()
            classes = [str(name) for name in found["classes"]]
        for (start, end), label in zip(pairwise(ends), labels):
            yield Image.open(io.BytesIO(data[start:end].tobytes())), classes[label]


def write(pictures: Iterator[tuple[Image.Image, str]], to: Path, per_class: int) -> int:
    """Writes the first ``per_class`` pictures of each class as PNG files; returns how many in all."""
    counts: dict[str, int] = {}
    for image, label in pictures:
        n = counts.setdefault(label, 0)
        if n < per_class:
            (to / label).mkdir(parents=True, exist_ok=True)
            image.save(to / label / f"{n:05d}.png", compress_level=1)
            counts[label] = n + 1
        if len(counts) == 10 and min(counts.values()) == per_class:
            break
    return sum(counts.values())


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", type=Path)
    parser.add_argument("--per-class", type=int, default=500)
    parser.add_argument("--test-per-class", type=int, default=1000)
    arguments = parser.parse_args()
    if "ARCHDUEL_DATA" not in os.environ:
        parser.error(
            "set ARCHDUEL_DATA to the folder that holds cifar10/train_a.npz, train_b.npz and test.npz"
        )
    root = Path(os.environ["ARCHDUEL_DATA"]) / "cifar10"
    split = arguments.test_per_class > 0
    n = write(
        stored(root, ["train_a", "train_b"]),
        arguments.to / "train" if split else arguments.to,
        arguments.per_class,
    )
    m = write(stored(root, ["test"]), arguments.to / "test", arguments.test_per_class) if split else 0
    print(f"{n} training and {m} test pictures in {arguments.to}")


if __name__ == "__main__":
    main()
