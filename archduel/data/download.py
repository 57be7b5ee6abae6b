"""Downloading a public file: with progress, resumed where it broke off, and believed only after its SHA-256."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import posixpath
import stat
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from archduel.data.cache import locked
from archduel.errors import MACHINE, DataError

__all__ = ["FREE", "MOST_RATIO", "checksum", "download", "is_archive", "take_members", "unpack"]

# -- Archives from strangers: checksums, and members copied out only to names that we chose or checked ------------------


UNPACK_BLOCK = 1 << 20
MOST_RATIO = 200  # unpacked bytes for one packed byte, above which an archive is taken for a bomb
FREE = 1 << 28  # bytes that any archive may unpack to
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(path: Path) -> bool:
    """Returns whether the name is that of an archive."""
    return path.name.lower().endswith(ENDINGS)


def checksum(path: Path, kind: str = "sha256") -> str:
    """Returns the hash of a file as hexadecimal digits."""
    total = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(UNPACK_BLOCK):
            total.update(block)
    return total.hexdigest()


def _safe(name: str) -> PurePosixPath:
    """Returns a member's name as a relative path that stays below its folder.

    Raises:
        DataError: for a name that would lead elsewhere.
    """
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or drive or "\0" in name or ".." in path.parts:
        raise DataError(f"its member {name!r} would be written outside the folder; the archive is refused")
    return path


class _Stream:
    """A file read forwards, uncompressed by its first bytes, that remembers its end."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            start = file.read(6)
        opener: Any = open
        for magic, known in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
            if start.startswith(magic):
                opener = known
        self.file, self.tail = opener(path, "rb"), b""

    def read(self, n: int) -> bytes:
        """Returns up to ``n`` bytes; the packages' readers raise where a compressed file is cut off."""
        block: bytes = self.file.read(n)
        self.tail = (self.tail + block)[-512:]
        return block

    def check_end(self) -> None:
        """Raises unless the archive ends as tar archives do; tarfile itself takes a cut for the end."""
        while self.read(UNPACK_BLOCK):
            pass
        if len(self.tail) < 512 or self.tail.strip(b"\0"):
            raise DataError("it is cut off")


def _tar_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    stream = _Stream(path)
    with stream.file, tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
        for member in archive:
            if member.isreg():
                yield member.name, cast(BinaryIO, archive.extractfile(member))
            elif not member.isdir():
                raise DataError(f"its member {member.name!r} is a link or a device; the archive is refused")
        stream.check_end()


def _zip_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"its member {member.filename!r} is a link; the archive is refused")
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, cast(BinaryIO, file)


def _members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yields (name, open file) of the regular members, each to be read before the next; links and devices are refused."""
    return _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a damaged archive leads the readers to into one error that names it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{path}: {error.filename!r} is both a file and a folder in it") from error
    except OSError as error:
        if error.errno in MACHINE:
            raise DataError(f"{path} cannot be unpacked: {error.strerror}; the same command tries again") from error
        raise DataError(f"{path} is damaged or no archive: {type(error).__name__}: {error}") from error
    except Exception as error:  # tarfile, zipfile, zlib, lzma and bz2 have errors of their own
        raise DataError(f"{path} is damaged or no archive: {type(error).__name__}: {error}") from error


class _Meter:
    """Counts unpacked bytes and stops a bomb."""

    def __init__(self, path: Path) -> None:
        self.left = max(FREE, path.stat().st_size * MOST_RATIO)

    def copy(self, source: BinaryIO, to: Path) -> None:
        with open(to, "wb") as file:
            while block := source.read(UNPACK_BLOCK):
                self.left -= len(block)
                if self.left < 0:
                    raise DataError(f"it unpacks to more than {MOST_RATIO} times its size; it is refused")
                file.write(block)


def take_members(path: Path, wanted: Collection[str], to: Path) -> None:
    """Copies members of exactly these names (such as ``folder/file``) into the folder ``to``, under their last part.

    Raises:
        DataError: for a damaged archive, or one that lacks a member.
    """
    missing, meter = set(wanted), _Meter(path)
    with _reading(path):
        for name, file in _members(path):
            plain = posixpath.normpath(name)
            if plain in missing:
                meter.copy(file, to / PurePosixPath(plain).name)
                missing.remove(plain)
            if not missing:
                return
        raise DataError(f"it lacks {', '.join(sorted(missing))}; is it complete, and the right archive?")


def unpack(path: Path, to: Path, wanted: Callable[[str], bool]) -> int:
    """Copies the members whose name ``wanted`` accepts into ``to``, folders kept; returns how many.

    Raises:
        DataError: for a damaged archive, a member that would be written elsewhere, a link, or a decompression bomb.
    """
    n, meter = 0, _Meter(path)
    with _reading(path):
        for listed, file in _members(path):
            name = listed.replace("\\", "/")  # what some Windows programs write between folders
            place = _safe(name)
            if wanted(name):
                target = to.joinpath(*place.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                meter.copy(file, target)
                n += 1
    return n


DOWNLOAD_BLOCK = 1 << 18


def _resume(url: str, part: Path, timeout: float, progress: Callable[[int, int], None] | None) -> None:
    """Downloads what is missing of ``part``; a server that cannot resume sends everything again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        resumed = answer.status == 206
        done = have if resumed else 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(DOWNLOAD_BLOCK):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, max(total, done))
        if done < total:
            raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _fetch(
    url: str,
    part: Path,
    *,
    tries: int,
    pause: float,
    timeout: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    for attempt in range(1, tries + 1):
        try:
            return _resume(url, part, timeout, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # nothing is left to send
                return None
            if error.code < 500 or attempt == tries:
                raise
        except (OSError, HTTPException):
            if attempt == tries:
                raise
        time.sleep(pause * attempt)
    return None


def download(
    url: str,
    to: Path,
    *,
    sha256: str,
    progress: Callable[[int, int], None] | None = None,
    tries: int = 3,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Returns ``to``, downloaded from ``url`` unless it is there already.

    An interrupted download leaves ``to`` with the ending ``.part`` and continues there, in this call or a later one.

    Args:
        url: public address (http or https).
        to: the file.
        sha256: what it must have.
        progress: called with (bytes so far, bytes in total).
        tries: attempts, each continuing the one before.
        pause: seconds between them, growing.
        timeout: seconds without a byte after which an attempt has failed.

    Raises:
        DataError: if it cannot be reached (with the address and the place for a file fetched otherwise) or its SHA-256 is
            another.
    """
    part = to.with_name(f"{to.name}.part")
    with locked(to.with_name(f".{to.name}.lock")):
        if to.is_file() and checksum(to) == sha256:
            return to
        try:
            _fetch(url, part, tries=tries, pause=pause, timeout=timeout, progress=progress)
        except (OSError, HTTPException) as error:
            raise DataError(
                f"{url} cannot be fetched ({error}); download it where there is a network and put it at {to}, "
                "then run the same command again"
            ) from error
        if (found := checksum(part)) != sha256:
            part.unlink()
            raise DataError(
                f"{url} gave a file with the SHA-256 {found}, expected {sha256}; it was removed, try again"
            )
        os.replace(part, to)
    return to
