"""What int8 costs: random networks of four spaces, trained on digits and photographs, float against int8 on validation images.

    ARCHDUEL_DATA=... python benchmarks/int8.py --out benchmarks/records/int8.json

Digits: 1,079 training images of 8 px, 20 passes. CIFAR-10 (5,000 images of it, of which some are for validation): 2,000 training images of 32 px, 8 passes; parts of a pretrained network begin with its
weights and are trained for two passes, at the side that they say. Adam, one thread; no network is trained on the validation images.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from against_plain import source
from recording import write_record
from torch import nn

from archduel.core import Arch, Scale, sample
from archduel.core.storage import environment
from archduel.data import Dataset, load
from archduel.export import Labelled, export_folder, write_int8
from archduel.pretrained.members import member
from archduel.spaces.family import build, family
from archduel.spaces.lookup import parse
from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.quantised import fine_tuned

MOST_TRAINED = 2_000
PARTS = ("efficientnet_lite0@48:1-2-2:linear:all", "efficientnet_lite0@64:1-2x0.5-1:linear:all")
BATCH = 64


class Task(NamedTuple):
    """What networks are trained on.

    Attributes:
        source: of the images, as ``against_plain.py`` names them.
        networks: space -> how many random networks, or the texts of some.
        passes: over the training images.
    """

    source: str
    networks: dict[str, int | tuple[str, ...]]
    passes: int


TASKS = (
    Task("digits", {"tiny": 2, "stages": 2, "nasbench201": 2}, 20),
    Task("cifar5k", {"tiny": 1, "stages": 1}, 8),
    Task("cifar5k", {"pretrained": PARTS}, 2),
)
"""Ten networks of four spaces on two kinds of images."""


def trained(network: nn.Module, images: Pixels, passes: int, rate: float) -> nn.Module:
    """Returns the network after its passes over the images."""
    optimizer = torch.optim.Adam([p for p in network.train().parameters() if p.requires_grad], rate)
    generator = torch.Generator().manual_seed(0)
    total = passes * (len(images) // BATCH)
    for step in range(total):
        rows = torch.randperm(len(images), generator=generator)[:BATCH]
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / total)
        x, labels = images.batch(rows)
        loss = nn.functional.cross_entropy(network(normalise(x, images.mean, images.std)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def measured(arch: Arch, seed: int, data: Dataset, task: Task) -> dict[str, object]:
    """Returns what int8 costs one network."""
    scale = Scale(8, 1, data.image_size, data.in_channels, data.n_classes)
    look = data.preprocessing
    images = Pixels(data.train.images[:MOST_TRAINED], data.train.labels[:MOST_TRAINED], look.mean, look.std)
    generator, begins = torch.Generator().manual_seed(seed), arch.space == "pretrained"
    model = member(arch, scale, look.mean, look.std, generator=generator) if begins else build(arch, scale, generator=generator)
    began = time.process_time()
    model = trained(model, images, task.passes, 0.001 if begins else 0.005)
    took = time.process_time() - began
    train, validation = (Labelled(np.asarray(part.images[:]), np.asarray(part.labels[:], np.int64)) for part in (data.train, data.validation))
    with tempfile.TemporaryDirectory() as place:

        def tuned(path: Path) -> None:
            """Writes the ONNX file of the network, trained on with rounded weights."""
            export_folder(fine_tuned(model, images), arch, scale, Path(place) / "tuned", classes=data.classes, preprocessing=look, facts={})
            path.write_bytes((Path(place) / "tuned" / "model.onnx").read_bytes())

        export_folder(model, arch, scale, Path(place) / "net", classes=data.classes, preprocessing=look, facts={})
        report = write_int8(Path(place) / "net", train, validation, tuned=tuned)
    row = {"data": data.name, "arch": str(arch), "trained_on": len(images), "passes": task.passes, "training_cpu_seconds": round(took, 1)}
    return {**row, **asdict(report), "lost": report.lost}


def main() -> None:
    """Measures and writes the record; what is in it already is not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.out.read_text())["networks"] if options.out.exists() else []
    for task in TASKS:
        data = load(source(task.source))
        for name, wanted in task.networks.items():
            space = family(name)()
            archs = [sample(space, np.random.default_rng(i)) for i in range(wanted)] if isinstance(wanted, int) else [parse(space, text) for text in wanted]
            for seed, arch in enumerate(archs):
                if (data.name, str(arch)) in {(row.get("data"), row["arch"]) for row in rows}:
                    continue
                rows.append(measured(arch, seed, data, task))
                print(json.dumps(rows[-1]), flush=True)
                write_record(options.out, {"command": shlex.join(["python", *sys.argv]), **environment(), "networks": rows})


if __name__ == "__main__":
    main()
