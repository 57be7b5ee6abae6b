"""Archives from strangers: checksums, and members copied out only to names that we chose or checked."""

from __future__ import annotations

import hashlib
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from archduel.errors import DataError

__all__ = ["checksum", "is_archive", "take_members", "unpack"]

BLOCK = 1 << 20
MOST_RATIO = 200  # unpacked bytes for one packed byte, above which an archive is taken for a bomb
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(path: Path) -> bool:
    """Returns whether the name is that of an archive."""
    return path.name.lower().endswith(ENDINGS)


def checksum(path: Path, kind: str = "sha256") -> str:
    """Returns the hash of a file as hexadecimal digits."""
    total = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def _safe(name: str) -> PurePosixPath:
    """Returns a member's name as a relative path that stays below its folder.

    Raises:
        DataError: for a name that would lead elsewhere.
    """
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or drive or "\\" in name or "\0" in name or ".." in path.parts:
        raise DataError(f"its member {name!r} would be written outside the folder; the archive is refused")
    return path


def _tar_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isreg():
                yield member.name, cast(BinaryIO, archive.extractfile(member))
            elif not member.isdir():
                raise DataError(f"its member {member.name!r} is a link or a device; the archive is refused")


def _zip_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"its member {member.filename!r} is a link; the archive is refused")
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, cast(BinaryIO, file)


def _members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yields (name, open file) of the regular members, each to be read before the next.

    Raises:
        DataError: for what is no archive, is damaged, or holds links or devices.
    """
    reader = _zip_members if zipfile.is_zipfile(path) else _tar_members
    try:
        yield from reader(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise DataError(f"{path} cannot be read as an archive: {error}") from error
    except Exception as error:  # zlib and lzma have errors of their own
        raise DataError(f"{path} is damaged: {type(error).__name__}: {error}") from error


class _Meter:
    """Counts unpacked bytes and stops a bomb."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, max(1 << 28, path.stat().st_size * MOST_RATIO)

    def copy(self, source: BinaryIO, to: Path) -> None:
        with open(to, "wb") as file:
            while block := source.read(BLOCK):
                self.left -= len(block)
                if self.left < 0:
                    raise DataError(
                        f"{self.path} unpacks to more than {MOST_RATIO} times its size; it is refused"
                    )
                file.write(block)


def take_members(path: Path, wanted: Collection[str], to: Path) -> None:
    """Copies members of exactly these names (such as ``folder/file``) into the folder ``to``, under their last part.

    Raises:
        DataError: for a damaged archive, or one that lacks a member.
    """
    missing, meter = set(wanted), _Meter(path)
    for name, file in _members(path):
        plain = posixpath.normpath(name)
        if plain in missing:
            meter.copy(file, to / PurePosixPath(plain).name)
            missing.remove(plain)
        if not missing:
            return
    raise DataError(f"{path} lacks {', '.join(sorted(missing))}; is it complete, and the right archive?")


def unpack(path: Path, to: Path, wanted: Callable[[str], bool]) -> int:
    """Copies the members whose name ``wanted`` accepts into ``to``, folders kept; returns how many.

    Raises:
        DataError: for a damaged archive, a member that would be written elsewhere, a link, or a decompression bomb.
    """
    n, meter = 0, _Meter(path)
    for name, file in _members(path):
        place = _safe(name)
        if not wanted(name):
            continue
        target = to.joinpath(*place.parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            meter.copy(file, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DataError(f"{path}: {name!r} is both a file and a folder") from error
        n += 1
    return n
