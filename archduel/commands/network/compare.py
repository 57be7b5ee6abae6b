"""`archduel compare`: two networks that were trained alike, on the same test images, with a test of significance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from archduel.commands.network.evaluate import answers
from archduel.commands.network.test_images import TestSet, open_test_set
from archduel.core.disk import read_toml
from archduel.errors import RunError, as_path
from archduel.estimators.timing import check_device
from archduel.networks.trained import FACTS, TrainedNetwork, open_network
from archduel.reporting.statistics import Interval, gain_interval, mcnemar
from archduel.text import typed

__all__ = ["Training", "compare", "text_of", "trainings"]

SPEC = "train.toml"
SIZE = ("channels", "depth")
"""Settings of the network rather than of its training: they may differ, and are said."""
ALIKE: Mapping[str, tuple[str, ...]] = {"recipe": ("name", "source", *SIZE), "scale": SIZE, "data": (), "start": ("seed", "from")}
"""Section of train.toml that must be equal -> keys that need not be."""
LEVEL = 0.05


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        folder: where.
        seed: of its weights and order.
        spec: the content of ``train.toml``.
    """

    folder: Path
    seed: int
    spec: Mapping[str, Any]


def trainings(where: str | Path) -> list[Training]:
    """Returns the training in a folder, or those in its subfolders (one a seed), by seed.

    Raises:
        RunError: if there is none, one is unfinished, or two have one seed.
    """
    folder = Path(as_path("the folder of trainings", where, RunError))
    folders = [folder] if (folder / SPEC).is_file() else sorted(path.parent for path in folder.glob(f"*/{SPEC}"))
    if not folders:
        raise RunError(f"{folder} holds no training, nor subfolders with one each (`archduel train ... --out {typed(folder / 'seed0')}`)")
    members = []
    for path in folders:
        if not (path / FACTS).is_file():
            raise RunError(f"{path} is not finished; the same `archduel train` command continues it")
        spec = read_toml(path / SPEC)
        members.append(Training(path, int(spec["start"]["seed"]), spec))
    seeds = [member.seed for member in members]
    if len(set(seeds)) < len(seeds):
        raise RunError(f"{folder} holds several trainings of one seed ({sorted(seeds)}); keep one of each")
    return sorted(members, key=lambda member: member.seed)


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for section, free in ALIKE.items():
        a, b = first.get(section, {}), second.get(section, {})
        for key in dict.fromkeys([*a, *b]):
            if key not in free and a.get(key) != b.get(key):
                yield f"  {section}.{key}: the first has {a.get(key)!r}, the second {b.get(key)!r}"


def _check(first: Sequence[Training], second: Sequence[Training]) -> None:
    """Raises RunError unless both sides were trained alike, seed by seed."""
    faults = []
    if [t.seed for t in first] != [t.seed for t in second]:
        faults.append(f"  seeds: the first has {[t.seed for t in first]}, the second {[t.seed for t in second]}")
    for a, b in zip(first, second):
        tuned = [bool(training.spec["start"].get("from")) for training in (a, b)]
        if tuned[0] != tuned[1]:  # where each began belongs to the network, that one of them did does not
            faults.append("  start.from: one was fine-tuned, the other trained from nothing")
        faults += [line for line in _differences(a.spec, b.spec) if line not in faults]
    if faults:
        raise RunError(
            "the two were not trained alike, so their difference says nothing about the networks:\n" + "\n".join(faults)
            + "\ntrain both with one recipe, the same images and the same seeds"
        )


def compare(
    first: str | Path,
    second: str | Path,
    data: Any = None,
    *,
    labels: Path | None = None,
    max_images: int | None = None,
    batch_size: int = 256,
    device: str = "cpu",
) -> dict[str, Any]:
    """Returns the record of a comparison on test images.

    One training each: McNemar's exact test over the images. Several (one a seed): a t interval of the difference,
    paired by seed, never narrower than one image.

    Args:
        first: a training folder, or a folder with one for each seed.
        second: likewise, the same seeds.
        data: test images; None = the test split of what they were trained on.
        labels: file with the class of every image of a flat folder.
        max_images: a random part of the test images.
        batch_size: images a forward pass.
        device: where to compute.

    Raises:
        RunError: for trainings that are missing, unfinished or were not trained alike; the difference is listed.
        ArchduelError: for images that cannot be used.
    """
    check_device(device)
    sides = trainings(first), trainings(second)
    _check(*sides)
    pairs, networks, test_set = [], [], None
    for members in zip(*sides):
        opened = [open_network(member.folder, device=device) for member in members]
        test_set = open_test_set(data, opened[0].facts, labels=labels).first(max_images)
        pairs.append({"seed": members[0].seed, **_pair(opened, test_set, batch_size, device)})
        networks = [_facts(str(where), network) for where, network in zip((first, second), opened)]
    assert test_set is not None  # there is a training on either side
    record = {"first": networks[0], "second": networks[1], "data": test_set.name, "split": test_set.split, "pairs": pairs}
    return {**record, **_conclusion(networks, pairs)}


