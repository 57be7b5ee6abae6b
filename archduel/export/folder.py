"""The stand-alone folder: a trained network as source, weights, ONNX and a script, with nothing of archduel in it.

:func:`export_folder` checks that settings and network fit, writes all into a draft beside the folder, runs what it wrote and compares it
with the network, and only then puts the draft in place.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from archduel.core import Arch, Scale
from archduel.core.disk import HARMLESS, TEMPORARY, clear_temporaries, flush_folder
from archduel.errors import ExportError
from archduel.export.source import network_source, read_network

__all__ = ["BATCHES", "ExportReport", "check_onnx", "export_folder", "fact_lines", "missing_packages", "rehearse_onnx", "write_onnx"]

# -- Facts about a network as Markdown lines ----------------------------------------------------------------------------


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """Returns one bullet a fact, names readable, nested mappings in one line."""
    return [f"- {_name(name)}: {_text(value)}" for name, value in facts.items()]


def _name(name: str) -> str:
    known = {"params": "parameters", "macs": "multiply-adds for one image"}
    return known.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(str(name))} {_text(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)


# -- The network as ONNX, checked against PyTorch on several batch sizes ------------------------------------------------


# Exporters specialise on a batch size by mistake, most easily on 1 or on that of the example (2); the others must work too.
BATCHES = (1, 2, 7, 16)
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def missing_packages() -> list[str]:
    """Returns which of the packages that ONNX needs are not installed."""
    from importlib.util import find_spec

    return [name for name in NEEDED if find_spec(name) is None]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says about packages that this network does not need (torchvision) and its own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


def write_onnx(model: nn.Module, pixels: torch.Tensor, path: Path) -> None:
    """Writes ``model`` with input ``pixels`` (uint8, the batch free) and output ``logits``.

    Args:
        model: in evaluation mode.
        pixels: (2, C, H, W) uint8, an example.
        path: of the file.

    Raises:
        ExportError: if the exporter fails.
    """
    try:
        with _quiet():
            torch.onnx.export(
                model, (pixels,), str(path), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", max=1 << 20)},),
                input_names=["pixels"], output_names=["logits"], external_data=False, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter has errors of its own for every stage
        raise ExportError(f"the network could not be written as ONNX: {error}") from error


def check_onnx(model: nn.Module, path: Path, shape: tuple[int, int, int], *, tolerance: float = 1e-3) -> float:
    """Returns the largest difference of logits between PyTorch and ONNX Runtime over several batch sizes.

    Args:
        model: in evaluation mode, on the CPU.
        path: of the ONNX file.
        shape: (C, H, W).
        tolerance: largest difference allowed, relative to the largest logit (at least 1): ONNX Runtime adds in another order.

    Raises:
        ExportError: if they differ by more.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in BATCHES:
        pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            expected = model(pixels).numpy()
        got = session.run(None, {"pixels": pixels.numpy()})[0]
        difference = float(np.abs(got - expected).max())
        if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
            raise ExportError(f"model.onnx differs from PyTorch by {difference:.2g} at batch {batch}; expected at most {tolerance:g}")
        worst = max(worst, difference)
    return worst


class _Tiny(nn.Module):
    """One of each of the usual layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns (N, 2) of (N, 1, S, S) uint8."""
        maps: torch.Tensor = self.norm(self.conv(pixels.float())).relu()
        logits: torch.Tensor = self.linear(maps.mean((2, 3)))
        return logits


def rehearse_onnx() -> float:
    """Returns the processor seconds that a tiny network took to be written as ONNX and checked; 0 where it cannot be.

    Nearly all of it is loading the exporter, which is then done: what is left of a later export depends little on disk and machine.
    """
    if missing_packages():
        return 0.0
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        model, path = _Tiny().eval(), Path(folder) / "tiny.onnx"
        try:
            write_onnx(model, torch.zeros(2, 1, 8, 8, dtype=torch.uint8), path)
            check_onnx(model, path, (1, 8, 8))
        except ExportError:
            return 0.0  # the export says it, of the network that counts
    return time.process_time() - began


