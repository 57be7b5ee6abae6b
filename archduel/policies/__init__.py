"""Distributions over architectures that a strategy samples from and improves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "LSTMPolicy",
    "LogitsPolicy",
]

if TYPE_CHECKING:
    from archduel.policies.logits import LogitsPolicy
    from archduel.policies.lstm import LSTMPolicy
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "LSTMPolicy": "archduel.policies.lstm",
            "LogitsPolicy": "archduel.policies.logits",
        },
    )
