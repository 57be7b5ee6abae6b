"""The main job: from a folder of images to a trained, exported network and an honest report."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.apps.folder import RunFolder, read_settings
from archduel.apps.progress import Progress, duration
from archduel.apps.settings import Settings, make_settings, parse_count, parse_seconds
from archduel.errors import RunError

if TYPE_CHECKING:
    import torch

__all__ = ["Run", "search"]


class Run:
    """A finished or unfinished run: its folder and what can be made of it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings: Settings = read_settings(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            RunError: if the run is not finished.
        """
        import json

        path = self.folder / "result.json"
        if not path.is_file():
            raise RunError(f"{self.folder} is not finished; the same `archduel search` command continues it")
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return value

    def model(self) -> torch.nn.Module:
        """Returns the trained winner: input (N, C, H, W) float in 0..1, preprocessed as the run says; output logits."""
        from archduel.apps.handover import load_winner

        return load_winner(self.folder, self.result)

    def export(self, folder: str | Path) -> Path:
        """Writes the stand-alone folder (model.py, weights, ONNX, predict.py) and returns its path."""
        from archduel.apps.handover import export_run

        return export_run(self.folder, self.result, Path(folder))

    def report(self) -> Path:
        """Writes report.html (also of an unfinished run) and returns its path."""
        from archduel.apps.report import write_report

        return write_report(self.folder)

    def predict(self, pictures: Sequence[str | Path]) -> list[list[tuple[str, float]]]:
        """Returns for each picture the classes with their probabilities, most probable first."""
        from archduel.apps.handover import predict

        return predict(self.folder, self.result, [Path(picture) for picture in pictures])


def search(
    data: Any,
    *,
    time: str | float | None = None,
    evaluations: int | None = None,
    max_params: str | int | None = None,
    max_macs: str | int | None = None,
    max_latency_ms: float | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    command: str | None = None,
    **settings: Any,
) -> Run:
    """Searches, trains, tests and exports a network for ``data``; the same call continues an interrupted run.

    Args:
        data: a folder of images (one subfolder a class), ``digits``, ``cifar10``, an ``.npz`` file, a pair of arrays
            (images, labels) or a ``torch.utils.data.Dataset`` of (image, label).
        time: wall-clock budget such as ``"2h"``; None chooses by the number of images unless ``evaluations`` is given.
        evaluations: number of cheap trainings instead of (or within) a time budget; alone it makes runs repeatable exactly.
        max_params: limit on parameters, such as ``"1M"``.
        max_macs: limit on multiply-adds for one image.
        max_latency_ms: limit on the measured latency of one batch on this device.
        out: the run's folder; None derives one from the data and the settings under ``runs/``.
        quiet: print nothing.
        command: how the run was started, for the record.
        **settings: other fields of :class:`archduel.apps.settings.Settings`, such as ``strategy="evolution"``.

    Raises:
        ArchduelError: one of its kinds for data, settings, limits or a folder that cannot be used.
    """
    from archduel.apps.job import hand_over, work

    checked = make_settings(
        data=str(data) if isinstance(data, (str, Path)) else _remembered(data),
        seconds=None if time is None else parse_seconds(time),
        evaluations=evaluations,
        max_params=None if max_params is None else parse_count(max_params),
        max_macs=None if max_macs is None else parse_count(max_macs),
        max_latency_ms=max_latency_ms,
        **settings,
    )
    path = Path(out) if out is not None else Path("runs") / _name(checked)
    progress = Progress(quiet=quiet)
    folder = RunFolder(path, checked, command or " ".join(sys.argv) or "archduel.search(...)")
    try:
        if not (path / "result.json").is_file():
            work(folder, checked, progress)
        elif folder.noted("handed over") is None:  # it was stopped between the result and the export
            hand_over(folder, Run(path).result, progress)
        else:
            progress.say(f"{path} is finished; nothing to do (another --out starts a new run)")
    except KeyboardInterrupt:
        progress.end()
        progress.say(f"stopped after {duration(folder.clock)}; the same command continues {path}")
        raise
    finally:
        progress.end()
        folder.close()
    return Run(path)


def _remembered(data: Any) -> str:
    """Returns the name under which arrays or a dataset object are kept, so that any process can continue the run."""
    from archduel.data import remember

    return remember(data)


def _name(settings: Settings) -> str:
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
    stem = Path(settings.data.replace(":", "-")).stem or "data"
    return f"{stem}-{digest}"
