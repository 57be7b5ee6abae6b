"""Pictures a second read, decoded and cropped while training, against a bare Pillow loop on the same cores.

    python benchmarks/streaming.py --images 600 --workers 1 --out benchmarks/records/streaming.json

The folder is generated (``imagenet_like.py``: 500 x 375 JPEG pictures of about 115 kB) and read once before measuring. The bare
loop opens a file, decodes it, crops it at random and resizes it to 224 x 224 with Pillow, one picture after the other, and
keeps nothing. Both take turns; ``share`` is the stream's rate over the bare loop's times the number of workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from imagenet_like import write
from PIL import Image

from archduel.data.catalogue import Catalogue
from archduel.data.crops import crop_box
from archduel.data.dataset import Preprocessing
from archduel.data.listing import catalogues
from archduel.data.stream import Stream

SIZE = 224


def bare(catalogue: Catalogue, rows: np.ndarray) -> float:
    """Returns pictures a second of the bare loop."""
    rng, began = np.random.default_rng(0), time.perf_counter()
    for row in rows.tolist():
        with Image.open(catalogue.root / catalogue.name(row)) as image:
            picture = image.convert("RGB")
            box = crop_box(*picture.size, 0.08, rng)
            np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))
    return len(rows) / (time.perf_counter() - began)


def streamed(stream: Stream, rows: np.ndarray, batch: int, seed: int) -> float:
    """Returns pictures a second of the stream; its workers run already."""
    parts = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    began = time.perf_counter()
    seen = sum(int(pixels[:, 0, 0, 0].size) for pixels in stream.batches(parts, seed))
    return seen / (time.perf_counter() - began)


def spread(values: list[float]) -> dict[str, float | int]:
    """Returns median, extremes and number."""
    return {"median": round(float(np.median(values)), 2), "min": round(min(values), 2), "max": round(max(values), 2), "n": len(values)}


def measure(catalogue: Catalogue, workers: int, rounds: int, batch: int) -> dict[str, Any]:
    """Returns the rates of both, in turns."""
    look = Preprocessing(SIZE, "RGB", "inner", (0.5,) * 3, (0.25,) * 3)
    stream = Stream(catalogue, look, scale=0.08, workers=workers)
    rows = np.random.default_rng(0).permutation(len(catalogue))
    next(stream.batches([rows[:batch]]))  # starts the workers
    found: dict[str, list[float]] = {"stream": [], "bare": []}
    for number in range(rounds):
        found["bare"].append(bare(catalogue, rows))
        found["stream"].append(streamed(stream, rows, batch, number))
        print({name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    assert stream._crew is not None
    held = stream._crew.slots.nbytes
    stream.close()
    shares = [a / (workers * b) for a, b in zip(found["stream"], found["bare"])]
    return {
        "workers": workers, "images_a_second": {name: spread(values) for name, values in found.items()},
        "share": spread(shares), "shared_memory_bytes": held,
    }  # fmt: skip


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the pictures are or are to be written; default: a temporary one")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "imagenet"
        if not (folder / "train").is_dir():
            write(folder, arguments.images, 10)
        catalogue = catalogues(folder, Path(scratch) / "cache")["train"]
        before = os.getloadavg()[0]
        parts = [measure(catalogue, workers, arguments.rounds, arguments.batch) for workers in arguments.workers]
        total = sum((catalogue.root / catalogue.name(row)).stat().st_size for row in range(len(catalogue)))
    from archduel.apps.folder import environment

    record = {
        "command": shlex.join(["python", *sys.argv]), "pictures": len(catalogue), "bytes_a_picture": total // len(catalogue),
        "size": SIZE, "batch": arguments.batch, "measured": parts, "cores": len(os.sched_getaffinity(0)),
        "largest_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load_average": {"before": before, "after": os.getloadavg()[0]}, **environment(),
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(parts, indent=1))


if __name__ == "__main__":
    main()
