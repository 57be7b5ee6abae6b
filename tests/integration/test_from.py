"""`archduel search --from`: a search that begins with what an earlier one knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import archduel
from archduel.errors import RunError

pytestmark = pytest.mark.usefixtures("no_onnx")
WINNER = "stages:1.0.1.1.1.1.2.0.0.1"
SMALL = {
    "space": "stages", "strategy": "best", "max_images": 240, "max_params": 20_000, "evaluations": 4, "race": True, "start": "scratch", "workers": 1,
    "set": {"race.last_epochs": 12}, "quiet": True,
}  # fmt: skip


def earlier(path: Path, winner: str = WINNER) -> Path:
    """Returns the folder of a finished search with five labels."""
    path.mkdir()
    labels = [[f"stages:1.0.1.1.1.{a}.{b}.0.0.1", 0.4 + 0.1 * a + 0.03 * b] for a, b in ((1, 2), (2, 2), (0, 1), (2, 0), (1, 1))]
    result = {"search": labels, "random": [], "networks": {"search": {"arch": winner}}}
    (path / "result.json").write_text(json.dumps(result))
    return path


def test_the_earlier_network_enters_first_and_the_run_no_longer_needs_the_folder(tmp_path: Path) -> None:
    before = earlier(tmp_path / "before")
    run = archduel.search("digits", out=tmp_path / "run", prior=str(before), **SMALL)
    first = run.result["race"]["candidates"][0]
    assert (first["role"], first["arch"]) == ("earlier", WINNER)
    assert "the earlier run" in (run.folder / "report.html").read_text()
    noted = [json.loads(line) for line in (run.folder / "journal.jsonl").read_text().splitlines()]
    (prior,) = [record for record in noted if record["event"] == "prior"]
    assert len(prior["sources"][0]["archs"]) == 5
    shutil.rmtree(before)
    (run.folder / "result.json").unlink()  # as if it had been killed at the end
    again = archduel.search("digits", out=run.folder, prior=str(before), **SMALL)
    assert again.result["race"]["candidates"][0]["arch"] == WINNER


def test_a_network_of_another_space_enters_and_a_part_of_a_pretrained_one_stays_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny, known = "tiny:6.1.1.1.0.0.0.0.0.2.1.3.1.1", "pretrained:0.2.4.0.0.0.0.0.0.0.0"
    before = f"{earlier(tmp_path / 'small', tiny)}+{earlier(tmp_path / 'known', known)}"
    run = archduel.search("digits", out=tmp_path / "run", prior=before, **{**SMALL, "quiet": False})
    candidates = run.result["race"]["candidates"]
    assert (candidates[0]["role"], candidates[0]["arch"]) == ("earlier", tiny)
    assert all(candidate["arch"] != known for candidate in candidates)
    told = capsys.readouterr().out
    assert f"from {tmp_path / 'small'}: scores of 5 networks of stages" in told
    assert "--from: a network of tiny that was handed over enters first" in told
    assert "--from: a network of pretrained was handed over, and none of pretrained takes part here" in told


def test_labels_reach_the_ranker_of_a_search_that_is_no_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.rankers.warm import Warm

    learned = []
    fit = Warm.fit

    def noting(self: Warm, archs: object, scores: object, **rest: object) -> object:
        found = fit(self, archs, scores, **rest)  # type: ignore[arg-type]
        learned.append(found)
        return found

    monkeypatch.setattr(Warm, "fit", noting)
    settings = {**SMALL, "race": False, "evaluations": 8, "final_seeds": 1, "baselines": False, "set": {"final.epochs": 1}, "workers": 1}
    archduel.search("digits", out=tmp_path / "run", prior=str(earlier(tmp_path / "before")), ranker="gp", **settings)
    assert learned
    assert "prior_1" in learned[-1]


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished search"):
        archduel.search("digits", out=tmp_path / "run", prior=str(tmp_path), **SMALL)
    with pytest.raises(RunError, match=r"neither the folder of a finished run nor labels"):
        archduel.search("digits", out=tmp_path / "other", prior="runs/nothing", **SMALL)
