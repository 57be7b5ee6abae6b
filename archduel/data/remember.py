"""Data that lives in one process only, made findable by name in every process and in a resumed run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from archduel.data import cache as store
from archduel.data.kept import Item, is_kept, keep
from archduel.data.load import source_of
from archduel.data.source import Source, digest

__all__ = ["identity", "remember"]


def identity(data: Any) -> str:
    """Returns a hash (16 hexadecimal digits) of the pictures and labels of arrays or a dataset object.

    Args:
        data: ``(images, labels)`` or an object with ``len()`` and items (picture, label).

    Raises:
        DataError: for anything else.
    """
    source = source_of(data)
    if source.key is not None:
        return digest(source.key, source.classes)[:16]
    parts: list[Any] = [source.labels, source.classes]
    for number in range(len(source)):
        with source.read(number) as image:
            parts.append(digest(image.mode, np.asarray(image)))
    return digest(*parts)[:16]


def _items(source: Source) -> Iterator[Item]:
    for number, (label, split) in enumerate(zip(source.labels.tolist(), source.given.tolist())):
        yield source.read(number), label, split


def _common_shape(source: Source) -> tuple[int, ...] | None:
    """Returns the shape that all pictures have as uint8, where that is sure without reading them."""
    if source.key is None:
        return None
    first = np.asarray(source.read(0))
    return first.shape if first.dtype == np.uint8 else None


def remember(data: Any, *, cache: Path | None = None) -> str:
    """Returns a name (``arrays:...``) under which :func:`archduel.data.load` finds the data, in any process.

    The pictures are written into the cache once, without loss; ``archduel data clear --all`` removes them.

    Args:
        data: ``(images, labels)`` or an object with ``len()`` and items (picture, label).
        cache: root of the cache.

    Raises:
        DataError: for anything else.
    """
    source, mark = source_of(data), identity(data)
    final = store.cache_root(cache) / "sets" / f"arrays-{mark}"
    if not is_kept(final):
        with store.locked(final.parent / f".{final.name}.lock"):
            keep(final, _items(source), source.classes, shape=_common_shape(source), flip=source.flip)
    return f"arrays:{mark}"
