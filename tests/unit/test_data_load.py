"""Loading: sources, splits, resolution, broken files, warnings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from archduel.data import apply_preprocessing, load
from archduel.data.resolution import kept_size
from archduel.errors import DataError, SettingError

RNG = np.random.default_rng(0)


def noise(height: int, width: int, channels: int = 3, *, seed: int | None = None) -> Image.Image:
    rng = RNG if seed is None else np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def fill(
    root: Path, counts: dict[str, int], *, size: tuple[int, int] = (12, 16), suffix: str = ".png", **kind: Any
) -> Path:
    for label, n in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            noise(*size, **kind).save(root / label / f"{label}{i}{suffix}")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_digits_are_1797_grey_images_in_three_stratified_splits() -> None:
    data = load("digits")
    assert [len(data.train), len(data.validation), len(data.test)] == [1079, 359, 359]
    assert data.train.images.shape == (1079, 1, 8, 8)
    assert data.train.images.max() == 255
    assert data.train.labels.dtype == np.int64
    assert data.classes == tuple("0123456789")
    assert not data.flip
    assert data.preprocessing.rule == "none"
    for split in (data.train, data.validation, data.test):
        share = np.bincount(split.labels, minlength=10) / len(split)
        assert abs(share - 0.1).max() < 0.01


def test_mean_and_std_are_those_of_the_training_split() -> None:
    data = load("digits")
    values = data.train.images / 255
    assert data.preprocessing.mean == pytest.approx((values.mean(),), abs=1e-12)
    assert data.preprocessing.std == pytest.approx((values.std(),), abs=1e-12)


def test_same_seed_same_splits_and_another_seed_others() -> None:
    first, again, other = load("digits", seed=3), load("digits", seed=3), load("digits", seed=4)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(first.test.images, again.test.images)


def test_a_folder_of_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"cat": 30, "dog": 40})
    data = load(root)
    assert data.classes == ("cat", "dog")
    assert data.name == str(root)
    assert data.flip
    assert data.image_size == 12
    assert data.preprocessing.rule == "crop"
    assert [len(data.train), len(data.validation), len(data.test)] == [42, 14, 14]
    names = [*data.train.names, *data.validation.names, *data.test.names]
    assert len(set(names)) == 70
    for split in (data.train, data.validation, data.test):
        for row in (0, len(split) - 1):
            assert split.names[row].startswith(data.classes[split.labels[row]])
            with Image.open(root / split.names[row]) as image:
                np.testing.assert_array_equal(
                    split.images[row], apply_preprocessing(image, data.preprocessing)
                )


def test_classes_named_by_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "n", {"10": 5, "9": 5, "100": 5})).classes == ("9", "10", "100")


def test_given_splits_are_kept_and_missing_ones_made(tmp_path: Path) -> None:
    root = tmp_path / "given"
    fill(root / "train", {"a": 20, "b": 20})
    fill(root / "test", {"a": 4, "b": 6})
    data = load(root)
    assert data.facts["splits"] == {"train": "given", "validation": "made", "test": "given"}
    assert len(data.test) == 10
    assert all(name.startswith("test" + os.sep) for name in data.test.names)
    assert len(data.validation) == 8
    fill(root / "Val", {"a": 3, "b": 3})
    assert len(load(root).validation) == 6
    assert len(load(root).train) == 40


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "v", {"train": 5, "bus": 5})).classes == ("bus", "train")


def test_an_unlabelled_test_folder_is_left_out_with_a_warning(tmp_path: Path) -> None:
    fill(tmp_path / "k" / "train", {"a": 20, "b": 20})
    fill(tmp_path / "k", {"test": 3})
    data = load(tmp_path / "k")
    assert data.facts["splits"]["test"] == "made"
    assert "no class folders" in data.warnings[0]


def test_a_class_of_test_that_train_lacks_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "k" / "train", {"a": 5, "b": 5})
    fill(tmp_path / "k" / "test", {"a": 5, "zebra": 5})
    with pytest.raises(DataError, match="test has classes that train lacks: 'zebra'"):
        load(tmp_path / "k")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no folder"),
        (lambda root: root.write_text("x"), "is a file, not a folder"),
        (lambda root: root.mkdir(), "is empty"),
        (lambda root: (root / "a").mkdir(parents=True), "'a' but no images in them"),
        (lambda root: (root.mkdir(), noise(5, 5).save(root / "x.png")), "no class folders"),
        (lambda root: fill(root, {"only": 9}), "single class, 'only'"),
        (lambda root: fill(root, {"a": 9, "b": 2}), "'b' has 2"),
        (
            lambda root: ((root / "a").mkdir(parents=True), (root / "a" / "notes.txt").write_text("x")),
            "only 'a.notes.txt'",
        ),
    ],
    ids=["missing", "file", "empty", "empty class", "loose", "single class", "too few", "no images"],
)
def test_folders_that_cannot_be_used_say_what_is_wrong(tmp_path: Path, make: Any, message: str) -> None:
    root = tmp_path / "set"
    make(root)
    with pytest.raises(DataError, match=message):
        load(root)


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"a": 30, "b": 30})
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / "phone.HEIC").write_text("x")
    (root / "a" / ".DS_Store").write_text("x")
    noise(9, 9).save(root / "loose.png")
    (root / "empty").mkdir()
    text = "\n".join(load(root).warnings)
    assert "notes.txt" in text
    assert "convert HEIC to JPEG" in text
    assert "loose.png" in text
    assert "'empty'" in text
    assert "DS_Store" not in text


def broken_set(root: Path, n: int) -> Path:
    fill(root, {"a": n // 2, "b": n - n // 2}, size=(8, 8))
    whole = (root / "a" / "a0.png").read_bytes()
    (root / "a" / "a0.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "b1.png").write_bytes(b"this is no image")
    return root


def test_broken_images_are_skipped_and_named(tmp_path: Path) -> None:
    data = load(broken_set(tmp_path / "set", 200))
    assert set(data.skipped) == {os.path.join("a", "a0.png"), os.path.join("b", "b1.png")}
    assert "no image" in data.skipped[os.path.join("b", "b1.png")]
    assert "truncated" in data.skipped[os.path.join("a", "a0.png")]
    assert len(data.train) + len(data.validation) + len(data.test) == 198
    assert data.facts["n_skipped"] == 2
    assert f"2 images cannot be read and are skipped: {os.path.join('a', 'a0.png')!r}, {os.path.join('b', 'b1.png')!r}" in data.warnings


def test_one_of_a_kind_is_told_as_one(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"a": 40, "b": 40})
    (root / "b" / "b1.png").write_bytes(b"this is no image")
    noise(9, 9).save(root / "loose.png")
    text = "\n".join(load(root).warnings)
    assert f"1 image cannot be read and is skipped: {os.path.join('b', 'b1.png')!r}" in text
    assert "1 image lies outside any class folder and is not used: 'loose.png'" in text


def test_more_than_one_percent_broken_stops_before_anything_starts(tmp_path: Path) -> None:
    root = broken_set(tmp_path / "set", 199)
    assert len(load(root).skipped) == 2  # two of a small set are no reason to stop
    (root / "b" / "b2.png").write_bytes(b"neither is this")
    for _ in range(2):  # also when the images come from the cache
        with pytest.raises(DataError, match=r"3 of 199 images cannot be read, more than 1% .*a0\.png"):
            load(root)


def test_truncated_files_of_every_usual_format_are_found(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"a": 300, "b": 300}, size=(8, 8))
    kinds = (".jpg", ".webp", ".gif", ".bmp", ".tiff")
    for suffix in kinds:
        path = root / "a" / f"cut{suffix}"
        noise(64, 64).save(path)
        path.write_bytes(path.read_bytes()[:600])
    (root / "a" / "zero.jpg").touch()
    assert set(load(root, image_size=8).skipped) == {os.path.join("a", f"cut{kind}") for kind in kinds} | {
        os.path.join("a", "zero.jpg")
    }


def test_a_link_that_leads_nowhere_and_a_circle_of_folders(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"a": 150, "b": 150}, size=(8, 8))
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "circle").symlink_to(root / "a")
    data = load(root)
    assert list(data.skipped) == [os.path.join("a", "gone.png")]
    assert sum(data.facts["n_images"].values()) == 300


def test_images_of_every_kind_in_one_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"a": 10, "b": 10}, size=(40, 40))
    for mode in ("1", "L", "P", "RGBA", "CMYK", "LA"):
        noise(50, 60).convert("RGB").convert("L" if mode == "LA" else mode).convert(mode).save(
            root / "a" / f"{mode}.tiff"
        )
    Image.fromarray(RNG.integers(0, 65536, (50, 60), dtype=np.uint16)).save(root / "a" / "deep.png")
    data = load(root)
    assert not data.skipped
    assert data.in_channels == 3
    assert sum(data.facts["n_images"].values()) == 27


def test_equal_pixels_in_two_splits_are_a_warning_with_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root / "train", {"a": 30, "b": 30})
    fill(root / "test", {"a": 5, "b": 5})
    with Image.open(root / "train" / "a" / "a7.png") as image:
        image.save(root / "test" / "b" / "copy.png")
    data = load(root, validation=0.1)
    assert data.facts["n_duplicates"] == 1
    (text,) = [warning for warning in data.warnings if "equal pixels" in warning]
    assert "a7.png" in text
    assert "copy.png" in text
    assert "different labels" in text


def test_few_images_to_choose_by_are_a_warning(tmp_path: Path) -> None:
    few = load(fill(tmp_path / "few", {"a": 20, "b": 20}))
    assert "only 8 validation images choose between networks: each is 12.5 points, and differences of a few images are chance" in few.warnings
    many = load(fill(tmp_path / "many", {"a": 125, "b": 125}))
    assert not any("validation images" in warning for warning in many.warnings)


def test_unbalanced_classes_are_reported(tmp_path: Path) -> None:
    data = load(fill(tmp_path / "set", {"rare": 10, "usual": 60}))
    text = "\n".join(data.warnings)
    assert "unbalanced: 36 training images of 'usual', 6 of 'rare'; consider balanced_accuracy or macro_f1 as the metric" in text
    assert "'rare' (6)" in text
    assert data.facts["imbalance"] == 6


def test_working_resolution_and_rule_come_from_the_images(tmp_path: Path) -> None:
    photos = load(fill(tmp_path / "photos", {"a": 5, "b": 5}, size=(90, 120)))
    assert (photos.image_size, photos.preprocessing.rule) == (80, "crop")
    assert "median short side 90 px" in photos.facts["resolution_reason"]
    banners = load(fill(tmp_path / "banners", {"a": 5, "b": 5}, size=(30, 120)))
    assert (banners.image_size, banners.preprocessing.rule) == (28, "letterbox")
    squares = load(fill(tmp_path / "squares", {"a": 5, "b": 5}, size=(33, 33)))
    assert (squares.image_size, squares.preprocessing.rule) == (33, "none")


def test_time_limits_the_resolution_and_a_person_overrides_it(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", {"a": 5, "b": 5}, size=(90, 120))
    quick = load(root, seconds=2, pixels_per_second=2e6)  # sqrt(2 s * 2e6 / (200 * 10)) = 44.7 px
    assert quick.image_size == 40
    assert "2 s given" in quick.facts["resolution_reason"]
    assert load(root, seconds=2, least=64).image_size == 64
    assert [kept_size(n, 208) for n in (1, 16_000, 30_000, 10**6)] == [208, 208, 154, 128]  # 30,000 of 154 px are 2 GiB
    assert kept_size(10**6, 96) == 96
    chosen = load(root, seconds=2, image_size=96, rule="letterbox")
    assert (chosen.image_size, chosen.preprocessing.rule) == (96, "letterbox")
    assert "as asked" in chosen.facts["resolution_reason"]


def test_colour_files_without_colour_become_grey_but_one_colour_image_undoes_that(tmp_path: Path) -> None:
    root = tmp_path / "xray"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for i in range(300):
            noise(8, 8, 1).convert("RGB").save(root / label / f"{i}.png")
    assert load(root).preprocessing.mode == "L"
    assert load(root, mode="RGB").in_channels == 3
    noise(8, 8).save(root / "a" / "299.png")  # not among those looked at first
    assert load(root).preprocessing.mode == "RGB"


def test_max_images_keeps_shares_of_classes_and_splits() -> None:
    data = load("digits", max_images=500)
    total = [len(split) for split in (data.train, data.validation, data.test)]
    assert sum(total) == 500
    assert total[0] == pytest.approx(300, abs=3)
    assert np.bincount(data.train.labels).min() >= 28
    again = load("digits", max_images=500)
    assert data.fingerprint == again.fingerprint
    with pytest.raises(SettingError, match="at least 30"):
        load("digits", max_images=20)


@pytest.mark.parametrize("made", [True, False])
def test_some_of_the_test_images_are_read_and_all_of_the_others(made: bool, tmp_path: Path) -> None:
    source: Any = "digits"
    if not made:  # a test split that was given, with names
        for part, n in (("train", 24), ("test", 60)):
            fill(tmp_path / "given" / part, {"dog": n, "cat": n // 2}, size=(8, 8))
        source = tmp_path / "given"
    whole = load(source)
    data = load(source, tested=30)
    assert data.facts["test_of"] == len(whole.test) > 30
    assert "test_of" not in whole.facts
    for split in ("train", "validation"):
        assert (getattr(data, split).images == getattr(whole, split).images).all()
    assert data.preprocessing == whole.preprocessing
    share = np.bincount(whole.test.labels) / len(whole.test)
    assert abs(np.bincount(data.test.labels) / 30 - share).max() < 0.05
    rows = {image.tobytes(): label for image, label in zip(whole.test.images, whole.test.labels)}
    assert [rows[image.tobytes()] for image in data.test.images] == data.test.labels.tolist()
    assert data.test.names == tuple(name for name in whole.test.names if name in set(data.test.names))
    assert data.fingerprint == load(source, tested=30).fingerprint != whole.fingerprint
    assert load(source, tested=len(whole.test)).fingerprint == whole.fingerprint
    few = load(source, tested=1)  # one of each class at least
    assert len(few.test) == len(few.classes)


@pytest.mark.parametrize(
    "images",
    [
        RNG.integers(0, 256, (40, 10, 10), dtype=np.uint8),
        RNG.integers(0, 256, (40, 10, 10, 3), dtype=np.uint8),
        RNG.integers(0, 256, (40, 3, 10, 10), dtype=np.uint8),
        RNG.integers(0, 256, (40, 10, 10, 1)).astype(np.int64),
        RNG.random((40, 10, 10, 3)),
        RNG.random((40, 10, 10, 3)).astype(np.float32) * 255,
        torch.from_numpy(RNG.integers(0, 256, (40, 3, 10, 10), dtype=np.uint8)),
        RNG.random((40, 10, 10)) > 0.5,
    ],
    ids=["grey", "last", "first", "int64", "unit floats", "floats", "tensor", "bool"],
)
def test_arrays_of_every_usual_form(images: Any) -> None:
    labels = np.arange(40) % 2
    data = load((images, labels))
    assert data.image_size == 10
    array = np.asarray(images, np.float64)
    if array.max() <= 1:
        array = array * 255
    if array.ndim == 4 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    array = array.reshape(40, 10, 10, -1).transpose(0, 3, 1, 2)
    wanted = {np.rint(image).astype(np.uint8).tobytes() for image in array}
    found = {p.tobytes() for split in (data.train, data.validation, data.test) for p in split.images}
    assert found == wanted


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((5, 4, 4), np.uint8), np.zeros(4, int), "5 images but 4 labels"),
        (np.zeros((0, 4, 4), np.uint8), np.zeros(0, int), "empty"),
        (np.zeros((6, 9), np.uint8), np.arange(6), "must be"),
        (np.zeros((6, 4, 4), np.uint8), np.zeros((6, 3)), "one number or name"),
        (RNG.normal(size=(60, 4, 4)), np.arange(60) % 2, "before normalisation"),
        (np.array([["a"]]), np.arange(1), "must be numbers"),
        (np.zeros((6, 4, 4), np.uint8), np.zeros(6, int), "single class"),
    ],
)
def test_arrays_that_cannot_be_used_say_what_is_wrong(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load((images, labels))


class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A dataset object as people write them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = noise(20 + index % 3, 24, seed=index)
        if self.kind == "pil":
            return image, index % 3
        array = np.asarray(image)[:20]
        return (
            torch.from_numpy(array.transpose(2, 0, 1) / 255.0) if self.kind == "tensor" else array
        ), index % 3


@pytest.mark.parametrize("kind", ["pil", "tensor", "array"])
def test_dataset_objects(kind: str) -> None:
    data = load(Images(kind))
    assert data.n_classes == 3
    assert data.image_size == 20
    first = np.flatnonzero(data.train.labels == 0)
    assert len(first) == 6
    assert data.fingerprint == load(Images(kind)).fingerprint


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(DataError, match="got int"):
        load(3)
    with pytest.raises(DataError, match=r"\(image, label\), got int"):
        load([1, 2, 3])
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        load("cifar_10")
    with pytest.raises(SettingError, match="RGB or L"):
        load("digits", mode="rgb")
    with pytest.raises(SettingError, match="whole number from 4"):
        load("digits", image_size=2)
    with pytest.raises(SettingError, match="sum to less than 1"):
        load("digits", validation=0.5, test=0.5)


def test_npz_files_with_names_classes_and_splits(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (60, 6, 6), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "a.npz", images=x, labels=y, classes=np.array(["n", "o", "p"]))
    data = load(tmp_path / "a.npz")
    assert data.classes == ("n", "o", "p")
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    data = load(tmp_path / "mnist.npz")
    assert len(data.test) == 9
    assert not data.flip
    assert data.facts["n_duplicates"] == 9
    np.savez(tmp_path / "words.npz", x=x, y=np.array(["cat", "dog", "eel"])[y])
    assert load(tmp_path / "words.npz").classes == ("cat", "dog", "eel")


def test_large_npz_files_are_streamed_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, x in enumerate(
        (RNG.integers(0, 256, (600, 6, 6, 3), dtype=np.uint8), RNG.random((600, 6, 6), np.float32))
    ):
        path = tmp_path / f"{number}.npz"
        np.savez_compressed(path, images=x, labels=np.arange(600) % 3)
        whole = load(path)
        monkeypatch.setattr("archduel.data.npz.SMALL", 0)
        assert load(path).fingerprint == whole.fingerprint
        assert (tmp_path / "cache" / "converted").is_dir()
        monkeypatch.undo()
        monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))


def test_npz_files_that_cannot_be_used_say_what_is_wrong(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", images=np.array([{}, {}], dtype=object), labels=np.arange(2))
    with pytest.raises(DataError, match="object arrays are refused"):
        load(tmp_path / "o.npz")
    np.savez(tmp_path / "k.npz", images=np.zeros(3))
    with pytest.raises(DataError, match="holds images; expected the arrays 'images' and 'labels'"):
        load(tmp_path / "k.npz")
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="cannot be read as"):
        load(tmp_path / "t.npz")
    with pytest.raises(DataError, match="no file"):
        load(tmp_path / "missing.npz")


def test_flipping_is_off_for_characters_and_can_be_chosen(tmp_path: Path) -> None:
    root = fill(tmp_path / "abc", {"b": 5, "d": 5})
    assert not load(root).flip
    assert "single characters" in load(root).facts["flip_reason"]
    assert load(root, flip=True).flip
