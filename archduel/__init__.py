"""archduel: neural architecture search by comparison.

Three lines: ``run = archduel.search("my_images/", time="2h", max_params="1M")``, ``run.model()``, ``run.export("shipped/")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archduel.apps.main import Run, search
    from archduel.core import Arch, parse

__version__ = "0.1.0"
__all__ = ["Arch", "Run", "__version__", "parse", "search"]

_HOMES = {
    "search": "archduel.apps.main",
    "Run": "archduel.apps.main",
    "Arch": "archduel.core",
    "parse": "archduel.core",
}


def __dir__() -> list[str]:  # so that help() and completion know what is not imported yet
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:  # nothing heavy is imported before it is used
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'archduel' has no attribute {name!r}")
