"""Images read while training: lists of folders and archives, crops, worker processes, and what is refused in words."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archduel.commands.train.train import train_network
from archduel.data.dataset import Preprocessing
from archduel.data.listing import Catalogue, catalogues
from archduel.data.preprocess import apply_preprocessing
from archduel.data.streaming import CHUNK, Stream, crop_box, cropped, read_image
from archduel.errors import DataError

CLASSES = ("ant", "bee", "cow")
PREPROCESSING = Preprocessing(16, "RGB", "inner", (0.5,) * 3, (0.25,) * 3)


def make_image(label: int, number: int) -> Image.Image:
    """An image whose brightness is its class, 40 x 30 px, some upright, some grey."""
    rng = np.random.default_rng(number)
    size = (40, 30) if number % 3 else (30, 40)
    pixels = rng.integers(0, 60, (size[1], size[0], 3)) + 80 * label
    image = Image.fromarray(pixels.astype(np.uint8))
    return image.convert("L") if number % 5 == 4 else image


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder like ImageNet's: 48 training images, 9 loose validation images with a list."""
    root = tmp_path_factory.mktemp("imagenet")
    (root / "val").mkdir()
    for name in CLASSES:
        (root / "train" / name).mkdir(parents=True)
    for number in range(48):
        make_image(number % 3, number).save(root / "train" / CLASSES[number % 3] / f"{number:03d}.JPEG", quality=95)
    for number in range(9):
        make_image(number % 3, 100 + number).save(root / "val" / f"v{number}.JPEG", quality=95)
    (root / "val.txt").write_text("".join(f"v{number}.JPEG {number % 3}\n" for number in range(9)))
    return root


@pytest.fixture
def lists(root, tmp_path) -> dict[str, Catalogue]:
    return catalogues(root, tmp_path)


def test_class_folders_and_loose_validation_images_are_listed(root, lists, tmp_path) -> None:
    train, val = lists["train"], lists["validation"]
    assert train.classes == val.classes == CLASSES
    assert train.name(0) == "train/ant/000.JPEG"
    assert [train.name(row) for row in range(48)] == sorted(train.name(row) for row in range(48))
    assert train.labels.tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert val.labels.tolist() == [0, 1, 2] * 3
    assert catalogues(root, tmp_path)["train"].folder == train.folder  # kept
    with val.open(4) as file:
        assert file.read() == (root / "val" / "v4.JPEG").read_bytes()


LISTED = {
    "names": "".join(f"v{n}.JPEG {CLASSES[n % 3]}\n" for n in range(9)),
    "a csv file with a head": "ImageId,PredictionString\n" + "".join(f"v{n},{CLASSES[n % 3]} 1 2 3 4\n" for n in range(9)),
    "a class a line": "".join(f"{CLASSES[n % 3]}\n" for n in range(9)),
}


@pytest.mark.parametrize("text", LISTED.values(), ids=LISTED.keys())
def test_lists_of_labels_have_several_forms(text, root, tmp_path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "val_labels.txt").write_text(text)
    found = catalogues(tmp_path, tmp_path / "cache")
    assert found["validation"].labels.tolist() == [0, 1, 2] * 3


