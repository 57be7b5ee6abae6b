"""How long a space of 40 decisions takes to be explored, drawn from, mutated, asked and counted: processor time.

    python benchmarks/own_space_speed.py --repeats 5 --out benchmarks/records/own_space_speed.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import over_processes, write_record
from torch import nn

import archduel
from archduel import choose, environment, repeat, switch
from archduel.core import mutate, sample
from archduel.spaces.own.network import check_options, count_own, predicted_costs

N = 200


class Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel, expand = choose("kernel", [3, 5, 7]), choose("expand", [1, 2, 4])
        hidden = width * expand
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.act = switch("act", {"relu": nn.ReLU, "silu": nn.SiLU})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns maps of the same shape."""
        return self.act(x + self.layers(x))  # type: ignore[no-any-return]


class Forty(nn.Module):
    """Three stages of two to four blocks."""

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        width = choose("width", [16, 24, 32])
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
        for stage in range(3):
            layers += [repeat(f"stage{stage}", lambda i, width=width: Block(width), [3, 4, 2]), nn.Conv2d(width, 2 * width, 2, 2)]
            width *= 2
        self.body, self.head = nn.Sequential(*layers), nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, classes)."""
        return self.head(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


def milliseconds(work: Callable[[], object], n: int = 1) -> float:
    """Returns the processor milliseconds of ``work``, divided by ``n``."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / n


def measure(part: str, answers: Any) -> None:
    """Puts all numbers of one process on the queue."""
    torch.set_num_threads(1)
    made: list[Any] = []
    found = {"explore_ms": milliseconds(lambda: made.append(archduel.space_of(Forty, check=False)))}
    space, rng = made[0], np.random.default_rng(0)
    found["check_every_option_ms"] = milliseconds(lambda: check_options(space, space.scale))
    archs: list[Any] = []
    found["draw_ms"] = milliseconds(lambda: archs.extend(sample(space, rng) for _ in range(N)), N)
    found["mutate_ms"] = milliseconds(lambda: [mutate(space, arch, rng) for arch in archs], N)
    prefixes = [arch.choices[:20] for arch in archs]
    found["decision_on_a_known_prefix_ms"] = milliseconds(lambda: [space.decision(prefix) for prefix in prefixes], N)
    found["features_ms"] = milliseconds(lambda: space.features(archs), N)
    found["build_ms"] = milliseconds(lambda: [space.build(arch) for arch in archs[:40]], 40)
    found["count_ms"] = milliseconds(lambda: [count_own(space, arch, space.scale) for arch in archs[:40]], 40)
    found["fit_predicted_costs_ms"] = milliseconds(lambda: predicted_costs(space, archs, space.scale))
    counted = np.array([count_own(space, arch, space.scale) for arch in archs[:40]])
    errors = np.abs(predicted_costs(space, archs[:40], space.scale) / counted - 1).mean(0)
    answers.put({**found, "decisions": float(np.mean([len(arch.choices) for arch in archs])), "relative_error_of_predicted_macs": float(errors[1])})


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    multiprocessing.freeze_support()
    space = archduel.space_of(Forty, check=False)
    facts = {"architectures": space.size, "exact": space.exact, "decisions": len(space.structure.questions), "archs": N}
    numbers = over_processes(measure, "all", arguments.repeats)
    write_record(arguments.out, {"command": shlex.join(sys.argv), **environment(), **facts, "numbers": numbers})
    for name, value in numbers.items():
        print(f"{name:36} {value['median']:.4g}  ({value['min']:.4g} to {value['max']:.4g})")


if __name__ == "__main__":
    main()
