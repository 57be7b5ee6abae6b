"""The network in int8: a static QDQ ONNX file beside the float one, made with training images and checked on validation images.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR 2018); the work is
done by ``onnxruntime.quantization``. Norms are folded into convolutions first, weights have a scale an output channel, activations one a map.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core.disk import write_atomic
from archduel.errors import ExportError

__all__ = ["FLOAT_FILE", "INT8_FACTS", "INT8_FILE", "WAYS", "Int8Report", "Labelled", "Way", "quantise", "write_int8"]

FLOAT_FILE, INT8_FILE, INT8_FACTS = "model.onnx", "model.int8.onnx", "int8.json"
MOST_LOST = 0.01
"""Of the validation images: what int8 may lose before other ways are tried."""
CALIBRATION, BATCH = 256, 32
"""Training images that ranges are measured on; histograms of more take long and change little."""
LATENCY_RUNS = 30


class Labelled(NamedTuple):
    """Images as the exported network takes them.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) integers.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Way(NamedTuple):
    """How a network is made int8.

    Attributes:
        per_channel: whether weights have a scale an output channel; else one a layer.
        calibration: ``MinMax``, ``Percentile`` or ``Entropy``: how ranges of maps follow from training images.
    """

    per_channel: bool = True
    calibration: str = "MinMax"

    def __str__(self) -> str:
        return f"{'per channel' if self.per_channel else 'per tensor'}, {self.calibration}"


WAYS = (Way(), Way(calibration="Percentile"), Way(per_channel=False), Way(calibration="Entropy"))
"""In the order in which they are tried, until one loses little."""


@dataclass(frozen=True)
class Int8Report:
    """What the int8 network is against the float one, on the same validation images.

    Attributes:
        way: how it was made, of the ones tried.
        images: validation images.
        accuracy: of the float network.
        int8_accuracy: of the int8 network.
        agreement: share of images that both name alike.
        bytes: of the float file.
        int8_bytes: of the int8 file.
        latency_ms: median of one image, one thread, this machine.
        int8_latency_ms: likewise.
        tried: way -> accuracy of each that was tried.
    """

    way: str
    images: int
    accuracy: float
    int8_accuracy: float
    agreement: float
    bytes: int
    int8_bytes: int
    latency_ms: float
    int8_latency_ms: float
    tried: dict[str, float]

    @property
    def lost(self) -> float:
        """Share of the validation images that int8 costs, negative where it gains."""
        return self.accuracy - self.int8_accuracy

    @property
    def summary(self) -> str:
        """One line for people."""
        said = (
            f"{INT8_FILE} ({self.way}): {100 * self.int8_accuracy:.2f} % of {self.images:,} validation images, float {100 * self.accuracy:.2f} %, "
            f"same class for {100 * self.agreement:.1f} %; {self.int8_bytes:,} bytes, float {self.bytes:,}; {self.int8_latency_ms:.2f} ms an image, "
            f"float {self.latency_ms:.2f}"
        )
        return said if self.lost <= MOST_LOST else f"{said}; warning: int8 loses {100 * self.lost:.1f} points, more than 1 ({len(self.tried)} ways tried)"


def write_int8(folder: Path, train: Labelled, validation: Labelled, *, tuned: Callable[[Path], None] | None = None) -> Int8Report:
    """Writes ``model.int8.onnx`` and ``int8.json`` into an exported folder and returns what was checked.

    Args:
        folder: with ``model.onnx``.
        train: images that ranges are measured on.
        validation: images that decide which way is taken.
        tuned: writes the float ONNX file of a network that was trained on with int8 in mind; asked for where every way loses more than a point.

    Raises:
        ExportError: if there is no ``model.onnx``, or it cannot be made int8.
    """
    if not (folder / FLOAT_FILE).is_file():
        raise ExportError(f"{folder} has no {FLOAT_FILE}, which the int8 network is made of (`pip install 'archduel[export]'`)")
    with tempfile.TemporaryDirectory() as place:
        best = _best(folder / FLOAT_FILE, train, validation, Path(place), tuned)
        way, path, tried = best
        report = _compared(folder / FLOAT_FILE, path, validation, way, tried)
        write_atomic(folder / INT8_FILE, path.read_bytes())
    write_atomic(folder / INT8_FACTS, json.dumps(asdict(report), indent=1).encode())
    _mention(folder / "README.md", report)
    return report


