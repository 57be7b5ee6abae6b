"""A file of architectures, trained as one resumable job with a table as a result."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archduel.commands.trainings import JobOptions
from archduel.core import Arch, Estimate
from archduel.core.disk import write_atomic
from archduel.errors import InvalidArchError, RunError, SettingError
from archduel.recipes import Source, fitted, open_recipe, read
from archduel.reporting.text import text_table
from archduel.spaces.family import family, with_text
from archduel.spaces.lookup import open_space, resolve, write
from archduel.tables.build import make_table
from archduel.tables.file import Fidelity

__all__ = ["TrainedFile", "read_archs", "train_file"]

COLUMNS = ("line", "arch", "score", "spread", "runs", "params", "macs", "seconds", "images", "train_loss", "val_loss", "text", "reason")


@dataclass(frozen=True)
class TrainedFile:
    """What a file of architectures came to.

    Attributes:
        rows: one an architecture in the order of the file, with the columns of ``results.csv``.
        csv: the same as a file.
        table: a ``.table`` file of the same (one space only), else None.
    """

    rows: list[dict[str, Any]]
    csv: Path
    table: Path | None

    def best(self, n: int = 20) -> str:
        """Returns the best ``n`` as a text table."""
        done = sorted((row for row in self.rows if row["score"] is not None), key=lambda row: -row["score"])
        lines = [
            [row["line"], f"{row['score']:.4f}", row["params"], row["macs"], f"{row['seconds']:.1f}", row["arch"]]
            for row in done[:n]
        ]
        failed = len(self.rows) - len(done)
        tail = f"\n{failed} of {len(self.rows)} failed; see the column 'reason'" if failed else ""
        return text_table(["line", "score", "params", "MACs", "seconds", "architecture"], lines) + tail


def _space_of(text: str, space: str) -> str:
    """Returns the space a line belongs to where it can be told from its form."""
    return space or next((each.name for each in with_text(text)), "")


def read_archs(path: Path, space: str = "") -> list[tuple[int, Arch]]:
    """Returns (line number, architecture) of a text file with one a line; empty lines and lines with ``#`` are left out.

    A line is a genotype, a NAS-Bench-201 string, ``space:1.0.4``, a published architecture's name, or the text of ``space``.

    Raises:
        InvalidArchError: with the line and the offending part.
        RunError: for a file that cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}; expected a text file with one architecture a line") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append((number, resolve(text, _space_of(text, space))[1]))
        except InvalidArchError as error:
            raise InvalidArchError(f"{path} line {number}: {error}") from error
    if not found:
        raise RunError(f"{path} holds no architecture; expected one a line")
    return found


def train_file(
    file: str | Path,
    data: Any,
    out: str | Path,
    *,
    recipe: Source = "bpe1",
    changes: Mapping[str, Any] | None = None,
    space: str = "",
    seeds: int = 1,
    **options: Any,
) -> TrainedFile:
    """Trains every architecture of a file with one recipe; the same call continues an interrupted one.

    Scores are of validation images. Architectures that stand in several lines are trained once.

    Args:
        file: one architecture a line, see :func:`read_archs`.
        data: what :func:`archduel.data.load` takes.
        out: folder for journal, ``results.csv`` and ``cells.table``.
        recipe: what :func:`archduel.recipes.read` takes: a name (``bpe1``, ``bpe2``, ``full`` ...), a file, a mapping.
        changes: recipe settings that differ.
        space: of lines that do not say it themselves.
        seeds: trainings of each; the score is their mean.
        **options: fields of :class:`archduel.commands.trainings.JobOptions`: ``seed``, ``device``, ``workers`` ...

    Raises:
        InvalidArchError: for a line that is no architecture.
        RunError: for a file or folder that cannot be used.
    """
    if seeds < 1:
        raise SettingError(f"seeds must be at least 1, got {seeds}")
    lines = read_archs(Path(file), space)
    archs = list(dict.fromkeys(arch for _, arch in lines))
    job = JobOptions(**options)
    dataset = job.dataset(data)
    chosen, notes = fitted(read(recipe, archs[0].space, changes), dataset.image_size, dataset.flip)
    with job.bench(dataset, out, "train", {"recipe": asdict(chosen)}, built_with=open_recipe(recipe).built_with) as bench:
        for note in notes:
            bench.progress.say(note)
        runs = [bench.train(f"seed {run + 1}", chosen, archs, first=run * len(archs)) for run in range(seeds)]
    answers = dict(zip(archs, zip(*runs)))
    rows = [_row(number, arch, answers[arch]) for number, arch in lines]
    table = _table(Path(out) / "cells.table", archs, runs, chosen.epochs, dataset.name, asdict(chosen))
    return TrainedFile(rows, _csv(Path(out) / "results.csv", rows), table)


def _row(number: int, arch: Arch, estimates: tuple[Estimate, ...]) -> dict[str, Any]:
    good = [estimate for estimate in estimates if not estimate.failed]
    scores, values = [estimate.score for estimate in good], dict(estimates[0].values)
    return {
        "line": number,
        "arch": str(arch),
        "score": float(np.mean(scores)) if scores else None,
        "spread": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "runs": len(scores),
        "params": values.get("params"),
        "macs": values.get("macs"),
        "seconds": float(np.mean([estimate.cost.seconds for estimate in estimates])),
        "images": estimates[0].cost.images,
        "train_loss": values.get("train_loss"),
        "val_loss": values.get("val_loss"),
        "text": write(open_space(arch.space), arch),
        "reason": next((estimate.reason for estimate in estimates if estimate.failed), ""),
    }


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
    return path


def _table(
    path: Path, archs: list[Arch], runs: list[list[Estimate]], epochs: float, data: str, recipe: dict[str, Any]
) -> Path | None:
    """Writes a table of the validation scores; None for architectures of several spaces or without any score."""
    scores = np.array([[estimate.score for estimate in run] for run in runs])[None]  # (1, R, N)
    if len({arch.space for arch in archs}) > 1 or np.isnan(scores).all():
        return None
    seconds = np.array([[estimate.cost.seconds for estimate in run] for run in runs])[None]
    space = open_space(archs[0].space)
    make_table(
        archs,
        {"validation": scores, "seconds": seconds},
        name=path.parent.name,
        fidelities=(Fidelity("full", epochs),),
        space=space,
        space_settings=family(space.name).widest or None,
        provenance={"data": data, "recipe": recipe},
    ).write(path)
    return path
