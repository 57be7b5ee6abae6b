"""Started by a test: runs queries that take long, to be interrupted."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from worker_judges import Sleeper

from archduel.core import Arch, Query
from archduel.execution import Processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
    with Processes(Sleeper(Path(sys.argv[1])), workers=2, run_seed=0) as executor:
        try:
            list(executor.run([Query(Arch("s", (i,))) for i in (1, 2, 3)], range(3)))
        except KeyboardInterrupt:
            print("interrupted")