def _pair(networks: Sequence[TrainedNetwork], test_set: TestSet, batch_size: int, device: str) -> dict[str, Any]:
    """Returns what two networks get right of the same images."""
    right = []
    for network in networks:
        evaluation = next(iter(answers(network, test_set, batch_size=batch_size, device=device)[0].values()))
        right.append(evaluation.predictions == evaluation.labels)
    test = mcnemar(*right)
    return {
        "pictures": test.n, "accuracy": [float(part.mean()) for part in right], "first_only": test.first_only,
        "second_only": test.second_only, "p": test.p,
    }  # fmt: skip


def _facts(where: str, network: TrainedNetwork) -> dict[str, Any]:
    return {"from": where, "name": network.facts.get("name") or network.facts["arch"], **network.counts._asdict()}


def _conclusion(networks: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns test, p-value, difference and the plain sentence."""
    names = _distinct(networks)
    if len(pairs) == 1:
        return _one_pair(names, pairs[0])
    differences = [pair["accuracy"][0] - pair["accuracy"][1] for pair in pairs]
    interval = gain_interval(differences, 1, len(pairs), n_test=min(pair["pictures"] for pair in pairs))
    equal = max(differences) == min(differences)
    p = (1.0 if differences[0] == 0 else 0.0) if equal else float(stats.ttest_1samp(differences, 0.0).pvalue)
    points, half = 100 * interval.value, 100 * interval.half_width
    how = f"points (95 % t interval over {len(pairs)} seeds, paired; p = {p:.2g})"
    if interval.spans(0.0):
        sentence = f"No measurable difference between {names[0]} and {names[1]}: {points:+.2f} ± {half:.2f} {how}."
    else:
        better = names if points > 0 else names[::-1]
        sentence = f"{better[0]} is better than {better[1]} by {abs(points):.2f} ± {half:.2f} {how}."
    return {"test": "paired t over seeds", "p": p, "difference": _record(interval), "sentence": sentence}


def _distinct(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns names that tell the two apart: their folders where the networks have one name."""
    names = [str(network["name"]) for network in networks]
    return names if names[0] != names[1] else [str(network["from"]) for network in networks]


def _record(interval: Interval) -> dict[str, float | int | None]:
    return interval.record()


def _one_pair(names: Sequence[str], pair: Mapping[str, Any]) -> dict[str, Any]:
    a, b = pair["accuracy"]
    sides = [(names[0], a, pair["first_only"]), (names[1], b, pair["second_only"])]
    best, other = sides if a >= b else sides[::-1]
    numbers = (
        f"{best[1]:.2%} against {other[1]:.2%} on {pair['pictures']:,} test images; {best[2]} images only {best[0]} gets "
        f"right, {other[2]} only {other[0]} (McNemar's exact test, p = {pair['p']:.2g})"
    )
    same = pair["p"] >= LEVEL
    head = f"No measurable difference between {best[0]} and {other[0]}: {numbers}." if same else f"{best[0]} is better than {other[0]}: {numbers}."
    caution = " One training each: this speaks of these weights; another seed may order them otherwise."
    difference = {"value": a - b, "low": None, "high": None, "n": 1}
    return {"test": "McNemar exact", "p": pair["p"], "difference": difference, "sentence": head + caution}


def text_of(record: Mapping[str, Any]) -> list[str]:
    """Returns the record as lines for people."""
    lines = [
        f"{side:<7}{network['name']} ({network['from']}): {network['params']:,} parameters, {network['macs']:,} multiply-adds"
        for side, network in (("first", record["first"]), ("second", record["second"]))
    ]
    lines += [
        f"seed {pair['seed']}: {pair['accuracy'][0]:.2%} and {pair['accuracy'][1]:.2%} of {pair['pictures']:,} images"
        for pair in record["pairs"]
    ]
    return [*lines, record["sentence"]]
