"""A training on disk, so that a killed one continues exactly.

Every epoch draws its random numbers from a seed of its own, so that weights, optimizer and the number of the epoch are all
there is to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from archduel.core.checkpoint import load_state, save_state
from archduel.errors import StateError
from archduel.training.recipe import Recipe

__all__ = ["Stateful", "identity", "load_training", "save_training"]


class Stateful(Protocol):
    """Something whose state can be taken and given back: a network, an optimizer, a scaler."""

    def state_dict(self) -> Any:
        """Returns all that changes."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Takes it back."""


def identity(recipe: Recipe, seed: int, n_images: int) -> dict[str, Any]:
    """Returns what two trainings must have in common for one to continue the other."""
    return {"recipe": asdict(recipe), "seed": seed, "images": n_images}


def save_training(
    path: Path, parts: Mapping[str, Stateful], progress: Mapping[str, Any], whose: Mapping[str, Any]
) -> None:
    """Writes the states of ``parts`` and the ``progress`` (JSON values) of the training that is ``whose``, atomically."""
    states = {name: dict(part.state_dict()) for name, part in parts.items()}
    save_state(path, {"identity": dict(whose), "progress": dict(progress), "parts": states})


def load_training(path: Path, parts: Mapping[str, Stateful], whose: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gives ``parts`` their saved states and returns the progress, or None if there is no such file yet.

    Raises:
        StateError: if the file is no checkpoint, or one of another training or network.
    """
    if not path.exists():
        return None
    state = load_state(path)
    if set(state) != {"identity", "progress", "parts"}:
        raise StateError(f"{path} is not a checkpoint of a training; remove it or name another file")
    saved = state["identity"]
    if saved != whose:
        flat = {**saved, **saved["recipe"]}, {**whose, **whose["recipe"]}
        other = [f"{k} {flat[0].get(k)!r} (now {v!r})" for k, v in flat[1].items() if k != "recipe" and flat[0].get(k) != v]
        raise StateError(f"{path} belongs to a training with {', '.join(other)}; remove it to start afresh")
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except (RuntimeError, KeyError, ValueError) as error:
        raise StateError(f"{path} does not fit this network ({error}); remove it to start afresh") from error
    return dict(state["progress"])
