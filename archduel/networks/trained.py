"""A trained network on disk has one form, whoever trained it: ``model.safetensors`` and ``model.json`` beside it.

A training is such a folder; a finished search keeps its final networks as ``networks/<role>-<seed>/``; our own weights
lie in the package. ``model.json`` says how to build and to feed the network:

=================  ====================================================================================================
``arch``           ``space:1.0.4``, or null for a genotype that belongs to no space
``text``           the architecture in its space's own words (a genotype, an arch string), or null
``scale``          the fields of :class:`archduel.core.Scale`
``space``          ``package.module:FAMILY`` where the architecture's space is from outside, else left out
``options``        what else ``spaces.build`` was told, such as ``{"pool_norm": true}``
``classes``        names in label order
``preprocessing``  the fields of :class:`archduel.data.Preprocessing`: size, mode, rule, mean, std
``sha256``         of ``model.safetensors``, so that a cut-off download is noticed
=================  ====================================================================================================

Whatever else was given (data, seed of its splits, recipe, scores, which search) stands there too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel import registry
from archduel.core import Counts, Scale, parse
from archduel.core.disk import lacking, read_json, read_toml, write_atomic
from archduel.core.places import found_again, place_of
from archduel.core.storage import load_state
from archduel.errors import (
    ArchduelError,
    RunError,
    StateError,
    UnknownNameError,
    as_path,
    unknown,
)
from archduel.networks.facts import NEEDED, check_facts
from archduel.spaces.named import named

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archduel.export import ExportReport

__all__ = ["FACTS", "RECORD", "WEIGHTS", "ZOO", "TrainedNetwork", "counts_of", "export_network", "facts_at", "folder_of", "holds_network", "is_whole", "load_trained", "member_folder", "network_of", "open_network", "read_facts", "save_trained", "shipped", "shipped_tags", "take_weights"]

WEIGHTS, FACTS = "model.safetensors", "model.json"
RECORD = "evaluation.json"
"""The file beside a network that keeps its last evaluation."""
SEARCH, RESULT = "run.toml", "result.json"
"""What the folder of a search is known by, and what is there once it is finished."""
ZOO = "zoo:"
"""What a name of the zoo begins with where a folder could stand too."""

# -- Writing and reading one folder -------------------------------------------------------------------------------------


def save_trained(
    folder: str | Path, model: nn.Module, facts: Mapping[str, Any], *, half: bool = False
) -> dict[str, Any]:
    """Writes weights and facts, each atomically, and returns the facts as written.

    Args:
        folder: made if it is not there.
        model: the network; its auxiliary head is left out, it is not changed.
        facts: ``arch``, ``scale``, ``classes``, ``preprocessing`` (see the module), and anything else that is JSON.
        half: writes floats as float16, half the size; they are float32 again after loading.

    Raises:
        StateError: if a needed fact is missing.
    """
    from safetensors.torch import save

    if missing := [name for name in NEEDED if name not in facts]:
        raise StateError(f"a trained network needs the facts {', '.join(NEEDED)}; {', '.join(missing)} are missing")
    folder = Path(folder)
    weights = {name: _on_cpu(value, half) for name, value in model.state_dict().items() if not _auxiliary(name)}
    data = save(weights)
    written = {**facts, "scale": _fields(facts["scale"]), "preprocessing": _fields(facts["preprocessing"])}
    written["arch"] = None if facts["arch"] is None else str(facts["arch"])
    learned = facts.get("data")
    if isinstance(learned, Mapping) and isinstance(learned.get("name"), str) and (place := place_of(learned["name"], folder)):
        written["data"] = {**learned, "place": place}
    outside = registry.MENUS["space"].get(str(facts["arch"]).partition(":")[0], "")
    if outside in registry.plug_ins("space"):
        written["space"] = outside
    written["sha256"] = hashlib.sha256(data).hexdigest()
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / FACTS, json.dumps(written, indent=1).encode())
    return written


def _auxiliary(name: str) -> bool:
    return name.startswith("auxiliary.")


def _on_cpu(value: torch.Tensor, half: bool) -> torch.Tensor:
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
        raise RunError(
            f"{folder} holds no trained network: neither {FACTS} (`archduel train`) nor a finished search (`archduel search`)"
        )
    facts = read_json(path, remedy="train or fetch the network again")
    check_facts(facts, str(path))
    data = facts.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("place"), Mapping):
        facts["data"] = {**data, "name": found_again(str(data.get("name")), data["place"], Path(folder))}
    _know_space(facts.get("space"))
    return dict(facts)


def is_whole(folder: str | Path) -> bool:
    """Returns whether a folder holds a trained network whose facts can be read and whose weights are those they speak of."""
    folder = Path(folder)
    try:
        _read_weights(folder / WEIGHTS, str(read_facts(folder).get("sha256", "")))
    except (ArchduelError, OSError):
        return False
    return True


def _know_space(name: object) -> None:
    """Makes a space from outside known that a folder names, if this process uses it already or the user trusts it."""
    if isinstance(name, str) and ":" in name:
        registry.entry_of_folder("space", name)


def _read_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Returns the tensors of a ``model.safetensors``."""
    from safetensors.torch import load

    if not path.is_file():
        raise RunError(f"{path.parent} has {FACTS} but no {path.name}; train or fetch the network again")
    data = path.read_bytes()
    if sha256 not in ("", hashlib.sha256(data).hexdigest()):
        raise RunError(f"{path} is not the file that {FACTS} speaks of (SHA-256 differs); train or fetch it again")
    try:
        return load(data)
    except Exception as error:  # safetensors raises its own type, differing between versions
        raise RunError(f"{path} is damaged ({error}); train or fetch the network again") from error