WRONG = {
    "no list": (None, "no list of their classes; put val.txt"),
    "bare numbers": ("".join(f"{n % 3 + 1}\n" for n in range(9)), "bare numbers"),
    "too few": ("ant\n" * 8, "8 labels for 9 images"),
    "one missing": ("".join(f"v{n}.JPEG 0\n" for n in range(8)), "no label for 1 of 9 images, such as v8.JPEG"),
    "an unknown class": ("".join(f"v{n}.JPEG dog\n" for n in range(9)), "class 'dog'"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_lists_that_cannot_be_used_are_refused(case, root, tmp_path) -> None:
    text, words = case
    for name in ("train", "val"):
        (tmp_path / name).symlink_to(root / name)
    if text:
        (tmp_path / "val.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        catalogues(tmp_path, tmp_path / "cache")


def archive(path: Path, lists: dict[str, Catalogue], rows: range, *, words: bool, mode: str = "w") -> None:
    """Packs training images, their class as a folder or as a .cls member."""
    with tarfile.open(path, mode) as file:
        for row in rows:
            with lists["train"].open(row) as opened:
                data = opened.read()
            label = CLASSES[int(lists["train"].labels[row])]
            parts = [(f"{row:03d}.jpg", data), (f"{row:03d}.cls", label.encode())] if words else [(f"{label}/{row:03d}.jpg", data)]
            for name, content in parts:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("words", [False, True], ids=["folders", "cls members"])
def test_tar_archives_hold_the_same_images(words, lists, tmp_path) -> None:
    archive(tmp_path / "train-000.tar", lists, range(20), words=words)
    archive(tmp_path / "train-001.tar", lists, range(20, 48), words=words)
    archive(tmp_path / "val-000.tar", lists, range(0, 48, 12), words=words)
    found = catalogues(tmp_path, tmp_path / "cache")
    assert found["train"].classes == CLASSES
    assert found["train"].labels.tolist() == lists["train"].labels.tolist()
    assert found["validation"].labels.tolist() == [0, 0, 1, 2]
    for row in (0, 19, 20, 47):
        expected = read_image(lists["train"], row, PREPROCESSING, 0.1, 7)
        assert np.array_equal(read_image(found["train"], row, PREPROCESSING, 0.1, 7), expected)
    found["train"].close()


def test_archives_that_cannot_be_used_are_refused(lists, tmp_path) -> None:
    (tmp_path / "train").mkdir()
    archive(tmp_path / "train" / "a.tar", lists, range(4), words=False, mode="w:gz")
    with pytest.raises(DataError, match="plain tar archive"):
        catalogues(tmp_path, tmp_path / "cache")
    with tarfile.open(tmp_path / "train" / "a.tar", "w") as file:
        file.addfile(tarfile.TarInfo("x.jpg"))
    with pytest.raises(DataError, match=r"says no class for 1 images, such as x\.jpg"):
        catalogues(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match="no training images"):
        catalogues(tmp_path / "train", tmp_path / "cache")


def test_crops_have_the_shapes_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(500, 375, 0.08, rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = width * height / (500 * 375)
    assert boxes[:, :2].min() >= 0
    assert boxes[:, 2].max() <= 500
    assert boxes[:, 3].max() <= 375
    assert share.min() > 0.078
    assert 0.43 < share.mean() < 0.56  # uniform in 0.08..1, but for large crops that do not fit
    assert (width / height).min() > 0.74
    assert (width / height).max() < 1.35
    assert crop_box(1000, 10, 0.5, rng) == (493, 0, 506, 10)  # nothing fits: the centre, 4 to 3


def test_large_jpegs_are_decoded_smaller_and_look_the_same() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    with Image.open(file) as image:
        small = cropped(image, 32, 0.9, "RGB", np.random.default_rng(3)).astype(int)
        assert image.size[0] < 640
    exact = cropped(smooth, 32, 0.9, "RGB", np.random.default_rng(3)).astype(int)
    assert np.abs(small - exact).mean() < 2


def test_testing_looks_at_the_inner_square() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize((120, 80), Image.Resampling.BICUBIC)
    seen = apply_preprocessing(image, Preprocessing(56, "RGB", "inner", (), ())).astype(int)
    usual = image.resize((96, 64), Image.Resampling.BICUBIC).crop((20, 4, 76, 60))
    assert np.abs(seen - np.asarray(usual).transpose(2, 0, 1).astype(int)).mean() < 1
    assert apply_preprocessing(image, Preprocessing(56, "RGB", "crop", (), ())).shape == (3, 56, 56)


def test_batches_are_what_one_reader_would_read_whatever_the_number_of_workers(lists) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(48)
    parts = [order[:20], order[20:23], order[23:48]]
    expected = [np.stack([read_image(lists["train"], int(r), PREPROCESSING, 0.1, 5) for r in part]) for part in parts]
    for workers in (1, 2):
        stream = Stream(lists["train"], PREPROCESSING, scale=0.1, workers=workers)
        next(stream.batches([order[:2]], 9))  # left in the middle
        assert all(np.array_equal(a, b) for a, b in zip(stream.batches(parts, 5), expected, strict=True))
        assert not np.array_equal(next(stream.batches(parts, 6)), expected[0])
        if workers == 2:
            big = [np.arange(48).repeat(3)]  # more than the workers' memory holds
            assert np.array_equal(next(stream.batches(big, 5))[::3], np.stack([read_image(lists["train"], r, PREPROCESSING, 0.1, 5) for r in range(48)]))
        stream.close()


def test_memory_does_not_grow_with_the_number_of_images(lists) -> None:
    stream = Stream(lists["validation"], PREPROCESSING, workers=1)
    few, many = [np.arange(9)], [np.arange(9)] * 200
    sizes = []
    for parts in (few, many):
        assert sum(len(batch) for batch in stream.batches(parts)) == 9 * len(parts)
        sizes.append(stream._crew.slots.nbytes)
    assert sizes[0] == sizes[1] <= 4 * (4 * CHUNK) * 3 * 16 * 16
    stream.close()


def test_a_broken_image_and_a_killed_worker_are_named(root, tmp_path) -> None:
    for name in CLASSES[:2]:
        (tmp_path / "train" / name).mkdir(parents=True)
        make_image(0, 1).save(tmp_path / "train" / name / "good.jpg")
    (tmp_path / "train" / "bee" / "bad.jpg").write_bytes(b"no image")
    stream = Stream(catalogues(tmp_path, tmp_path / "cache")["train"], PREPROCESSING, workers=1)
    with pytest.raises(DataError, match=r"train/bee/bad\.jpg: .*repair or remove it"):
        list(stream.batches([np.arange(3)]))
    assert next(stream.batches([np.array([0, 2])])).shape == (2, 3, 16, 16)  # the worker lives on
    os.kill(stream._crew.running[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"exit code -9.*fewer --workers"):
        list(stream.batches([np.array([0, 2])] * 3))
    assert next(stream.batches([np.array([0, 2])])).shape == (2, 3, 16, 16)  # and is replaced
    stream.close()


def test_a_network_is_trained_on_images_read_meanwhile(root, tmp_path) -> None:
    changes = {
        "epochs": 3, "batch_size": 12, "channels": 4, "depth": 1, "image_size": 16, "crop_scale": 0.3, "crop_pad": 0,
        "test_rule": "inner", "colour_jitter": 0.1, "lr": 0.05, "weight_decay": 0.0, "grad_clip": 1.0,
    }  # fmt: skip
    result = train_network(
        "nasbench201:1.3.0.1.0.1", root, tmp_path / "t", recipe="digits", changes=changes, workers=1, quiet=True
    )
    assert result["pictures"] == {"train": 48, "validation": 0, "test": 9}
    assert result["test"]["accuracy"] > 0.5
    with pytest.raises(DataError, match="crops images at random sizes"):
        train_network("cnas", "digits", tmp_path / "u", recipe="imagenet_mobile_cnas", quiet=True)
