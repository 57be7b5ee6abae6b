"""A folder to carry to another device: networks as ONNX, spread over what a search builds, and the script that measures them there."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from archduel.core import Arch, Scale, Space, sample
from archduel.core.disk import HARMLESS
from archduel.devices.measurements import Kit, KitNetwork, kit_record
from archduel.devices.operators import COLUMNS, operator_columns
from archduel.errors import ExportError, SettingError, check_at_least

__all__ = ["Source", "choose", "write_kit"]

CANDIDATES = 12
"""Networks that are looked at for one that is chosen: more cost seconds and are hardly more different."""
FILES = {"measure.py", "kit.json", "README.md"}


@dataclass(frozen=True)
class Source:
    """Networks that a search may build in one space.

    Attributes:
        space: of the architectures.
        channels: widths at which they are built.
        depths: likewise; both mean nothing where architectures have a size of their own.
    """

    space: Space
    channels: Sequence[int]
    depths: Sequence[int]


def choose(
    source: Source, n: int, image: Scale, rng: np.random.Generator, *, within: Callable[[Arch, Scale], bool] | None = None
) -> list[tuple[Arch, Scale]]:
    """Returns ``n`` different networks, from small to large: one of each part of the range of multiply-adds, unlike those before.

    Args:
        source: where they are from.
        n: how many.
        image: says input and classes.
        rng: draws the candidates.
        within: which networks may be chosen; None = all.

    Raises:
        SettingError: if the space has too few.
    """
    check_at_least(1, networks=n)
    found: dict[tuple[Arch, Scale], np.ndarray[Any, Any]] = {}
    for _ in range(40 * n):
        arch = sample(source.space, rng)
        scale = Scale(int(rng.choice(source.channels)), int(rng.choice(source.depths)), image.image_size, image.in_channels, image.n_classes)
        if (arch, scale) not in found and (within is None or within(arch, scale)):
            found[arch, scale] = operator_columns(arch, scale)
        if len(found) >= CANDIDATES * n:
            break
    if len(found) < n:
        raise SettingError(f"{source.space.name} has {len(found)} different networks of this size, {n} are wanted; take fewer")
    columns = np.log1p(np.array(list(found.values())))
    spread = columns.std(0)
    columns = (columns - columns.mean(0)) / np.where(spread > 0, spread, 1.0)
    macs = np.array(list(found.values()))[:, [i for i, name in enumerate(COLUMNS) if name.endswith("/macs")]].sum(1)
    networks = list(found)
    chosen: list[int] = []
    for part in np.array_split(np.argsort(macs, kind="stable"), n):
        away = [min((float(((columns[i] - columns[j]) ** 2).sum()) for j in chosen), default=0.0) for i in part]
        chosen.append(int(part[int(np.argmax(away))]))
    return [networks[i] for i in chosen]


class _FromPixels(nn.Module):
    """A network behind what every export begins with: uint8 pixels made 0..1 and normalised."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns (N, classes) logits of (N, C, H, W) uint8."""
        logits: torch.Tensor = self.network((pixels.float() / 255 - 0.5) / 0.25)
        return logits


def write_kit(
    folder: Path, networks: Sequence[tuple[Arch, Scale]], *, facts: Mapping[str, Any], say: Callable[[str], None] = print
) -> Kit:
    """Writes the folder, whole or not at all, and returns what is in it.

    Args:
        folder: where to; must be empty or not there.
        networks: of :func:`choose`.
        facts: how they were chosen, for the record.
        say: takes messages for people.

    Raises:
        ExportError: if the folder holds other files, a package that ONNX needs is missing, or a network cannot be written.
    """
    from archduel.export.folder import missing_packages

    if missing := missing_packages():
        raise ExportError(f"a kit holds ONNX files, which need {', '.join(missing)}: pip install 'archduel[export]'")
    place = folder.resolve()
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - HARMLESS):
        raise ExportError(f"{folder} holds files already; give a new folder, or empty it")
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    draft.mkdir()
    try:
        entries = [_written(draft, number, *network, total=len(networks), say=say) for number, network in enumerate(networks)]
        identity = hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()[:12]
        kit = Kit(identity, tuple(entries), dict(facts))
        (draft / "kit.json").write_text(json.dumps(kit_record(kit), indent=1), encoding="utf-8")
        for name in ("measure.py", "README.md"):
            text = files("archduel").joinpath("devices", "templates", f"{name}.txt").read_text(encoding="utf-8")
            (draft / name).write_text(text.replace("{{N}}", str(len(entries))), encoding="utf-8")
        if folder.exists():
            for entry in place.iterdir():  # what systems put there
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            place.rmdir()
        os.replace(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kit


def _written(folder: Path, number: int, arch: Arch, scale: Scale, *, total: int, say: Callable[[str], None]) -> KitNetwork:
    """Writes one network and returns its line."""
    from archduel.export.folder import write_onnx
    from archduel.spaces.family import build

    name = f"network{number + 1:02d}"
    network = _FromPixels(build(arch, scale, generator=torch.Generator().manual_seed(number))).eval()
    path = folder / f"{name}.onnx"
    write_onnx(network, torch.zeros(2, scale.in_channels, scale.image_size, scale.image_size, dtype=torch.uint8), path)
    say(f"  {number + 1} of {total}: {name}.onnx, {path.stat().st_size / 1e6:.2f} MB")
    return KitNetwork(name, hashlib.sha256(path.read_bytes()).hexdigest(), str(arch), asdict(scale))
