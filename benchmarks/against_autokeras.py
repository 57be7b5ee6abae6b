"""AutoKeras on the rows of ``against_plain.py``: the same images and splits, the same processor seconds of one thread.

    python benchmarks/against_autokeras.py --python AK/bin/python --rows digits-1m,cifar5k-3m --seeds 3 --out benchmarks/records/against_autokeras.jsonl

``--python`` is an interpreter with AutoKeras (tried: autokeras 3.0.0, tensorflow-cpu 2.21.0, keras 3.10.0; with keras 3.15 its first network fails
on a numpy integer). ``ImageClassifier`` is given training and validation images, no other settings but a seed and more trials than fit the time, and is
stopped when the processor seconds are used up, the start of Python and TensorFlow included; what it then calls its best model by validation is tested.
Its published weights are downloaded when a trial asks for them; where that fails the trial does, and AutoKeras goes on with the next, so on a machine
without a network it is a search from scratch and its opponent is the side ``archduel`` of ``against_plain.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MOST_TRIALS = 1_000


def child(images: Path, seconds: float, seed: int) -> None:
    """Runs AutoKeras in this process, which must have it, and prints the numbers of its best model."""
    import autokeras
    import keras
    import numpy as np

    class OutOfTime(BaseException):
        """Ends the search; no Exception, for AutoKeras goes on after those."""

    class Deadline(keras.callbacks.Callback):
        """Ends an epoch, and with the next trial the search, when the time is used up."""

        def on_train_begin(self, logs: Any = None) -> None:
            if time.process_time() >= seconds:
                raise OutOfTime

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.process_time() >= seconds:
                self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if time.process_time() >= seconds:
                self.model.stop_training = True

    with np.load(images) as file:
        sets = {part: (file[f"{part}_images"], file[f"{part}_labels"]) for part in ("train", "validation", "test")}
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        classifier = autokeras.ImageClassifier(max_trials=MOST_TRIALS, overwrite=True, directory=folder, seed=seed)
        with contextlib.suppress(OutOfTime):
            classifier.fit(*sets["train"], validation_data=sets["validation"], callbacks=[Deadline()], verbose=2)
        spent = time.process_time()
        trials = classifier.tuner.oracle.trials.values()
        model = classifier.tuner.get_best_model()
        accuracies = {part: score(model, *sets[part], classes=np.unique(sets["train"][1])) for part in ("validation", "test")}
        counts = {status: sum(trial.status == status for trial in trials) for status in {trial.status for trial in trials}}
    print(json.dumps({"params": model.count_params(), "trials": counts, "processor_seconds": round(spent, 1), **accuracies}))


def score(model: Any, images: Any, labels: Any, *, classes: Any) -> float:
    """Returns the share of images whose likeliest class is right; ``classes`` are in the order of the outputs."""
    found = model.predict(images, batch_size=100, verbose=0)
    guess = classes[found.argmax(1)] if found.shape[1] > 1 else classes[(found[:, 0] > 0.5).astype(int)]
    return float((guess == labels).mean())


def measure(row: str, seed: int, python: str, out: Path) -> None:
    """Writes the images of a row to a file, lets AutoKeras work in a process of its own and appends the record."""
    import numpy as np
    from against_plain import ROWS, environment, source

    from archduel.data import load

    name, seconds = ROWS[row]
    data = load(source(name), seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npz"
        arrays: dict[str, Any] = {}
        for part in ("train", "validation", "test"):
            split = getattr(data, part)
            arrays[f"{part}_images"] = np.ascontiguousarray(np.array(split.images).transpose(0, 2, 3, 1))
            arrays[f"{part}_labels"] = np.asarray(split.labels)
        np.savez(images, **arrays)
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        alone.pop("PYTHONPATH", None)
        began = time.monotonic()
        words = [python, __file__, "--child", str(images), str(seconds), str(seed)]
        made = subprocess.run(words, stdout=subprocess.PIPE, env=alone, cwd=folder, check=True, text=True)
    record = {
        "row": row, "limit": "none", "seed": seed, "side": "autokeras", "seconds": seconds, "image_size": data.image_size,
        "sizes": {part: len(getattr(data, part)) for part in ("train", "validation", "test")}, **json.loads(made.stdout.splitlines()[-1]),
        "wall_seconds": round(time.monotonic() - began, 1), "load_average": os.getloadavg()[0], "threads": 1,
        "packages": packages(python), **environment(),
    }  # fmt: skip
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print({name: value for name, value in record.items() if name not in ("versions", "hardware")}, flush=True)


def packages(python: str) -> dict[str, str]:
    """Returns the versions that an interpreter has."""
    names = ("autokeras", "keras", "keras-tuner", "tensorflow-cpu")
    code = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {names!r}}}))"
    found: dict[str, str] = json.loads(subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout)
    return found


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has AutoKeras")
    parser.add_argument("--rows", default="digits-1m,cifar5k-3m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/against_autokeras.jsonl"))
    parser.add_argument("--child", nargs=3, metavar=("IMAGES", "SECONDS", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), float(options.child[1]), int(options.child[2]))
        return
    from against_plain import left

    jobs = [{"row": row, "limit": "none", "seed": seed, "side": "autokeras"} for row in options.rows.split(",") for seed in range(options.seeds)]
    for job in left(jobs, options.out):
        measure(job["row"], job["seed"], options.python, options.out)


if __name__ == "__main__":
    main()
