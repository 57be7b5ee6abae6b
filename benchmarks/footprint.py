"""RAM and flash as ``archduel.spaces.footprint`` says them against what runtimes need: random networks of several spaces.

    python benchmarks/footprint.py onnxruntime --out benchmarks/records/footprint_onnxruntime.json
    python benchmarks/footprint.py litert --seeds 0,1 --out benchmarks/records/footprint_litert.json

``onnxruntime``: the block that ONNX Runtime's memory planner asks its arena for in the second run (float32, layouts as in the file); input
and output are not in it, so the estimate is made without them. ``litert`` is run in an environment of its own with ``litert-torch``,
``ai-edge-quantizer`` and ``tflite-micro``: the converted network, as float32 and as int8, and the arena that TensorFlow Lite Micro's
planner makes for its maps (its "head"), which holds input and output; flash is the length of the file without its names.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archduel.core import Arch, Scale, parse, sample
from archduel.core.storage import environment
from archduel.spaces.family import build, family
from archduel.spaces.memory import planned_peak, traced_footprint
from archduel.spaces.tracing import Trace, trace

SPACES = {"tiny": 5, "stages": 4, "resnet": 2, "nasbench201": 3, "natsbench_sss": 1, "mobilenetv3": 1, "pretrained": 3, "nasbench101": 1}
"""How many random networks of each space."""
SIDES = (32, 48, 64)


def networks(seed: int = 0) -> Iterator[tuple[Arch, Scale]]:
    """Yields the networks of a seed, the same every time."""
    rng = np.random.default_rng(seed)
    for name, n in SPACES.items():
        around = family(name)
        space = around(**dict(around.usual))
        for i in range(n):
            arch = sample(space, rng)
            yield arch, Scale(8 if name in ("stages", "tiny", "nasbench201") else 16, 1, SIDES[i % 3], 3, 10)


def drawn(arch: Arch, scale: Scale) -> torch.nn.Module:
    """Returns the network with random weights, its norms moved off 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    model = build(arch, scale, generator=generator).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    return model


# -- ONNX Runtime ---------------------------------------------------------------------------------------------------------


def arena_of_onnx(path: str) -> None:
    """Prints what ONNX Runtime asks its arena for in one run after another; called in a process of its own."""
    import onnxruntime as ort

    ort.set_default_logger_severity(0)
    config = ort.OrtArenaCfg({"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1024, "max_dead_bytes_per_chunk": 64, "initial_growth_chunk_size_bytes": 1024})
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, config)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape, shrinking = session.get_inputs()[0].shape, ort.RunOptions()
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")  # so that the second run has to ask
    for run in range(2):
        print(f"RUN {run}", file=sys.stderr, flush=True)
        session.run(None, {"x": np.zeros(shape, np.float32)}, shrinking)


def onnxruntime_needs(arch: Arch, scale: Scale, folder: Path) -> dict[str, Any]:
    """Returns estimate and truth of one network, in bytes."""
    from archduel.export.folder import _quiet

    model, path = drawn(arch, scale), folder / "model.onnx"
    x = torch.zeros(1, scale.in_channels, scale.image_size, scale.image_size)
    with _quiet():
        torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, verbose=False, input_names=["x"])
    done = subprocess.run([sys.executable, __file__, "arena", str(path)], capture_output=True, text=True, check=True)
    second = done.stderr.partition("RUN 1")[2]
    asked = [int(n) for n in re.findall(r"num_bytes: (\d+)", second)]
    traced = trace(model, x.shape[1:], litert=False)
    return {"truth": asked[0] if asked else 0, "estimate": planned_peak(inner(traced), 4, litert=False)}


def inner(traced: Trace) -> Trace:
    """Returns the network without the memory of its input and its output."""
    elements = [0, *traced.elements[1:]]
    elements[traced.operations[-1].outputs[0]] = 0
    return Trace(traced.operations, tuple(elements))


