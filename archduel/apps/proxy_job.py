"""What all jobs of cheap trainings are told in the same words: who trains, where, on which part of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archduel.apps.progress import Progress
from archduel.apps.proxy_bench import Bench, executor_for
from archduel.data import Dataset, load

__all__ = ["JobOptions"]


@dataclass(frozen=True)
class JobOptions:
    """Options that every function of ``archduel proxy`` takes besides its own, by these names.

    Attributes:
        seed: of everything that is drawn: splits, architectures, trainings.
        metric: what a score is: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        device: where to train.
        workers: trainings at a time.
        fused: how many are trained at once in one process: a number, ``auto`` or ``off``.
        load_settings: of :func:`archduel.data.load`.
        quiet: print nothing.
    """

    seed: int = 0
    metric: str = "accuracy"
    device: str = "cpu"
    workers: int = 1
    fused: int | str = "off"
    load_settings: Mapping[str, Any] | None = None
    quiet: bool = False

    def dataset(self, data: Any) -> Dataset:
        """Returns the images, with splits of this seed."""
        return load(data, seed=self.seed, **(self.load_settings or {}))

    def bench(self, dataset: Dataset, out: str | Path, job: str, settings: Mapping[str, Any]) -> Bench:
        """Returns the opened folder of a job.

        Args:
            dataset: the images.
            out: the folder.
            job: which kind of job it is.
            settings: what else decides its results.

        Raises:
            RunError: for a folder that holds something else, is in use, or cannot be written.
            SettingError: for fused training in several processes.
        """
        executor = executor_for(
            dataset, Path(out), seed=self.seed, metric=self.metric, device=self.device, workers=self.workers, fused=self.fused
        )
        all_settings = {"job": job, "data": dataset.fingerprint, **settings, "seed": self.seed, "metric": self.metric}
        return Bench(Path(out), all_settings, executor, Progress(quiet=self.quiet))
