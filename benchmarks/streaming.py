"""Images a second read, decoded and cropped while training, against torch's DataLoader and a bare Pillow loop on the same cores.

    python benchmarks/streaming.py --images 600 --workers 1 2 --out benchmarks/records/streaming.json

The folder is generated (``imagenet_like.py``: 500 x 375 JPEG pictures of about 95 kB) and read once before measuring. The bare
loop opens a file, decodes it, crops it at random and resizes it to 224 x 224 with Pillow, one picture after the other, and
keeps nothing. All take turns, with everything on the cores of this process (``taskset``, as many as workers or more):

- ``bare``: one loop alone; ``share`` is the stream's rate over this rate times the number of workers;
- ``bare_together``: as many loops at once as there are workers, each with its part of the pictures; ``share_together`` is the
  stream's rate over theirs, which leaves out what cores of one machine, and other programs on them, take away;
- ``data_loader``: ``torch.utils.data.DataLoader`` with as many persistent workers, over the same catalogue, the same crops and the
  same batches as uint8; ``over_data_loader`` is the stream's rate over its rate, ``over_data_loader_cpu`` that a processor second;
- ``images_a_cpu_second``: of the loop alone, and of stream and loader with their workers and this process together, so ``share_cpu``
  is what the machinery costs, whatever else the machine does.

``memory`` reads the same number of pictures out of lists of different length (links to the same files): peaks of this process
and of its largest worker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from imagenet_like import write
from PIL import Image
from recording import write_record
from torch.utils.data import DataLoader, Dataset

from archduel.data import Preprocessing
from archduel.data.listing import Catalogue, catalogues
from archduel.data.streaming import Stream, crop_box, read_image

SIZE = 224


def bare(catalogue: Catalogue, rows: np.ndarray, seed: int) -> float:
    """Returns pictures a second of the bare loop, with the crops that the stream draws."""
    began = time.perf_counter()
    for row in rows.tolist():
        with Image.open(catalogue.root / catalogue.name(row)) as image:
            picture = image.convert("RGB")
            box = crop_box(*picture.size, 0.08, np.random.default_rng((seed, row)))
            np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))
    return len(rows) / (time.perf_counter() - began)


def together(catalogue: Catalogue, rows: np.ndarray, seed: int, loops: int) -> float:
    """Returns pictures a second of several bare loops at once, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    start, running = context.Barrier(loops + 1), []
    for part in np.array_split(rows, loops):
        running.append(context.Process(target=_at_the_start, args=(start, catalogue, part, seed)))
        running[-1].start()
    start.wait()
    began = time.perf_counter()
    for process in running:
        process.join()
    return len(rows) / (time.perf_counter() - began)


def _at_the_start(start: Any, catalogue: Catalogue, rows: np.ndarray, seed: int) -> None:
    start.wait()
    bare(catalogue, rows, seed)


def streamed(stream: Stream, rows: np.ndarray, batch: int, seed: int) -> float:
    """Returns pictures a second of the stream; its workers run already."""
    parts = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    began = time.perf_counter()
    seen = sum(int(pixels[:, 0, 0, 0].size) for pixels in stream.batches(parts, seed))
    return seen / (time.perf_counter() - began)


class CatalogueImages(Dataset[torch.Tensor]):
    """The images of a catalogue by (row, seed), cropped as the stream crops them: what a DataLoader needs."""

    def __init__(self, catalogue: Catalogue, look: Preprocessing) -> None:
        self.catalogue, self.look = catalogue, look

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        row, seed = key
        return torch.from_numpy(np.ascontiguousarray(read_image(self.catalogue, row, self.look, 0.08, seed)))


class Batches:
    """The same batches as the stream's, as keys of :class:`CatalogueImages`; another seed each round."""

    def __init__(self, rows: np.ndarray, batch: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch)

    def __iter__(self) -> Any:
        for first in range(0, len(self.rows), self.batch):
            yield [(row, self.seed) for row in self.rows[first : first + self.batch].tolist()]


