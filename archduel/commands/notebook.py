"""Notebooks: architectures draw themselves there. Runs and studies show themselves by a method of their own."""

from __future__ import annotations

from typing import Any

from archduel.core import Arch
from archduel.errors import ArchduelError

__all__ = ["drawn", "register"]

HOME = (Arch.__module__, Arch.__name__)


def drawn(arch: Arch) -> str | None:
    """Returns the drawing of an architecture as HTML; None, its text alone, for one that no space here can draw."""
    from archduel.reporting.notebook import arch_card
    from archduel.spaces.drawing import draw
    from archduel.spaces.lookup import open_space

    try:
        return str(arch_card(draw(open_space(arch.space), arch), str(arch)))
    except ArchduelError:
        return None


def register(shell: Any) -> None:
    """Lets a notebook's shell show architectures drawn; one that shows text alone, such as a terminal's, is left as it is.

    Args:
        shell: of IPython.
    """
    formatter = getattr(getattr(shell, "display_formatter", None), "formatters", {}).get("text/html")
    if formatter is not None:
        formatter.for_type_by_name(*HOME, drawn)
