"""`archduel.compare`: strategies on a table, or two trained networks on test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from archduel.commands.bench.search import Bench
    from archduel.tables.table import Table

__all__ = ["compare"]


@overload
def compare(first: list[str] | tuple[str, ...], second: str | Path | Table, **options: Any) -> Bench:
    """Strategies on a table."""



@overload
def compare(first: str | Path, second: str | Path, data: Any = None, **options: Any) -> dict[str, Any]:
    """Two trained networks on test images."""


def compare(first: Any, second: Any, data: Any = None, **options: Any) -> Any:
    """Returns the comparison of strategies on a table, or of two networks that were trained alike.

    Args:
        first: a list of strategies, such as ``["best", "evolution"]``; or a training folder.
        second: a table, its name or file; or another training folder.
        data: test images, for networks alone; None = the test split of what they were trained on.
        **options: ``queries``, ``runs``, ``seed`` ... of :func:`archduel.bench_search`, whose result has ``table()`` and ``trajectories()``
            that become data frames; for networks ``labels``, ``max_images``, ``batch_size``, ``device``.

    Raises:
        ArchduelError: what either raises.
    """
    if isinstance(first, Sequence) and not isinstance(first, str):
        from archduel.commands.bench.search import bench_search

        path = getattr(second, "path", None)
        return bench_search(path or getattr(second, "name", second), list(first), **options)
    from archduel.commands.network.compare import compare as compare_networks

    return compare_networks(first, second, data, **options)
