"""The images of a final training: what is trained on, what is watched meanwhile, what is tested once at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archduel.data import Dataset, Preprocessing, load
from archduel.data.cache import cache_root
from archduel.data.listing import Catalogue, catalogues
from archduel.errors import DataError
from archduel.training.images import side_by_side
from archduel.training.recipe import Recipe

if TYPE_CHECKING:
    from archduel.training.images import Images

__all__ = ["Task", "check_number", "open_task"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What images read while training are normalised with, as every ImageNet recipe does."""
HELD_OUT = 0.02
"""Share of them that is kept out of the training to be watched, if asked."""


@dataclass(frozen=True)
class Task:
    """One classification task, ready for training.

    Attributes:
        train: what weights are trained on.
        watched: looked at after every epoch, or None; nothing is chosen by it.
        test: looked at once, at the end.
        classes: names in label order.
        preprocessing: how an image becomes an input.
        recipe: the recipe, without what these images do not allow (mirrored digits).
        facts: for the record: name, fingerprint, numbers of images.
        notes: what a person should know.
        test_drawn: whether the test images were drawn by the seed, not given.
    """

    train: Images
    watched: Images | None
    test: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    test_drawn: bool = False

    @property
    def in_channels(self) -> int:
        """1 for grey, 3 for colour."""
        return len(self.preprocessing.mean)


def open_task(
    data: Any,
    recipe: Recipe,
    *,
    hold_out: bool,
    max_images: int | None,
    seed: int,
    device: str,
    workers: int | None = None,
) -> Task:
    """Returns the task of data in memory or in a decoded cache, or read while training for recipes with ``crop_scale``.

    Args:
        data: what :func:`archduel.data.load` takes, or a :class:`Dataset`; with ``crop_scale`` a folder like ImageNet's.
        recipe: ``image_size`` is the size at which images are read.
        hold_out: keeps the validation split out of the training and watches it.
        max_images: use at most so many.
        seed: of splits that are made.
        device: where batches are wanted.
        workers: processes that read images.

    Raises:
        DataError: for images that cannot be used, or fewer than a batch of them.
    """
    if recipe.crop_scale:
        return _streamed_task(data, recipe, hold_out=hold_out, max_images=max_images, seed=seed, device=device, workers=workers)
    from archduel.training.images import Pixels

    dataset = data if isinstance(data, Dataset) else load(data, image_size=recipe.image_size, max_images=max_images, seed=seed)
    train, validation, test = dataset.train, dataset.validation, dataset.test
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    images, labels = train.images, train.labels
    if not hold_out:
        images, labels = side_by_side(images, validation.images), np.concatenate([labels, validation.labels])
    check_number(len(labels), recipe)
    notes = list(dataset.warnings)
    if recipe.flip and not dataset.flip:
        recipe = replace(recipe, flip=False)
        notes.append("images are not mirrored: a mirrored digit or letter is another one")
    watched = Pixels(validation.images, validation.labels, mean, std, device) if hold_out else None
    return Task(
        Pixels(images, labels, mean, std, device),
        watched,
        Pixels(test.images, test.labels, mean, std, device),
        dataset.classes,
        replace(dataset.preprocessing, size=recipe.image_size),
        recipe,
        {
            "name": dataset.name, "fingerprint": dataset.fingerprint, "hold_out": hold_out, "train": len(labels),
            "validation": len(validation) if hold_out else 0, "test": len(test), "max_images": max_images,
        },
        tuple(notes),
        dataset.facts.get("splits", {}).get("test") == "made",
    )  # fmt: skip


def _lists(data: Any) -> dict[str, Catalogue]:
    """Returns the lists of ``train`` and ``test`` (the given validation images where there are no test images)."""
    if not isinstance(data, (str, os.PathLike)) or not Path(data).expanduser().is_dir():
        raise DataError(
            f"this recipe crops images at random sizes while they are read, which needs a folder with train/ and val/, got {data}; "
            "--set crop_scale=0 --set crop_pad=4 trains on images of one size"
        )
    lists = catalogues(Path(data), cache_root())
    tested = lists.get("test") or lists.get("validation")
    if tested is None:
        raise DataError(f"{data} has no val/ or test/ beside train/; a network needs images that it never saw")
    return {"train": lists["train"], "test": tested}


def _streamed_task(
    data: Any,
    recipe: Recipe,
    *,
    hold_out: bool,
    max_images: int | None,
    seed: int,
    device: str,
    workers: int | None,
) -> Task:
    """Returns the task of images that are read from disk while training."""
    from archduel.data.streaming import Stream, usable_cores
    from archduel.training.images import Streamed

    lists = _lists(data)
    tested = lists["test"]
    if workers is None:  # the cores are shared with the other processes on this machine
        workers = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    preprocessing = Preprocessing(recipe.image_size, "RGB", recipe.test_rule, IMAGENET_MEAN, IMAGENET_STD)
    learned = Streamed(Stream(lists["train"], preprocessing, scale=recipe.crop_scale, workers=workers), lists["train"].labels, device)
    plain = Streamed(Stream(lists["train"], preprocessing, workers=workers), lists["train"].labels, device)
    test = Streamed(Stream(tested, preprocessing, workers=workers), tested.labels, device)
    order = np.random.default_rng(seed).permutation(len(learned))[:max_images]
    held = round(len(order) * HELD_OUT) if hold_out else 0
    train = learned if max_images is None and not held else learned.subset(np.sort(order[held:]))
    check_number(len(train), recipe)
    return Task(
        train,
        plain.subset(np.sort(order[:held])) if held else None,
        test,
        lists["train"].classes,
        preprocessing,
        recipe,
        {
            "name": str(data), "fingerprint": lists["train"].key, "hold_out": hold_out, "train": len(train),
            "validation": held, "test": len(test), "max_images": max_images,
        },
    )  # fmt: skip


def check_number(n: int, recipe: Recipe) -> None:
    """Raises DataError for fewer images than a batch."""
    used = round(n * recipe.data_fraction)
    if used < recipe.batch_size:
        raise DataError(
            f"there are {used} training images, fewer than the batch of {recipe.batch_size}; "
            f"say --set batch_size={max(2, used // 4)} or give more images"
        )
