"""Starting a training from the weights of another one: the body is kept, a classifier of other classes starts anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archduel.apps.trained import FACTS, load_trained, take_weights
from archduel.core import Scale
from archduel.errors import RunError, SettingError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["classifier_keys", "start_folder", "take_start"]

ZOO = "zoo:"


def start_folder(start: str | Path) -> Path:
    """Returns the folder with the weights to start from: ``start`` itself, or that of ``zoo:NAME``.

    Raises:
        RunError: for a folder without a trained network.
        UnknownNameError: for weights that there are not.
    """
    from archduel.apps.zoo import shipped

    text = str(start)
    folder = shipped(text.removeprefix(ZOO)) if text.startswith(ZOO) else Path(start)
    if not (folder / FACTS).is_file():
        raise RunError(f"--from {start}: there is no trained network; it takes a folder of `archduel train` or zoo:NAME")
    return folder


def take_start(model: nn.Module, start: str | Path, scale: Scale) -> None:
    """Gives ``model`` (of ``scale``) the weights of the training in ``start``; a classifier of other classes starts anew.

    Raises:
        RunError: for a folder without a trained network.
        SettingError: for pictures of another number of channels.
        StateError: for another architecture, with the keys that differ.
    """
    source, facts = load_trained(start_folder(start))
    weights: dict[str, torch.Tensor] = dict(source.state_dict())
    before = facts["scale"]
    if before["in_channels"] != scale.in_channels:
        raise SettingError(
            f"{start} was trained on pictures of {before['in_channels']} channels, these have {scale.in_channels}; "
            "convert the pictures first"
        )
    own = model.state_dict()
    if before["n_classes"] != scale.n_classes:
        for name in classifier_keys(source):
            if name in own:
                weights[name] = own[name]
    take_weights(model, weights, str(start))


def classifier_keys(model: nn.Module) -> list[str]:
    """Returns the keys of the last linear layer outside the auxiliary head."""
    from torch import nn

    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith("auxiliary")]
    return [f"{layers[-1]}.weight", f"{layers[-1]}.bias"] if layers else []
