"""How far cheap recipes can be trusted on CIFAR-10: random NAS-Bench-201 cells against their published 200-epoch accuracy.

    python benchmarks/cifar_agreement.py train --recipes bpe1_small,quick_half,quick --trials trials.jsonl --seconds 480
    python benchmarks/cifar_agreement.py report --trials trials.jsonl --out benchmarks/records/cifar_agreement.json

Images and table are found by ``ARCHDUEL_DATA`` (``cifar10/train_a.npz``, ``nasbench201/nasbench201.parquet``). ``train`` goes on
where it was stopped; answers of all recipes may stand in one file. One process, one thread.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from archduel.apps.spaces import sampled
from archduel.core import Arch, Journal, Query, evaluation_seed
from archduel.core.journal import estimate_record
from archduel.estimators.training import TrainingEstimator
from archduel.spaces.nasbench201 import NASBench201
from archduel.training.pixels import Pixels
from archduel.training.recipe import RECIPES, Recipe

N_TRAIN, N_VALIDATION = 2_500, 2_500
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
QUICK = Recipe(
    epochs=10, batch_size=64, lr=0.2, weight_decay=5e-4, warmup_epochs=1, crop_pad=2, channels=8, depth=1, image_size=16
)
TRIED = {
    # 6 layers are 5 cells here: one a stage and two reductions
    "bpe1_small": RECIPES["bpe1"].with_(depth=1),
    "quick_half": QUICK.with_(epochs=5),
    "quick": QUICK,
    # 30 epochs and 16 layers do not fit the time of this benchmark: 5 epochs, 8 cells
    "bpe2_small": RECIPES["bpe2"].with_(depth=2, epochs=5),
}


def pixels(root: Path) -> tuple[Pixels, Pixels]:
    """Returns training and validation images, the first of the file, whose order is random, at 16 px."""
    with np.load(root / "cifar10" / "train_a.npz") as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"]
    n = N_TRAIN + N_VALIDATION
    raw = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())) for i in range(n)]
    images = np.stack([np.asarray(picture.convert("RGB")).transpose(2, 0, 1) for picture in raw])
    whole = Pixels(images, labels[:n].astype(np.int64), MEAN, STD).resized(16)
    return whole.subset(range(N_TRAIN)), whole.subset(range(N_TRAIN, n))


def cells(n: int) -> list[Arch]:
    """Returns ``n`` random cells that compute different functions; a larger number begins with the same ones."""
    return sampled(NASBench201(), n, 0, distinct=True)


def train(arguments: argparse.Namespace) -> None:
    """Trains cell after cell with every recipe until all are done or the time is over."""
    torch.set_num_threads(1)
    learn, check = pixels(Path(os.environ["ARCHDUEL_DATA"]))
    wanted = {name: TRIED[name] for name in arguments.recipes.split(",")}
    estimator = TrainingEstimator(learn, check, wanted, n_classes=10, run_seed=0, default=next(iter(wanted)))
    journal = Journal(arguments.trials)
    done = {record["ordinal"] for record in journal.records}
    began = time.perf_counter()
    for number, arch in enumerate(cells(arguments.cells)):
        for name in wanted:
            ordinal = 1_000 * list(TRIED).index(name) + number
            if ordinal in done:
                continue
            if time.perf_counter() - began > arguments.seconds:
                return
            before = time.process_time()
            estimate = estimator.judge(Query(arch, name), evaluation_seed(0, ordinal))
            cpu = time.process_time() - before
            journal.append({**estimate_record(ordinal, Query(arch, name), estimate), "cpu_seconds": cpu})
            print(name, number, arch, f"{estimate.score:.4f} {cpu:.1f} CPU s", flush=True)


def published(root: Path, archs: list[Arch], column: str) -> np.ndarray:
    """Returns the published 200-epoch accuracies of ``archs`` as fractions."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(root / "nasbench201" / "nasbench201.parquet", columns=[column])[column].to_numpy()
    return np.array([table[NASBench201().index(arch)] / 100 for arch in archs])


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--recipes", default=",".join(TRIED))
    training.add_argument("--cells", type=int, default=60)
    training.add_argument("--trials", type=Path, required=True)
    training.add_argument("--seconds", type=float, default=480)
    training.set_defaults(run=train)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
