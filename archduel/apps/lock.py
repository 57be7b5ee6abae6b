"""One process a folder: a second one is refused while the first holds the lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from archduel.errors import RunError

__all__ = ["lock_folder"]


def lock_folder(folder: Path) -> IO[str]:
    """Returns the held lock of ``folder``; the system releases it when the process ends, however it ends.

    Raises:
        RunError: if another process holds it; says which.
    """
    import fcntl

    file = open(folder / ".lock", "a+")  # noqa: SIM115 - open as long as the folder is used
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RunError(f"{folder} is in use by process {holder}; wait for it or stop it") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
