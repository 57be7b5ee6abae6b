"""Faults that people met with data: ranges of numbers, layouts of folders, names, links, what systems leave behind, lists of labels."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archduel.data import Dataset, apply_preprocessing, load, remember
from archduel.data.folder import read_list
from archduel.data.layout import left_behind, split_of
from archduel.data.listing import catalogues
from archduel.data.preprocess import upright
from archduel.errors import DataError

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 2
UNIT = RNG.random((60, 8, 8, 3)).astype(np.float32)
BOTH = ("ant", "bee")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(path: Path | str, pixels: Any = None) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8) if pixels is None else pixels).save(path)


def fill(root: Path, *folders: str, n: int = 6) -> Path:
    for folder in folders:
        for i in range(n):
            image(f"{root}/{folder}/{i}.png")
    return root


def levels(data: Dataset) -> int:
    return len(np.unique(data.train.images))


def told(data: Dataset, words: str) -> bool:
    return any(words in warning for warning in data.warnings)


# -- The range of numbers ------------------------------------------------------------------------------------------------


def changed(value: float) -> Any:
    images = UNIT.copy()
    images[3, 0, 0, 0] = value
    return images


def whole(bits: int, kind: str = "u2", low: int = 0) -> Any:
    return RNG.integers(low, 2**bits, (60, 8, 8, 3)).astype(kind)


@pytest.mark.parametrize(
    ("images", "taken", "words"),
    [
        (UNIT, (0, 1), ""),
        (changed(1.0001), (0, 1), "1.0001"),
        (changed(-1e-7), (0, 1), "-1e-07"),
        (changed(65535), (0, 1), "65535"),
        (UNIT * 1.4 - 0.2, (0, 1), "cut off"),
        (UNIT.astype(np.float16), (0, 1), ""),
        (UNIT * 255, (0, 255), ""),
        (UNIT * 270 - 8, (0, 255), "cut off"),
        (np.rint(UNIT * 4095), (0, 4095), "4095 as white"),
        (whole(8), (0, 255), "255 as white"),
        (whole(10), (0, 1023), "1023 as white"),
        (whole(12), (0, 4095), "4095 as white"),
        (whole(14, "i4"), (0, 16383), "16383 as white"),
        (whole(16), (0, 65535), ""),
        (whole(8, "i8"), (0, 255), ""),
        (whole(15, low=31500), None, "taken as black"),
    ],
    ids=["unit", "overshoot", "undershoot", "hot pixel", "sharpened", "half", "byte floats", "byte overshoot", "12-bit floats", "8 bits in 16",
         "10 bits", "12 bits", "14 bits in 32", "16 bits", "bytes in 64", "thermal"],
)  # fmt: skip
def test_arrays_keep_their_levels_whatever_range_they_are_in(images: Any, taken: Any, words: str) -> None:
    data = load((images, LABELS))
    assert levels(data) > 200
    if taken is not None:
        assert data.preprocessing.value_range == taken
    assert told(data, words) if words else not told(data, "taken as black")
    assert load(remember((images, LABELS))).preprocessing.value_range == data.preprocessing.value_range


@pytest.mark.parametrize("images", [UNIT * 2 - 1, (UNIT - 0.5) * 4, UNIT * 4000 + 0.5, whole(7, "i2") - 200])
def test_arrays_of_no_usual_range_are_refused_before_anything_starts(images: Any) -> None:
    with pytest.raises(DataError, match="before normalisation"):
        load((images, LABELS))


def test_few_levels_after_decoding_are_a_warning_and_a_single_one_an_error() -> None:
    assert told(load((RNG.integers(0, 4, (60, 8, 8), dtype=np.uint8), LABELS)), "use 4 of 256 levels")
    assert told(load((RNG.integers(0, 60, (60, 8, 8), dtype=np.uint8), LABELS)), "of 256 levels (0 to 59)")
    assert not load("digits").warnings
    with pytest.raises(DataError, match="is the same"):
        load((np.full((60, 8, 8), 7, np.uint8), LABELS))


def deep_folder(root: Path, pixels: Callable[[int], Any], ending: str) -> Path:
    for i in range(40):
        image(f"{root}/{BOTH[i % 2]}/{i}{ending}", pixels(i))
    return root


@pytest.mark.parametrize(
    ("pixels", "ending", "taken"),
    [
        (lambda i: RNG.integers(0, 4096, (12, 12)).astype(np.uint16), ".png", (0, 4095)),
        (lambda i: RNG.integers(0, 1024, (12, 12)).astype(np.uint16), ".tif", (0, 1023)),
        (lambda i: RNG.integers(0, 256, (12, 12)).astype(np.uint16), ".png", (0, 255)),
        (lambda i: (RNG.random((12, 12)) * (1.2 if i % 3 else 0.3)).astype(np.float32), ".tif", (0, 1)),
        (lambda i: (RNG.random((12, 12)) * (255 if i % 3 else 0.9)).astype(np.float32), ".tif", (0, 255)),
        (lambda i: (RNG.random((12, 12)) * 4000 - 1000).astype(np.float32), ".tif", None),
    ],
    ids=["12-bit png", "10-bit tif", "8 bits in 16", "unit floats", "byte floats", "hounsfield"],
)
def test_deep_files_are_one_decision_for_the_set(tmp_path: Path, pixels: Any, ending: str, taken: Any) -> None:
    data = load(deep_folder(tmp_path / "set", pixels, ending))
    found = data.preprocessing.value_range
    assert found is not None
    assert taken is None or found == taken
    assert levels(data) > 200
    for row in range(3):  # a single image given later is treated as the set was
        with Image.open(tmp_path / "set" / data.train.names[row]) as one:
            np.testing.assert_array_equal(apply_preprocessing(one, data.preprocessing), data.train.images[row])
    assert load(tmp_path / "set").preprocessing == data.preprocessing  # also when the survey comes from the cache


def test_images_in_another_range_than_the_others_are_told(tmp_path: Path) -> None:
    mixed = UNIT.copy()
    mixed[7] *= 255
    assert told(load((mixed, LABELS)), "59 of 60 images hold fractions up to 1")
    assert told(load(deep_folder(tmp_path / "set", lambda i: (RNG.random((9, 9)) * (255 if i == 3 else 0.9)).astype(np.float32), ".tif")), "39 of 40 images")
    np.savez(tmp_path / "a.npz", x_train=(UNIT * 255).astype(np.uint8), y_train=LABELS, x_test=UNIT[:9], y_test=LABELS[:9])
    with pytest.raises(DataError, match="different shapes or types"):
        load(tmp_path / "a.npz")
    with pytest.raises(DataError, match="arrays of several types"):
        load((((UNIT * 255).astype(np.uint8), LABELS), (UNIT, LABELS)))


def test_integers_and_floats_in_one_set_are_told(tmp_path: Path) -> None:
    root = deep_folder(tmp_path / "set", lambda i: RNG.integers(0, 4096, (9, 9)).astype(np.uint16), ".png")
    image(root / "ant" / "f.tif", RNG.random((9, 9)).astype(np.float32))
    assert told(load(root), "no common range")


def test_numbers_of_a_deep_image_that_are_none_are_black_or_white() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 5, 10]], np.float32)
    assert np.asarray(upright(Image.fromarray(values), "L", (5, 10))).tolist() == [[0, 255, 0, 0, 255]]


# -- The layout of a folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("seg_train", "seg_test", "test"), ("Training_set", "Test_set", "test"), ("train_images", "test_images", "test"),
        ("01_train", "02_val", "validation"), ("train2017", "val2017", "validation"), ("TrainSet", "TestSet", "test"),
        ("trainval", "test", "test"), ("my.training.data", "my.validation.data", "validation"),
    ],
)  # fmt: skip
def test_splits_under_other_names_are_splits(tmp_path: Path, train: str, other: str, split: str) -> None:
    root = fill(tmp_path / "set", *(f"{part}/{label}" for part in (train, other) for label in BOTH))
    data = load(root)
    assert data.classes == BOTH
    assert data.facts["splits"][split] == "given"
    assert all(name.startswith(train) for name in data.train.names)
    assert train in ("train", "trainval") or told(data, f"{train!r} is taken for the train split")


def test_splits_that_wrap_themselves_beside_unlabelled_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *(f"seg_{part}/seg_{part}/{label}" for part in ("train", "test") for label in BOTH), "seg_pred")
    data = load(root)
    assert data.classes == BOTH
    assert len(data.test) == 12
    assert told(data, "'seg_pred'")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("test/ant", "test/bee", "val/ant", "val/bee"), "none of them is for training"),
        (("train2017", "val2017"), "without class folders"),
        (("train_station/day", "train_station/night", "test_tube/full", "test_tube/empty"), "different class folders"),
        (("siteA/ant", "siteA/bee", "siteB/ant", "siteB/bee"), "the same folders"),
        (("ant/train", "ant/test", "bee/train", "bee/test"), "splits of each class"),
        (("set1/train/ant", "set1/val/ant", "set2/train/ant", "set2/val/ant"), "give one of them"),
        (("ant", "bee", "test/ant", "test/bee"), "a split beside classes"),
        (("my_images/ant", "my_images/bee"), r"did you mean .*my_images\?"),
        (("x/y/ant", "x/y/bee"), r"did you mean .*x.y\?"),
        (("data/train/ant", "data/train/bee", "data/val/ant", "data/val/bee"), r"did you mean .*data\?"),
        (("train/ant", "train/bee", "training/ant", "training/bee"), "keep one"),
    ],
    ids=["no train", "flat", "words by chance", "sources", "turned round", "sets", "beside", "one level", "two levels", "above splits", "two trains"],
)
def test_what_can_be_read_in_two_ways_is_not_guessed(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(fill(tmp_path / "set", *folders, n=2))


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("train", "bus"), ("bus", "train")),
        (("test_tube", "train_station", "bus"), ("bus", "test_tube", "train_station")),
        (("ant/images", "bee/images"), BOTH),
        (("ant/a1", "ant/a2", "bee/b1"), BOTH),
        (("only/ant", "only/bee", "other"), ("only", "other")),
    ],
)
def test_classes_stay_classes(tmp_path: Path, folders: tuple[str, ...], classes: tuple[str, ...]) -> None:
    assert load(fill(tmp_path / "set", *folders)).classes == classes


def test_a_person_may_say_that_folders_are_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "left/day1", "left/day2", "right/day1", "right/day2")
    assert load(f"imagefolder:{root}").classes == ("left", "right")


def test_words_for_splits() -> None:
    assert [split_of(name) for name in ("trainset", "VAL_DATA", "x-test-1", "Valid", "dev")] == [0, 1, 2, 1, 1]
    assert [split_of(name) for name in ("strain", "latest", "train_test", "testimony", "develop", "")] == [None] * 6


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir", "@Recycle", "#recycle", "lost+found", "System Volume Information", "__pycache__", "Thumbnails", "$RECYCLE.BIN", "__MACOSX",
        ".thumbnails", "@Recently-Snapshot", "found.000", "#snapshot", "Network Trash Folder", ".Trash-1000", "node_modules", "_vti_cnf",
    ],
)  # fmt: skip
def test_what_systems_and_tools_leave_behind_is_never_read_but_counted(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path / "set", *BOTH, name, f"ant/{name}/0.png", n=5)
    data = load(root)
    assert data.classes == BOTH
    assert sum(data.facts["n_images"].values()) == 10
    assert told(data, f"10 images that systems, file servers or tools leave behind are not read: 10 in {name!r}")


def test_hidden_images_are_counted_and_classes_of_like_names_are_read(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "thumbs", "recycling", "cvs_receipts")
    for name in (".a.png", "._b.png", "AlbumArtSmall.jpg"):
        image(root / "thumbs" / name)
    data = load(root)
    assert data.classes == ("cvs_receipts", "recycling", "thumbs")
    assert told(data, "2 images")
    assert left_behind("Thumbs.db", folder=False)


# -- Links and what is no file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "place"), [("x", "x"), ("x", "ant/x"), ("..", "ant/up"), ("../..", "ant/above"), ("../bee", "ant/b"), ("ant", "cat")]
)
def test_links_that_lead_back_are_not_followed(tmp_path: Path, target: str, place: str) -> None:
    root = fill(tmp_path / "set", *BOTH)
    (root / place).symlink_to(target)
    data = load(root)
    assert data.classes == BOTH
    assert sum(data.facts["n_images"].values()) == 12
    assert told(data, place)


def test_links_out_of_the_set_are_followed_once(tmp_path: Path) -> None:
    root, store = fill(tmp_path / "set", "ant"), fill(tmp_path / "store", "bee")
    for name in ("bee", "wasp"):
        (root / name).symlink_to(store / "bee")
    data = load(root)
    assert data.classes == BOTH
    assert told(data, "'wasp'")


def test_a_validation_split_that_is_a_link_to_train_is_none(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "train/ant", "train/bee")
    (root / "val").symlink_to("train")
    assert load(root).facts["splits"]["validation"] == "made"


def test_pipes_and_devices_with_the_name_of_an_image_are_not_opened(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *BOTH)
    os.mkfifo(root / "ant" / "pipe.png")
    (root / "ant" / "zero.png").symlink_to("/dev/zero")
    assert told(load(root), "2 files are no images")
    from archduel.data import open_image

    with pytest.raises(DataError, match="a pipe or a device"):
        open_image(root / "ant" / "pipe.png")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match="no regular file"):
        load(tmp_path / "pipe.npz")


def test_an_image_replaced_by_one_of_equal_size_and_time_is_read_again(tmp_path: Path) -> None:
    for number, label in enumerate(BOTH * 5):
        image(tmp_path / "set" / label / f"{number}.bmp")
    first, path = load(tmp_path / "set"), tmp_path / "set" / "ant" / "0.bmp"
    facts = path.stat()
    image(tmp_path / "other.bmp", RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    os.replace(tmp_path / "other.bmp", path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert load(tmp_path / "set").fingerprint != first.fingerprint


def test_pages_and_copies_under_two_labels_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *BOTH, n=20)
    pages = [Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(3)]
    pages[0].save(root / "ant" / "a.tif", save_all=True, append_images=pages[1:])
    for i in range(20):
        shutil.copy(root / "ant" / f"{i}.png", root / "bee" / f"copy{i}.png")
    data = load(root)
    assert told(data, "several frames or pages")
    assert told(data, "the same pixels as another of the same split, but another label")


# -- Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"), [(b"caf\xe9", r"caf\xe9"), (b"a\x1b]0;owned\x07", r"a\x1b]0;owned\x07"), (b"a\nwarning: b", r"a\nwarning: b")]
)
def test_names_that_cannot_be_printed_are_escaped_at_loading(tmp_path: Path, raw: bytes, shown: str) -> None:
    root = fill(tmp_path / "set", "ok", os.fsdecode(raw))
    image(os.fsdecode(os.fsencode(root) + b"/ok/x" + raw + b".png"))
    data = load(root)
    assert data.classes == tuple(sorted(("ok", shown)))
    texts = [*data.classes, *data.warnings, *data.train.names, *data.validation.names, *data.test.names, data.name]
    assert all(text.isprintable() for text in texts)
    assert any(f"x{shown}.png" in text for text in texts)
    assert told(data, "written with escapes")


def test_accents_stored_in_two_ways_are_one_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "one", "bee", "caf\u00e9", "cafe\u0301")
    assert load(root).classes == ("bee", "caf\u00e9")
    assert told(load(root), "accent")
    split = fill(tmp_path / "two", "train/bee", "train/caf\u00e9", "val/bee", "val/cafe\u0301")
    assert len(load(split).validation) == 12


def test_classes_that_read_alike(tmp_path: Path) -> None:
    assert told(load(fill(tmp_path / "near", "Cat", "cat", "dog")), "differ only in case or spaces")
    with pytest.raises(DataError, match="both read"):
        load(fill(tmp_path / "same", "ok", os.fsdecode(b"caf\xe9"), "caf\\xe9"))


@pytest.mark.parametrize("name", ["", "  ", "imagefolder:", "a\0b", "x" * 5000, "/dev/null", "no/such/\udce9"])
def test_paths_that_are_none_are_errors_of_one_printable_line(name: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_lists_of_images_that_are_read_while_training_know_the_same(tmp_path: Path, cache: Path) -> None:
    strange = os.fsdecode(b"caf\xe9")
    folders = [f"seg_{part}/{label}" for part in ("train", "test") for label in (strange, "ok", "ok/@eaDir/x.png")]
    found = catalogues(fill(tmp_path / "set", *folders, n=3), cache)
    assert set(found) == {"train", "test"}
    for part in found.values():
        assert part.classes == (r"caf\xe9", "ok")
        assert part.labels.tolist() == [0, 0, 0, 1, 1, 1]
        with part.open(0) as file:
            assert file.read(4)[1:] == b"PNG"


# -- Lists of labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg cat\na.png dog\nb.jpg cat\n", [0, 1, 0]),
        ("\ufeffa.jpg cat\na.png dog\nb.jpg cat", [0, 1, 0]),
        ("val\\a.jpg cat\nval/a.png dog\n./b.jpg cat", [0, 1, 0]),
        ("a.jpg\tcat\na.png\tdog\nb.jpg\tcat\n\n", [0, 1, 0]),
        ("filename,label\na.jpg,cat\na.png,dog\nb.jpg,cat\n", [0, 1, 0]),
        ('"a.jpg","cat"\r\n"a.png","dog"\r\n"b.jpg","cat"\r\n', [0, 1, 0]),
        ("a.jpg,cat 0 0 5 5\na.png,dog 1.5 2 3 4\nb,cat 1 1 2 2", [0, 1, 0]),
        ("a.jpg 0\na.png 1\nb.jpg 0\nz.jpg 1", [0, 1, 0]),
        ("cat\ndog\ncat\n", [0, 1, 0]),
    ],
)
def test_lists_of_labels_by_full_name(tmp_path: Path, text: str, expected: list[int]) -> None:
    (tmp_path / "val.txt").write_text(text, encoding="utf-8", newline="")
    assert read_list(tmp_path / "val.txt", ["a.jpg", "a.png", "b.jpg"], ["cat", "dog"]) == expected


def test_names_and_classes_with_spaces_and_accents(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("my a.jpg\tgreat white shark\nb.jpg\tcafe\u0301\n", encoding="utf-8")
    assert read_list(tmp_path / "v.txt", ["b.jpg", "my a.jpg"], ["café", "great white shark"]) == [0, 1]
    (tmp_path / "s.txt").write_text("my a.jpg cat\nb.jpg dog\n", encoding="utf-8")
    assert read_list(tmp_path / "s.txt", ["b.jpg", "my a.jpg"], ["cat", "dog"]) == [1, 0]


@pytest.mark.parametrize(
    ("text", "classes", "words"),
    [
        ("a cat\n", ["cat", "dog"], "no label for 2 of 2"),
        ("a.jpg cat\na.jpg dog\na.png cat", ["cat", "dog"], "two labels"),
        ("a.jpg 0\na.png 1", ["1", "2", "10"], "names the class '0'"),
        ("a.jpg ²\na.png cat", ["cat", "dog"], "names the class"),
        (f"a.jpg {'9' * 5000}\na.png cat", ["cat", "dog"], "names the class"),
        ("a.jpg " + "x" * 200_000 + "\na.png cat", ["cat", "dog"], "cannot be read"),
        ("a.jpg cat\na.png \udcff", ["cat", "dog"], "cannot be read"),
    ],
    ids=["stem of two", "twice", "numbers beside numbers", "superscript", "long number", "long field", "latin"],
)
def test_lists_of_labels_that_cannot_be_used(tmp_path: Path, text: str, classes: list[str], words: str) -> None:
    (tmp_path / "v.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=words):
        read_list(tmp_path / "v.txt", ["a.jpg", "a.png"], classes)


# -- Colour of 16 bits a channel -----------------------------------------------------------------------------------------


def png_of_16_bits(pixels: Any) -> bytes:
    """Returns (H, W, 3) uint16 as a PNG, which Pillow itself does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_of_16_bits_is_read_as_8_and_that_is_told_from_the_cache_too(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "a", "b", n=10)
    for number in range(4):
        (root / "a" / f"deep{number}.png").write_bytes(png_of_16_bits(RNG.integers(0, 65536, (12, 12, 3)).astype(np.uint16)))
    for _ in range(2):
        data = load(root)
        assert told(data, "4 of 24 images looked at have 16 bits a colour channel, of which the upper 8 are read")
    assert not told(load(fill(tmp_path / "plain", "a", "b", n=10)), "16 bits a colour channel")
