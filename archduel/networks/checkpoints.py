"""Weights that somebody else's code saved: read without running anything, given to our network by structure.

Released networks name their layers differently, but they register them in the order in which we build them: stem, cells
(input projections, then operations node by node), classifier. So the layers are matched in order, each by the names and
shapes of its own tensors. Two neighbours of one shape that stand in another order cannot be noticed that way: the
accuracy must be checked (`archduel eval`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archduel.errors import DataError, StateError

__all__ = ["Layer", "check_file", "layers_of", "matched", "read_checkpoint", "without_wrappers"]

HARMLESS: list[Any] = [argparse.Namespace]
"""Classes besides torch's own allow-list that training scripts put beside the weights; they only hold values."""
BOUND = ("num_batches_tracked",)
SUFFIXES, LISTED = (".pth", ".pt", ".safetensors"), 3
"""Endings of files of weights, and how many such files of a folder are named."""
WRAPPED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")


class Layer(NamedTuple):
    """The tensors of one module.

    Attributes:
        name: of the module.
        tensors: their own names -> tensor, sorted.
    """

    name: str
    tensors: dict[str, Tensor]

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes."""
        return tuple((name, tuple(value.shape)) for name, value in self.tensors.items())


def check_file(path: Path) -> None:
    """Raises DataError for a path that is no file of weights: of a folder it says which files in it could be."""
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in SUFFIXES)
        listed = f"give the file: {', '.join(inside[:LISTED])}{' ...' if inside[LISTED:] else ''}"
        which = listed if inside else f"it holds none ({', '.join(SUFFIXES)})"
        raise DataError(f"{path} is a folder, expected a file of weights; {which}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a ``.pt``/``.pth`` file (pickle, allow-listed types only) or a ``.safetensors`` file.

    Raises:
        DataError: for a folder, or a file that is missing, damaged, holds other types, or no tensors.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is no safetensors file: {error}") from error
    try:
        with torch.serialization.safe_globals(HARMLESS):
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file leads the reader to errors of any kind
        raise DataError(
            f"{path} cannot be read as weights: {_reason(error)}. Only tensors, numbers, texts and containers are read, never "
            "objects that would run code; save `model.state_dict()` alone where the network can still be loaded"
        ) from error
    tensors = _tensors(saved)
    if not tensors:
        raise DataError(f"{path} holds no tensors by name; expected a state dict, alone or under {', '.join(WRAPPED[:3])}")
    return tensors


def _reason(error: Exception) -> str:
    """Returns the line of a reader's message that says what it met; of bytes that no reader knows it says nothing (``KeyError: 101``)."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if " " in line.strip()]
    return next((line for line in lines if "GLOBAL" in line), lines[0] if lines else "torch did not save it, or it is damaged")


def _tensors(saved: object) -> dict[str, Tensor]:
    """Returns the named tensors of what a file holds, looking below the usual names; a container may hold itself."""
    found: dict[str, Tensor] = {}
    waiting, seen = [saved], set()
    while waiting:
        here = waiting.pop(0)
        if isinstance(here, Mapping) and id(here) not in seen:
            seen.add(id(here))
            tensors = {str(name): value for name, value in here.items() if isinstance(value, Tensor)}
            found = max(found, tensors, key=len)
            waiting += [here[name] for name in WRAPPED if name in here]
    return found


def layers_of(weights: Mapping[str, Tensor]) -> list[Layer]:
    """Returns the layers in order of first appearance, auxiliary heads and batch counters left out, the classifier last."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        module, _, own = key.rpartition(".")
        auxiliary = any(part.lower().startswith("aux") for part in module.split("."))
        if not auxiliary and own not in BOUND:
            layers.setdefault(module, {})[own] = value
    ordered = [Layer(name, dict(sorted(tensors.items()))) for name, tensors in layers.items()]
    last = [layer for layer in ordered if "weight" in layer.tensors and layer.tensors["weight"].ndim == 2]
    return [layer for layer in ordered if layer not in last] + last if len(last) == 1 else ordered


WRAPPERS = ("module.", "_orig_mod.", "model.", "network.")
"""What wrappers of networks (data parallelism, compilation, trainers) put before every name."""


def without_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights without what wrappers have put before all of their names."""
    found = dict(weights)
    while found and (start := next((word for word in WRAPPERS if all(name.startswith(word) for name in found)), "")):
        found = {name.removeprefix(start): value for name, value in found.items()}
    return found


def matched(model: nn.Module, weights: Mapping[str, Tensor], where: str, *, ordered: bool | None = None) -> dict[str, Tensor]:
    """Returns the weights under our names; equal names are taken as they are, others layer by layer in order.

    Args:
        model: the network they are for.
        weights: of the same network with other names.
        where: they are from, for errors.
        ordered: whether they stand in the order of the layers; None = unless ``where`` is a safetensors file.

    Raises:
        StateError: where a layer does not fit, naming both sides.
    """
    own = model.state_dict()
    wanted = {name for name in own if not name.startswith("auxiliary.") and not name.endswith(BOUND)}
    counters = {name: value for name, value in own.items() if name.endswith(BOUND) and not name.startswith("auxiliary.")}
    if not wanted <= set(weights):
        weights = without_wrappers(weights)
    if wanted <= set(weights) and all(weights[name].shape == own[name].shape for name in wanted):
        return counters | {name: weights[name] for name in own if name in weights and not name.startswith("auxiliary.")}
    if not (not where.endswith(".safetensors") if ordered is None else ordered):
        raise StateError(
            f"{where} has other names than ours and, as every safetensors file, no order of layers; give the .pt file"
        )
    ours, theirs = layers_of(own), layers_of(weights)
    for number, (mine, other) in enumerate(zip(ours, theirs)):
        if mine.shapes != other.shapes:
            raise StateError(
                f"{where} belongs to another architecture or size: layer {number} of {len(ours)} is {mine.name} "
                f"{_shapes_text(mine)} here and {other.name} {_shapes_text(other)} there"
            )
    if len(ours) != len(theirs):
        raise StateError(
            f"{where} belongs to another architecture or size: it has {len(theirs)} layers with weights, this network "
            f"{len(ours)}"
        )
    pairs = ((f"{mine.name}.{name}", value) for mine, other in zip(ours, theirs) for name, value in other.tensors.items())
    return counters | dict(pairs)


def _shapes_text(layer: Layer) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in layer.shapes)
