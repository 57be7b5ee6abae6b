"""Time and memory of the inner loops of CNAS and RelativeNAS, against loops as in the released codes of these papers.

    python benchmarks/oneshot_step.py --out benchmarks/records/oneshot_step.json

A reference path does what the released codes do (their own files are not used): all operations of all edges instantiated, in
RelativeNAS twice for each pair and loaded from a weight set; an optimizer of the library over all weights, gradients zeroed
rather than dropped, in RelativeNAS made anew for each training; pictures cropped, flipped, cut out and normalised one by one in
Python. The other paths are `SharedWeights`, as it is and with a lean supernet (cells are computed a second time on the way back
rather than kept). All run the same architectures on the same pictures with the same batch size, in
fresh processes of one thread; loading in the reference path is in the same process, so that one core does all the work.

`cnas`: a step on the weights plus the reward of one architecture on a validation batch. `relativenas`: a pair, each trained and
scored, and what they leave behind; a pair of the published length (98 training and 98 validation batches each) is put together
from the measured parts. Memory is the growth of the process's peak over what it was when data and libraries were there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SIZES: dict[str, dict[str, int]] = {
    "paper": {"channels": 16, "depth": 8, "image_size": 32, "cnas_batch": 96, "relativenas_batch": 256},
    "small": {"channels": 8, "depth": 5, "image_size": 16, "cnas_batch": 96, "relativenas_batch": 256},
}
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
PUBLISHED_BATCHES = 98
CALIBRATION = 8


def status_mib(entry: str) -> float:
    """Returns an entry of the process's status: VmRSS is its memory now, VmHWM the most it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def pictures(n: int, size: int) -> tuple[Any, Any]:
    """Returns made-up pictures (n, size, size, 3) uint8 and labels: their values make no difference to time."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8), np.arange(n) % 10


def archs(preset: str, n: int) -> list[Any]:
    """Returns the architectures that both paths run."""
    from archduel.core import sample
    from archduel.spaces import DARTS

    rng = np.random.default_rng(5)
    return [sample(DARTS(preset), rng) for _ in range(n)]


# ---------------------------------------------------------------- as released


class OneByOne:
    """Pictures that are changed one at a time in Python, as torchvision's transforms do on PIL pictures."""

    def __init__(self, images: Any, labels: Any, size: int, *, cutout: int) -> None:
        self.images, self.labels, self.size, self.cutout = images, labels, size, cutout
        self.pad, self.rng = size // 8, np.random.default_rng(1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch
        from PIL import Image, ImageOps

        picture = ImageOps.expand(Image.fromarray(self.images[index]), border=self.pad, fill=0)
        left, top = (int(v) for v in self.rng.integers(0, 2 * self.pad + 1, 2))
        picture = picture.crop((left, top, left + self.size, top + self.size))
        if self.rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
        tensor = (tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        if self.cutout:
            mask = np.ones((self.size, self.size), np.float32)
            y, x = (int(v) for v in self.rng.integers(self.size, size=2))
            half = self.cutout // 2
            mask[max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
            tensor = tensor * torch.from_numpy(mask).expand_as(tensor)
        return tensor, int(self.labels[index])


def endless(loader: Any) -> Iterator[Any]:
    """Yields the batches of a loader again and again."""
    while True:
        yield from loader


def released_network(size: dict[str, int], **options: bool) -> Any:
    """Returns a network with all operations of all edges, weights in PyTorch's own layout, layers and initialisation."""
    import torch

    from archduel.core import Scale
    from archduel.spaces.darts.supernet import DARTSSupernet, DepthwiseConv2d

    torch.manual_seed(0)
    network = DARTSSupernet(Scale(size["channels"], size["depth"], size["image_size"], 3, 10), **options)
    for module in network.modules():
        if isinstance(module, DepthwiseConv2d):  # the library's own gradients
            module.__class__ = torch.nn.Conv2d
    return network


def released_forward(network: Any, x: Any, arch: Any) -> Any:
    """Returns the logits of an architecture: every edge's operation is called on its own, an edge that is there twice twice."""
    import torch

    from archduel.spaces.darts.supernet import plan

    before = previous = network.stem[0](x)
    nodes = plan(arch.choices)
    for cell in network.cells:
        states = [cell.before(before), cell.previous(previous)]
        for uses in nodes[cell.reduction]:
            edges = [(edge, op, source) for edge, op, source, times in uses for _ in range(times)]
            outs = [cell.drop(cell.edges[edge][op](states[source])) for edge, op, source in edges]
            zeros = torch.zeros_like(states[1][:, :, :: 1 + cell.reduction, :: 1 + cell.reduction])
            states.append(sum(outs[1:], outs[0]) if outs else zeros)
        before, previous = previous, torch.cat(states[2:], dim=1)
    return network.tail(previous)


def cnas_released(size: dict[str, int], steps: int, ready: Callable[[], None]) -> dict[str, list[float]]:
    """Returns the seconds of each step on the weights and of each reward."""
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader

    batch = size["cnas_batch"]
    data = OneByOne(*pictures(4 * batch, size["image_size"]), size["image_size"], cutout=0)
    train, valid = (endless(DataLoader(data, batch, shuffle=True)) for _ in range(2))
    ready()
    network = released_network(size).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=3e-4, nesterov=True)
    found: dict[str, list[float]] = {"step": [], "reward": []}
    for arch in archs("cnas", steps):
        began = time.perf_counter()
        x, labels = next(train)
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(released_forward(network, x, arch), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        middle = time.perf_counter()
        x, labels = next(valid)
        with torch.no_grad():
            (released_forward(network, x, arch).argmax(1) == labels).float().mean().item()
        found["step"].append(middle - began)
        found["reward"].append(time.perf_counter() - middle)
    return found


def relativenas_released(size: dict[str, int], steps: int, ready: Callable[[], None]) -> dict[str, list[float]]:
    """Returns the seconds of making a learner, of each training step, validation batch and merge."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader

    batch = size["relativenas_batch"]
    data = OneByOne(*pictures(2 * batch, size["image_size"]), size["image_size"], cutout=size["image_size"] // 2)
    train, valid = (endless(DataLoader(data, batch, shuffle=True)) for _ in range(2))
    ready()
    weight_set = {k: v.clone() for k, v in released_network(size, affine=True, pool_norm=False).state_dict().items()}
    found: dict[str, list[float]] = {"fixed": [], "step": [], "validation": []}
    pair = archs("relativenas", 2)
    learners = []
    for arch in pair:
        began = time.perf_counter()
        network = released_network(size, affine=True, pool_norm=False).train()
        network.load_state_dict(weight_set)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=3e-4)
        fixed = time.perf_counter() - began
        for _ in range(steps):
            began = time.perf_counter()
            x, labels = next(train)
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(released_forward(network, x, arch), labels).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5)
            optimizer.step()
            found["step"].append(time.perf_counter() - began)
        network.eval()
        for _ in range(max(1, steps // 2)):
            began = time.perf_counter()
            x, labels = next(valid)
            with torch.no_grad():
                F.cross_entropy(released_forward(network, x, arch), labels).item()
            found["validation"].append(time.perf_counter() - began)
        found["fixed"].append(fixed)
        learners.append(network)
    began = time.perf_counter()
    only_slow = learners[1].modules_of(pair[1]) - learners[0].modules_of(pair[0])
    slow = learners[1].state_dict()
    weight_set = {
        k: (slow[k] if ".".join(k.split(".")[:5]) in only_slow else v).clone() for k, v in learners[0].state_dict().items()
    }
    merged = time.perf_counter() - began
    found["fixed"] = [seconds + merged / 2 for seconds in found["fixed"]]
    return found


# ---------------------------------------------------------------- shared weights


def shared(size: dict[str, int], batch: int, n: int, ready: Callable[[], None], *, cutout: int, **options: bool) -> Any:
    """Returns shared weights over ``n`` made-up pictures."""
    import torch

    from archduel import supernet
    from archduel.core import Scale
    from archduel.estimators import SharedWeights
    from archduel.training import Pixels, Recipe, keep_freed_memory

    keep_freed_memory()  # as every search with shared weights does
    side = size["image_size"]
    images, labels = pictures(n, side)
    pixels = Pixels(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels, MEAN, STD)
    ready()
    scale = Scale(size["channels"], size["depth"], side, 3, 10)
    network = supernet("darts", scale, generator=torch.Generator().manual_seed(0), **options)
    recipe = Recipe(
        epochs=10, batch_size=batch, lr=0.01, momentum=0.9, weight_decay=3e-4, schedule="constant", cutout=cutout,
        grad_clip=5.0 if cutout else 0.0, crop_pad=side // 8, channels=size["channels"], depth=size["depth"], image_size=side,
    )  # fmt: skip
    return SharedWeights(network, pixels, pixels, recipe, n_classes=10, seed=0, recalibration=0)


def cnas_shared(size: dict[str, int], steps: int, ready: Callable[[], None], lean: bool = False) -> dict[str, list[float]]:
    """Returns the seconds of each step on the weights and of each reward."""
    from archduel.core import Query

    weights = shared(size, size["cnas_batch"], 4 * size["cnas_batch"], ready, cutout=0, lean=lean)
    found: dict[str, list[float]] = {"step": [], "reward": []}
    for arch in archs("cnas", steps):
        began = time.perf_counter()
        weights.learn([arch], 1)
        middle = time.perf_counter()
        weights.estimate([Query(arch, "batch")])
        found["step"].append(middle - began)
        found["reward"].append(time.perf_counter() - middle)
    return found


def relativenas_shared(size: dict[str, int], steps: int, ready: Callable[[], None], lean: bool = False) -> dict[str, list[float]]:
    """Returns the seconds of the same parts; ``fixed`` is what is left of a whole `compete` and `inherit`.

    The statistics of ``CALIBRATION`` batches that shared weights measure before a score are part of ``fixed``.
    """
    batch, side = size["relativenas_batch"], size["image_size"]
    weights = shared(size, batch, 2 * batch, ready, cutout=side // 2, affine=True, pool_norm=False, lean=lean)
    first, second = archs("relativenas", 2)
    judge, found = weights._judged, {"fixed": [], "step": [], "validation": []}  # type: ignore[var-annotated]
    original, scores = judge.estimate, list[float]()

    def watched(arch: Any, given: Any = None) -> Any:
        began = time.perf_counter()
        answer = original(arch, given)
        scores.append(time.perf_counter() - began)
        return answer

    judge.estimate = watched
    for n in (1, 1 + steps):  # the difference of two lengths is that of their steps
        scores.clear()
        began = time.perf_counter()
        weights.compete(first, second, n)
        weights.inherit(first, second)
        found.setdefault(f"pair{n}", []).append(time.perf_counter() - began - sum(scores))
    step = (found.pop(f"pair{1 + steps}")[0] - found["pair1"][0]) / (2 * steps)
    found["step"] = [step]
    per_batch = [seconds / 2 for seconds in scores]  # two batches of validation pictures
    found["validation"] = per_batch
    found["fixed"] = [max(0.0, (found.pop("pair1")[0] - 2 * step) / 2) + CALIBRATION * float(np.median(per_batch))]
    return found


PATHS = {
    ("cnas", "released"): cnas_released,
    ("cnas", "shared"): cnas_shared,
    ("cnas", "lean"): partial(cnas_shared, lean=True),
    ("relativenas", "released"): relativenas_released,
    ("relativenas", "shared"): relativenas_shared,
    ("relativenas", "lean"): partial(relativenas_shared, lean=True),
}


# ---------------------------------------------------------------- measuring


def libraries() -> None:
    """Loads, by a tiny training of each kind, whatever the libraries load when they are first used."""
    tiny = {"channels": 2, "depth": 3, "image_size": 8, "cnas_batch": 4, "relativenas_batch": 4}
    for loop in ("cnas", "relativenas"):
        for path in ("released", "lean"):
            PATHS[loop, path](tiny, 1, lambda: None)


def measure(loop: str, path: str, size: str, steps: int) -> dict[str, Any]:
    """Returns seconds by part and the growth of memory, measured in this process."""
    import torch

    torch.set_num_threads(1)
    libraries()
    before: list[float] = []

    def ready() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before.append(status_mib("VmRSS"))

    seconds = PATHS[loop, path](SIZES[size], steps, ready)
    return {"seconds": seconds, "increase_mib": status_mib("VmHWM") - before[0]}


def in_a_process(loop: str, path: str, size: str, steps: int) -> dict[str, Any]:
    """Returns :func:`measure` of a fresh process."""
    command = [sys.executable, __file__, "--one", loop, path, size, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def total(loop: str, seconds: dict[str, list[float]]) -> float:
    """Returns the seconds of a CNAS step with its reward, or of one learner of a RelativeNAS pair of published length.

    Of CNAS's steps the first third is left out: memory is still being taken from the system.
    """
    kept = {part: values[len(values) // 3 :] if loop == "cnas" else values for part, values in seconds.items()}
    medians = {part: float(np.median(values)) for part, values in kept.items()}
    if loop == "cnas":
        return medians["step"] + medians["reward"]
    return medians["fixed"] + PUBLISHED_BATCHES * (medians["step"] + medians["validation"])


def compared(loop: str, size: str, steps: int, repeats: int) -> dict[str, Any]:
    """Returns all paths side by side; they take turns."""
    runs: dict[str, list[dict[str, Any]]] = {"released": [], "shared": [], "lean": []}
    for _ in range(repeats):
        for path in runs:
            runs[path].append(in_a_process(loop, path, size, steps))
            print(loop, size, path, f"{total(loop, runs[path][-1]['seconds']):.2f} s", flush=True)
    about = {"command": shlex.join(["python", *sys.argv]), "loop": loop, "size": {"name": size, **SIZES[size]}}
    record: dict[str, Any] = {**about, "n": repeats, "steps_each": steps, "runs": runs}
    for path, found in runs.items():
        seconds = [total(loop, run["seconds"]) for run in found]
        ratios = [total(loop, run["seconds"]) / own for run, own in zip(runs["released"], seconds)]
        memory = [run["increase_mib"] for run in found]
        record[path] = {
            "median_seconds": float(np.median(seconds)),
            "spread_seconds": [min(seconds), max(seconds)],
            "speedup": float(np.median(ratios)),
            "speedup_all": ratios,
            "increase_mib": float(np.median(memory)),
            "memory_share": float(np.median(memory) / np.median([run["increase_mib"] for run in runs["released"]])),
        }
    return record


def write(out: Path, comparisons: list[dict[str, Any]]) -> None:
    """Writes the record; what was measured before, of other sizes or loops, is kept."""
    from archduel import environment

    before = json.loads(out.read_text())["comparisons"] if out.exists() else []
    measured = {(c["loop"], c["size"]["name"]) for c in comparisons}
    kept = [c for c in before if (c["loop"], c["size"]["name"]) not in measured]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**environment(), "threads": 1, "comparisons": kept + comparisons}, indent=1) + "\n")


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("LOOP", "PATH", "SIZE"))
    parser.add_argument("--sizes", default="paper,small")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--loops", default="cnas,relativenas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.steps)))
        return
    comparisons = []
    for size in arguments.sizes.split(","):
        for loop in arguments.loops.split(","):
            comparisons.append(compared(loop, size, arguments.steps, arguments.repeats))
            if arguments.out:
                write(arguments.out, comparisons)
    for c in comparisons:
        for path in ("shared", "lean"):
            found = c[path]
            print(c["loop"], c["size"]["name"], path, f"{found['speedup']:.2f} times faster, memory share {found['memory_share']:.2f}")


if __name__ == "__main__":
    main()
