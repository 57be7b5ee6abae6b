"""Public names that are imported when they are first used, so that `import archduel` stays fast and loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns ``__getattr__`` and ``__dir__`` for a package whose public names live in other modules (PEP 562).

    A name must not also be a module of the package: importing that module would put it in the name's place.

    Args:
        package: its ``__name__``.
        homes: public name -> the module that defines it, or ``module:name`` where it has another name there.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, there = homes[name].partition(":")
        # Looked up each time: what a test puts in the home's place is seen here too.
        return getattr(import_module(module), there or name)

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return get, names
