"""Every published network through the export: stand-alone source and ONNX against PyTorch, parameters without the auxiliary head.

    python benchmarks/export_all.py --out benchmarks/records/export_all.json

Small sizes (the operations and their wiring are those of the published networks), auxiliary heads attached, batch-norm
statistics moved from their initial values. Continues where an earlier call stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from archduel import environment
from archduel.core import Scale
from archduel.export import export_folder
from archduel.networks import find_architecture, network_of
from archduel.spaces import NAMED

OTHERS = ("nasbench201:3.1.2.4.3.0", "natsbench_sss:0.1.2.3.4", "resnet:2.3", "darts_supercell:" + ".".join("0123456" * 4))


def one(text: str, size: int, seed: int = 0) -> dict[str, object]:
    """Exports one network and returns what was found."""
    found = find_architecture(text)
    depth = 3 if found.space in ("", "darts", "darts_supercell") else 1
    scale = Scale(4, depth, size, 3, 3)
    facts = {**found.facts, "scale": scale}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network_of(facts, auxiliary=True)
        model.train()(torch.randn(8, 3, size, size))
    look = {"size": size, "mode": "RGB", "rule": "crop", "mean": [0.5] * 3, "std": [0.25] * 3}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = export_folder(model.eval(), text, scale, Path(folder) / "net", classes="abc", preprocessing=look, facts={})
    own = {name: p for name, p in model.named_parameters() if not name.startswith("auxiliary.")}
    slopes = torch.autograd.grad(model(torch.randn(2, 3, size, size)).sum(), list(own.values()), allow_unused=True)
    total = sum(p.numel() for p in own.values())
    unread = sum(p.numel() for p, slope in zip(own.values(), slopes) if slope is None)
    return {
        "network": text, "space": found.space or "none", "image_size": size, "params": report.params, "params_nothing_reads": unread,
        "params_are_those_without_auxiliary_head": total - unread <= report.params <= total == found.counts(scale).params,
        "source_difference": report.source_difference, "onnx_difference": report.onnx_difference,
        "notes": list(report.notes), "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    """Exports all networks and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=420, help="start no further network after so many")
    arguments = parser.parse_args()
    record = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"networks": []}
    done = {row["network"] for row in record["networks"]}
    began = time.perf_counter()
    for text in (*NAMED, *OTHERS):
        if text in done or time.perf_counter() - began > arguments.seconds:
            continue
        record["networks"].append(one(text, arguments.image_size))
        print(json.dumps(record["networks"][-1]), flush=True)
        record |= {"command": f"python benchmarks/export_all.py --out {arguments.out}", **environment()}
        arguments.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
