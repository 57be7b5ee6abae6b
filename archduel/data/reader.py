"""A process that reads, decodes and crops pictures into shared memory: ``python -m archduel.data.reader``.

It takes tasks from its standard input and answers on its standard output; it ends when its input does, so it never outlives
the process that started it. It imports no torch.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from archduel.data.catalogue import Catalogue, open_catalogue
from archduel.data.crops import cropped
from archduel.data.dataset import Preprocessing
from archduel.data.decode import open_picture
from archduel.data.picture import apply_preprocessing

__all__ = ["ANSWER", "TASK", "main", "read_picture"]

TASK = struct.Struct("<iiiQ")
"""Number of the slot, first place in it, number of pictures, seed; their rows (int64) follow."""
ANSWER = struct.Struct("<iii")
"""Number of the slot, first place in it, bytes of an error message, which follows; 0 = all is well."""


def read_picture(
    catalogue: Catalogue, row: int, look: Preprocessing, scale: float, seed: int
) -> NDArray[np.uint8]:
    """Returns picture ``row`` as (C, S, S) uint8: randomly cropped for ``scale`` above 0, else as ``look`` says.

    The crop depends on ``seed`` and ``row`` only, not on who reads it.
    """
    with catalogue.open(row) as file, open_picture(file) as image:
        if scale:
            return cropped(image, look.size, scale, look.mode, np.random.default_rng((seed, row)))
        return apply_preprocessing(image, look)


def _tasks(source: BinaryIO) -> Any:
    while head := source.read(TASK.size):
        slot, first, n, seed = TASK.unpack(head)
        yield slot, first, seed, np.frombuffer(source.read(8 * n), np.int64)


def main() -> None:
    """Does the tasks of the standard input until it ends."""
    import signal
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what ends
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    told = json.loads(source.readline())
    catalogue, look = open_catalogue(Path(told["catalogue"])), Preprocessing(**told["look"])
    shape = tuple(told["shape"])  # (slots, B, C, S, S)
    slots = np.frombuffer(mmap.mmap(told["memory"], int(np.prod(shape))), np.uint8).reshape(shape)
    assert catalogue is not None
    for slot, first, seed, rows in _tasks(source):
        message = b""
        for place, row in enumerate(rows.tolist(), first):
            try:
                slots[slot, place] = read_picture(catalogue, row, look, told["scale"], seed)
            except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
                message = f"{catalogue.root / catalogue.name(row)}: {type(error).__name__}: {error}".encode()[:2000]
                break
        sink.write(ANSWER.pack(slot, first, len(message)) + message)
        sink.flush()


if __name__ == "__main__":
    main()
