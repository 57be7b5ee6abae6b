"""Every published network survives the stand-alone export, its auxiliary head left out; ONNX has a record of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from archduel.core import Scale
from archduel.export import export_folder
from archduel.networks.find import find_architecture
from archduel.networks.trained import network_of
from archduel.spaces.named import NAMED

RECORD = Path(__file__).parents[3] / "benchmarks" / "records" / "export_all.json"
PREPROCESSING = {"size": 8, "mode": "RGB", "rule": "crop", "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize("name", NAMED)
def test_the_source_computes_what_the_network_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.export.folder.missing_packages", lambda: ["onnx"])  # seconds each: see the record
    found = find_architecture(name)
    scale = Scale(4, 1 if "nasbench" in name else 3, 8, 3, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network_of({**found.facts, "scale": scale}, auxiliary=True)
        model.train()(torch.randn(4, 3, 8, 8))
    report = export_folder(model.eval(), name, scale, tmp_path / "net", classes="abc", preprocessing=PREPROCESSING, facts={})
    own = [p for name, p in model.named_parameters() if not name.startswith("auxiliary.")]
    slopes = torch.autograd.grad(model(torch.randn(2, 3, 8, 8)).sum(), own, allow_unused=True)
    unread = sum(p.numel() for p, slope in zip(own, slopes) if slope is None)  # such as inputs that no node of a cell reads
    assert report.params == found.counts(scale).params - unread
    assert (unread > 0) == (name == "relativenas")
    assert report.source_difference < 1e-4
    assert "auxiliary" not in (tmp_path / "net" / "model.py").read_text()


def test_the_record_of_onnx_has_every_network_and_no_failure() -> None:
    rows = {row["network"]: row for row in json.loads(RECORD.read_text())["networks"]}
    assert set(NAMED) <= set(rows)
    for row in rows.values():
        assert row["params_are_those_without_auxiliary_head"]
        assert row["onnx_difference"] is not None, row
        assert row["onnx_difference"] < 1e-4