def loaded(loader: DataLoader[torch.Tensor], batches: Batches, seed: int) -> float:
    """Returns images a second of a DataLoader whose workers run already."""
    batches.seed = seed
    began = time.perf_counter()
    seen = sum(len(pixels) for pixels in loader)
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
    batches = Batches(rows, batch)
    loader = DataLoader(CatalogueImages(catalogue, look), batch_sampler=batches, num_workers=workers, persistent_workers=True)  # type: ignore[arg-type]
    loaded(loader, batches, 0)  # starts the workers
    readers = [str(process.pid) for process in loader._iterator._workers]  # type: ignore[union-attr]
    found: dict[str, list[float]] = {"stream": [], "data_loader": [], "bare": [], "bare_together": []}
    of_cpu: dict[str, list[float]] = {"stream": [], "data_loader": [], "bare": []}
    assert stream._crew is not None
    crew = [str(process.pid) for process in stream._crew.running]
    for number in range(rounds):
        began = time.process_time()
        found["bare"].append(bare(catalogue, rows, number))
        of_cpu["bare"].append(len(rows) / (time.process_time() - began))
        found["bare_together"].append(together(catalogue, rows, number, workers))
        began = time.process_time() + sum(map(cpu_seconds, crew))
        found["stream"].append(streamed(stream, rows, batch, number))
        of_cpu["stream"].append(len(rows) / (time.process_time() + sum(map(cpu_seconds, crew)) - began))
        began = time.process_time() + sum(map(cpu_seconds, readers))
        found["data_loader"].append(loaded(loader, batches, number))
        of_cpu["data_loader"].append(len(rows) / (time.process_time() + sum(map(cpu_seconds, readers)) - began))
        print({name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    held = stream._crew.slots.nbytes
    stream.close()
    shares = [a / (workers * b) for a, b in zip(found["stream"], found["bare"])]
    at_once = [a / b for a, b in zip(found["stream"], found["bare_together"])]
    return {
        "workers": workers, "images_a_second": {name: spread(values) for name, values in found.items()},
        "images_a_cpu_second": {name: spread(values) for name, values in of_cpu.items()},
        "share_cpu": spread([a / b for a, b in zip(of_cpu["stream"], of_cpu["bare"])]), "share": spread(shares), "share_together": spread(at_once), "shared_memory_bytes": held,
        "over_data_loader": spread([a / b for a, b in zip(found["stream"], found["data_loader"])]),
        "over_data_loader_cpu": spread([a / b for a, b in zip(of_cpu["stream"], of_cpu["data_loader"])]),
    }  # fmt: skip


def enlarged(folder: Path, to: Path, times: int) -> Path:
    """Returns a folder with every training picture ``times`` times over, as links to the same files."""
    for file in sorted((folder / "train").rglob("*.JPEG")):
        place = to / "train" / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(times):
            os.link(file, place / f"{copy:04d}_{file.name}")
    (to / "val").symlink_to((folder / "val").resolve())
    (to / "val.txt").symlink_to((folder / "val.txt").resolve())
    return to


def peaks(folder: Path, cache: Path, n: int, batch: int) -> dict[str, int]:
    """Returns the peak memory of a fresh process that reads ``n`` pictures of a folder with two workers, and of its workers."""
    pictures = len(catalogues(folder, cache)["train"])  # listed before, once
    listed = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    words = [sys.executable, __file__, "--read", str(folder), str(cache), "--images", str(n), "--batch", str(batch)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return {"pictures": pictures, "pictures_read": n, "bytes_of_the_lists": listed, **json.loads(done.stdout)}


def read_some(folder: Path, cache: Path, n: int, batch: int) -> dict[str, int]:
    """Reads ``n`` pictures from all over a list and returns the peaks of this process and of the largest worker."""
    listed = catalogues(folder, cache)["train"]
    rows = np.random.default_rng(0).permutation(len(listed))[:n]
    stream = Stream(listed, Preprocessing(SIZE, "RGB", "inner", (0.5,) * 3, (0.25,) * 3), scale=0.08, workers=2)
    streamed(stream, rows, batch, 0)
    assert stream._crew is not None
    workers = [high_water(str(process.pid)) for process in stream._crew.running]
    stream.close()
    return {"largest_memory_bytes": high_water("self"), "largest_of_a_worker_bytes": max(workers)}


def cpu_seconds(process: str) -> float:
    """Returns the processor time that another process has used so far, to a hundredth of a second (Linux)."""
    words = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def high_water(process: str) -> int:
    """Returns the most memory that a process ever had, in bytes; that of the program it began as is left out (Linux)."""
    status = Path("/proc", process, "status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the pictures are or are to be written; default: a temporary one")
    parser.add_argument("--times", type=int, nargs="*", default=[1, 10, 100], help="length of the lists for the memory, in --images")
    parser.add_argument("--read", type=Path, nargs=2, metavar=("FOLDER", "CACHE"), help="only read --images pictures and print the peaks")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_some(*arguments.read, arguments.images, arguments.batch)))
        return
    if arguments.out is None:
        parser.error("--out is missing")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "imagenet"
        if not (folder / "train").is_dir():
            write(folder, arguments.images, 10)
        catalogue = catalogues(folder, Path(scratch) / "cache")["train"]
        before = os.getloadavg()[0]
        parts = [measure(catalogue, workers, arguments.rounds, arguments.batch) for workers in arguments.workers]
        memory = [
            peaks(enlarged(folder, Path(scratch) / f"times{n}", n), Path(scratch) / f"cache{n}", len(catalogue), arguments.batch)
            for n in arguments.times
        ]
        total = sum((catalogue.root / catalogue.name(row)).stat().st_size for row in range(len(catalogue)))
    from archduel import environment

    record = {
        "command": shlex.join(["python", *sys.argv]), "pictures": len(catalogue), "bytes_a_picture": total // len(catalogue),
        "size": SIZE, "batch": arguments.batch, "measured": parts, "memory": memory, "cores": len(os.sched_getaffinity(0)),
        "load_average": {"before": before, "after": os.getloadavg()[0]}, **environment(),
    }  # fmt: skip
    write_record(arguments.out, record)
    print(json.dumps(parts, indent=1))


if __name__ == "__main__":
    main()
