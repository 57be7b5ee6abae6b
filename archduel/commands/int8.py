"""From a trained network and its images to an int8 network in an exported folder."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from archduel.data import Dataset, load
from archduel.errors import SettingError, elsewhere
from archduel.export.int8 import FLOAT_FILE, Int8Report, Labelled, write_int8
from archduel.networks.trained import TrainedNetwork, export_network

__all__ = ["export_int8"]

MOST_TUNED = 10_000
"""Training images of a fine-tuning with int8 in mind, at most."""


def export_int8(network: TrainedNetwork, folder: Path, *, data: str | None = None) -> Int8Report:
    """Writes the int8 network of an exported folder and returns how it compares with the float one on validation images.

    Where every way to make it loses more than a point, the network is trained on for a few epochs as if it were int8.

    Args:
        network: the trained network.
        folder: where it was exported to.
        data: what it was trained on; None = where its facts say.

    Raises:
        DataError: for images that cannot be read, or of other classes.
        ExportError: if it cannot be made int8.
        SettingError: where nobody says what it was trained on.
    """
    images = _images(network, data)
    train, validation = (Labelled(np.asarray(part.images[:]), np.asarray(part.labels[:], np.int64)) for part in (images.train, images.validation))

    def tuned(path: Path) -> None:
        """Writes the ONNX file of the network, trained on."""
        from archduel.training.images import Pixels
        from archduel.training.quantised import fine_tuned

        look = network.facts["preprocessing"]
        seed = int(network.facts.get("seed") or 0)
        pixels = Pixels(train.pixels, train.labels, look["mean"], look["std"])
        some = pixels.fraction(min(1.0, MOST_TUNED / len(pixels)), seed)  # of all classes: the images of a folder stand class after class
        model = fine_tuned(network.model, some, seed=seed)
        with tempfile.TemporaryDirectory() as place:
            export_network(replace(network, model=model), Path(place) / "tuned")
            shutil.copyfile(Path(place) / "tuned" / FLOAT_FILE, path)

    return write_int8(folder, train, validation, tuned=tuned)


def _images(network: TrainedNetwork, data: str | None) -> Dataset:
    """Returns the images that a network was trained on, as it sees them, in the splits of its training."""
    facts = network.facts
    known: dict[str, Any] = dict(facts.get("data") or {})
    name, look = data or known.get("name"), facts["preprocessing"]
    if name is None:
        raise SettingError("this network does not say what it was trained on, and int8 needs training and validation images; name them with --data")
    with nullcontext() if data else elsewhere("the network was trained on these images, and int8 needs them: --data says where they are now"):
        found = load(
            name, image_size=look["size"], seed=int(facts.get("seed") or 0), max_images=known.get("max_images"), rule=look["rule"], mode=look["mode"],
            validation=known.get("validation_share"),
        )
    if list(found.classes) != list(facts["classes"]):
        raise SettingError(
            f"{name} has the classes {', '.join(list(found.classes)[:3])} ..., the network {', '.join(list(facts['classes'])[:3])} ...; "
            "give the data it was trained on"
        )
    return found
