"""`archduel eval`: what a trained network does on test images, in numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archduel.commands.network.test_images import TestSet, batches, open_test_set
from archduel.core.disk import write_atomic
from archduel.core.storage import environment
from archduel.data.dataset import Preprocessing
from archduel.data.layout import some
from archduel.errors import DataError, SettingError, unknown
from archduel.estimators.timing import check_device
from archduel.networks.trained import FACTS, RECORD, ZOO, TrainedNetwork, folder_of, open_network
from archduel.reporting.statistics import share_interval
from archduel.training.augment import CORRUPTIONS, SEVERITIES, corrupted
from archduel.training.images import Pixels
from archduel.training.metrics import Evaluation, calibration_error, final_scores, recall, reliability, top_k
from archduel.training.runtime import mix_seed

__all__ = ["answers", "evaluate_network", "text_of"]

MOST_CLASSES = 200
"""Above so many classes the matrix of confusions is left out of the record, and only the most frequent ones are kept."""
Key = tuple[str, int]
CLEAN: Key = ("", 0)


def evaluate_network(
    where: str | Path,
    data: Any = None,
    *,
    split: str = "test",
    labels: Path | None = None,
    max_images: int | None = None,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = (1, 3, 5),
    batch_size: int = 256,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the record of an evaluation; that of a training folder is also kept there as ``evaluation.json``.

    Args:
        where: a training folder, a finished search, or ``zoo:NAME``.
        data: a name, folder, ``.npz`` or arrays; None = the test split of what it was trained on.
        split: only ``test`` is taken.
        labels: file with the class of every image of a flat folder.
        max_images: a random part of the test images.
        corruptions: names in ``training.corruptions.CORRUPTIONS`` or ``all``: also judge spoiled copies.
        severities: how badly, 1 to 5.
        batch_size: images a forward pass, at most.
        device: where to compute.
        seed: of ``max_images`` and of the noise.

    Raises:
        ArchduelError: one of its kinds for a folder without a network, images or settings that cannot be used.
    """
    check_device(device)
    corruptions = list(CORRUPTIONS) if "all" in corruptions else corruptions
    _check(corruptions, severities)
    network = open_network(where, device=device)
    test_set = open_test_set(data, network.facts, split=split, labels=labels).first(max_images, seed)
    began = time.perf_counter()
    wanted = [CLEAN, *((kind, severity) for kind in corruptions for severity in severities)]
    evaluations, skipped = answers(network, test_set, wanted, batch_size=batch_size, device=device, seed=seed)
    record = _record(network, test_set, evaluations, skipped) | {
        "seconds": time.perf_counter() - began, "device": device, "environment": environment(),
    }  # fmt: skip
    folder = folder_of(where)
    if not str(where).startswith(ZOO) and (folder / FACTS).is_file():  # the package is nobody's to write to
        try:
            write_atomic(folder / RECORD, json.dumps(record, indent=1).encode())
        except OSError as error:  # somebody else's run, a full disk: what was found out is told all the same
            record["data"]["notes"] = [*record["data"]["notes"], f"this record is not kept: {folder / RECORD}: {error.strerror}"]
    return record


