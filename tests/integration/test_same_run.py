"""The same run in other words, moved, damaged: it is found, it goes on, and what is gone is made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import archduel
from archduel.commands.network.evaluate import evaluate_network
from archduel.commands.search.settings import read_settings
from archduel.core.storage import read_journal
from archduel.errors import ArchduelError, DataError, RunError, SettingError

pytestmark = pytest.mark.usefixtures("no_onnx")
SMALL = {
    "space": "stages", "strategy": "evolution", "max_params": 10_000, "evaluations": 4, "race": True, "image_size": 8, "workers": 1,
    "set": {"race.last_epochs": 10},
}  # fmt: skip


def images(folder: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(rng.normal(level, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data (``base``) and a finished run on them (``runs/r``)."""
    home = tmp_path_factory.mktemp("home")
    images(home / "base")
    images(home / "other", seed=1)
    before = Path.cwd()
    os.chdir(home)
    try:
        archduel.search("base", out="runs/r", quiet=True, **SMALL)
    finally:
        os.chdir(before)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, elsewhere, as the present folder."""
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def records(run: Path | str) -> list[dict[str, object]]:
    return read_journal(Path(run) / "journal.jsonl")


@pytest.mark.parametrize("words", ["base/", "./base", "runs/../base", "{here}/base", "base//", "imagefolder:base"])
def test_the_same_folder_in_other_words_is_the_same_run(words: str, home: Path) -> None:
    before = len(records("runs/r"))
    run = archduel.search(words.format(here=home), out="runs/r/", quiet=True, **{**SMALL, "workers": 2})
    assert run.result["networks"]["search"]
    assert len(records("runs/r")) == before


def test_a_link_to_the_data_and_a_copy_of_them_are_the_same_run(home: Path) -> None:
    (home / "linked").symlink_to(home / "base")
    shutil.copytree(home / "base", home / "copied")
    before = len(records("runs/r"))
    for words in ("linked", "copied"):
        archduel.search(words, out=home / "runs" / "r", quiet=True, **SMALL)
    assert len(records("runs/r")) == before


def test_other_images_are_another_run(home: Path) -> None:
    with pytest.raises(DataError, match="is another data set"):
        archduel.search("other", out="runs/r", quiet=True, **SMALL)
    with pytest.raises(RunError, match="max_params: the run has 10000, the command says 9000"):
        archduel.search("base", out="runs/r", quiet=True, **{**SMALL, "max_params": 9000})
    with pytest.raises(SettingError, match="empty text"):
        archduel.search("", out="runs/r", quiet=True, **SMALL)


def test_a_run_without_a_folder_of_its_own_is_named_by_what_is_asked(home: Path) -> None:
    from archduel.commands.search.same import place_for
    from archduel.commands.search.settings import make_settings

    names = {place_for(make_settings(data=data, evaluations=4, workers=n)) for data, n in (("base", 1), ("base/", 2), (str(home / "base"), 8))}
    assert len(names) == 1
    assert place_for(make_settings(data="other", evaluations=4)) not in names


def test_a_run_that_was_moved_with_its_data_finds_them_from_anywhere(made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = home.parent / "moved"
    home.rename(moved)
    shutil.move(made / "base", made / "hidden")  # the place where the data lay first is empty
    monkeypatch.chdir("/")
    try:
        assert read_settings(moved / "runs/r").data == str(moved / "base")
        assert evaluate_network(str(moved / "runs/r"))["data"]["pictures"] > 0
        assert archduel.search(moved / "base", out=moved / "runs/r", quiet=True, **SMALL).folder == moved / "runs/r"
    finally:
        shutil.move(made / "hidden", made / "base")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 64
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "result cut": lambda run: cut(run / "result.json"),
    "result empty": lambda run: (run / "result.json").write_text(""),
    "result a list": lambda run: (run / "result.json").write_text("[1, 2]"),
    "result gone": lambda run: (run / "result.json").unlink(),
    "result nested": lambda run: (run / "result.json").write_text("[" * 100_000),
    "export without source": lambda run: (run / "export/model.py").unlink(),
    "export gone": lambda run: shutil.rmtree(run / "export"),
    "report gone": lambda run: (run / "report.html").unlink(),
    "last record lost": lambda run: (run / "journal.jsonl").write_bytes(b"".join((run / "journal.jsonl").read_bytes().splitlines(True)[:-1])),
    "last record torn": lambda run: (run / "journal.jsonl").write_bytes((run / "journal.jsonl").read_bytes()[:-5]),
    "weights cut": lambda run: cut(run / "networks/search-0/model.safetensors"),
    "weights flipped": lambda run: flip(run / "networks/search-0/model.safetensors"),
    "weights gone": lambda run: (run / "networks/search-0/model.safetensors").unlink(),
    "facts damaged": lambda run: (run / "networks/search-0/model.json").write_text("{}"),
    "blank line in the journal": lambda run: (run / "journal.jsonl").write_bytes((run / "journal.jsonl").read_bytes().replace(b"}\n", b"}\n\n", 2)),
    "half-written files": lambda run: [(run / name).write_text("x") for name in (".run.toml.999999.tmp", ".report.html.999999-0a1b2c3d.tmp")],
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_of_a_finished_run_is_made_again(what: str, made: Path, home: Path) -> None:
    wanted = json.loads((made / "runs/r/result.json").read_text())
    run = home / "runs/r"
    DAMAGE[what](run)
    again = archduel.search("base", out=run, quiet=True, **SMALL)
    assert again.result["networks"]["search"]["test"] == wanted["networks"]["search"]["test"]
    for name in ("export/model.py", "export/model.safetensors", "report.html"):
        assert (run / name).stat().st_size > 100, name
    assert not list(run.rglob("*.tmp"))
    assert (run / "networks/search-0/model.safetensors").read_bytes() == (made / "runs/r/networks/search-0/model.safetensors").read_bytes()


@pytest.mark.parametrize("line", ["null", "5", "{}", '{"event": "estimate"}', '{"event": "plan", "clock": null}', "[" * 5000, '{"event": 3}', "\0\0\0\0"])
def test_a_damaged_line_is_named_in_a_line(line: str, home: Path) -> None:
    path = home / "runs/r/journal.jsonl"
    lines = path.read_text().splitlines(True)
    path.write_text("".join([*lines[:2], line + "\n", *lines[2:]]))
    if line == "{}":  # says nothing, and does no harm
        archduel.search("base", out="runs/r", quiet=True, **SMALL)
        return
    with pytest.raises(ArchduelError, match="line 3 is damaged") as error:
        archduel.search("base", out="runs/r", quiet=True, **SMALL)
    assert len(str(error.value)) < 600
    assert "head -n 2" in str(error.value)


@pytest.mark.parametrize("name", ["race-1", "last"])
@pytest.mark.parametrize("how", ["cut", "zeros"])
def test_a_killed_race_whose_checkpoints_are_damaged_ends_as_the_whole_one(name: str, how: str, made: Path, home: Path) -> None:
    run = home / "runs/r"
    lines = (run / "journal.jsonl").read_bytes().splitlines(True)
    events = [record["event"] for record in records(run)]
    end = events.index("choice") + 1 if name == "last" else len(events) - events[::-1].index("rung")
    (run / "journal.jsonl").write_bytes(b"".join(lines[:end]))
    (run / "result.json").unlink()
    shutil.rmtree(run / "networks")
    wanted = json.loads((made / "runs/r/result.json").read_text())
    if name == "race-1":
        for path in (run / "checkpoints").glob("last-*"):
            path.unlink()
    for path in (run / "checkpoints").glob("*.safetensors"):
        if name == "race-1" or path.name.startswith("last"):
            path.write_bytes(bytes(500) if how == "zeros" else path.read_bytes()[:300])
    again = archduel.search("base", out=run, quiet=True, **SMALL).result
    assert again["networks"]["search"]["arch"] == wanted["networks"]["search"]["arch"]
    assert again["networks"]["search"]["test"] == wanted["networks"]["search"]["test"]
    assert again["search"] == wanted["search"]


def test_a_full_disk_in_a_race_stops_it_and_the_same_call_goes_on(made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.race import training

    calls: list[Path] = []
    whole = training.save_state

    def full(path: Path, state: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        if len(calls) == 4:
            raise MemoryError
        if len(calls) == 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 640 bytes")
        whole(path, state)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "save_state", full)
    for reason in ("No space left", "MemoryError", "can't allocate memory"):
        with pytest.raises(ArchduelError, match=rf"{reason}.*the same command continues"):
            archduel.search("base", out="runs/new", quiet=True, **SMALL)
    again = archduel.search("base", out="runs/new", quiet=True, **SMALL).result
    wanted = json.loads((made / "runs/r/result.json").read_text())
    assert again["search"] == wanted["search"]
    assert again["networks"]["search"]["test"] == wanted["networks"]["search"]["test"]


def test_a_hand_written_run_toml_is_used_and_never_overwritten(home: Path) -> None:
    mine = home / "runs/mine"
    mine.mkdir()
    text = '# my notes\n[run]\ndata = "base"\nevaluations = 5\nstrategy = "random"\n'
    (mine / "run.toml").write_text(text)
    with pytest.raises(RunError, match="written by hand"):
        archduel.search("base", out=mine, quiet=True, **SMALL)
    assert (mine / "run.toml").read_text() == text


def test_settings_are_read_from_a_file_and_options_go_before(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from archduel.commands import app

    (home / "mine.toml").write_text('data = "nowhere"\nevaluations = 4\nmax_params = "10k"\nspace = "stages"\nstrategy = "evolution"\n')
    with pytest.raises(DataError, match="nowhere"):
        app(["search", "--config", "mine.toml", "--out", "runs/a", "--quiet"], standalone_mode=False)
    words = ["search", "base", "--config", "runs/r/run.toml", "--out", "runs/r"]
    app(words, standalone_mode=False)
    assert "is finished; nothing to do" in capsys.readouterr().out
    with pytest.raises(RunError, match="max_params: the run has 10000, the command says 9000"):
        app([*words, "--max-params", "9k"], standalone_mode=False)
    (home / "wrong.toml").write_text("evaluation = 4\n")
    with pytest.raises(SettingError, match=r"wrong\.toml: setting 'evaluation' is unknown; did you mean 'evaluations'"):
        app(["search", "base", "--config", "wrong.toml"], standalone_mode=False)
    with pytest.raises(SettingError, match="say which data"):
        app(["search"], standalone_mode=False)


def test_leftovers_of_systems_are_no_obstacle_and_foreign_files_are(home: Path) -> None:
    out = home / "runs/new"
    out.mkdir()
    for name in (".DS_Store", ".gitkeep", "slurm-123.out", "Thumbs.db", "job.o4711", "nohup.out"):
        (out / name).write_text("x")
    archduel.search("base", out=out, quiet=True, **{**SMALL, "baselines": False})
    assert (out / ".gitkeep").read_text() == "x"
    (home / "thesis").mkdir()
    (home / "thesis/chapter.tex").write_text("x")
    with pytest.raises(RunError, match=r"holds no run but chapter\.tex"):
        archduel.search("base", out=home / "thesis", quiet=True, **SMALL)


def test_mistyped_data_leave_no_folder_behind(home: Path) -> None:
    with pytest.raises(DataError):
        archduel.search("bass", out="runs/new", quiet=True, **SMALL)
    assert not (home / "runs/new").exists()
    (home / "runs/kept").mkdir()
    (home / "runs/kept/.gitkeep").touch()
    with pytest.raises(DataError):
        archduel.search("bass", out="runs/kept", quiet=True, **SMALL)
    assert [path.name for path in (home / "runs/kept").iterdir()] == [".gitkeep"]
    with pytest.raises(DataError):
        archduel.search("bass", out="runs/r", quiet=True, **SMALL)
    assert (home / "runs/r/journal.jsonl").is_file()


@pytest.mark.parametrize("name", [".lock", ".audit.lock"])
def test_a_planted_link_is_not_followed(name: str, home: Path) -> None:
    from archduel.core.disk import lock, write_atomic

    victim = home / "precious"
    victim.write_text("years of work, far longer than the number of a process")
    (home / name).symlink_to(victim)
    with pytest.raises(RunError, match="is a link"):
        lock(home / name, home)
    (home / f"hard{name}").hardlink_to(victim)
    with pytest.raises(RunError, match="is a link or holds something else"):
        lock(home / f"hard{name}", home)
    (home / "report.html").symlink_to(victim)
    write_atomic(home / "report.html", b"page")
    assert victim.read_text().startswith("years of work")
    assert not (home / "report.html").is_symlink()


def test_what_cannot_be_written_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.core import disk

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (home / "x").mkdir()
    (home / "x/state").write_text("old")
    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match="No space") as full_disk:
        disk.write_atomic(home / "x/state", b"new")
    assert full_disk.value.filename == str(home / "x/state")  # so that a person knows which disk is full
    assert [(path.name, path.read_text()) for path in (home / "x").iterdir()] == [("state", "old")]
