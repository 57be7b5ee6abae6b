"""The objects in a file of ``torch.save``, read without torch and without unpickling; tensors are left out."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archduel.errors import TableError
from archduel.estimators.importers.pickle_makers import CONTAINERS, NUMPY, WEIGHTS
from archduel.estimators.importers.pickle_reader import PickleReader
from archduel.estimators.importers.pickle_values import Limits, Maker

__all__ = ["read_torch_file"]

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAKERS: Mapping[str, Maker] = {**CONTAINERS, **NUMPY, **WEIGHTS}


def read_torch_file(
    path: Path, *, on_dict: Callable[[dict[Any, Any]], int] | None = None, limits: Limits | None = None
) -> Any:
    """Returns the object in a file of ``torch.save``: the zip form or the older one.

    Args:
        path: the file.
        on_dict: see :class:`PickleReader`.
        limits: what reading may cost.

    Raises:
        TableError: if the file is neither, is damaged, or holds anything but plain data and tensors.
    """
    with _data(path) as (read, old):
        reader = PickleReader(read, MAKERS, on_dict=on_dict, limits=limits, what=str(path))
        if old:
            if reader.load() != MAGIC or reader.load() != VERSION:
                raise TableError(
                    f"{path} is no file of torch.save: it does not begin with its number and version"
                )
            reader.load()  # facts about the machine that wrote it
        return reader.load()


@contextmanager
def _data(path: Path) -> Iterator[tuple[Callable[[int], bytes], bool]]:
    """Yields how the pickles are read, and whether it is the form before the zip."""
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                file.seek(0)
                yield file.read, True
                return
        with zipfile.ZipFile(path) as archive:
            names = [
                name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1
            ]
            if len(names) != 1:
                raise TableError(
                    f"{path} is a zip file with {len(names)} data.pkl, a file of torch.save has one"
                )
            with archive.open(names[0]) as member:
                yield member.read, False
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
