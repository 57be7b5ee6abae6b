"""`archduel zoo`: published networks by name, with our own weights where there are some, or with released ones from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.core import Counts, Scale
from archduel.errors import RunError, SettingError, StateError, unknown
from archduel.networks.trained import (
    FACTS,
    RECORD,
    WEIGHTS,
    load_trained,
    network_of,
    read_facts,
    save_trained,
    shipped,
    shipped_tags,
    take_weights,
)
from archduel.spaces.drawing import draw, draw_text
from archduel.spaces.family import count, count_text
from archduel.spaces.lookup import has_own_size, open_space, parse, resolve
from archduel.spaces.named import NAMED, Named, find, named

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PREPROCESSING", "Entry", "counts_of_named", "drawing", "entries", "import_weights", "load", "load_to", "record_of", "show", "size_words", "summaries", "weights_line"]

# -- Published architectures by name: what is known of them, what they cost, how they look ------------------------------


def counts_of_named(item: Named, scale: Scale) -> Counts:
    """Returns the cost of a named architecture with its network's options."""
    if item.space:
        return count(parse(open_space(item.space), item.text), scale, **item.options)
    return count_text(item.text, scale, **item.options)


def show(name: str) -> dict[str, Any]:
    """Returns all that is known of a named architecture, with our counts for the settings it was published in.

    Raises:
        UnknownNameError: for a name that there is not.
    """
    item = named(name)
    shown: dict[str, Any] = {"name": item.name, "space": item.space or "none"}
    if item.space:
        space = open_space(item.space)
        arch = parse(space, item.text)
        shown |= {"arch": str(arch), "fingerprint": space.fingerprint(arch)}
    shown |= {"text": item.text, "source": item.source, "reported": dict(item.reported)}
    shown["counts"] = {label: counts_of_named(item, scale)._asdict() for label, scale in item.scales}
    return {**shown, "note": item.note}


def summaries() -> list[str]:
    """Returns one line for each named architecture: name, space, source."""
    return [f"{item.name:20}{item.space or '-':14}{item.source}" for item in NAMED.values()]


def drawing(text: str, space_name: str = "", *, columns: int = 2) -> str:
    """Returns an SVG file of a named architecture or of an architecture's text.

    Raises:
        InvalidArchError: for a text that is none.
        UnknownNameError: for an unknown space.
    """
    item = find(text)
    if item and not item.space:
        return draw_text(item.text, item.name, columns=columns, standalone=True)
    space, arch = resolve(text, space_name)
    return draw(space, arch, columns=columns, standalone=True)