def _check(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    for kind in corruptions:
        if kind not in CORRUPTIONS:
            raise unknown("corruption", kind, CORRUPTIONS)
    if not set(severities) <= set(SEVERITIES):
        raise SettingError(f"severities must be 1 to 5, got {', '.join(map(str, severities))}")


def answers(
    network: TrainedNetwork,
    test_set: TestSet,
    wanted: Sequence[Key] = (CLEAN,),
    *,
    batch_size: int = 256,
    device: str = "cpu",
    seed: int = 0,
) -> tuple[dict[Key, Evaluation], dict[str, str]]:
    """Returns what the network says about the images, and about spoiled copies of them, read once; and what was skipped.

    Raises:
        DataError: if no image can be read.
    """
    preprocessing = Preprocessing(**network.facts["preprocessing"])
    skipped: dict[str, str] = {}
    parts: dict[Key, list[Evaluation]] = {key: [] for key in wanted}
    for number, (images, labels) in enumerate(batches(test_set, preprocessing, skipped, size=batch_size)):
        for kind, severity in wanted:
            shown = torch.from_numpy(images)
            if kind:
                generator = torch.Generator().manual_seed(mix_seed(seed, kind, severity, number))
                shown = corrupted(shown, kind, severity, generator)
            pixels = Pixels(shown, labels, preprocessing.mean, preprocessing.std, device)
            parts[kind, severity].append(final_scores(network.model, pixels, device))
    if not parts[wanted[0]]:
        raise DataError(f"none of the {len(test_set)} images of {test_set.name} can be read: {next(iter(skipped.items()))}")
    return {key: _joined(several) for key, several in parts.items()}, skipped


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    labels = np.concatenate([part.labels for part in parts])
    loss = sum(part.loss * len(part.labels) for part in parts) / len(labels)
    return Evaluation(np.concatenate([part.probabilities for part in parts]), labels, loss)


def _record(network: TrainedNetwork, test_set: TestSet, evaluations: dict[Key, Evaluation], skipped: dict[str, str]) -> dict[str, Any]:
    facts, clean = network.facts, evaluations[CLEAN]
    interval = share_interval(int((clean.predictions == clean.labels).sum()), len(clean.labels))
    record: dict[str, Any] = {
        "network": {"from": network.where, "arch": facts["arch"] or facts["text"], **network.counts._asdict()},
        "data": {"name": test_set.name, "split": test_set.split, "pictures": len(clean.labels), "skipped": skipped, "notes": [*test_set.notes, *_absent(clean.confusion, facts["classes"])]},
        "top1": clean.accuracy,
        "top1_interval": [interval.low, interval.high],
        "top5": top_k(clean.probabilities, clean.labels, 5),
        "loss": clean.loss,
        "balanced_accuracy": clean.score("balanced_accuracy"),
        "macro_f1": clean.score("macro_f1"),
        "ece": calibration_error(clean.probabilities, clean.labels),
        "calibration": reliability(clean.probabilities, clean.labels),
        "per_class": _per_class(clean.confusion, facts["classes"]),
        "classes": list(facts["classes"]),
        "confusion": clean.confusion.tolist() if len(facts["classes"]) <= MOST_CLASSES else None,
        "confused": _confused(clean.confusion, facts["classes"]),
    }
    spoiled = [
        {"kind": kind, "severity": severity, "top1": evaluation.accuracy, "loss": evaluation.loss,
         "ece": calibration_error(evaluation.probabilities, evaluation.labels)}
        for (kind, severity), evaluation in evaluations.items() if kind
    ]  # fmt: skip
    if spoiled:
        mean = float(np.mean([row["top1"] for row in spoiled]))
        record["corruptions"] = {"rows": spoiled, "mean_top1": mean}
    return record


def _absent(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Returns a note where images of some classes that the network knows are missing: what is said of all classes is of the others."""
    missing = [name for name, images in zip(classes, confusion.sum(1).tolist()) if not images]
    return [f"there is no image of {len(missing):,} of the {len(classes):,} classes that the network knows: {some(missing, 3)}"] if missing else []


def _per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns images, recall and precision of every class that has images or predictions."""
    predicted = confusion.sum(0)
    rows = []
    for number, (name, share) in enumerate(zip(classes, recall(confusion).tolist())):
        images = int(confusion[number].sum())
        if images or predicted[number]:
            rows.append({
                "class": name, "pictures": images, "recall": share if images else None,
                "precision": float(confusion[number, number] / predicted[number]) if predicted[number] else None,
            })  # fmt: skip
    return rows


def _confused(confusion: NDArray[np.int64], classes: Sequence[str], n: int = 50) -> list[list[Any]]:
    """Returns [it was, the network said, images] of the most frequent confusions."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = zip(*np.unravel_index(order, wrong.shape))
    return [[classes[i], classes[j], int(wrong[i, j])] for i, j in pairs if wrong[i, j]]


def text_of(record: dict[str, Any], *, worst: int = 5) -> list[str]:
    """Returns the record as lines for people; percentages with two digits, of the classes the worst few."""
    data, network = record["data"], record["network"]
    low, high = record["top1_interval"]
    few = "" if len(record["classes"]) > 5 else " (5 classes or fewer: always all)"
    lines = [
        f"network      {network['from']}: {network['params']:,} parameters, {network['macs']:,} multiply-adds an image",
        f"images       {data['pictures']:,} of {data['name']}, {data['split']}",
        f"top-1        {record['top1']:.2%}   (95 % interval {low:.2%} to {high:.2%})",
        f"top-5        {record['top5']:.2%}{few}",
        f"loss         {record['loss']:.4f} nats",
        f"balanced     {record['balanced_accuracy']:.2%}   macro F1 {record['macro_f1']:.4f}",
        f"calibration  {record['ece']:.4f} expected error, 15 bins",
    ]
    rows = sorted((row for row in record["per_class"] if row["recall"] is not None), key=lambda row: row["recall"])
    lines += [f"class        {row['class']}: {row['recall']:.2%} of {row['pictures']:,}" for row in rows[:worst]]
    if len(rows) > worst:
        lines.append(f"             and {len(rows) - worst} classes that are recognised at least as often")
    for row in record.get("corruptions", {}).get("rows", ()):
        lines.append(f"{row['kind']:<12} severity {row['severity']}: top-1 {row['top1']:.2%}, calibration {row['ece']:.4f}")
    lines += [f"note         {note}" for note in data["notes"]]
    if data["skipped"]:
        lines.append(f"skipped      {len(data['skipped']):,} image{'s' * (len(data['skipped']) != 1)} that cannot be read: {some(list(data['skipped']), 3)}")
    return lines
