"""The objectives that a run may have; light, because every command line that names one comes through here."""

from __future__ import annotations

from collections.abc import Sequence

from archduel.core import Objectives
from archduel.errors import SettingError, unknown

__all__ = ["ACCURACY", "MEASURES", "checked_objectives"]

ACCURACY = "accuracy"
"""The objective that is what networks are chosen by; see ``--rank-by``."""
MEASURES = ("params", "macs", "latency_ms", "ram", "flash")
"""What can be weighed against it; all are measured before a network is trained."""


def checked_objectives(names: Sequence[str]) -> list[str] | None:
    """Returns the objectives of a run, accuracy first; None where accuracy is the only one, which every run has.

    Raises:
        UnknownNameError: for an objective without a measure.
        SettingError: for one that is there twice, or costs without accuracy.
    """
    for name in names:
        if name not in (ACCURACY, *MEASURES):
            raise unknown("objective", str(name), (ACCURACY, *MEASURES))
    Objectives(tuple(names))
    if ACCURACY not in names:
        raise SettingError(
            f"the objectives are {', '.join(names)}, and accuracy is not among them: the smallest network would be the best, and nothing need be trained"
        )
    return None if len(names) == 1 else [ACCURACY, *(name for name in names if name != ACCURACY)]
