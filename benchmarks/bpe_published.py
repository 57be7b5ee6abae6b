"""BPE's published tables with this package's means: all rank correlations, importance, front, and replayed prunings.

    python benchmarks/bpe_published.py --out benchmarks/records/bpe_published.json

The tables are found by ``ARCHDUEL_DATA`` (``bpe/*.csv``).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

from archduel import environment
from archduel.commands.proxy.published import published_record, published_text


def main() -> None:
    """Writes the record and prints it as text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    began = time.process_time()
    record = published_record(Path(os.environ["ARCHDUEL_DATA"]) / "bpe")
    facts = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1,
        "cpu_seconds": round(time.process_time() - began, 1), "source": "BPE's two workbooks, as CSV",
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**facts, **record}, indent=1) + "\n", encoding="utf-8")
    print(published_text(record))


if __name__ == "__main__":
    main()
