"""Peak memory and time of loading pictures, each load in a fresh process; from PNG files, an `.npz` and a CIFAR archive's files.

    python benchmarks/data_memory.py --repeats 3 --out benchmarks/records/data_memory.json

Every source is loaded for the first time (decoding into the cache) and again (from the cache), with 5,000 and 50,000 random
32 x 32 colour pictures, so that one sees what grows. Peaks are those of the whole process, as the operating system counts:
interpreter, libraries and the pages of memory-mapped files that were touched. The last step reads every picture once, in
batches of 256, as training does; pages of a memory map can be taken back by the system at any time, so `anonymous` tells
what cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, CLASSES = 32, 10


def pictures(n: int) -> np.ndarray:
    """Returns (n, 32, 32, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def write_png(root: Path, n: int) -> Path:
    """Writes class folders of PNG files."""
    for number, image in enumerate(pictures(n)):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
    return root


def write_npz(root: Path, n: int) -> Path:
    """Writes one `.npz`."""
    np.savez(root.with_suffix(".npz"), images=pictures(n), labels=np.arange(n) % CLASSES)
    return root.with_suffix(".npz")


def write_cifar(root: Path, n: int) -> Path:
    """Writes the files of CIFAR-10's binary form: n training pictures and 1,000 for the test."""
    root.mkdir()
    for number in range(1, 7):
        m = n // 5 if number < 6 else 1_000
        rows = pictures(m).transpose(0, 3, 1, 2).reshape(m, -1) + np.uint8(
            number
        )  # (m, 3072), six different files
        labels = (np.arange(m) % CLASSES).astype(np.uint8)
        name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
        (root / name).write_bytes(np.concatenate([labels[:, None], rows], axis=1).tobytes())
    (root / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(CLASSES)))
    return root


def status_mb(field: str) -> float:
    """Returns a line of the process's status in MB (Linux): VmHWM, the largest resident memory since it started, or RssAnon, its
    own memory now, without files. The peak of ``getrusage`` would count the process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"this system does not tell {field}")


def measure(source: str) -> dict[str, float]:
    """Loads ``source`` in this process (nothing for an empty one) and returns what it took."""
    import archduel.data

    began = time.perf_counter()
    found: dict[str, float] = {"peak_import_mb": status_mb("VmHWM")}
    if source:
        data = archduel.data.load(source)
        found |= {
            "seconds": time.perf_counter() - began,
            "peak_load_mb": status_mb("VmHWM"),
            "anonymous_mb": status_mb("RssAnon"),
        }
        total = 0
        for split in (data.train, data.validation, data.test):
            for start in range(0, len(split), 256):
                total += int(split.images[start : start + 256].astype(np.float32).sum() > 0)
        found |= {"peak_read_all_mb": status_mb("VmHWM"), "batches": total}
    return found


def fresh(source: str, cache: Path) -> dict[str, float]:
    """Returns what :func:`measure` finds in a process of its own."""
    environment = {**os.environ, "ARCHDUEL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, __file__, "--measure", source],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


def series(source: str, repeats: int, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """Returns the measurements of the first and the second load, ``repeats`` times."""
    found: dict[str, dict[str, list[float]]] = {"first": {}, "cached": {}}
    for repeat in range(repeats):
        for turn in ("first", "cached"):
            for key, value in fresh(source, scratch / f"cache{repeat}-{Path(source).name}").items():
                found[turn].setdefault(key, []).append(value)
    return found


def summary(values: list[float]) -> dict[str, float]:
    """Returns median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    """Measures, prints and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        empty = [fresh("", scratch)["peak_import_mb"] for _ in range(arguments.repeats)]
        for kind, write in (("png folder", write_png), ("npz", write_npz), ("cifar10 binary", write_cifar)):
            for n in arguments.sizes:
                source = write(scratch / f"{kind.split()[0]}{n}", n)
                for turn, values in series(str(source), arguments.repeats, scratch).items():
                    row = {"source": kind, "n": n, "pixels_mb": n * SIDE * SIDE * 3 / 1e6, "turn": turn}
                    rows.append(row | {key: summary(value) for key, value in values.items()})
                    print(json.dumps(rows[-1]), flush=True)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": Image.__version__,
        },
        "repeats": arguments.repeats,
        "peak_of_imports_mb": summary(empty),
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
