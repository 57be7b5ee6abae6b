"""What the first weights of NAC's embedding do to its rank agreement: N(0, 1) as released, against uniform within 1/sqrt(d) as before.

    ARCHDUEL_DATA=DATA python benchmarks/nac_initialisation.py --out benchmarks/records/nac_initialisation.json

The 20,001 labelled cells of NAS-Bench-101 (validation accuracy of one run at 108 epochs). For each split, paired: NAC in its settings learns
from 424 of them and orders 3,000 others. Recorded is Kendall's tau; splits are added to a record that is there.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from archduel import environment
from archduel.rankers import NAC, nac
from archduel.tables.importing import ImportPlan, import_columns

LEARNED, JUDGED = 424, 3_000


def uniform(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Draws all parameters, embeddings among them, from U(-1/sqrt(d), 1/sqrt(d))."""
    for parameter in model.parameters():
        bound = parameter.shape[-1] ** -0.5
        parameter.data.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


def measured(table: Any, split: int) -> dict[str, float]:
    """Returns tau and processor seconds with both first weights on one split."""
    order = np.random.default_rng(split).permutation(len(table))
    learned, judged = order[:LEARNED], order[LEARNED : LEARNED + JUDGED]
    cells = [table.arch(i) for i in judged]
    found: dict[str, float] = {}
    released = nac.reset_uniform
    for name, first in (("released", released), ("uniform", uniform)):
        nac.reset_uniform, began = first, time.process_time()
        ranker = NAC(table.space, seed=0)
        ranker.fit([table.arch(i) for i in learned], table.validation()[learned])
        found[name] = float(kendalltau(ranker.predict(cells), table.validation()[judged]).statistic)
        found[f"{name}_seconds"] = time.process_time() - began
    nac.reset_uniform = released
    return found


def main() -> None:
    """Measures splits one by one and writes the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", default="21,22,23")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["ARCHDUEL_DATA"]) / "nasbench101/cells_val_4budgets.parquet"
    record: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1, "learned": LEARNED, "judged": JUDGED, "splits": {}}
    if arguments.out.is_file():
        record["splits"] = json.loads(arguments.out.read_text())["splits"]
    with tempfile.TemporaryDirectory() as folder:
        columns = {"adjacency": "adjacency", "ops": "ops"}
        table = import_columns(data, "nasbench101", ImportPlan(Path(folder) / "t.table"), values={"validation": ["val_acc_108ep"]}, columns=columns)
        for split in arguments.splits.split(","):
            record["splits"][split] = measured(table, int(split))
            gaps = [each["released"] - each["uniform"] for each in record["splits"].values()]
            record["difference"] = {"mean": float(np.mean(gaps)), "n": len(gaps), "sd": float(np.std(gaps, ddof=1)) if len(gaps) > 1 else None}
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(record, indent=1) + "\n")
            print(split, record["splits"][split], flush=True)


if __name__ == "__main__":
    main()
