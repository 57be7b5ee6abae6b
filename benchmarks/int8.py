"""What int8 costs: random networks of several spaces, trained on the digits, float against int8 on validation images.

    python benchmarks/int8.py --out benchmarks/records/int8.json

1,079 training images of 8 px, Adam, 20 passes, one thread; the networks are not trained on the validation images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from archduel.core import Scale, sample
from archduel.core.storage import environment
from archduel.data import Dataset, load
from archduel.export import Labelled, export_folder, write_int8
from archduel.spaces.family import build, family
from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.quantised import fine_tuned

SPACES = {"tiny": 3, "stages": 3, "resnet": 2, "nasbench201": 2}
PASSES, BATCH = 20, 64


def trained(network: nn.Module, images: Pixels) -> nn.Module:
    """Returns the network after its passes over the images."""
    optimizer = torch.optim.Adam(network.train().parameters(), 0.005)
    generator = torch.Generator().manual_seed(0)
    total = PASSES * (len(images) // BATCH)
    for step in range(total):
        rows = torch.randperm(len(images), generator=generator)[:BATCH]
        for group in optimizer.param_groups:
            group["lr"] = 0.005 * (1 - step / total)
        x, labels = images.batch(rows)
        loss = nn.functional.cross_entropy(network(normalise(x, images.mean, images.std)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def measured(name: str, seed: int, data: Dataset) -> dict[str, object]:
    """Returns what int8 costs one random network of a space."""
    space = family(name)()
    arch = sample(space, np.random.default_rng(seed))
    scale = Scale(8, 1, data.image_size, data.in_channels, data.n_classes)
    look = data.preprocessing
    images = Pixels(data.train.images, data.train.labels, look.mean, look.std)
    model = trained(build(arch, scale, generator=torch.Generator().manual_seed(seed)), images)
    train, validation = (Labelled(np.asarray(part.images[:]), np.asarray(part.labels[:], np.int64)) for part in (data.train, data.validation))
    with tempfile.TemporaryDirectory() as place:

        def tuned(path: Path) -> None:
            """Writes the ONNX file of the network, trained on with rounded weights."""
            export_folder(fine_tuned(model, images), arch, scale, Path(place) / "tuned", classes=data.classes, preprocessing=look, facts={})
            path.write_bytes((Path(place) / "tuned" / "model.onnx").read_bytes())

        export_folder(model, arch, scale, Path(place) / "net", classes=data.classes, preprocessing=look, facts={})
        report = write_int8(Path(place) / "net", train, validation, tuned=tuned)
    return {"arch": str(arch), **asdict(report), "lost": report.lost}


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data, rows = load("digits"), []
    for name, n in SPACES.items():
        for seed in range(n):
            rows.append(measured(name, seed, data))
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                record = {"command": "python benchmarks/int8.py", **environment(), "networks": rows}
                options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
