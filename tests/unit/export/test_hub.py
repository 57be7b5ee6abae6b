"""Exports for the Hugging Face Hub: card and settings are read by anybody, the snippet of the card runs, no licence is made up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.core import Counts
from archduel.networks.hub import _config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a small training."""
    folder = tmp_path_factory.mktemp("hub") / "net"
    words = f"train nasbench201:1.0.4.2.2.3 digits --out {folder} --set epochs=1 --set channels=4 --set depth=1 --max-images 200 -q"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    return folder


def exported(trained: Path, to: Path, *more: str, code: int = 0) -> str:
    """Exports for the Hub and returns what is said."""
    done = CliRunner().invoke(app, ["export", str(trained), "--to", str(to), *more])
    assert done.exit_code == code, done.output
    return done.output


def front_matter(folder: Path) -> str:
    """Returns the block at the top of the card."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\n")
    return text.split("---\n")[1]


def test_card_and_settings(trained: Path, tmp_path: Path) -> None:
    assert "hf upload" in exported(trained, tmp_path / "out", "--hub", "--license", "apache-2.0")
    said = front_matter(tmp_path / "out")
    assert {"library_name: pytorch", "pipeline_tag: image-classification", "license: apache-2.0", "- archduel", "- accuracy"} <= set(said.splitlines())
    facts = json.loads((trained / "model.json").read_text())["test"]["accuracy"]
    assert f"    - type: accuracy\n      name: Accuracy\n      value: {facts:.6g}\n" in said
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_labels"], config["id2label"]["3"], config["label2id"]["3"], config["num_channels"], config["image_size"]) == (10, "3", 3, 1, 8)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "No licence is stated" not in text
    assert str(tmp_path) not in text + json.dumps(config)


@pytest.mark.parametrize("value_range", [None, [0.0, 4095.0]])
def test_the_settings_say_what_becomes_black_and_white_where_images_have_more_than_8_bits(value_range: list[float] | None) -> None:
    look = {"size": 8, "mode": "L", "rule": "crop", "mean": [0.5], "std": [0.25], "value_range": value_range}
    facts = {"classes": ["a", "b"], "arch": "x:1", "text": "", "scale": {"in_channels": 1, "image_size": 8, "n_classes": 2}, "preprocessing": look}
    config = _config(SimpleNamespace(facts=facts, counts=Counts(1, 2)))  # type: ignore[arg-type]
    assert config["preprocessing"] == {name: value for name, value in look.items() if value is not None}


def test_the_snippet_of_the_card_runs_where_archduel_is_not(trained: Path, tmp_path: Path) -> None:
    exported(trained, tmp_path / "out", "--hub")
    (snippet,) = re.findall(r"## From the Hub\n\n```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    blocked = "import sys; sys.modules['archduel'] = None\n"
    done = subprocess.run([sys.executable, "-c", blocked + snippet], cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert done.stdout == "torch.Size([1, 10])\n"


def test_no_licence_is_made_up(trained: Path, tmp_path: Path) -> None:
    exported(trained, tmp_path / "out", "--hub")
    assert "license:" not in front_matter(tmp_path / "out")
    assert "No licence is stated" in (tmp_path / "out" / "README.md").read_text()
    for words in (["--hub", "--license", "MIT\ntags: [x]"], ["--license", "mit"]):
        done = CliRunner().invoke(app, ["export", str(trained), "--to", str(tmp_path / "other"), *words])
        assert done.exit_code != 0
    assert not (tmp_path / "other").exists()


def test_a_later_export_without_the_hub_takes_its_files_away(trained: Path, tmp_path: Path) -> None:
    exported(trained, tmp_path / "out", "--hub")
    exported(trained, tmp_path / "out", "--hub")
    assert (tmp_path / "out" / "README.md").read_text().count("library_name") == 1
    exported(trained, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()
    assert not (tmp_path / "out" / "README.md").read_text().startswith("---")


def test_the_hubs_own_reader_takes_the_card(trained: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    exported(trained, tmp_path / "out", "--hub", "--license", "mit")
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "image-classification")
    assert card.data.eval_results[0].metric_type == "accuracy"
