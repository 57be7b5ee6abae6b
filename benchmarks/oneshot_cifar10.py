"""What the one-shot benchmarks on CIFAR-10 share: the pictures, and the options that every one of them has."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_folder import stored


def pictures(root: Path, n: int, parts: Sequence[str] = ("train_a", "train_b")) -> tuple[Any, Any]:
    """Returns the first ``n`` pictures (n, 32, 32, 3) of some files, and labels; their stored order is random."""
    images, labels = [], []
    for image, label in stored(root / "cifar10", list(parts)):
        images.append(np.asarray(image.convert("RGB")))
        labels.append(label)
        if len(images) == n:
            break
    return np.stack(images), np.unique(labels, return_inverse=True)[1]


def parser_of(description: str | None, *, images: int, channels: int = 8, depth: int = 1) -> argparse.ArgumentParser:
    """Returns a parser with the options of all: how many images, which network, where things are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=channels)
    parser.add_argument("--depth", type=int, default=depth)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def root_of(parser: argparse.ArgumentParser) -> Path:
    """Returns the folder of the data; without one the parser says what is missing."""
    if "ARCHDUEL_DATA" not in os.environ:
        parser.error("set ARCHDUEL_DATA to the folder that holds cifar10/train_a.npz, train_b.npz and test.npz")
    return Path(os.environ["ARCHDUEL_DATA"])


def prepared(arguments: argparse.Namespace, dataset: Any, strategy: str, given: Mapping[str, Any], seed: int, **settings: Any) -> tuple[Any, Any, Any]:
    """Returns the space, the plan of a one-shot strategy for ``--batches``, and shared weights that are not trained yet.

    Args:
        arguments: of :func:`parser_of`, and ``batches``.
        dataset: images.
        strategy: its name.
        given: its settings, which say what a batch costs.
        seed: of weights and order.
        settings: more of its settings.
    """
    import torch

    from archduel import supernet
    from archduel.commands.search.one_shot import counted_prices, fitted, supernet_recipe
    from archduel.core import Scale
    from archduel.estimators import SharedWeights
    from archduel.spaces import NASBench201
    from archduel.training import Pixels, Recipe, keep_freed_memory

    keep_freed_memory()
    space, size = NASBench201(), arguments.image_size
    start = Recipe(
        batch_size=arguments.batch_size, lr=0.1, weight_decay=3e-4, channels=arguments.channels, depth=arguments.depth,
        image_size=size, crop_pad=size // 8,
    )  # fmt: skip
    recipe = supernet_recipe(start, strategy, {})
    means = dataset.preprocessing.mean, dataset.preprocessing.std
    train, validation = (Pixels(part.images, part.labels, *means) for part in (dataset.train, dataset.validation))
    n, n_validation = (-(-len(part) // recipe.batch_size) for part in (train, validation))
    prices = counted_prices(strategy, given, n_validation=n_validation, n_options=5)
    plan = fitted(strategy, space, arguments.batches, prices, n, recipe, {**given, **settings, "verify": 0})
    scale = Scale(recipe.channels, recipe.depth, size, 3, 10)
    network = supernet("nasbench201", scale, generator=torch.Generator().manual_seed(seed))
    return space, plan, SharedWeights(network, train, validation, plan.recipe, n_classes=10, seed=seed)


def searched(
    arguments: argparse.Namespace, root: Path, seeds: Sequence[int], names: Sequence[str],
    one_search: Callable[[argparse.Namespace, Any, str, int], dict[str, Any]],
) -> Iterator[tuple[list[dict[str, Any]], str]]:  # fmt: skip
    """Yields all searches there are, after each of them, and on what; those that the folder ``--work`` keeps are not run again.

    Args:
        arguments: of :func:`parser_of`; it ends after ``--minutes``.
        root: folder of the data.
        seeds: the outer turn.
        names: what is searched with, the inner turn.
        one_search: is given the arguments, the images, a name and a seed.
    """
    import torch

    from archduel.data import load

    torch.set_num_threads(1)
    began, searches = time.monotonic(), list[dict[str, Any]]()
    dataset = load(pictures(root, arguments.images), seed=0, image_size=arguments.image_size, validation=0.1, test=0.02)
    sizes = f"CIFAR-10, {len(dataset.train)} training and {len(dataset.validation)} validation images at {arguments.image_size} px"
    arguments.work.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for name in names:
            path = arguments.work / f"{name.replace(' ', '_')}-{seed}.json"
            if not path.exists():
                if time.monotonic() - began > 60 * arguments.minutes:
                    print(f"stopped before {name}, seed {seed}; the same command goes on")
                    return
                path.write_text(json.dumps(one_search(arguments, dataset, name, seed)))
            searches.append(json.loads(path.read_text()))
            print(name, seed, searches[-1]["found"], searches[-1].get("seconds"), flush=True)
            yield searches, sizes
