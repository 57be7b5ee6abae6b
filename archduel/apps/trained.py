"""A trained network on disk: ``model.safetensors`` and beside it ``model.json``, which says how to build and to feed it.

The facts of ``model.json``:

=================  ====================================================================================================
``arch``           ``space:1.0.4``, or null for a genotype that belongs to no space
``text``           the architecture in its space's own words (a genotype, an arch string), or null
``scale``          the fields of :class:`archduel.core.Scale`
``options``        what else ``nets.build`` was told, such as ``{"pool_norm": true}``
``classes``        names in label order
``preprocessing``  the fields of :class:`archduel.data.Preprocessing`: size, mode, rule, mean, std
``sha256``         of ``model.safetensors``, so that a cut-off download is noticed
=================  ====================================================================================================

Whatever else was given (recipe, scores, versions) stands there too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.core import Scale, parse
from archduel.core.checkpoint import write_atomic
from archduel.errors import RunError, StateError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["FACTS", "WEIGHTS", "load_trained", "network_of", "read_facts", "save_trained", "take_weights"]

WEIGHTS, FACTS = "model.safetensors", "model.json"
NEEDED = ("arch", "scale", "classes", "preprocessing")


def save_trained(
    folder: str | Path, model: nn.Module, facts: Mapping[str, Any], *, half: bool = False
) -> dict[str, Any]:
    """Writes weights and facts, each atomically, and returns the facts as written.

    Args:
        folder: made if it is not there.
        model: the network; its auxiliary head is left out, it is not changed.
        facts: ``arch``, ``scale``, ``classes``, ``preprocessing`` (see the module), and anything else that is JSON.
        half: keeps floats as float16, half the size; they are float32 again after loading.

    Raises:
        StateError: if a needed fact is missing.
    """
    from safetensors.torch import save

    if missing := [name for name in NEEDED if name not in facts]:
        raise StateError(f"a trained network needs the facts {', '.join(NEEDED)}; {', '.join(missing)} are missing")
    folder = Path(folder)
    weights = {name: _plain(value, half) for name, value in model.state_dict().items() if not _auxiliary(name)}
    data = save(weights)
    written = {**facts, "scale": _fields(facts["scale"]), "preprocessing": _fields(facts["preprocessing"])}
    written["arch"] = None if facts["arch"] is None else str(facts["arch"])
    written["sha256"] = hashlib.sha256(data).hexdigest()
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / FACTS, json.dumps(written, indent=1).encode())
    return written


def _auxiliary(name: str) -> bool:
    return name.startswith("auxiliary.")


def _plain(value: torch.Tensor, half: bool) -> torch.Tensor:
    """Returns a contiguous copy on the CPU, as float16 if asked."""
    import torch

    value = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return value.half() if half and value.is_floating_point() else value


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else asdict(value)


def read_facts(folder: str | Path) -> dict[str, Any]:
    """Returns the content of ``model.json``.

    Raises:
        RunError: if there is none or it is damaged.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise RunError(f"{folder} holds no trained network (no {FACTS}); `archduel train ARCH --out {folder}` makes one")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        absent = [name for name in NEEDED if name not in facts]
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); train or fetch the network again") from error
    if absent:
        raise RunError(f"{path} lacks {', '.join(absent)}; train or fetch the network again")
    return dict(facts)


def network_of(facts: Mapping[str, Any], *, auxiliary: bool = False) -> nn.Module:
    """Returns the untrained network that ``facts`` (``arch`` or ``text``, ``scale``, ``options``) describe."""
    from archduel.nets import build

    scale, options = Scale(**_fields(facts["scale"])), facts.get("options") or {}
    if facts["arch"] is not None:
        return build(parse(str(facts["arch"])), scale, auxiliary=auxiliary, **options)
    from archduel.nets.darts import build_genotype
    from archduel.spaces.genotype_text import read_genotype

    return build_genotype(read_genotype(facts["text"]), scale, auxiliary=auxiliary, **options)


def load_trained(folder: str | Path, *, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network in evaluation mode on ``device``, and its facts.

    Its input is (N, C, H, W) float32, normalised with ``facts["preprocessing"]``.

    Raises:
        RunError: for a folder without a trained network, or weights that are damaged or belong to another ``model.json``.
        StateError: for weights of another architecture; the message says which keys differ.
    """
    from safetensors.torch import load

    folder = Path(folder)
    facts = read_facts(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise RunError(f"{folder} has {FACTS} but no {WEIGHTS}; train or fetch the network again")
    data = path.read_bytes()
    if facts.get("sha256", "") not in ("", hashlib.sha256(data).hexdigest()):
        raise RunError(f"{path} is not the file that {FACTS} speaks of (SHA-256 differs); train or fetch it again")
    try:
        weights = load(data)
    except Exception as error:  # safetensors raises its own type, differing between versions
        raise RunError(f"{path} is damaged ({error}); train or fetch the network again") from error
    model = network_of(facts)
    take_weights(model, weights, str(path))
    return model.to(device).eval(), facts


def take_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Gives ``model`` the weights; auxiliary heads may be missing on either side.

    Raises:
        StateError: for weights of another architecture, naming the keys that are missing, not expected, or of another shape.
    """
    own = {name: value for name, value in model.state_dict().items() if not _auxiliary(name)}
    given = {name: value for name, value in weights.items() if not _auxiliary(name)}
    faults = {
        "missing": [name for name in own if name not in given],
        "not expected": [name for name in given if name not in own],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
            for name, value in own.items()
            if name in given and given[name].shape != value.shape
        ],
    }
    said = [f"{len(names)} keys {kind} ({_some(names)})" for kind, names in faults.items() if names]
    if said:
        raise StateError(f"{where} belongs to another architecture: {'; '.join(said)}")
    model.load_state_dict(given, strict=False)


def _some(names: list[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (" ..." if len(names) > n else "")
