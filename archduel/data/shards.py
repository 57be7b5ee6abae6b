"""Pictures inside tar archives, found once and then read in place: no unpacking, any order."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from archduel.data.decode import SUFFIXES
from archduel.errors import DataError

__all__ = ["members"]

WORDS = (".cls", ".label", ".txt")


def members(root: Path, shards: Sequence[str]) -> Iterator[tuple[str, str, int, int, int]]:
    """Yields (name, class, number of the archive, first byte, bytes) of every picture.

    The class is the member's folder (``n01440764/x.jpg``) or the text of a member of the same name that ends in ``.cls``
    (``000123.jpg`` and ``000123.cls``).

    Raises:
        DataError: for an archive that is compressed or damaged, or a picture without a class.
    """
    for number, shard in enumerate(shards):
        try:
            with tarfile.open(root / shard, "r:") as archive:
                yield from _of(archive, number, shard)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"{root / shard} cannot be read as a plain tar archive ({error}); compressed ones must be unpacked first"
            ) from error


def _of(archive: tarfile.TarFile, number: int, shard: str) -> Iterator[tuple[str, str, int, int, int]]:
    waiting: dict[str, tuple[str, int, int]] = {}
    said: dict[str, str] = {}
    for member in archive:
        if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
            continue
        path = PurePosixPath(member.name)
        key, end = str(path.with_suffix("")), path.suffix.lower()
        if end in WORDS:
            file = archive.extractfile(member)
            said[key] = file.read(200).decode("utf-8", "replace").strip() if file else ""
        elif end in SUFFIXES and path.parent.name:
            yield member.name, path.parent.name, number, member.offset_data, member.size
        elif end in SUFFIXES:
            waiting[key] = (member.name, member.offset_data, member.size)
        for found in [k for k in (key,) if k in waiting and k in said]:
            name, start, size = waiting.pop(found)
            yield name, said.pop(found), number, start, size
    if waiting:
        name = next(iter(waiting.values()))[0]
        raise DataError(f"{shard} says no class for {len(waiting)} pictures, such as {name}; expected a folder or a .cls member")
