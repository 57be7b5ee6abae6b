"""Which archduel this is. It imports nothing of the package, so every module may ask."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]


def _installed() -> str:
    try:
        return version("archduel")
    except PackageNotFoundError:  # torch.hub runs a checkout as it is
        return "unknown"


__version__ = _installed()
"""The installed version, such as ``0.1.0``; ``unknown`` in a checkout that was never installed."""
