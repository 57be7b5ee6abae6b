"""Gradients of depthwise convolutions on a CPU: torch's own against ``archduel.training.depthwise``, alone and in a training step.

    python benchmarks/depthwise.py --out benchmarks/records/depthwise.json

One thread, channels last, batches of 32, processor seconds; medians of 9 runs in turn. A step is forward and backward of
EfficientNet-Lite0 with 10 classes, without an optimizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archduel.core.storage import environment
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.network import whole
from archduel.training.depthwise import quick_depthwise

LAYERS = ((96, 32, 3, 2), (144, 16, 5, 2), (240, 8, 5, 1), (672, 4, 5, 1), (1152, 2, 5, 1))
"""Channels, side of the map, kernel, stride: as EfficientNet-Lite0 has them on images of 64 px."""


def seconds(*calls: Callable[[], Any], runs: int = 9) -> list[float]:
    """Returns the median processor seconds of each call, all run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(runs):
        for call, taken in zip(calls, times):
            began = time.process_time()
            call()
            taken.append(time.process_time() - began)
    return [statistics.median(taken) for taken in times]


def pass_both_ways(model: nn.Module, x: torch.Tensor, kind: torch.dtype, quick: bool) -> Callable[[], None]:
    """Returns a function that runs a network forward and backward."""

    def run() -> None:
        with quick_depthwise(model) if quick else nullcontext():
            with torch.autocast("cpu", kind, enabled=kind != torch.float32):
                out = model(x)
            out.float().square().mean().backward()

    return run


def layer(channels: int, side: int, kernel: int, stride: int, kind: torch.dtype) -> dict[str, Any]:
    """Returns what one layer takes, forward and forward with backward."""
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(32, channels, side, side).to(memory_format=torch.channels_last).requires_grad_()
    plain, quick = seconds(pass_both_ways(conv, x, kind, False), pass_both_ways(conv, x, kind, True))
    return {"channels": channels, "side": side, "kernel": kernel, "stride": stride, "torch_ms": 1e3 * plain, "quick_ms": 1e3 * quick, "ratio": plain / quick}


def step(side: int, kind: torch.dtype) -> dict[str, Any]:
    """Returns images a second of a training step."""
    model = whole(backbone("efficientnet_lite0"), 10).to(memory_format=torch.channels_last).train()
    x = torch.randn(32, 3, side, side).to(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", kind, enabled=kind != torch.float32):
            model.eval()(x)
        model.train()

    plain, quick, alone = seconds(pass_both_ways(model, x, kind, False), pass_both_ways(model, x, kind, True), forward, runs=5)
    return {"side": side, "torch": 32 / plain, "quick": 32 / quick, "ratio": plain / quick, "forward": 32 / alone}


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/depthwise.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    record: dict[str, Any] = {"command": "python benchmarks/depthwise.py", "runs": 9, **environment()}
    for name, kind in kinds.items():
        record[name] = {"layers": [layer(*sizes, kind) for sizes in LAYERS], "images_per_second": [step(side, kind) for side in (64, 96)]}
        print(name, json.dumps(record[name]), flush=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
