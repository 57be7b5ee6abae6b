"""What a person gets who types the command, beside what the same processor seconds give without it.

    python benchmarks/by_command.py --sets twenty,uneven --time 1m --out benchmarks/records/by_command_sides.jsonl
    python benchmarks/by_command.py --sets clipart=FOLDER --time 3m --out benchmarks/records/by_command_sides.jsonl

Each set is written as a person has it, a folder with ``train`` and ``test`` and one subfolder a class. ``archduel search FOLDER --time T --seed S`` runs in a
process of its own, with as many threads as it likes and an empty cache; then ``archduel eval`` judges what was handed over on **all** test images. The others
(``plain_tuning.py``: a classifier on frozen features, and careful fine-tuning at 96, 128 and 160 px, the best of the three by validation) read the same folder and get
the processor seconds that the command took **each**, one thread. ``--time`` is of the clock: on a machine with other work the command computes less, and so do they.

Sets: those of ``against_plain.py``; ``uneven``, 20 other classes of CIFAR-100 of which each has four fifths of the images of the one before (100 to 2);
``grey``, ten others in grey; or NAME=FOLDER, a folder of images by class, of which every second image (every fifth of more than 2,000) becomes one for
test and classes with fewer than ten images are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from against_plain import decoded, environment, part_of, source
from PIL import Image
from plain_tuning import frozen, tuning

OTHERS = ("frozen", "careful-96", "careful-128", "careful-160")
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}


def uneven() -> Any:
    """Returns training and test images of twenty classes, most of them rare."""
    (images, labels), test = parts(every=5, first=3, n=100)
    rows = np.concatenate([np.flatnonzero(labels == label)[: max(2, round(100 * 0.8**label))] for label in np.unique(labels)])
    return [(images[rows], labels[rows]), test]


def parts(every: int, first: int, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns training and test images of some classes of CIFAR-100."""
    root = Path(os.environ["ARCHDUEL_DATA"]) / "cifar100_subset"
    return part_of([decoded(root / f"{split}.npz") for split in ("train", "test")], every=every, first=first, n=n)


def written(images: Any, folder: Path) -> None:
    """Writes training and test images as PNG files."""
    for split, (pictures, labels) in zip(("train", "test"), images):
        for i, (picture, label) in enumerate(zip(pictures, labels)):
            place = folder / split / f"class_{label:03d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / f"{i:05d}.png", compress_level=1)


def divided(origin: Path, folder: Path) -> None:
    """Copies a folder of images by class, some of them for test."""
    found = {place.name: sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGES) for place in sorted(origin.iterdir()) if place.is_dir()}
    found = {name: paths for name, paths in found.items() if len(paths) >= 10}
    every = 5 if sum(map(len, found.values())) > 2000 else 2
    for name, paths in found.items():
        for i, path in enumerate(paths):
            place = folder / ("test" if i % every == every - 1 else "train") / name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / f"{i:05d}{path.suffix.lower()}")


def prepared(name: str, folder: Path) -> Path:
    """Returns the folder of a set, written at its first use."""
    label, _, origin = name.partition("=")
    place = folder / label
    if place.exists():
        return place
    if origin:
        divided(Path(origin), place)
    elif name == "uneven":
        written(uneven(), place)
    elif name == "grey":
        written([(np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in images]), labels) for images, labels in parts(every=10, first=4, n=50)], place)
    else:
        known = source(name)
        sides = [np.flatnonzero(known.given == which) for which in (0, 2)]
        written([(np.stack([np.asarray(known.read(i)) for i in rows]), known.labels[rows]) for rows in sides], place)
    return place


