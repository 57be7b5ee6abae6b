"""What a backbone says of images without being trained: the mean of every map, at every place where it could be cut, from one pass."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archduel.core.disk import write_atomic
from archduel.data.cache import cache_root

if TYPE_CHECKING:
    from torch import Tensor

    from archduel.spaces.pretrained.member import Member, Shown
    from archduel.spaces.pretrained.network import Trunk
    from archduel.training.images import Pixels

__all__ = ["FEATURES", "MOST_BYTES", "an_image", "cached_features", "frozen_features", "measure_norms", "own_features", "pixels_digest"]

FEATURES = "features"
"""Folder of the cache."""
MOST_BYTES = 2 << 30
"""Of the folder; what was used longest ago goes first."""
BATCH = 64


def frozen_features(
    trunk: Trunk | Member, shown: Shown, images: Pixels, *, precision: str = "fp32"
) -> dict[int, NDArray[np.float16]]:
    """Returns for each number of blocks kept the means of the last map, (N, channels) float16; one more for the neck.

    Args:
        trunk: a whole backbone, or what is kept of one, in evaluation mode; its weights lie channels last afterwards.
        shown: makes normalised images what the backbone was shown.
        images: which ones.
        precision: ``bf16`` where that is faster (:func:`archduel.race.best_precision`), else ``fp32``.
    """
    import torch

    from archduel.training.augment import normalise
    from archduel.training.runtime import at_a_time

    parts: dict[int, list[NDArray[np.float16]]] = {}
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    trunk = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), torch.autocast("cpu", kind, enabled=precision == "bf16"):
        for rows in torch.arange(len(images)).split(at_a_time(trunk, shown.resolution, BATCH, "cpu")):
            x = shown(normalise(images.batch(rows)[0], images.mean, images.std, channels_last=True))
            for number, made in enumerate(trunk.maps(x)):
                if number:  # the map of the stem alone is no network
                    parts.setdefault(number, []).append(made.float().mean((2, 3)).half().numpy())
    return {number: np.concatenate(made) for number, made in parts.items()}


def an_image(trunk: Trunk, shown: Shown, images: Pixels, now: Callable[[], float], *, precision: str = "fp32") -> float:
    """Returns the seconds that :func:`frozen_features` takes for an image, measured on these, by the clock ``now``."""
    took = []
    for _ in range(3):  # the first time memory is asked for, and what else the machine does may be in any
        began = now()
        frozen_features(trunk, shown, images, precision=precision)
        took.append((now() - began) / len(images))
    return min(took)


def _batches(images: Pixels) -> Iterator[Tensor]:
    """Yields normalised images."""
    import torch

    from archduel.training.augment import normalise

    for rows in torch.arange(len(images)).split(BATCH):
        yield normalise(images.batch(rows)[0], images.mean, images.std)


def measure_norms(model: Member, images: Pixels) -> None:
    """Measures the norms of a network whose insides were changed."""
    from archduel.training.norms import recalibrate

    recalibrate(model, (batch for batch in _batches(images) if len(batch) > 1))  # one image has no spread


def own_features(model: Member, images: Pixels, *, precision: str = "fp32") -> NDArray[np.float16]:
    """Returns the features (N, channels) float16 of a network's own trunk, as :func:`frozen_features` makes them; it stays in evaluation mode."""
    import torch

    found = frozen_features(model.eval(), model.shown, images, precision=precision)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return found[max(found)]


def cached_features(
    key_of: tuple[str, str, int, str], make: Callable[[], Mapping[int, NDArray[np.float16]] | None], *, cache: Path | None = None
) -> Mapping[int, NDArray[np.float16]] | None:
    """Returns what ``make`` returns, from the cache where it was made before for the same images, weights, resolution and precision.

    Args:
        key_of: digest of the images in their order, digest of the weights, resolution in pixels, precision.
        make: makes them; None is not kept.
        cache: root of the cache; None = the user's.
    """
    folder = cache_root(cache) / FEATURES
    path = folder / f"{hashlib.blake2b(repr(key_of).encode(), digest_size=16).hexdigest()}.npz"
    found = _read(path)
    if found is not None:
        return found
    made = make()
    if made is not None:
        _keep(path, made)
    return made


def _read(path: Path) -> dict[int, NDArray[np.float16]] | None:
    """Returns the features in a file, None where there is none or it is damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {int(name): file[name] for name in file.files}
        path.touch()  # what was used last is kept longest
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception:  # zipfile and zlib raise their own types for damaged archives
        return None
    return found if found and all(part.dtype == np.float16 and part.ndim == 2 for part in found.values()) else None


def _keep(path: Path, features: Mapping[int, NDArray[np.float16]]) -> None:
    """Writes features, unless the disk does not take them, and bounds the folder."""
    buffer = io.BytesIO()
    np.savez(buffer, **{str(number): part for number, part in features.items()})  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
        files = sorted(path.parent.glob("*.npz"), key=lambda each: each.stat().st_mtime, reverse=True)
        total = 0
        for each in files:
            total += each.stat().st_size
            if total > MOST_BYTES and each != path:
                each.unlink(missing_ok=True)
    except OSError:
        return  # a cache that cannot be written costs time and nothing else


def pixels_digest(images: Pixels, look: Sequence[float]) -> str:
    """Returns what tells these images, in this order and normalisation, from others."""
    import torch

    digest = hashlib.blake2b(repr(tuple(look)).encode(), digest_size=16)
    for rows in torch.arange(len(images)).split(1024):
        digest.update(images.batch(rows)[0].cpu().numpy().tobytes())
    return digest.hexdigest()