def _best(
    source: Path, train: Labelled, validation: Labelled, place: Path, tuned: Callable[[Path], None] | None
) -> tuple[str, Path, dict[str, float]]:
    """Returns name and file of the best of the ways, and what each came to; later ones are tried only where those before lose too much."""
    wanted = _accuracy(source, validation) - MOST_LOST
    tried: dict[str, float] = {}
    files: dict[str, Path] = {}
    for number, (trained_on, way) in enumerate([*((False, way) for way in WAYS), *([(True, WAYS[0])] if tuned else [])]):
        of, name = source, str(way)
        if trained_on and tuned is not None:
            of, name = place / "tuned.onnx", f"{way}, trained on with int8 in mind"
            tuned(of)
        files[name] = place / f"{number}.onnx"
        quantise(of, files[name], train, way)
        tried[name] = _accuracy(files[name], validation)
        if tried[name] >= wanted:
            break
    best = max(tried, key=lambda name: tried[name])
    return best, files[best], tried


def quantise(source: Path, to: Path, train: Labelled, way: Way = WAYS[0]) -> None:
    """Writes the int8 form of an ONNX file that takes ``pixels``.

    Args:
        source: the float network.
        to: the file to write.
        train: training images; at most 256 of them are looked at.
        way: how.

    Raises:
        ExportError: if it cannot be made.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    options: dict[str, Any] = {"WeightSymmetric": True, "ActivationSymmetric": False}
    if way.calibration == "Percentile":
        options["CalibPercentile"] = 99.99
    with tempfile.TemporaryDirectory() as place, _quiet():
        folded = Path(place) / "folded.onnx"
        try:
            quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)  # folds norms, and says the shape of every map
            quantize_static(
                str(folded), str(to), _reader(train.pixels), quant_format=QuantFormat.QDQ, per_channel=way.per_channel,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, way.calibration),
                extra_options=options,
            )  # fmt: skip
            _bare(to)
        except Exception as error:  # the quantiser raises whatever a graph leads it to
            raise ExportError(f"the network could not be made int8 ({way}): {error}") from error


def _bare(path: Path) -> None:
    """Takes out of a file what the exporter says about where each operation came from, which is most of a small network's file."""
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    onnx.save(model, str(path))


def _reader(pixels: NDArray[np.uint8]) -> Any:
    """Returns what hands training images to the calibration, evenly spread over the set."""
    from onnxruntime.quantization import CalibrationDataReader

    rows = np.unique(np.linspace(0, len(pixels) - 1, min(CALIBRATION, len(pixels))).astype(int))
    batches = iter([{"pixels": pixels[rows[i : i + BATCH]]} for i in range(0, len(rows) - len(rows) % BATCH or 1, BATCH)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(batches, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the advice of the quantiser."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _named(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the class (N,) of each image."""
    session = _session(path)
    logits = [session.run(None, {"pixels": pixels[i : i + 256]})[0] for i in range(0, len(pixels), 256)]
    return np.concatenate(logits).argmax(1)


def _accuracy(path: Path, images: Labelled) -> float:
    return float((_named(path, images.pixels) == images.labels).mean())


def _latency(path: Path, image: NDArray[np.uint8]) -> float:
    """Returns the median milliseconds of one image on one thread."""
    session = _session(path)
    times = []
    for _ in range(LATENCY_RUNS + 3):
        began = time.perf_counter()
        session.run(None, {"pixels": image})
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[3:])


def _compared(first: Path, second: Path, images: Labelled, way: str, tried: dict[str, float]) -> Int8Report:
    """Returns float and int8 networks side by side."""
    one, two = _named(first, images.pixels), _named(second, images.pixels)
    return Int8Report(
        way, len(images.labels), float((one == images.labels).mean()), float((two == images.labels).mean()), float((one == two).mean()),
        first.stat().st_size, second.stat().st_size, _latency(first, images.pixels[:1]), _latency(second, images.pixels[:1]), tried,
    )  # fmt: skip


def _mention(readme: Path, report: Int8Report) -> None:
    """Adds what the int8 file is to the folder's README."""
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        write_atomic(readme, f"{text.rstrip()}\n\n## int8\n\n{report.summary}. `python predict.py --int8 image.png` runs it.\n".encode())
