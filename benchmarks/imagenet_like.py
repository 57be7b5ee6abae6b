"""Writes a folder like ImageNet's with generated JPEG pictures: train/CLASS/*.JPEG and a flat val/ with val.txt.

    python benchmarks/imagenet_like.py FOLDER --images 2000 --classes 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: int, classes: int, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Returns smooth colours whose hue says the class, with noise that costs a decoder what photographs cost."""
    coarse = rng.integers(0, 256, (height // 32 + 2, width // 32 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-24, 25, (height, width, 1), dtype=np.int16)
    angle = 2 * np.pi * (label / classes + np.arange(3) / 3)
    tint = (60 * np.cos(angle)).astype(np.int16)
    return Image.fromarray(np.clip(smooth // 2 + 64 + tint + grain, 0, 255).astype(np.uint8))


def write(folder: Path, images: int, classes: int, *, width: int = 500, height: int = 375, seed: int = 0) -> None:
    """Writes ``images`` training pictures and a fifth as many for validation; every fourth one stands upright."""
    rng = np.random.default_rng(seed)
    names = [f"n{number:08d}" for number in range(classes)]
    for name in names:
        (folder / "train" / name).mkdir(parents=True, exist_ok=True)
    (folder / "val").mkdir(exist_ok=True)
    lines = []
    for number in range(images + images // 5):
        label = number % classes
        size = (height, width) if number % 4 == 3 else (width, height)
        image = picture(label, classes, *size, rng)
        if number < images:
            image.save(folder / "train" / names[label] / f"{names[label]}_{number}.JPEG", quality=92)
        else:
            file = f"ILSVRC2012_val_{number - images + 1:08d}.JPEG"
            image.save(folder / "val" / file, quality=92)
            lines.append(f"{file} {label}")
    (folder / "val.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.images, arguments.classes)
