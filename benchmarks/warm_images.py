"""What an earlier run is worth on other images of the same kind: the time in which a search that knows it comes as far as one that does not.

    python benchmarks/warm_images.py --pairs 5 --seconds 120 --warm 60,90 --out benchmarks/records/warm_images.json

Of 10,000 images of CIFAR-10's training set 5,000, drawn anew for each pair, are what the earlier run had, and the others what the new one has. It is
searched on these without (`cold`) and with ``--from`` the earlier run, in less time (`warm`). All start from scratch. Each search is a process of its own with one
thread, and its time is processor time, so that other load does not matter. Judged on 5,000 test images, read by each run once, after its choice.

``--records FILE`` keeps what is finished, so that the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading  # noqa: F401  waits of it keep the wall clock: it has taken it by the time it is replaced
import time
from multiprocessing import connection, pool  # noqa: F401
from pathlib import Path
from typing import Any

import numpy as np
from against_plain import decoded, done, environment
from recording import command, write_record

TRAIN, TEST = 5_000, 5_000


def halves(pair: int, half: int) -> tuple[Any, Any, Any]:
    """Returns (N, 32, 32, 3) images, (N,) labels and (N,) splits: one half of the training images, and the test images."""
    root = Path(os.environ["ARCHDUEL_DATA"]) / "cifar10"
    (images, labels), (others, answers) = decoded(root / "train_a.npz", range(2 * TRAIN)), decoded(root / "test.npz", range(TEST))
    rows = np.random.default_rng([pair, 29]).permutation(2 * TRAIN)[half * TRAIN : (half + 1) * TRAIN]
    split = np.repeat(np.array([0, 2], np.int8), [TRAIN, TEST])
    return np.concatenate([images[rows], others]), np.concatenate([labels[rows], answers]), split


def child(pair: int, half: int, seconds: float, out: str, prior: str) -> None:
    """Searches in this process, whose budget is in processor seconds, and prints what was found."""
    time.monotonic = time.process_time
    import torch

    import archduel
    from archduel.data.arrays import from_arrays

    torch.set_num_threads(1)
    images, labels, split = halves(pair, half)
    run = archduel.search(
        from_arrays(images, labels, name="half", given=split), time=seconds, start="scratch", out=out, seed=pair, workers=1, threads=1, quiet=True,
        **({"prior": prior} if prior else {}),
    )  # fmt: skip
    network, race = run.result["networks"]["search"], run.result["race"]
    print(json.dumps({
        "test": network["test"]["accuracy"][0], "network": network["text"], "params": network["params"], "role": race["candidates"][race["winner"]]["role"],
        "passes": race["candidates"][race["winner"]]["passes"], "share": race["shares"]["handed over"], "processor_seconds": round(time.process_time(), 1),
    }))  # fmt: skip


def found(job: dict[str, Any], out: Path, prior: str, path: Path) -> None:
    """Runs a search and appends what was found."""
    half = int(job["side"] != "source")
    words = [sys.executable, __file__, "--child", str(job["pair"]), str(half), str(job["seconds"]), str(out), prior]
    made = subprocess.run(words, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, text=True)
    record = {**job, **json.loads(made.stdout.splitlines()[-1])}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)


def measured(pairs: range, seconds: float, warm: list[float], path: Path) -> list[dict[str, Any]]:
    """Runs all searches that ``path`` has not, and returns all."""
    for pair in pairs:
        jobs = [("source", seconds), ("cold", seconds), *(("warm", each) for each in warm)]
        have = {(r["pair"], r["side"], r["seconds"]) for r in done(path)}
        if all((pair, *job) in have for job in jobs):
            continue
        with tempfile.TemporaryDirectory() as folder:  # a pair is run again as a whole: the new searches need the earlier one's folder
            source = Path(folder) / "source"
            for side, given in jobs:
                out = source if side == "source" else Path(folder) / f"{side}-{given:g}"
                found({"pair": pair, "side": side, "seconds": given}, out, str(source) if side == "warm" else "", path)
    return done(path)


def compared(records: list[dict[str, Any]], seconds: float, warm: list[float]) -> dict[str, Any]:
    """Returns for each time of the warm searches how far ahead they are of the cold ones, paired, in points of test accuracy."""
    from archduel.reporting.statistics import paired_difference

    latest = {(r["pair"], r["side"], r["seconds"]): 100 * r["test"] for r in records}
    rows = {}
    for each in warm:
        pairs = sorted({pair for pair, *_ in latest if {(pair, "cold", seconds), (pair, "warm", each)} <= latest.keys()})
        cold, new = ([latest[pair, side, given] for pair in pairs] for side, given in (("cold", seconds), ("warm", each)))
        rows[f"{each:g}"] = {"cold": cold, "warm": new, **paired_difference(new, cold).record()}
    return rows


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="number of the first pair, where several processes share the work")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the earlier and the cold searches")
    parser.add_argument("--warm", default="60,90", help="seconds of the warm searches")
    parser.add_argument("--records", type=Path, default=Path("warm_images.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/warm_images.json"))
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        pair, half, seconds, out, prior = arguments.child
        child(int(pair), int(half), float(seconds), out, prior)
        return
    warm = [float(each) for each in arguments.warm.split(",")]
    records = measured(range(arguments.first, arguments.first + arguments.pairs), arguments.seconds, warm, arguments.records)
    rows = compared(records, arguments.seconds, warm)
    for each, row in rows.items():
        print(f"{each} s with what an earlier run knows, against {arguments.seconds:g} s without: {row}")
    facts = {"seconds": arguments.seconds, "images": TRAIN, "compared": rows, "runs": records, "command": command()}
    write_record(arguments.out, {**facts, **environment()})


if __name__ == "__main__":
    main()
