"""Started by a test: joins a folder as a worker. FOLDER FACTORY WORKERS [ARGUMENT]"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import worker_judges

from archduel.errors import ArchduelError, RunError
from archduel.execution import join


def prepare(about: dict[str, Any]) -> Any:
    kind, given = sys.argv[2], sys.argv[4:]
    if kind == "Differs":
        raise RunError(f"archduel is 1 here, {about['versions']['archduel']} there")
    made = getattr(worker_judges, kind)
    return made(Path(given[0])) if given else made


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Path(sys.argv[1])
    try:
        print("done", join(place, prepare, workers=int(sys.argv[3]), wait=30, finished=(place.parent / "result.json").exists))
    except (ArchduelError, KeyboardInterrupt) as error:
        print(f"error: {error}")
        sys.exit(1)
