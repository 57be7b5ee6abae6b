"""A trained network wherever it lies: a training folder, a finished search, or a name of the zoo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.apps.folder import read_settings
from archduel.apps.trained import FACTS, load_trained, read_facts
from archduel.core import Counts, Scale, parse
from archduel.errors import RunError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RECORD", "ZOO", "Handed", "facts_at", "open_network"]

RECORD = "evaluation.json"
"""The file in a training folder that keeps its last evaluation."""
ZOO = "zoo:"
"""What a name of the zoo begins with where a folder could stand too."""


@dataclass(frozen=True)
class Handed:
    """A trained network and what is known of it.

    Attributes:
        model: in evaluation mode; input (N, C, H, W) normalised by ``facts["preprocessing"]``, output logits.
        facts: as in ``model.json`` (see :mod:`archduel.apps.trained`).
        where: the folder, or ``zoo:NAME``.
        kind: ``training``, ``run`` or ``zoo``.
    """

    model: nn.Module
    facts: Mapping[str, Any]
    where: str
    kind: str

    @property
    def counts(self) -> Counts:
        """Parameters and multiply-adds, auxiliary head left out."""
        from archduel.nets import count
        from archduel.nets.counts_darts import count_genotype
        from archduel.spaces.genotype_text import read_genotype

        scale = Scale(**self.facts["scale"])
        options = self.facts.get("options") or {}
        if self.facts["arch"] is not None:
            return count(parse(self.facts["arch"]), scale, **options)
        return count_genotype(read_genotype(self.facts["text"]), scale, **options)


def _run_facts(folder: Path) -> dict[str, Any]:
    """Returns the facts of a finished search's winner.

    Raises:
        RunError: for a search that is not finished.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"{folder} is not finished; the same `archduel search` command continues it")
    result = json.loads(path.read_text(encoding="utf-8"))
    settings = read_settings(folder)
    winner, data = result["networks"]["search"], result["data"]
    return {
        "arch": winner["arch"],
        "text": winner["text"],
        "scale": result["scale"],
        "classes": data["classes"],
        "preprocessing": data["preprocessing"],
        "data": {"name": settings.data, "max_images": settings.max_images, **data["splits"]},
        "seed": settings.seed,
    }


def facts_at(where: str | Path) -> tuple[str, dict[str, Any]]:
    """Returns ``training``, ``run`` or ``zoo``, and the facts of the network there; no weights are read.

    Raises:
        RunError: if there is no trained network.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    if str(where).startswith(ZOO):
        from archduel.apps.zoo import shipped

        return "zoo", read_facts(shipped(str(where).removeprefix(ZOO)))
    folder = Path(where)
    if (folder / FACTS).is_file():
        return "training", read_facts(folder)
    if (folder / "run.toml").is_file():
        return "run", _run_facts(folder)
    raise RunError(
        f"{folder} holds no trained network: neither {FACTS} (`archduel train`) nor a finished search (`archduel search`)"
    )


def open_network(where: str | Path, *, device: str = "cpu") -> Handed:
    """Returns the trained network of a training folder, a finished search (its winner, first seed) or ``zoo:NAME``.

    Raises:
        RunError: if there is none, or it is damaged.
        StateError: for weights that do not fit ``model.json``.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    kind, facts = facts_at(where)
    if kind == "run":
        from archduel.apps.handover import load_weights

        result = json.loads((Path(where) / "result.json").read_text(encoding="utf-8"))
        model, arch, scale = load_weights(Path(where), result)
        return Handed(model.to(device), {**facts, "arch": str(arch), "scale": asdict(scale)}, str(where), kind)
    if kind == "zoo":
        from archduel.apps.zoo import shipped

        model, facts = load_trained(shipped(str(where).removeprefix(ZOO)), device=device)
    else:
        model, facts = load_trained(where, device=device)
    return Handed(model, facts, str(where), kind)