def network_of(facts: Mapping[str, Any], *, auxiliary: bool = False) -> nn.Module:
    """Returns the untrained network that ``facts`` (``arch`` or ``text``, ``scale``, ``options``) describe."""
    from archduel.spaces.family import build, build_text

    scale, options = Scale(**_fields(facts["scale"])), facts.get("options") or {}
    if facts["arch"] is not None:
        # weights that exist need the network that they were trained in, also where none such would be built today
        return build(parse(str(facts["arch"])), scale, auxiliary=auxiliary, shallow=True, **options)
    return build_text(facts["text"], scale, auxiliary=auxiliary, **options)


def counts_of(facts: Mapping[str, Any]) -> Counts:
    """Returns parameters and multiply-adds of :func:`network_of` the same facts, without its auxiliary head."""
    from archduel.spaces.family import count, count_text

    scale, options = Scale(**_fields(facts["scale"])), facts.get("options") or {}
    if facts["arch"] is not None:
        return count(parse(str(facts["arch"])), scale, **options)
    return count_text(facts["text"], scale, **options)


def _check_size(facts: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuses facts of a network with more parameters than there are weights: it could be too large to be built at all.

    Raises:
        InvalidArchError: for an architecture that its space does not hold.
        StateError: naming both numbers.
    """
    try:
        params = counts_of(facts).params
    except UnknownNameError:  # a plug-in's space may have no counts
        return
    there = sum(value.numel() for value in weights.values())
    if params > there:
        raise StateError(f"{path} belongs to another architecture: it has {there:,} numbers, the network of its facts {params:,} parameters")


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
    reasons = [f"{len(names)} keys {kind} ({_some(names)})" for kind, names in faults.items() if names]
    if reasons:
        raise StateError(f"{where} belongs to another architecture: {'; '.join(reasons)}")
    model.load_state_dict(given, strict=False)


def _some(names: list[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (" ..." if len(names) > n else "")


# -- Finding the folder: a training's, that of a search's winner, or one in the package ---------------------------------


def folder_of(where: str | Path) -> Path:
    """Returns the folder that holds the network: ``where`` itself, a finished search's winner (first seed), ``zoo:NAME``.

    Raises:
        RunError: for a search that is not finished.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    text = as_path("the folder of a network", where, RunError)
    if text.startswith(ZOO):
        return shipped(text.removeprefix(ZOO))
    folder = Path(text)
    if not _is_search(folder):
        return folder
    _know_space(read_toml(folder / SEARCH).get("run", {}).get("space"))
    winner = _result(folder)["networks"]["search"]
    return folder / winner["folders"][0] if "folders" in winner else folder


def member_folder(where: str | Path, member: int | None) -> str | Path:
    """Returns where a member of the front of a finished search with several objectives lies; ``where`` itself for None.

    Raises:
        RunError: for a search that is not finished, or has no such member.
    """
    if member is None:
        return where
    text = as_path("the folder of a network", where, RunError)
    members = _result(Path(text)).get("front", {}).get("members", []) if _is_search(Path(text)) else []
    if not members:
        raise RunError(f"{text} has no front, so there is no member {member}; only a search with several objectives has members")
    row = next((row for row in members if row["member"] == member), None)
    if row is None:
        raise RunError(f"{text} has members 1 to {len(members)} of its front, got {member}; its report shows them")
    # a name alone, whoever wrote the file
    return Path(text) / "networks" / Path(str(row["folder"])).name


def holds_network(where: str) -> bool:
    """Returns whether ``where`` means weights rather than an architecture: ``zoo:NAME``, a training, a search."""
    return where.startswith(ZOO) or (Path(where) / FACTS).is_file() or _is_search(Path(where))


def facts_at(where: str | Path) -> dict[str, Any]:
    """Returns the facts of the network of a training, a finished search or ``zoo:NAME``; no weights are read.

    Raises:
        RunError: if there is no trained network, or it is damaged.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    folder = folder_of(where)
    return _read_before(folder)[0] if _is_search(folder) else read_facts(folder)


def _is_search(folder: Path) -> bool:
    return (folder / SEARCH).is_file() and not (folder / FACTS).is_file()


def _result(folder: Path) -> dict[str, Any]:
    """Returns what came out of the search in ``folder``."""
    path = folder / RESULT
    if not path.is_file():
        raise RunError(f"{folder} is not finished, so it has no winner yet; the same `archduel search` command continues it")
    again = "delete it, and the same `archduel search` command writes it again"
    result = read_json(path, {"networks": dict}, remedy=again)
    winner = result["networks"].get("search")
    if reason := lacking(winner, {"arch": str}) or _wrong_places(winner):
        raise RunError(f"{path} is damaged ({reason}); {again}")
    return result


def _wrong_places(winner: Mapping[str, Any]) -> str:
    """Returns what is wrong with where a network's files are said to be: a folder that was sent may point anywhere."""
    for name in ("folders", "weights"):
        places = winner.get(name, ["."])
        fine = isinstance(places, list) and places and all(isinstance(place, str) for place in places)
        if not fine or any(Path(place).is_absolute() or ".." in Path(place).parts for place in places):
            return f"{name!r} of the network is not a list of places in the run's folder"
    return ""



def _read_before(folder: Path) -> tuple[dict[str, Any], Path]:
    """Returns the winner's facts and weights in a search's folder of a version that kept it as a checkpoint (up to 0.1)."""
    result, run = _result(folder), read_toml(folder / SEARCH).get("run", {})
    winner, data = result["networks"]["search"], result.get("data", {})
    facts = {
        **{name: winner.get(name) for name in ("arch", "text", "params", "macs")}, "scale": result.get("scale"),
        "classes": data.get("classes"), "preprocessing": data.get("preprocessing"), "seed": run.get("seed", 0),
        "data": {"name": run.get("data"), "max_images": run.get("max_images"), **data.get("splits", {})},
        "test": {name: values[0] for name, values in winner.get("test", {}).items()},
    }  # fmt: skip
    if "weights" not in winner:
        raise RunError(f"{folder / RESULT} lacks weights; the winner cannot be read from it")
    check_facts(facts, str(folder / RESULT))
    return facts, folder / winner["weights"][0]


def shipped_tags(name: str) -> tuple[str, ...]:
    """Returns the tags of the weights in the package for a network, none for most."""
    return tuple(sorted(path.name.partition(".")[2] for path in _shipped_folder().glob(f"{name}.*") if path.is_dir()))


def _shipped_folder() -> Path:
    return Path(str(files("archduel"))) / "weights"


def shipped(name: str) -> Path:
    """Returns the folder with our weights of ``NAME`` (the first there are) or ``NAME.TAG``.

    Raises:
        UnknownNameError: for a network or weights that there are not.
    """
    network, _, tag = name.partition(".")
    item = named(network)
    tags = shipped_tags(item.name)
    if not tags:
        have = sorted(path.name for path in _shipped_folder().iterdir() if path.is_dir())
        raise UnknownNameError(
            f"there are no weights of ours for {item.name}, only {', '.join(have)} (`archduel zoo list`); a released checkpoint of it "
            f"can be read: `archduel zoo load {item.name} --checkpoint FILE --to FOLDER`"
        )
    if tag and tag not in tags:
        raise unknown(f"weights of {item.name}", tag, tags)
    return _shipped_folder() / f"{item.name}.{tag or tags[0]}"


# -- Opening: from a folder to a network that computes ------------------------------------------------------------------


def load_trained(where: str | Path, *, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network of a training, a finished search or ``zoo:NAME``, in evaluation mode, and its facts.

    Its input is (N, C, H, W) float32, normalised with ``facts["preprocessing"]``.

    Raises:
        RunError: if there is none, it is damaged, or its weights belong to another ``model.json``.
        StateError: for weights of another architecture; the message says which keys differ.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    folder = folder_of(where)
    if _is_search(folder):
        facts, path = _read_before(folder)
        weights = load_state(path)["weights"]
    else:
        facts, path = read_facts(folder), folder / WEIGHTS
        weights = _read_weights(path, facts.get("sha256", ""))
    try:
        _check_size(facts, weights, path)
        model = network_of(facts)
    except TypeError as error:
        if not facts.get("options"):
            raise
        raise StateError(f"{path.parent}: the options in {FACTS} are none of this architecture's ({error})") from error
    take_weights(model, weights, str(path))
    return model.to(device).eval(), facts


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network and what is known of it.

    Attributes:
        model: in evaluation mode; input (N, C, H, W) normalised by ``facts["preprocessing"]``, output logits.
        facts: as in ``model.json`` (see :mod:`archduel.networks.trained`).
        where: the folder, or ``zoo:NAME``, that it was asked for by.
    """

    model: nn.Module
    facts: Mapping[str, Any]
    where: str

    @property
    def counts(self) -> Counts:
        """Parameters and multiply-adds, auxiliary head left out."""
        return counts_of(self.facts)

    @property
    def with_normalisation(self) -> nn.Module:
        """The network behind its normalisation: input (N, C, H, W) float32 in 0..1, output logits."""
        from archduel.spaces.family import is_own
        from archduel.spaces.layers import Normalised, normalised_input

        preprocessing = self.facts["preprocessing"]
        behind = normalised_input if is_own(self.facts["arch"]) else Normalised
        return behind(preprocessing["mean"], preprocessing["std"], self.model).eval()


def open_network(where: str | Path, *, device: str = "cpu") -> TrainedNetwork:
    """Returns the trained network of a training, a finished search (its winner, first seed) or ``zoo:NAME``.

    Raises:
        RunError: if there is none, or it is damaged.
        StateError: for weights that do not fit ``model.json``.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    model, facts = load_trained(where, device=device)
    return TrainedNetwork(model, facts, str(where))


# -- Using it elsewhere: the stand-alone folder, predictions ------------------------------------------------------------


def export_network(network: TrainedNetwork, to: Path) -> ExportReport:
    """Writes the stand-alone folder of a trained network and returns what was checked.

    Raises:
        ExportError: if it cannot be written, or ``to`` holds other files.
    """
    from archduel.export import export_folder
    from archduel.spaces.family import free_text

    facts = network.facts
    known = {name: facts[name] for name in ("text", "data", "recipe", "test") if facts.get(name)}
    if isinstance(known.get("data"), Mapping):
        # where it lies on this machine is nobody's business
        known["data"] = {name: Path(str(value)).name if name == "name" else value for name, value in known["data"].items() if name != "place"}
    return export_folder(
        network.model, facts["arch"] or free_text(facts["text"]).canonical(facts["text"]), Scale(**facts["scale"]), to, classes=facts["classes"],
        preprocessing=facts["preprocessing"], facts={**known, **network.counts._asdict()},
        title=facts["text"] or str(facts["arch"]),
    )  # fmt: skip
