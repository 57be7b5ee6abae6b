"""`archduel worker --join RUN`: a worker of a search whose driver runs somewhere else."""

from __future__ import annotations

import signal
import threading
from functools import partial
from pathlib import Path

from archduel.commands.progress import Progress
from archduel.commands.search.executors import prepared
from archduel.commands.search.settings import read_settings
from archduel.commands.trainings import environments_for
from archduel.core.job import RESULT, WORK
from archduel.execution import join

__all__ = ["joined"]


def joined(folder: Path, *, workers: int | None = None, data: str | None = None, device: str | None = None, wait: float = 600.0, quiet: bool = False) -> int:
    """Trains for the run in ``folder`` until it is finished, and returns how many tasks were done here.

    Args:
        folder: of the run, as this machine sees it; it may be begun later.
        workers: trainings at a time; None = one, or on ``cuda`` one for each GPU that is seen here.
        data: where the images lie here; None = as the run says.
        device: where to train here; None = as the run says.
        wait: seconds without a driver after which it leaves.
        quiet: print nothing.

    Raises:
        ArchduelError: one of its kinds: no driver, other versions, other data.
    """
    def environments() -> list[dict[str, str]]:
        """Returns what the processes find in their environment, once ``run.toml`` says where the run trains."""
        return environments_for(device or read_settings(folder).device)

    progress = Progress(quiet=quiet)
    # a batch system asks politely before it kills: what is being trained is given back to the others
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = join(
        folder / WORK, partial(prepared, folder, data=data, device=device), workers=workers, wait=wait,
        finished=(folder / RESULT).is_file, say=progress.say, environments=environments,
    )  # fmt: skip
    progress.say(f"{folder} is finished; {done} tasks were done here")
    return done