# -- The folder: checked settings, a draft with all files, what it computes against the network, then put in place --------


RULES = {
    "crop": "resized so that the short side is {0} px and cropped to the centre",
    "inner": "resized so that the short side is 8/7 of {0} px and cropped to the centre",
    "letterbox": "resized so that the long side is {0} px and padded with black",
    "none": "taken as it is: images have {0} x {0} px already",
}
FIELDS = ("size", "mode", "rule", "mean", "std")
OURS = {"model.py", "model.safetensors", "labels.json", "predict.py"}
"""What an earlier export is known by."""
WRITTEN = OURS | {"README.md", "model.onnx", "model.int8.onnx", "int8.json", "preprocess.py", "preprocessing.json", "config.json"}
"""All files that an export may write."""


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well it agrees with the network it came from.

    Attributes:
        folder: where.
        files: names of the files.
        params: parameters, auxiliary heads left out.
        source_difference: largest difference of logits between ``model.py`` with ``model.safetensors`` and the network.
        onnx_difference: likewise for ``model.onnx``, over batches of 1, 2, 7 and 16; None if there is none.
        notes: what could not be done, and why.
    """

    folder: Path
    files: tuple[str, ...]
    params: int
    source_difference: float
    onnx_difference: float | None
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line for people."""
        parts = [f"exported to {self.folder}", f"model.py differs from the trained network by at most {self.source_difference:.1e}"]
        if self.onnx_difference is not None:
            batches = ", ".join(map(str, BATCHES))
            parts.append(f"model.onnx from PyTorch by at most {self.onnx_difference:.1e} (logits, batches of {batches})")
        return "; ".join([*parts, *self.notes])


