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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.commands.search.settings import read_settings
from archduel.core import Arch, Counts, Scale, parse
from archduel.core.storage import load_state, write_atomic
from archduel.errors import DataError, RunError, SettingError, StateError, UnknownNameError, unknown
from archduel.spaces.named import named

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archduel.commands.progress import Progress
    from archduel.export import ExportReport

__all__ = ["FACTS", "RECORD", "WEIGHTS", "ZOO", "Handed", "classifier_keys", "export_from", "export_network", "export_run", "facts_at", "load_trained", "load_weights", "load_winner", "network_of", "open_network", "predict", "predict_from", "read_facts", "save_trained", "shipped", "start_folder", "take_start", "take_weights"]


def plain(weights: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Returns the weights that ``model`` has; what is left out is the auxiliary head."""
    wanted = set(model.state_dict())
    return {name: value for name, value in weights.items() if name in wanted}


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
    from archduel.spaces.family import build, build_text

    scale, options = Scale(**_fields(facts["scale"])), facts.get("options") or {}
    if facts["arch"] is not None:
        return build(parse(str(facts["arch"])), scale, auxiliary=auxiliary, **options)
    return build_text(facts["text"], scale, auxiliary=auxiliary, **options)


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


# -- Starting a training from the weights of another one: the body is kept, a classifier of other classes starts anew ---


def start_folder(start: str | Path) -> Path:
    """Returns the folder with the weights to start from: ``start`` itself, or that of ``zoo:NAME``.

    Raises:
        RunError: for a folder without a trained network.
        UnknownNameError: for weights that there are not.
    """
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


# -- A trained network wherever it lies: a training folder, a finished search, or a name of the zoo ---------------------


RECORD = "evaluation.json"
"""The file in a training folder that keeps its last evaluation."""
ZOO = "zoo:"
"""What a name of the zoo begins with where a folder could stand too."""


@dataclass(frozen=True)
class Handed:
    """A trained network and what is known of it.

    Attributes:
        model: in evaluation mode; input (N, C, H, W) normalised by ``facts["preprocessing"]``, output logits.
        facts: as in ``model.json`` (see :mod:`archduel.networks.trained`).
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
        from archduel.spaces.family import count, count_text

        scale = Scale(**self.facts["scale"])
        options = self.facts.get("options") or {}
        if self.facts["arch"] is not None:
            return count(parse(self.facts["arch"]), scale, **options)
        return count_text(self.facts["text"], scale, **options)


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
        result = json.loads((Path(where) / "result.json").read_text(encoding="utf-8"))
        model, arch, scale = load_weights(Path(where), result)
        return Handed(model.to(device), {**facts, "arch": str(arch), "scale": asdict(scale)}, str(where), kind)
    if kind == "zoo":
        model, facts = load_trained(shipped(str(where).removeprefix(ZOO)), device=device)
    else:
        model, facts = load_trained(where, device=device)
    return Handed(model, facts, str(where), kind)


# -- From a finished run to something a person can use elsewhere: the model, the stand-alone folder, predictions --------


def load_weights(folder: Path, result: Mapping[str, Any]) -> tuple[torch.nn.Module, Arch, Scale]:
    """Returns the winner with the weights of its first seed (chosen before test was read)."""
    from archduel.spaces.family import build

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
    from archduel.commands.search.run import Run

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


def _folder() -> Path:
    return Path(str(files("archduel"))) / "weights"


def _weights(name: str) -> tuple[str, ...]:
    """Returns the tags of the weights shipped for a network."""
    return tuple(sorted(path.name.partition(".")[2] for path in _folder().glob(f"{name}.*") if path.is_dir()))


def shipped(name: str) -> Path:
    """Returns the folder with our weights of ``NAME`` (the first there are) or ``NAME.TAG``.

    Raises:
        UnknownNameError: for a network or weights that there are not.
    """
    network, _, tag = name.partition(".")
    item = named(network)
    tags = _weights(item.name)
    if not tags:
        from archduel.networks.zoo import entries

        have = [f"{entry.name}.{kind}" for entry in entries() for kind in entry.weights]
        raise UnknownNameError(
            f"there are no weights of ours for {item.name}, only {', '.join(have)} (`archduel zoo list`); a released checkpoint of it "
            f"can be read: `archduel zoo load {item.name} --checkpoint FILE --to FOLDER`"
        )
    if tag and tag not in tags:
        raise unknown(f"weights of {item.name}", tag, tags)
    return _folder() / f"{item.name}.{tag or tags[0]}"
