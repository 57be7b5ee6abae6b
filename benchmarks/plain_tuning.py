"""What anybody does who has a published network: fine-tune it with a short script, or fit a linear classifier to its frozen features.

    python benchmarks/plain_tuning.py --rows cifar5k-3m --seeds 3 --out benchmarks/records/plain_tuning.jsonl

``tuning-64``, ``tuning-96`` and ``tuning-128`` train all of EfficientNet-Lite0 at so many pixels for the **whole** time each, with the loop of
``plain_script.py`` (one cosine cycle, learning rate 0.01, batches of 128, flip and shifted crop, float32, norms that learn); the one with the best
validation accuracy is the opponent of ``against_plain.py``'s side ``auto``. ``careful-96``, ``careful-128`` and ``careful-160`` are what somebody does who knows how:
AdamW, warm-up, batches of 32, norms that keep their statistics, smoothed labels, channels last (float32). ``frozen`` makes features of all images at the largest of 64, 96, 128, 160
and 224 px for which the time suffices, and fits scikit-learn's logistic regression, its strength by validation. Processor seconds of one thread, with start
and reading; test images are read after the choice. Rows and images are those of ``against_plain.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_plain import ROWS, left, measure, normalised, source, spent
from plain_script import accuracy, fine_tune, train

SIDES = ("tuning-64", "tuning-96", "tuning-128", "careful-96", "careful-128", "careful-160", "frozen")
FEATURES = (64, 96, 128, 160, 224)
PASS_SHARE = 0.6
"""Of the time, what the frozen features may take."""


def network(data: Any, side: int, seed: int) -> torch.nn.Module:
    """Returns EfficientNet-Lite0 with its published weights and a new head, which looks at images at so many pixels."""
    from archduel.core import Scale
    from archduel.pretrained.members import member
    from archduel.pretrained.prefixes import full
    from archduel.spaces.pretrained.backbones import backbone
    from archduel.spaces.pretrained.space import arch_of

    arch = arch_of(full(backbone("efficientnet_lite0"), side, 1.0))
    look, scale = data.preprocessing, Scale(1, 1, data.image_size, data.in_channels, data.n_classes)
    return member(arch, scale, look.mean, look.std, generator=torch.Generator().manual_seed(seed))


def tuning(data: Any, side: int, seed: int, seconds: float, *, careful: bool) -> dict[str, Any]:
    """Fine-tunes the whole network and returns its numbers."""
    torch.manual_seed(seed)
    model, sets = network(data, side, seed), normalised(data)
    epochs = fine_tune(model, *sets["train"], seconds, flip=data.flip) if careful else train(model, *sets["train"], seconds, flip=data.flip, lr=0.01)
    trained = spent()
    return {
        "params": sum(p.numel() for p in model.parameters()), "epochs": round(epochs, 1), "processor_seconds": round(trained, 1),
        **{part: accuracy(model, *sets[part]) for part in ("validation", "test")},
    }  # fmt: skip


def features(model: Any, images: torch.Tensor) -> np.ndarray:
    """Returns what the network's head would be given, (N, F)."""
    found: list[torch.Tensor] = []
    handle = model.head.classifier.register_forward_pre_hook(lambda module, given: found.append(given[0].flatten(1)))
    with torch.no_grad():
        for part in images.split(100):
            model.eval()(part)
    handle.remove()
    return torch.cat(found).numpy()


def frozen(data: Any, seconds: float) -> dict[str, Any]:
    """Fits a linear classifier to frozen features and returns its numbers; features of the test images are made after the choice."""
    from sklearn.linear_model import LogisticRegression

    sets, side, model = normalised(data), FEATURES[0], network(data, FEATURES[0], 0)
    began = time.process_time()
    features(model, sets["train"][0][:200])
    cost = (time.process_time() - began) / 200
    n = len(data.train.labels) + len(data.validation.labels)
    for larger in FEATURES[1:]:
        if spent() + cost * (larger / FEATURES[0]) ** 2 * n < PASS_SHARE * seconds:
            side = larger
    model = network(data, side, 0)
    known = {part: features(model, sets[part][0]) for part in ("train", "validation")}
    mean, deviation = known["train"].mean(0), known["train"].std(0) + 1e-6
    best: tuple[float, Any] = (-1.0, None)
    for strength in (0.001, 0.01, 0.1):
        fitted = LogisticRegression(C=strength, max_iter=300).fit((known["train"] - mean) / deviation, sets["train"][1].numpy())
        right = float(fitted.score((known["validation"] - mean) / deviation, sets["validation"][1].numpy()))
        best = max(best, (right, fitted), key=lambda pair: pair[0])
    trained = spent()
    test = best[1].score((features(model, sets["test"][0]) - mean) / deviation, sets["test"][1].numpy())
    params = sum(p.numel() for p in model.parameters())
    return {"params": params, "px": side, "processor_seconds": round(trained, 1), "validation": best[0], "test": float(test)}


def child(row: str, side: str, seed: int) -> None:
    """Runs one side in this process and prints its record."""
    from archduel.data import load

    torch.set_num_threads(1)
    name, seconds = ROWS[row]
    data = load(source(name), seconds=seconds)
    found = frozen(data, seconds) if side == "frozen" else tuning(data, int(side.partition("-")[2]), seed, seconds, careful=side.startswith("careful"))
    print(json.dumps({"image_size": data.image_size, **found}))


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="cifar5k-3m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/plain_tuning.jsonl"))
    parser.add_argument("--child", nargs=3, metavar=("ROW", "SIDE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
        return
    rows, sides = options.rows.split(","), options.sides.split(",")
    jobs = [{"row": row, "limit": "none", "seed": seed, "side": side} for row in rows for seed in range(options.seeds) for side in sides]
    for job in left(jobs, options.out):
        measure({**job, "seconds": ROWS[job["row"]][1]}, [__file__, "--child", job["row"], job["side"], str(job["seed"])], options.out)


if __name__ == "__main__":
    sys.exit(main())
