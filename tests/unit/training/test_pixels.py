"""Pixels: batches, subsets, shares of classes, resizing, memory maps."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from archduel.errors import DataError, SettingError
from archduel.training.images import Pixels

ONE = ((0.5,), (0.25,))


def numbered(n: int, size: int = 4) -> np.ndarray:
    """Images whose every pixel is their number."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 1, size, size)).copy()


def test_batch_holds_the_rows_asked_for() -> None:
    pixels = Pixels(numbered(10), np.arange(10) % 3, *ONE)
    images, labels = pixels.batch(torch.tensor([7, 2]))
    assert images[:, 0, 0, 0].tolist() == [7, 2]
    assert images.dtype == torch.uint8
    assert labels.tolist() == [1, 2]


def test_a_subset_of_a_subset_shares_the_pixels() -> None:
    pixels = Pixels(numbered(10), np.arange(10), *ONE)
    part = pixels.subset([9, 4, 1]).subset([2, 0])
    assert len(part) == 2
    assert part.labels.tolist() == [1, 9]
    assert part.batch(torch.tensor([0, 1]))[0][:, 0, 0, 0].tolist() == [1, 9]
    assert part._images.data_ptr() == pixels._images.data_ptr()


@pytest.mark.parametrize("rows", [[], [10], [-1]])
def test_a_subset_of_wrong_rows_is_refused(rows: list[int]) -> None:
    with pytest.raises(DataError, match=r"0\.\.9"):
        Pixels(numbered(10), np.arange(10), *ONE).subset(rows)


def test_fraction_takes_the_same_share_of_every_class() -> None:
    labels = np.array([0] * 100 + [1] * 40 + [2] * 10 + [3])
    pixels = Pixels(numbered(len(labels)), labels, *ONE)
    part = pixels.fraction(0.1, seed=3)
    assert np.bincount(part.labels.numpy()).tolist() == [10, 4, 1, 1]  # the lone image stays
    chosen = part.batch(torch.arange(len(part)))[0][:, 0, 0, 0].numpy()
    assert np.array_equal(labels[chosen], part.labels.numpy())  # pixels and labels go together
    assert len(set(chosen.tolist())) == len(chosen)


def test_fraction_depends_on_the_seed_alone() -> None:
    pixels = Pixels(numbered(100), np.arange(100) % 5, *ONE)
    rows = [pixels.fraction(0.5, seed)._rows for seed in (1, 1, 2)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert pixels.fraction(1.0, 1) is pixels
    with pytest.raises(SettingError):
        pixels.fraction(0, 1)


def test_resizing_is_that_of_pillow_and_done_once() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    pixels = Pixels(images, [0, 1, 2], (0.5,) * 3, (0.2,) * 3)
    small = pixels.resized(16)
    assert small is pixels.resized(16)
    assert pixels.resized(32) is pixels
    for i in range(3):
        image = Image.fromarray(images[i].transpose(1, 2, 0)).resize((16, 16), Image.Resampling.BILINEAR)
        theirs = np.asarray(image).transpose(2, 0, 1).astype(int)
        assert abs(small._images[i].numpy().astype(int) - theirs).max() <= 1
    assert pixels.subset([2]).resized(16)._images.shape == (1, 3, 16, 16)
    assert torch.equal(pixels.subset([2]).resized(16)._images[0], small._images[2])


def test_a_memory_map_stays_one_also_in_another_process(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", numbered(200, 16))
    whole = np.load(tmp_path / "images.npy", mmap_mode="r")
    for part in (whole, whole[50:]):
        pixels = Pixels(part, np.arange(len(part)), *ONE)
        sent = pickle.dumps(pixels.subset([3, 1]))
        assert len(sent) < part.nbytes / 4  # the file name went, not the pixels
        copy = pickle.loads(sent)
        assert torch.equal(copy.batch(torch.tensor([0, 1]))[0], torch.from_numpy(part[[3, 1]]))
        assert copy.labels.tolist() == [3, 1]


def test_pixels_in_memory_survive_pickling() -> None:
    pixels = Pixels(numbered(9), np.arange(9), *ONE)
    copy = pickle.loads(pickle.dumps(pixels.subset([8, 5])))
    assert copy.batch(torch.tensor([1]))[0].unique().tolist() == [5]
    assert (copy.mean, copy.std, copy.labels.tolist()) == (*ONE, [8, 5])


@pytest.mark.parametrize(
    ("images", "labels", "mean", "message"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), [0, 1], (0.5,), "uint8"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], (0.5,), "N, C, H, W"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0], (0.5,), "2 labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, -1], (0.5,), "from 0"),
        (np.zeros((0, 1, 4, 4), np.uint8), np.zeros(0, np.int64), (0.5,), "at least one"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, 1], (0.5, 0.5), "1 means"),
    ],
)
def test_wrong_images_are_refused(images: np.ndarray, labels: object, mean: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Pixels(images, labels, mean, (0.25,))


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(DataError, match="above 0"):
        Pixels(numbered(2), [0, 1], (0.5,), (0.0,))
