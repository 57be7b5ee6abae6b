"""Learning curves of trainings as one offline HTML page: reads what the training wrote, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archduel.commands.progress import duration
from archduel.core.disk import read_toml, write_atomic
from archduel.core.job import JOURNAL
from archduel.core.storage import read_journal
from archduel.errors import RunError
from archduel.networks.trained import RECORD
from archduel.reporting.run_report import report_html
from archduel.text import typed

__all__ = ["MEASURES", "curves_data", "write_curves"]

MEASURES: Mapping[str, str] = {
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "lr": "learning rate",
}
"""Number of a journal line -> the measure it is drawn as."""
MOST_CLASSES = 60
"""Above so many classes a matrix of confusions cannot be read on a page."""


def write_curves(folders: Sequence[str | Path], to: Path | None = None) -> Path:
    """Writes the page and returns its path.

    Args:
        folders: training folders, finished or not; several share the charts.
        to: the file; None = ``report.html`` in the first folder.

    Raises:
        RunError: for a folder without a training.
    """
    paths = [Path(folder) for folder in folders]
    to = paths[0] / "report.html" if to is None else to
    write_atomic(to, report_html(curves_data(paths)).encode())
    return to


def curves_data(folders: Sequence[Path], records: Sequence[Sequence[Mapping[str, Any]]] | None = None) -> dict[str, Any]:
    """Returns the data of the page (see ``reporting.schema``).

    Args:
        folders: of trainings.
        records: of their journals, where the caller has read them already.

    Raises:
        RunError: for a folder without a training.
    """
    specs = [_spec(folder) for folder in folders]
    names = [_name(folder, folders) for folder in folders]
    journals = [read_journal(folder / JOURNAL) for folder in folders] if records is None else records
    first = specs[0]
    data: dict[str, Any] = {
        "title": " and ".join(names) if len(names) < 4 else f"{len(names)} trainings",
        "subtitle": _subtitle(first),
        "curves": _curves(names, journals),
        "command": "\n".join(str(spec.get("command", "")) for spec in specs),
        "settings": (folders[0] / "train.toml").read_text(encoding="utf-8"),
        "environment": {**first.get("versions", {}), **{k: str(v) for k, v in first.get("hardware", {}).items()}},
    }
    if len(folders) > 1:
        return data
    result = _json(folders[0] / "result.json")
    if result is None:
        epochs = f"{journals[0][-1]['epoch']:g}" if journals[0] else "0"
        data["unfinished"] = f"This training is not finished ({epochs} of {first['recipe']['epochs']:g} epochs). The same command continues it."
        return data
    return data | _finished(folders[0], result)


def _spec(folder: Path) -> dict[str, Any]:
    path = folder / "train.toml"
    if not path.is_file():
        raise RunError(f"{folder} holds no training (no train.toml); `archduel train ARCH --out {typed(folder)}` makes one")
    return read_toml(path)


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _name(folder: Path, among: Sequence[Path]) -> str:
    """Returns the folder's name, with its parent's where two have one name."""
    same = sum(other.name == folder.name for other in among) > 1
    return f"{folder.parent.name}/{folder.name}" if same else folder.resolve().name


def _subtitle(spec: Mapping[str, Any]) -> str:
    recipe, data, scale = spec["recipe"], spec["data"], spec["scale"]
    return (
        f"{spec['architecture'].get('name', '')}, {data['name']}, recipe {recipe.get('name', '')}: {recipe['epochs']:g} epochs, "
        f"batch {recipe['batch_size']}, {scale['image_size']} px, {scale['n_classes']} classes"
    )


def _curves(names: Sequence[str], journals: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    curves = []
    for key, measure in MEASURES.items():
        for name, lines in zip(names, journals):
            known = [line for line in lines if key in line]
            if known:
                curves.append({"name": name, "measure": measure, "x": [line["epoch"] for line in known], "values": [line[key] for line in known]})
    return curves


def _finished(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what only a finished training has: key figures, and confusions if it was evaluated."""
    test = result["test"]
    figures = [
        {"label": "test accuracy", "value": f"{100 * test['accuracy']:.2f} %", "note": f"{result['pictures']['test']:,} images, looked at once"},
        {"label": "parameters", "value": f"{result['params']:,}", "note": "auxiliary head left out"},
        {"label": "multiply-adds", "value": f"{result['macs']:,}", "note": "one image"},
        {"label": "time", "value": duration(result["seconds"]), "note": f"{result['images_per_second']:,.0f} images/s"},
    ]  # fmt: skip
    parts: dict[str, Any] = {"key_figures": figures}
    record = _json(folder / RECORD)
    if record is not None and len(record["classes"]) <= MOST_CLASSES:
        parts["confusion"] = {
            "classes": record["classes"], "counts": record["confusion"], "network": "the network",
            "split": f"{record['data']['name']}, {record['data']['split']}:",
        }  # fmt: skip
    return parts
