"""`--plan` of a published search says what it is, every deviation and what it will cost, and writes nothing; for each preset."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.presets import names, open_preset

SEARCH = (
    "--max-images 120 --workers 1 --set label.epochs=1 --set label.channels=4 --set reevaluate.channels=4 --set reevaluate.depth=3 "
    "--set final.channels=4 --set final.depth=3 --set supernet.channels=4 --set supernet.depth=3 --set supernet.batch_size=16"
)
MOBILE = "--image-size 16 --validation 0.3 --set final.crop_pad=1 --set supernet.crop_pad=1"
CELL = "--max-images 60 --set label.channels=4 --set label.depth=3 --set label.batch_size=20"


@pytest.mark.parametrize("name", names())
def test_the_plan_of_a_published_search(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preset = open_preset(name)
    search = preset.command == "search"
    sets = (f"{SEARCH} {MOBILE}" if name == "ctnas-mobile" else SEARCH) if search else CELL
    answer = CliRunner().invoke(app, ["search", "digits", "--preset", name, "--plan", *sets.split()])
    assert answer.exit_code == 0, answer.output
    said = answer.output
    assert f"preset {name}: {preset.about}" in said
    assert f"published  {preset.published}" in said
    assert all(f"{number:2}. {text}" in said for number, text in enumerate(preset.deviations, 1))
    assert "  cost       " in said
    assert " here" in said
    epochs = preset.set.get("strategy", {}).get("epochs")
    assert epochs is None or f"epochs={epochs}" in said  # the paper's number, not one that fits the time
    assert "nothing was trained or written; the same command without --plan begins" in said
    assert not list(tmp_path.iterdir())
