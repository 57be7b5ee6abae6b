"""Downloading a public file: with progress, resumed where it broke off, and believed only after its SHA-256."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from archduel.data.archive import checksum
from archduel.data.cache import locked
from archduel.errors import DataError

__all__ = ["download"]

BLOCK = 1 << 18


def _resume(url: str, part: Path, timeout: float, progress: Callable[[int, int], None] | None) -> None:
    """Downloads what is missing of ``part``; a server that cannot resume sends everything again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        resumed = answer.status == 206
        done = have if resumed else 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK):
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
