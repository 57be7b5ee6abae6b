"""What trained networks see in image files: an answer or an error for each, whatever the others are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archduel.errors import DataError, UnreadableError, in_one_line
from archduel.networks.trained import TrainedNetwork
from archduel.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from archduel.data import Preprocessing

__all__ = ["Answer", "answers", "predict"]

Answer = list[tuple[str, float]]
"""The classes of an image with their probabilities, most probable first."""


def predict(network: TrainedNetwork, images: Sequence[Path]) -> list[Answer]:
    """Returns for each image file its classes with probabilities, most probable first.

    Raises:
        UnreadableError: after all of them were looked at, where some cannot be read; it has the answers to the others.
    """
    found = list(answers(network, images))
    errors = [answer for answer in found if isinstance(answer, DataError)]
    if errors:
        more = f" ({len(errors)} of {len(found)} cannot be read)" if len(found) > 1 else ""
        raise UnreadableError(f"{errors[0]}{more}", [None if isinstance(answer, DataError) else answer for answer in found])
    return [answer for answer in found if not isinstance(answer, DataError)]


def answers(network: TrainedNetwork, images: Iterable[Path]) -> Iterator[Answer | DataError]:
    """Yields for each image file, in order, what :func:`predict` returns of it, or why it cannot be read."""
    import torch

    from archduel.data import Preprocessing

    preprocessing, model = Preprocessing(**network.facts["preprocessing"]), network.with_normalisation
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    for path in images:
        try:
            pixels = _pixels(path, preprocessing)
        except DataError as error:
            yield error
            continue
        with torch.inference_mode():
            logits = model(torch.tensor(pixels, device=device).float()[None] / 255)
        probabilities = logits.softmax(1)[0].tolist()
        yield sorted(zip(network.facts["classes"], probabilities), key=lambda pair: -pair[1])


def _pixels(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns the network's input of one image file.

    Raises:
        DataError: for whatever is no image that can be read.
    """
    from archduel.data import apply_preprocessing, open_image

    name = printable(path)
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        why = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise DataError(f"{name} {why}; give image files") from error
    if not stat.S_ISREG(kind):  # a pipe would be waited for, without end
        raise DataError(f"{name} is a {'folder' if stat.S_ISDIR(kind) else 'pipe or device'}, not an image; give image files")
    try:
        with open_image(path) as image:
            return apply_preprocessing(image, preprocessing)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
        raise DataError(f"{name} cannot be read as an image: {printable(in_one_line(error))}") from error
