"""`archduel latency`: how long networks take for a batch on a device, with the spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.estimators.timing import check_device
from archduel.networks.find import find_architecture
from archduel.networks.trained import facts_at, holds_network, network_of
from archduel.spaces.lookup import has_own_size, scale_of

__all__ = ["measure", "text_of"]


def measure(
    what: Sequence[str],
    *,
    space: str = "",
    size: Mapping[str, int] | None = None,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int = 1,
    repetitions: int = 100,
    seconds: float = 5.0,
) -> list[dict[str, Any]]:
    """Returns one record a network: median and quartiles' distance in milliseconds a batch, and what was measured.

    Args:
        what: names, texts, files, training folders, finished searches, ``zoo:NAME``.
        space: of texts that do not say so.
        size: fields of :class:`Scale`; without them a trained network's own size, else the published one.
        batch_size: images a batch.
        device: where to measure.
        threads: of torch on a CPU.
        repetitions: batches that are timed.
        seconds: ends a measurement early, but not before 5 repetitions.

    Raises:
        ArchduelError: one of its kinds for architectures, sizes and devices that cannot be used.
    """
    import torch

    if min(batch_size, threads, repetitions) < 1:
        raise SettingError(f"batch, threads and repetitions must be at least 1, got {batch_size}, {threads}, {repetitions}")
    check_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [_one(text, space, size or {}, batch_size, device, threads, repetitions, seconds) for text in what]
    finally:
        torch.set_num_threads(before)


def _one(
    text: str, space: str, size: Mapping[str, int], batch: int, device: str, threads: int, repetitions: int, seconds: float
) -> dict[str, Any]:  # fmt: skip
    import torch

    from archduel.estimators.timing import latency_ms

    facts = _facts(text, space)
    scale = replace(Scale(**facts["scale"]), **size)
    model, own = network_of({**facts, "scale": scale}), has_own_size(facts["arch"])
    latency = latency_ms(model, scale, batch_size=batch, device=device, repetitions=repetitions, seconds=seconds)
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu, {threads} thread{'s' * (threads > 1)}"
    return {
        "network": text, "median_ms": latency.median, "iqr_ms": latency.iqr, "n": latency.n, "batch": batch, "device": where,
        "image_size": scale.image_size, **({} if own else {"channels": scale.channels, "depth": scale.depth}),
        "images_per_second": 1000 * batch / latency.median,
    }  # fmt: skip


def _facts(text: str, space: str) -> dict[str, Any]:
    """Returns what :func:`network_of` needs, with the size the network was trained or published at."""
    if holds_network(text):
        return facts_at(text)
    from archduel.spaces.named import find

    architecture, item = find_architecture(text, space), find(text)
    scale = item.scales[0][1] if item else scale_of(architecture.family, {})
    return {**architecture.facts, "scale": asdict(scale)}


def text_of(record: Mapping[str, Any]) -> str:
    """Returns the record as a line for people."""
    width = f"{record['channels']} channels, " if "channels" in record else ""
    return (
        f"{record['network']}: {record['median_ms']:.3g} ms a batch of {record['batch']} (median of {record['n']}, quartiles "
        f"{record['iqr_ms']:.2g} ms apart), {record['images_per_second']:,.0f} images/s; {record['image_size']} px, "
        f"{width}{record['device']}"
    )
