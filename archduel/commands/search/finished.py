"""A run, finished or not: its folder and what can be made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from archduel.commands.search.own import exported_to
from archduel.commands.search.settings import Settings, read_settings
from archduel.core.job import read_result
from archduel.errors import RunError
from archduel.networks.predictions import predict
from archduel.networks.trained import member_folder, open_network

__all__ = ["Run"]


class Run:
    """A finished or unfinished run: its folder and what can be made of it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings: Settings = read_settings(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from archduel.commands.search.report import report_data
        from archduel.reporting.notebook import run_card

        return str(run_card(report_data(self.folder), str(self.folder)))

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            RunError: if the run is not finished.
        """
        result = read_result(self.folder)
        if result is None:
            raise RunError(f"{self.folder} is not finished; the same `archduel search` command continues it")
        return result

    def model(self, member: int | None = None) -> torch.nn.Module:
        """Returns the trained winner: input (N, C, H, W) float in 0..1, preprocessed as the run says; output logits.

        Args:
            member: of a run with several objectives the member of the front, from 1; None = the knee.

        Raises:
            RunError: if the run is not finished, or has no such member.
        """
        return open_network(member_folder(self.folder, member)).with_normalisation

    def export(self, folder: str | Path, member: int | None = None, *, int8: bool = False) -> Path:
        """Writes the stand-alone folder and returns its path.

        Args:
            folder: for model.py, weights, ONNX and predict.py.
            member: as for :meth:`model`.
            int8: an int8 network too, checked.
        """
        return exported_to(Path(member_folder(self.folder, member)), Path(folder), int8=int8)

    def report(self, to: str | Path | None = None) -> Path:
        """Writes the report, also of an unfinished run, and returns its path; ``to`` is the file, None = report.html in the run's folder."""
        from archduel.commands.search.report import write_report

        return write_report(self.folder, None if to is None else Path(to))

    def predict(self, images: Sequence[str | Path], member: int | None = None) -> list[list[tuple[str, float]]]:
        """Returns for each image file the classes with their probabilities, most probable first; ``member`` as for :meth:`model`."""
        return predict(open_network(member_folder(self.folder, member)), [Path(image) for image in images])