# -- LiteRT ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Catches what C code prints on standard output and standard error."""
    with tempfile.TemporaryFile("w+") as file:
        before = [os.dup(1), os.dup(2)]
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        lines: list[str] = []
        try:
            yield lines
        finally:
            for number, old in zip((1, 2), before):
                os.dup2(old, number)
            file.seek(0)
            lines += file.read().splitlines()


def arena_of_litert(path: Path) -> dict[str, int]:
    """Returns the arena of TensorFlow Lite Micro for a converted network, in bytes: its maps, and what it keeps about operations."""
    from tflite_micro.python.tflite_micro import runtime

    with captured() as lines:
        interpreter = runtime.Interpreter.from_file(str(path), arena_size=64_000_000)
        interpreter.print_allocations()
    text = "\n".join(lines)
    return {part: int(re.search(rf"allocation {part} (\d+)", text)[1]) for part in ("head", "tail", "total")}  # type: ignore[index]


def _deployed(path: Path) -> None:
    """Writes a file anew as it is put on a device: without names, weights inside the flatbuffer, where TensorFlow Lite Micro looks for them."""
    from ai_edge_litert.tools import flatbuffer_utils

    content, model = path.read_bytes(), flatbuffer_utils.read_model(str(path))
    for buffer in model.buffers:
        if buffer.offset:
            buffer.data = np.frombuffer(content[buffer.offset : buffer.offset + buffer.size], np.uint8)
            buffer.offset = buffer.size = 0
    flatbuffer_utils.strip_strings(model)
    flatbuffer_utils.write_model(model, str(path))


def litert_needs(arch: Arch, scale: Scale, folder: Path) -> dict[str, Any]:
    """Returns estimate and truth of one network, in bytes, as float32 and as int8."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    model = drawn(arch, scale)
    shape = (1, scale.image_size, scale.image_size, scale.in_channels)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = litert_torch.convert(litert_torch.to_channel_last_io(model, args=[0]).eval(), (torch.rand(shape),))
    whole.export(str(folder / "float.tflite"))
    rng = np.random.default_rng(0)
    quantised = quantizer.Quantizer(str(folder / "float.tflite"), recipe.static_wi8_ai8())
    model.eval()
    samples = {"serving_default": [{"args_0": rng.random(shape, np.float32)} for _ in range(4)]}
    quantised.quantize(quantised.calibrate(samples)).export_model(str(folder / "int8.tflite"), overwrite=True)
    for name in ("float", "int8"):
        _deployed(folder / f"{name}.tflite")
    traced = trace(model, (scale.in_channels, scale.image_size, scale.image_size))
    found: dict[str, Any] = {}
    for name in ("float", "int8"):
        path = folder / f"{name}.tflite"
        estimate = traced_footprint(traced, int8=name == "int8")
        try:
            arena = arena_of_litert(path)
        except Exception as error:  # an operation that the runtime lacks
            arena = {"error": str(error)[:200]}
        found[name] = {"estimate": estimate._asdict(), "arena": arena, "file": path.stat().st_size}
    found["operations"] = len(traced.operations)
    return found


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", choices=("onnxruntime", "litert", "arena"))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", default="0", help="of the networks, commas between")
    parser.add_argument("--only", default="", help="spaces, commas between")
    options = parser.parse_args()
    if options.runtime == "arena":
        arena_of_onnx(options.path)
        return
    measure = {"onnxruntime": onnxruntime_needs, "litert": litert_needs}[options.runtime]
    rows = []
    drawn_from = [(seed, arch, scale) for seed in map(int, options.seeds.split(",")) for arch, scale in networks(seed)]
    for seed, arch, scale in drawn_from:
        if options.only and arch.space not in options.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = measure(arch, scale, Path(folder))
            except Exception as error:  # a converter that lacks an operation
                row = {"error": f"{type(error).__name__}: {error}"[:300]}
        rows.append({"arch": str(parse(str(arch))), "channels": scale.channels, "image_size": scale.image_size, "seed": seed, **row})
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            record = {"command": shlex.join(["python", *sys.argv]), **environment(), "networks": rows}
            options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