def children() -> float:
    """Returns the processor seconds of all finished children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commanded(folder: Path, wanted: str, seed: int, more: list[str]) -> dict[str, Any]:
    """Runs the command and returns its numbers."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        surroundings = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"ARCHDUEL_CACHE": str(Path(place) / "cache")}
        call = [sys.executable, "-m", "archduel"]
        began, used = time.monotonic(), children()
        asked = [*call, "search", str(folder), "--time", wanted, "--seed", str(seed), "--out", str(run), *more]
        subprocess.run(asked, check=True, env=surroundings, stdout=sys.stderr)
        clock, processor = time.monotonic() - began, children() - used
        result = json.loads((run / "result.json").read_text())
        judged = subprocess.run([*call, "eval", str(run), "--json"], check=True, env=surroundings, stdout=subprocess.PIPE, text=True)
    said = json.loads(judged.stdout)
    return {"clock_seconds": round(clock, 1), "processor_seconds": round(processor, 1), "result": result, "eval": said}


def other(folder: Path, side: str, seconds: float, seed: int) -> None:
    """Runs one of the others in this process and prints its numbers."""
    import torch

    from archduel.data import load

    torch.set_num_threads(1)
    data = load(str(folder), seconds=seconds)
    found = frozen(data, seconds) if side == "frozen" else tuning(data, int(side.partition("-")[2]), seed, seconds, careful=True)
    print(json.dumps({**found, "judged": len(data.test.labels)}))


def apart(folder: Path, side: str, seconds: float, seed: int) -> dict[str, Any]:
    """Runs one of the others in a process of its own."""
    words = [sys.executable, __file__, "--child", str(folder), side, str(seconds), str(seed)]
    made = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return dict(json.loads(made.stdout.splitlines()[-1]))


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="twenty")
    parser.add_argument("--time", default="1m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sides", default=",".join(OTHERS))
    parser.add_argument("--more", default="", help="further options of the command, with spaces between")
    parser.add_argument("--folders", type=Path, default=Path("by_command_sets"), help="where the sets are written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/by_command_sides.jsonl"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        folder, side, seconds, seed = given.child
        other(Path(folder), side, float(seconds), int(seed))
        return
    for name in given.sets.split(","):
        folder = prepared(name, given.folders)
        for seed in range(given.seeds):
            row(folder, name, seed, given)


def row(folder: Path, name: str, seed: int, given: argparse.Namespace) -> None:
    """Measures all sides of a set with one seed and appends a line for each."""
    wanted = ["--sets", name.partition("=")[0] + "=FOLDER" * ("=" in name), "--time", given.time, "--sides", given.sides, *(["--more", given.more] if given.more else [])]
    called = shlex.join(["python", "benchmarks/by_command.py", *wanted])

    def keep(side: str, numbers: dict[str, Any]) -> None:
        said = {"set": name.partition("=")[0], "time": given.time, "more": given.more, "seed": seed, "side": side}
        record = {**said, **numbers, "load_average": os.getloadavg()[0], "command": called, **environment()}
        with given.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print({k: v for k, v in record.items() if k not in ("versions", "hardware")}, flush=True)

    given.out.parent.mkdir(parents=True, exist_ok=True)
    mine = commanded(folder, given.time, seed, given.more.split())
    keep("command", numbers_of(mine))
    for side in filter(None, given.sides.split(",")):
        keep(side, apart(folder, side, mine["processor_seconds"], seed))


def numbers_of(mine: dict[str, Any]) -> dict[str, Any]:
    """Returns what is kept of a run: what it said itself, and what was judged afterwards."""
    result, said = mine["result"], mine["eval"]
    race, own = result["race"], result["networks"]["search"]
    best = race["candidates"][race["winner"]]
    return {
        "params": own["params"], "network": best["name"], "role": best["role"], "epochs": best["passes"], "validation": best["curve"][-1]["accuracy"],
        "clock_seconds": mine["clock_seconds"], "processor_seconds": mine["processor_seconds"], "handed_over": race["time_share"],
        "read": result["data"]["splits"]["test"], "said": own["test"]["accuracy"][0], "test": said["top1"], "balanced": said["balanced_accuracy"],
        "judged": said["data"]["pictures"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