PREPROCESSING: Mapping[str, dict[str, Any]] = {
    "cifar10": {"size": 32, "mode": "RGB", "rule": "none", "mean": [0.49139968, 0.48215827, 0.44653124], "std": [0.24703233, 0.24348505, 0.26158768]},
    "cifar100": {"size": 32, "mode": "RGB", "rule": "none", "mean": [0.50707516, 0.48654887, 0.44091784], "std": [0.26733429, 0.25643846, 0.27615047]},
    "imagenet": {"size": 224, "mode": "RGB", "rule": "inner", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}  # fmt: skip
"""Data -> how the released training scripts feed their networks; for ImageNet 224 of 256 px (resized bilinearly there)."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Entry:
    """A line of the zoo.

    Attributes:
        name: of the network.
        space: it belongs to.
        params: at the first published size.
        weights: names of our own trained weights, best known first; empty where there are none.
        source: where it was published.
    """

    name: str
    space: str
    params: int
    weights: tuple[str, ...]
    source: str


def entries() -> list[Entry]:
    """Returns all networks of the zoo."""
    listed = []
    for item in NAMED.values():
        params = counts_of_named(item, item.scales[0][1]).params
        listed.append(Entry(item.name, item.space or "-", params, shipped_tags(item.name), item.source))
    return listed


def record_of(name: str) -> dict[str, Any]:
    """Returns what is known of a network: what was published, our counts, and the record of each of our weights.

    Raises:
        UnknownNameError: for a name that there is not.
    """
    network, _, _ = name.partition(".")
    shown = show(network)
    shown["weights"] = {tag: read_facts(shipped(f"{shown['name']}.{tag}")) for tag in shipped_tags(shown["name"])}
    return shown


def size_words(facts: Mapping[str, Any]) -> str:
    """Returns width, depth and input of a network in short; the first two are left out where they are the architecture's own."""
    scale = facts["scale"]
    size = "" if has_own_size(facts["arch"]) else f"C{scale['channels']} L{scale['depth']}, "
    return f"{size}{scale['image_size']} px"


def weights_line(facts: Mapping[str, Any]) -> str:
    """Returns size, accuracy and origin of weights of ours in one line."""
    record = facts["record"]
    spent = f"{record['cpu_seconds']:,} processor seconds" if "cpu_seconds" in record else f"{record['seconds']:,} s"
    return (
        f"{size_words(facts)}, {facts['params']:,} parameters; {record['top1']:.2%} of "
        f"{record['test_pictures']:,} test images of {facts['data']['name']}, float16; {record['command']} "
        f"({spent}, {record['threads']} thread, {record['hardware']['cpu']})"
    )


def _facts(item: Named, scale: Scale, classes: Sequence[str], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts of ``model.json``; cells of no space are kept as their genotype."""
    arch = show(item.name).get("arch")
    return {
        "arch": arch, "text": item.text, "name": item.name, "scale": asdict(scale), "options": dict(item.options),
        "classes": list(classes), "preprocessing": dict(preprocessing),
    }  # fmt: skip


def load(
    name: str,
    *,
    pretrained: bool | str = False,
    scale: Scale | None = None,
    auxiliary: bool = False,
    device: str | torch.device = "cpu",
    **size: int,
) -> nn.Module:
    """Returns a published network, untrained at its first published size, or with our weights at theirs.

    Args:
        name: `archduel zoo list`; ``NAME.TAG`` for particular weights.
        pretrained: our weights; a text chooses which. Their size, classes and input are theirs: ``model.facts`` says them.
        scale: size of an untrained network; None = as first published.
        auxiliary: adds the auxiliary head to an untrained network.
        device: where to.
        **size: fields of :class:`Scale` that differ from the published one: ``channels``, ``depth``, ``image_size``,
            ``in_channels``, ``n_classes``.

    Raises:
        UnknownNameError: for a network or weights that there are not.
        SettingError: for a size beside ``pretrained``, or a field that there is not.
    """
    network, _, tag = name.partition(".")
    item = named(network)
    if pretrained or tag:
        if scale is not None or size or auxiliary:
            raise SettingError(f"the weights of {item.name} have a size of their own; leave {', '.join(size) or 'scale'} out")
        wanted = tag or (pretrained if isinstance(pretrained, str) else "")
        model, facts = load_trained(shipped(f"{item.name}.{wanted}" if wanted else item.name), device=device)
        model.facts = facts  # type: ignore[assignment]
        return model
    facts = _facts(item, _resized(scale or item.scales[0][1], size), (), {})
    return network_of(facts, auxiliary=auxiliary).to(device)


def _resized(scale: Scale, size: Mapping[str, int]) -> Scale:
    strange = set(size) - set(asdict(scale))
    if strange:
        raise unknown("size", min(strange), asdict(scale))
    return replace(scale, **size)


def import_weights(
    name: str,
    file: Path,
    to: Path,
    *,
    data: str = "cifar10",
    classes: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    size: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Makes a training folder of a released checkpoint and returns its facts; `archduel eval` then checks it.

    Args:
        name: the published network that the file belongs to.
        file: ``.pt``, ``.pth`` or ``.safetensors``; types off the allow-list are refused, layers matched by structure.
        to: the folder, see :func:`archduel.networks.trained.save_trained`.
        data: ``cifar10``, ``cifar100`` or ``imagenet``: normalisation and classes.
        classes: names in the order of the outputs; default those of CIFAR-10, or the numbers from 0.
        mean: one a channel, of values in 0..1, where the release differs; ``std`` likewise.
        std: see ``mean``.
        size: fields of :class:`Scale` that differ from the published sizes, each of which is tried.

    Raises:
        UnknownNameError: for a network, data or field that there is not.
        DataError: for a file that cannot be read as weights.
        RunError: for a folder that holds something else.
        StateError: for weights of another architecture or size.
    """
    from archduel.networks.checkpoints import matched, read_checkpoint

    item = named(name)
    if data not in PREPROCESSING:
        raise unknown("data", data, PREPROCESSING)
    _check_free(to)
    weights = read_checkpoint(file)
    preprocessing = {**PREPROCESSING[data], **({"mean": list(mean)} if mean else {}), **({"std": list(std)} if std else {})}
    refused = []
    for scale in _candidates(item, preprocessing["size"], size or {}):
        facts = _facts(item, scale, classes or _classes(data, scale.n_classes), {**preprocessing, "size": scale.image_size})
        model = network_of(facts)
        try:
            take_weights(model, matched(model, weights, str(file)), str(file))
        except StateError as error:
            refused.append(f"C{scale.channels} L{scale.depth}, {scale.n_classes} classes: {error}")
            continue
        return save_trained(to, model, {**facts, "imported": {"file": file.name, "of": item.source}})
    raise StateError(f"no size of {item.name} fits. " + " | ".join(refused))


def _candidates(item: Named, image_size: int, size: Mapping[str, int]) -> list[Scale]:
    """Returns the published sizes for images of this size, changed as asked; without any, the first published one."""
    scales = [scale for _, scale in item.scales if scale.image_size == image_size]
    return list(dict.fromkeys(_resized(scale, size) for scale in scales or [item.scales[0][1]]))


def _classes(data: str, n: int) -> tuple[str, ...]:
    return CIFAR10 if data == "cifar10" and n == 10 else tuple(map(str, range(n)))


def _check_free(to: Path) -> None:
    """Raises RunError for a folder that holds anything but an earlier network of the zoo."""
    present = {path.name for path in to.iterdir()} if to.is_dir() else set()
    if to.is_file() or not present <= {WEIGHTS, FACTS, RECORD}:
        other = ", ".join(sorted(present)[:3]) or "it is a file"
        raise RunError(f"{to} holds something else ({other}); give another --to")


def load_to(name: str, to: Path, *, pretrained: bool | str = True) -> dict[str, Any]:
    """Writes our weights of a network as a training folder and returns its facts.

    Raises:
        UnknownNameError: for a network or weights that there are not.
        RunError: for a folder that holds something else.
    """
    _check_free(to)
    model = load(name, pretrained=pretrained)
    return save_trained(to, model, json.loads(json.dumps(model.facts)))
