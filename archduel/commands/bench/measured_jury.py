"""The jury with measurements of untrained networks on the user's images beside the space's own description: `best+zc`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Costs, Query, Space
from archduel.core.storage import append_shared, read_journal
from archduel.data.cache import cache_root
from archduel.data.load import load
from archduel.errors import SettingError
from archduel.estimators.zero_cost import MEASURES, ZeroCost
from archduel.rankers.best import Jury
from archduel.rankers.columns import WithColumns
from archduel.training.images import Pixels

__all__ = ["Measured", "MeasuredJury"]

Matrix = NDArray[np.float64]


class Measured(WithColumns):
    """A space whose features also hold measurements of the untrained networks; everything else is the space's own.

    What was measured is kept in a file, so that it is paid once.

    Args:
        space: the space.
        estimator: measures architectures.
        path: of the file, one line an architecture.
    """

    def __init__(self, space: Space, estimator: ZeroCost, path: Path) -> None:
        super().__init__(space, self.measures)
        self._estimator, self._path = estimator, path
        self._rows: dict[str, tuple[list[float], float]] = {}
        self._asked: set[str] = set()
        self.saved_seconds = 0.0
        """Seconds that measurements took which were read from the file instead."""
        for record in read_journal(path, skip_damaged=True):
            self._rows[record["arch"]] = record["values"], record["seconds"]

    def measures(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (B, 6): the measures, large ones shrunk by a logarithm."""
        measured = np.array([self._row(arch) for arch in archs], np.float64).reshape(-1, len(MEASURES))
        return np.asarray(np.sign(measured) * np.log1p(np.abs(measured)))

    def _row(self, arch: Arch) -> list[float]:
        """Returns the measures of one architecture; 0 for what could not be measured."""
        name = str(arch)
        if name not in self._rows:
            estimate = self._estimator.judge(Query(arch))
            values = [float(estimate.values.get(measure, 0.0)) for measure in MEASURES]
            row = [value if np.isfinite(value) else 0.0 for value in values], estimate.cost.seconds
            self._rows[name] = row
            self._asked.add(name)
            append_shared(self._path, {"arch": name, "values": row[0], "seconds": row[1]})
        elif name not in self._asked:
            self._asked.add(name)
            self.saved_seconds += self._rows[name][1]
        return self._rows[name][0]


class MeasuredJury(Jury):
    """The jury on a space's description and zero-cost measurements.

    Args:
        space: the space.
        costs: closed-form costs; None = not used.
        data: what the networks are measured on: a named set, a folder of images, an archive.
        channels: width of the measured networks.
        depth: their depth.
        image_size: of the images they see.
        batch_size: images.
        cache: folder that keeps measurements; None = in archduel's cache.
        folds: see :class:`~archduel.rankers.best.Jury`.
        trees: likewise.
        reference: likewise; each of them is measured too, so there are none by default.
        seed: of the jury; measurements do not depend on it.

    Raises:
        SettingError: for settings out of range, or without data.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        data: str = "",
        channels: int = 8,
        depth: int = 1,
        image_size: int = 16,
        batch_size: int = 32,
        cache: str | None = None,
        folds: int = 5,
        trees: int = 150,
        reference: int = 0,
        seed: int = 0,
    ) -> None:
        if not data:
            raise SettingError("zero-cost measurements need images: best+zc[data=digits], or a folder of yours")
        self.data = data
        size: dict[str, Any] = {"channels": channels, "depth": depth, "image_size": image_size, "batch_size": batch_size}
        dataset = load(data, cache=None if cache is None else Path(cache))
        look, train = dataset.preprocessing, dataset.train
        pixels = Pixels(train.images, train.labels, look.mean, look.std)
        key = json.dumps({"data": dataset.fingerprint, "space": space.name, "measures": MEASURES, **size})
        path = cache_root(cache) / "zero_cost" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsonl"
        measured = Measured(space, ZeroCost(pixels, n_classes=dataset.n_classes, **size), path)
        super().__init__(measured, costs, folds=folds, trees=trees, reference=reference, seed=seed)  # type: ignore[arg-type]
        self._measured = measured

    @property
    def saved_seconds(self) -> float:
        """Seconds that measurements took which were read from the cache instead."""
        return self._measured.saved_seconds