def export_folder(
    model: nn.Module,
    arch: Arch | str,
    scale: Scale,
    folder: Path,
    *,
    classes: Sequence[str],
    preprocessing: Mapping[str, Any] | Any,
    facts: Mapping[str, Any],
    title: str = "",
) -> ExportReport:
    """Writes the folder (whole or not at all) and returns what was checked.

    Args:
        model: the trained network; input (N, C, H, W) normalised float32, output logits. It is not changed.
        arch: what it is; a text where no space holds it.
        scale: how large it was built.
        folder: where to; the files of an earlier export there are replaced, others are kept.
        classes: names in the order of the logits.
        preprocessing: ``size``, ``mode`` (RGB or L), ``rule`` (crop, letterbox or none), ``mean``, ``std`` and, where it has
            one, ``value_range``; a mapping or an object with these attributes.
        facts: what the README should say: metrics, params, macs, data; nested mappings and lists are fine.
        title: what people call the network; without it ``arch``.

    Raises:
        ExportError: if settings and network do not fit, the network cannot be written, an exported form computes something
            else, or ``folder`` holds files of these names that are no export.
    """
    settings = _settings(preprocessing, scale, classes)
    _check_free(folder)
    network = _copy(model)
    # where a link leads is filled, and `.` has a name then
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_temporaries(place.parent, of=place.name)
    draft = place.with_name(f".{place.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    draft.mkdir()
    try:
        # making a network draws weights, which are then overwritten: the caller's random numbers must not notice
        with torch.random.fork_rng(devices=[]):
            report = _write(network, arch, scale, draft, settings, classes, facts, title or str(arch))
        _replace(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ExportReport(folder, tuple(sorted(p.name for p in folder.iterdir() if p.name in WRITTEN)), **report)


def _copy(model: nn.Module) -> nn.Module:
    """Returns a copy for evaluation on the CPU; random generators (of drop path) are not copied, nothing draws here."""
    generators = {id(value): None for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Generator)}
    copied: nn.Module = copy.deepcopy(model, generators)  # type: ignore[arg-type]
    return copied.to("cpu", torch.float32).eval()


def _settings(preprocessing: Mapping[str, Any] | Any, scale: Scale, classes: Sequence[str]) -> dict[str, Any]:
    """Returns the preprocessing as JSON, after checking that it fits the network."""
    known: Mapping[str, Any] = preprocessing if isinstance(preprocessing, Mapping) else vars(preprocessing)
    missing = [name for name in FIELDS if name not in known]
    if missing:
        raise ExportError(f"preprocessing lacks {', '.join(missing)}; expected {', '.join(FIELDS)}")
    settings = {name: known[name] for name in FIELDS}
    if known.get("value_range") is not None:  # of a set with more than 8 bits a channel
        settings["value_range"] = [float(value) for value in known["value_range"]]
    settings["mean"], settings["std"] = ([float(v) for v in settings[name]] for name in ("mean", "std"))
    if not all(math.isfinite(v) for name in ("mean", "std") for v in settings[name]) or not all(v > 0 for v in settings["std"]):
        raise ExportError(f"the preprocessing's mean {settings['mean']} and std {settings['std']} must be finite, std above 0")
    channels = {"RGB": 3, "L": 1}.get(settings["mode"])
    if settings["rule"] not in RULES:
        raise ExportError(f"the preprocessing's rule is {settings['rule']!r}, expected one of {', '.join(RULES)}")
    if channels is None:
        raise ExportError(f"the preprocessing's mode is {settings['mode']!r}, expected RGB or L")
    pairs = {
        "image size": (settings["size"], scale.image_size), "channels": (channels, scale.in_channels),
        "means": (len(settings["mean"]), scale.in_channels), "stds": (len(settings["std"]), scale.in_channels),
        "classes": (len(classes), scale.n_classes),
    }  # fmt: skip
    wrong = [f"{name} {got} (the network has {expected})" for name, (got, expected) in pairs.items() if got != expected]
    if wrong:
        raise ExportError(f"data and network do not fit: {', '.join(wrong)}; export with the data the network was trained on")
    return settings


def _deep(settings: Mapping[str, Any]) -> str:
    """Returns how images of more than 8 bits become 8 bits, for the README."""
    if "value_range" not in settings:
        return "16-bit integers by 0..65535, floats by 0..1 or else 0..255"
    black, white = settings["value_range"]
    return f"16-bit integers and floats by {black:g}..{white:g}, the range of the training images"


def _check_free(folder: Path) -> None:
    """Refuses a folder that is somebody's own; one with an earlier export may hold more, and keeps it."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file; expected a folder or nothing")
    if folder.is_symlink() and not folder.exists():
        raise ExportError(f"{folder} is a link that leads nowhere; remove it or give another folder")
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    foreign = {name for name in present - WRITTEN - HARMLESS if not TEMPORARY.fullmatch(name)}
    if foreign and not present >= OURS:
        raise ExportError(f"{folder} holds other files ({', '.join(sorted(foreign)[:3])} ...); choose another folder or empty it")


def _replace(draft: Path, folder: Path) -> None:
    """Puts the files of ``draft`` into ``folder``, one by one over those of an earlier export; whatever else lies there stays.

    Where there is nothing yet the whole folder appears at once. A process that is killed in between leaves files of two exports; the weights
    come last, and ``model.py`` refuses weights of another network.
    """
    for path in draft.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    flush_folder(draft)
    if not folder.exists():
        os.replace(draft, folder)
        flush_folder(folder.parent)
        return
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: (name == "model.safetensors", name))
    for name in names:
        os.replace(draft / name, folder / name)
    for name in WRITTEN - set(names):
        (folder / name).unlink(missing_ok=True)  # such as the ONNX file of an earlier export, which is of another network
    flush_folder(folder)


def _template(name: str, values: Mapping[str, Any]) -> str:
    text = files("archduel.export").joinpath("templates", f"{name}.txt").read_text(encoding="utf-8")
    # in one turn: a value that holds the mark of another one stays as it is
    return re.sub("@([A-Z]+)@", lambda mark: str(values[mark[1]]) if mark[1] in values else mark[0], text)


def _harmless(text: str) -> str:
    """Returns a text that may come from a stranger's file so that it can stand in a docstring, and in a heading, and ends neither."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain.replace("\\", "/").replace('"', "'")


def _write(
    model: nn.Module, arch: Arch | str, scale: Scale, folder: Path, settings: Mapping[str, Any], classes: Sequence[str],
    facts: Mapping[str, Any], title: str,
) -> dict[str, Any]:  # fmt: skip
    """Writes all files and returns the numbers of the report."""
    from safetensors.torch import save

    shape = (scale.in_channels, scale.image_size, scale.image_size)
    read = read_network(model, torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
    state = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith(tuple(read.left_out))}
    (folder / "model.safetensors").write_bytes(save(state, metadata={"architecture": str(arch)}))
    code = network_source(read)
    values = {
        "ARCH": _harmless(title), "CHANNELS": shape[0], "SIZE": shape[1], "CLASSES": len(classes), "MEAN": settings["mean"], "STD": settings["std"],
        "MODE": settings["mode"], "ORDER": "red, green, blue" if shape[0] == 3 else "grey",
        "FUNCTIONAL": "from torch.nn import functional\n" if "functional." in code else "", "DEFINITIONS": code,
        "RULE": RULES[settings["rule"]].format(shape[1]), "DEEP": _deep(settings),
    }  # fmt: skip
    (folder / "model.py").write_text(_template("model.py", values), encoding="utf-8")
    (folder / "predict.py").write_text(_template("predict.py", {}), encoding="utf-8")
    preprocess = files("archduel").joinpath("data", "preprocess.py").read_text(encoding="utf-8")
    (folder / "preprocess.py").write_text(preprocess.replace(": an export carries a copy of this file", ""), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(list(classes), ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "preprocessing.json").write_text(json.dumps(dict(settings), indent=1), encoding="utf-8")
    exported, difference = _check_source(folder, model, shape, settings)
    onnx, notes = _onnx(exported, folder, shape)
    row = "| `model.onnx` | network and weights for ONNX Runtime and others; takes uint8 only |\n" if onnx is not None else ""
    readme = _template("README.md", {**values, "ONNX": row, "FACTS": "\n".join(fact_lines(facts))})
    (folder / "README.md").write_text(readme, encoding="utf-8")
    params = sum(p.numel() for p in exported.parameters())
    return {"params": params, "source_difference": difference, "onnx_difference": onnx, "notes": notes}


def _check_source(
    folder: Path, model: nn.Module, shape: tuple[int, int, int], settings: Mapping[str, Any], tolerance: float = 1e-4
) -> tuple[nn.Module, float]:
    """Returns the network that ``model.py`` makes of the written weights, and how far it is from ``model``."""
    # the file that was just written from our own templates, as its user will run it
    names: dict[str, Any] = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile((folder / "model.py").read_text(encoding="utf-8"), "model.py", "exec"), names)
    exported: nn.Module = names["load"](folder / "model.safetensors")
    mean, std = (torch.tensor(settings[name]).view(-1, 1, 1) for name in ("mean", "std"))
    generator, worst = torch.Generator().manual_seed(1), 0.0
    for batch in (1, 3):
        pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            expected, got = model((pixels.float() / 255 - mean) / std), exported(pixels)
        if not expected.isfinite().all():
            raise ExportError("the network's logits are not finite; train it again, or export another seed")
        difference = float((expected - got).abs().max())
        if not difference <= tolerance * max(1.0, float(expected.abs().max())):
            raise ExportError(f"model.py differs from the network by {difference:.2g} at batch {batch}; this is a fault of the export, please report it")
        worst = max(worst, difference)
    return exported, worst


def _onnx(model: nn.Module, folder: Path, shape: tuple[int, int, int]) -> tuple[float | None, tuple[str, ...]]:
    missing = missing_packages()
    if missing:
        return None, (f"no model.onnx, since {', '.join(missing)} is not installed (`pip install 'archduel[export]'`)",)
    try:
        write_onnx(model, torch.zeros(2, *shape, dtype=torch.uint8), folder / "model.onnx")
        return check_onnx(model, folder / "model.onnx", shape), ()
    # the PyTorch form is whole and checked: it is exported without the other, and the report says so
    except ExportError as error:
        (folder / "model.onnx").unlink(missing_ok=True)
        return None, (f"no model.onnx: {error}",)
