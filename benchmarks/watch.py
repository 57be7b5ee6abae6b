"""How soon `archduel watch` shows a new record of a long journal, and what following costs. Needs Chromium.

    python benchmarks/watch.py --out benchmarks/records/watch.json --screenshots /tmp/shots
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from headless import Page

from archduel.commands.journals import place_of
from archduel.commands.live import job_live
from archduel.commands.runs.watch import HOST, serve
from archduel.core.storage import Journal, environment
from archduel.reporting.live import live_parts

SETTINGS = """command = "archduel search digits --time 2h"
[run]
data = "digits"
space = "stages"
strategy = "random"
seconds = 7200.0
[versions]
archduel = "0"
[hardware]
cpu = "none"
"""


def _rung(number: int, rung: int, clock: float) -> dict[str, Any]:
    accuracy = 0.4 + 0.5 * ((number * 7919 + rung * 13) % 1000) / 1000
    point = {"seconds": 2.0**rung, "passes": 1.0, "score": accuracy, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
    return {"event": "rung", "clock": clock, "number": number, "rung": rung, "point": point, "cost": 1.0, "seconds": 2.0**rung, "stage": "race"}


def long_race(folder: Path, records: int) -> Journal:
    """Returns the journal of a race of so many records, written into ``folder``."""
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(SETTINGS)
    journal, number = Journal(folder / "journal.jsonl", fsync=False), 0
    while len(journal.records) < records:
        clock = float(number)
        arch = f"stages:{number % 3}.0.1.1.1.2.2.0.0.{number % 2}"
        values = {"role": ("search", "random", "standard")[number % 3], "arch": arch, "counts": [10_000 + 7 * number, 10**6]}
        journal.append({"event": "enter", "clock": clock, "number": number, **values, "scale": {}, "exchange": [], "side": 0, "stage": "race"})
        for rung in range(1 + number % 2):
            journal.append(_rung(number, rung, clock))
        number += 1
    return journal


def measured(records: int, updates: int, shots: Path | None) -> dict[str, Any]:
    """Returns seconds from a record to the page that shows it, and the processor seconds of drawing it."""
    with tempfile.TemporaryDirectory() as home:
        journal = long_race(Path(home) / "race", records)
        server = serve(place_of(Path(home) / "race"), 0)
        watched: Any = server.RequestHandlerClass.watched  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{HOST}:{server.server_port}/"
        delays, drawn = [], []
        with Page(address, Path(home) / "browser") as page:
            page.wait("document.documentElement.dataset.version")
            for number in range(updates):
                time.sleep(1.7)  # not in step with the page's second
                clock = float(records + number)
                journal.append({**_rung(0, 2 + number, clock), "note": f"update{number}"})
                delays.append(page.wait(f"document.getElementById('part-log').textContent.includes('update{number}')"))
        for _ in range(5):
            began = time.process_time()
            live_parts(job_live(watched.place, watched.tail.records), "wide")
            drawn.append(time.process_time() - began)
        for name, width, dark in (("light", 1200, False), ("dark", 1200, True), ("narrow", 420, False)) if shots else ():
            with Page(address, Path(home) / name, width, 2400, dark=dark) as page:
                page.wait("document.documentElement.dataset.version")
                page.picture(shots / f"{name}.png")
        server.shutdown()
        server.server_close()
    return {
        "records": records, "updates": updates, "seconds_to_page": {"median": statistics.median(delays), "most": max(delays)},
        "processor_seconds_to_draw": statistics.median(drawn),
    }  # fmt: skip


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--screenshots", type=Path)
    asked = parser.parse_args()
    rows = [measured(records, asked.updates, asked.screenshots if records == 10_000 else None) for records in (1_000, 10_000)]
    record = {"command": "python benchmarks/watch.py", "rows": rows, "load": os.getloadavg()[0], **environment()}
    print(json.dumps(record, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
