"""The cache: one decoding, whole entries only, two processes at once, other orders without decoding again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archduel.data import decode as module
from archduel.data import load
from archduel.data.cache import cache_root, clear, entry_size, opened
from archduel.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("a", "b", "c"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{i}.png")
    return tmp_path / "set"


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "decoded").iterdir() if path.is_dir())


def test_images_are_decoded_once(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(images, cache=tmp_path / "c")
    monkeypatch.setattr(module, "decoded", None)  # decoding again would fail
    again = load(images, cache=tmp_path / "c")
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.images, first.train.images)


def test_another_seed_rearranges_without_decoding(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(images, cache=tmp_path / "c")
    fresh = load(images, cache=tmp_path / "other", seed=1)
    monkeypatch.setattr(module, "decoded", None)
    moved = load(images, cache=tmp_path / "c", seed=1)
    assert moved.fingerprint == fresh.fingerprint
    assert moved.preprocessing == fresh.preprocessing
    part = load(images, cache=tmp_path / "c", max_images=30)
    assert len(part.train) + len(part.validation) + len(part.test) == 30


def test_a_changed_file_is_read_again(images: Path, tmp_path: Path) -> None:
    first = load(images, cache=tmp_path / "c")
    Image.new("RGB", (16, 20), (1, 2, 3)).save(images / "a" / "0.png")
    assert load(images, cache=tmp_path / "c").fingerprint != first.fingerprint


def test_splits_are_views_into_one_map_that_cannot_be_spoiled(images: Path, tmp_path: Path) -> None:
    data = load(images, cache=tmp_path / "c")
    base = data.train.images.base
    while not isinstance(base, np.memmap):
        base = base.base
    start = data.train.images.ctypes.data
    assert data.validation.images.ctypes.data == start + data.train.images.nbytes
    (entry,) = entries(tmp_path / "c")
    before = (entry / "images.npy").read_bytes()
    data.train.images[:] = 0
    assert (entry / "images.npy").read_bytes() == before


def test_a_damaged_entry_is_made_again(images: Path, tmp_path: Path) -> None:
    first = load(images, cache=tmp_path / "c")
    (entry,) = entries(tmp_path / "c")
    for damage in ("rows.npy", "images.npy", "entry.json"):
        (entry / damage).write_bytes((entry / damage).read_bytes()[:-7])
        assert opened(entry) is None
        assert load(images, cache=tmp_path / "c").fingerprint == first.fingerprint
    facts = json.loads((entry / "entry.json").read_text())
    assert facts["counts"] == [72, 24, 24]


def test_an_interrupted_decoding_leaves_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> object:
        yield 0, np.zeros((3, 16, 16), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "decoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        load(images, cache=tmp_path / "c")
    assert entries(tmp_path / "c") == []


def test_two_processes_that_start_at_once_get_the_same_and_decode_once(
    images: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, archduel.data as d\n"
        "from archduel.data import decode as once\n"
        "real, calls = once.decoded, []\n"
        "once.decoded = lambda *a, **k: (calls.append(1), real(*a, **k))[1]\n"
        "sys.stdin.readline()\n"
        "print(d.load(sys.argv[1], cache=sys.argv[2]).fingerprint, len(calls))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(images), str(tmp_path / "c")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in started]
    assert len({answer[0] for answer in answers}) == 1
    assert sum(int(answer[1]) for answer in answers) == 1
    assert len(entries(tmp_path / "c")) == 1


def test_a_process_killed_while_decoding_does_not_block_the_next(images: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, archduel.data as d\n"
        "d.load(sys.argv[1], cache=sys.argv[2], progress=lambda *_: os.kill(os.getpid(), 9))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(images), str(tmp_path / "c")], check=False)
    assert killed.returncode == -9
    assert len(entries(tmp_path / "c")) == 1  # half of one, under another name
    assert load(images, cache=tmp_path / "c").n_classes == 3
    (entry,) = entries(tmp_path / "c")
    assert opened(entry) is not None


def test_clear_gives_the_room_back(images: Path, tmp_path: Path) -> None:
    load(images, cache=tmp_path / "c")
    (tmp_path / "c" / "sets" / "mine").mkdir(parents=True)
    assert clear(tmp_path / "c") > 120 * 3 * 16 * 16
    assert entry_size(tmp_path / "c" / "decoded") == 0
    assert (tmp_path / "c" / "sets" / "mine").is_dir()
    clear(tmp_path / "c", everything=True)
    assert not (tmp_path / "c" / "sets").exists()
    assert clear(tmp_path / "c") == 0


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(tmp_path) == tmp_path
    assert cache_root() == tmp_path / "named"
    monkeypatch.delenv("ARCHDUEL_CACHE")
    assert cache_root() == tmp_path / "xdg" / "archduel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "archduel"


def test_a_cache_that_cannot_be_written_says_so(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="set ARCHDUEL_CACHE"):
        load(images, cache=tmp_path / "file")


def test_the_number_of_threads_changes_nothing(images: Path, tmp_path: Path) -> None:
    found = {load(images, cache=tmp_path / str(n), workers=n).fingerprint for n in (1, 3)}
    assert len(found) == 1
    assert os.listdir(tmp_path / "1")
