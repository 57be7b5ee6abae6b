"""From a finished run to something a person can use elsewhere: the model, the stand-alone folder, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.apps.final import plain
from archduel.core import Arch, Scale, parse
from archduel.core.checkpoint import load_state
from archduel.errors import DataError

if TYPE_CHECKING:
    import torch

    from archduel.apps.handed import Handed
    from archduel.apps.progress import Progress
    from archduel.export import ExportReport

__all__ = ["export_from", "export_network", "export_run", "load_weights", "load_winner", "predict", "predict_from"]


def load_weights(folder: Path, result: Mapping[str, Any]) -> tuple[torch.nn.Module, Arch, Scale]:
    """Returns the winner with the weights of its first seed (chosen before test was read)."""
    from archduel.nets import build

    network, scale = result["networks"]["search"], Scale(**result["scale"])
    arch = parse(network["arch"])
    model = build(arch, scale)
    weights = load_state(folder / network["weights"][0])["weights"]
    model.load_state_dict(plain(weights, model), strict=True)
    return model.eval(), arch, scale


def _with_normalisation(model: torch.nn.Module, preprocessing: Mapping[str, Any]) -> torch.nn.Module:
    """Returns the network behind its normalisation: input (N, C, H, W) float32 in 0..1, output logits."""
    import torch
    from torch import nn

    class Normalise(nn.Module):
        """Subtracts the training mean and divides by the standard deviation, per channel."""

        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.mean) / self.std

    return nn.Sequential(Normalise(preprocessing["mean"], preprocessing["std"]), model).eval()


def load_winner(folder: Path, result: Mapping[str, Any]) -> torch.nn.Module:
    """Returns the trained winner behind its normalisation: input (N, C, H, W) float32 in 0..1, output logits."""
    return _with_normalisation(load_weights(folder, result)[0], result["data"]["preprocessing"])


def export_run(folder: Path, result: Mapping[str, Any], to: Path, *, progress: Progress | None = None) -> Path:
    """Writes the stand-alone folder of a run's winner and returns its path."""
    report = _export_winner(folder, result, to)
    if progress is not None:
        progress.say(f"  {report.summary}")
    return to


def _export_winner(folder: Path, result: Mapping[str, Any], to: Path) -> ExportReport:
    """Writes the stand-alone folder of a run's winner and returns what was checked."""
    from archduel.export import export_folder

    model, arch, scale = load_weights(folder, result)
    network, data = result["networks"]["search"], result["data"]
    scores = network["test"][result["metric"]]
    facts = {
        "test": {result["metric"]: scores, "pictures": data["splits"]["test"]},
        "params": network["params"],
        "macs": network["macs"],
        "architecture": network["text"],
        "data": data["name"],
    }
    return export_folder(
        model, arch, scale, to, classes=data["classes"], preprocessing=data["preprocessing"], facts=facts
    )


def export_network(network: Handed, to: Path) -> ExportReport:
    """Writes the stand-alone folder of any trained network (a training folder's, the zoo's) and returns what was checked.

    Raises:
        ExportError: if it cannot be written, or ``to`` holds other files.
    """
    from archduel.export import export_folder

    facts = network.facts
    known = {name: facts[name] for name in ("text", "data", "recipe", "test") if facts.get(name)}
    return export_folder(
        network.model, facts["arch"] or facts["text"], Scale(**facts["scale"]), to, classes=facts["classes"],
        preprocessing=facts["preprocessing"], facts={**known, **network.counts._asdict()},
    )  # fmt: skip


def predict(folder: Path, result: Mapping[str, Any], pictures: Sequence[Path]) -> list[list[tuple[str, float]]]:
    """Returns for each picture its classes with probabilities, most probable first.

    Raises:
        DataError: naming the first picture that cannot be read.
    """
    return _predict(load_winner(folder, result), result["data"], pictures)


def export_from(where: str, to: Path) -> str:
    """Writes the stand-alone folder of whatever lies at ``where`` and returns what to tell people.

    Raises:
        RunError: for a folder without a trained network.
        ExportError: if it cannot be written, or ``to`` holds other files.
    """
    from archduel.apps.handed import facts_at, open_network
    from archduel.apps.main import Run

    if facts_at(where)[0] == "run":
        run = Run(where)
        return _export_winner(run.folder, run.result, to).summary
    return export_network(open_network(where), to).summary


def predict_from(where: str, pictures: Sequence[Path]) -> list[list[tuple[str, float]]]:
    """Returns for each picture its classes with probabilities, for a search's winner or any trained network.

    Raises:
        RunError: for a folder without a trained network.
        DataError: naming the first picture that cannot be read.
    """
    from archduel.apps.handed import open_network

    network = open_network(where)
    return _predict(_with_normalisation(network.model, network.facts["preprocessing"]), network.facts, pictures)


def _predict(
    model: torch.nn.Module, facts: Mapping[str, Any], pictures: Sequence[Path]
) -> list[list[tuple[str, float]]]:
    import torch

    from archduel.data import Preprocessing, apply_preprocessing, open_picture

    look = Preprocessing(**facts["preprocessing"])
    answers = []
    for path in pictures:
        if not path.is_file():
            raise DataError(f"{path} is {'a folder, not a picture' if path.is_dir() else 'not there'}; give files of pictures")
        try:
            with open_picture(path) as image:
                pixels = apply_preprocessing(image, look)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as a picture: {error}") from error
        with torch.inference_mode():
            logits = model(torch.from_numpy(pixels).float()[None] / 255)
        probabilities = logits.softmax(1)[0].tolist()
        answers.append(sorted(zip(facts["classes"], probabilities), key=lambda pair: -pair[1]))
    return answers
