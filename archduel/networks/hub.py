"""An exported folder as the Hugging Face Hub wants it: a model card with its front matter and ``config.json``. Nothing is sent anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archduel.core.disk import write_atomic
from archduel.errors import SettingError
from archduel.networks.trained import TrainedNetwork
from archduel.version import __version__

__all__ = ["check_licence", "write_hub"]

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}")
METRICS = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1", "ece": "Expected calibration error"}
"""Fact of a test -> how a card calls it."""
TAGS = ("image-classification", "pytorch", "onnx", "safetensors", "neural-architecture-search", "archduel")
LOOK = ("size", "mode", "rule", "mean", "std", "value_range")
"""What is told of how images become pixels; of images with more than 8 bits the values that become black and white, too."""
KNOWN = ("cifar10", "cifar100")
"""Data sets that the Hub knows by the same name."""
LOADING = '''## From the Hub

```python
import importlib.util
from pathlib import Path

import torch

folder = Path(".")  # or Path(huggingface_hub.snapshot_download("YOU/NAME"))
spec = importlib.util.spec_from_file_location("archduel_model", folder / "model.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.load()
print(model(torch.zeros(1, {in_channels}, {image_size}, {image_size})).shape)  # (1, {n_classes})
```
'''


def check_licence(licence: str) -> None:
    """Raises SettingError for a licence that is not written as the Hub writes them; empty is none."""
    if licence and not LICENCE.fullmatch(licence):
        raise SettingError(f"--license {licence!r}: expected the name that the Hub gives it, such as mit, apache-2.0, cc-by-4.0 or other")


def write_hub(network: TrainedNetwork, folder: Path, *, licence: str = "") -> list[str]:
    """Makes an exported folder one for the Hub and returns the names of the files that were written: ``README.md`` (the model card) and ``config.json``.

    Args:
        network: that was exported.
        folder: it was exported to.
        licence: as the Hub calls it, such as ``mit`` or ``apache-2.0``; empty = the card says none, which its publisher has to decide.

    Raises:
        SettingError: for a licence of another form.
    """
    check_licence(licence)
    facts, page = network.facts, folder / "README.md"
    text = page.read_text(encoding="utf-8")
    scale = {name: facts["scale"][name] for name in ("in_channels", "image_size", "n_classes")}
    about = "" if licence else "\nNo licence is stated. Before this is published, say one: `--license`, or `license:` at the top of this file.\n"
    write_atomic(page, (_front_matter(facts, licence) + text.rstrip() + "\n" + about + "\n" + LOADING.format(**scale)).encode())
    write_atomic(folder / "config.json", (json.dumps(_config(network), indent=1, ensure_ascii=False) + "\n").encode())
    return ["README.md", "config.json"]


def _config(network: TrainedNetwork) -> dict[str, Any]:
    """Returns what programs of the Hub look for: kind of model, labels, sizes."""
    facts, classes = network.facts, list(network.facts["classes"])
    return {
        "model_type": "archduel", "architectures": ["Network"], "arch": str(facts["arch"] or ""), "text": str(facts["text"] or ""), "archduel": __version__,
        "num_labels": len(classes), "id2label": {str(i): name for i, name in enumerate(classes)}, "label2id": {name: i for i, name in enumerate(classes)},
        "num_channels": facts["scale"]["in_channels"], "image_size": facts["scale"]["image_size"], "params": network.counts.params, "macs": network.counts.macs,
        "preprocessing": {name: value for name in LOOK if (value := facts["preprocessing"].get(name)) is not None},
    }  # fmt: skip


def _front_matter(facts: Mapping[str, Any], licence: str) -> str:
    """Returns the block at the top of a model card; JSON texts are YAML."""
    data = dict(facts.get("data") or {})
    name = Path(str(data.get("name") or "images")).name
    lines = ["---", "library_name: pytorch", "pipeline_tag: image-classification", *([f"license: {licence}"] if licence else []), "tags:", *(f"- {tag}" for tag in TAGS)]
    lines += ["datasets:", f"- {name}"] if name in KNOWN else []
    scores = _test(facts)
    lines += ["metrics:", "- accuracy"] if scores else []
    if scores:
        lines += ["model-index:", f"- name: {json.dumps(str(facts['text'] or facts['arch']))}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {json.dumps(name)}", f"      type: {json.dumps(name)}", "      split: test", "    metrics:"]
        for key, value in scores.items():
            lines += [f"    - type: {key}", f"      name: {METRICS[key]}", f"      value: {value:.6g}"]
    return "\n".join([*lines, "---", "", ""])


def _test(facts: Mapping[str, Any]) -> dict[str, float]:
    """Returns what the network came to on test images, means of several trainings."""
    said = facts.get("test") or {}
    found = {}
    for name in METRICS:
        value = said.get(name)
        values = value if isinstance(value, list) else [value]
        if values and all(isinstance(one, (int, float)) for one in values):
            found[name] = sum(values) / len(values)
    return found
