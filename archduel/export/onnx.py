"""The network as ONNX, checked against PyTorch on several batch sizes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from archduel.errors import ExportError

__all__ = ["BATCHES", "check_onnx", "missing_packages", "write_onnx"]

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
        tolerance: largest difference allowed, relative to the largest logit (at least 1).

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
