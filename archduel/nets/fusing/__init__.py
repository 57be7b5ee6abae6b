"""Many different networks as one computation: trace each, chain its layers, group equal chains, run a group at a time.

``trace`` reads a network into a graph of layers, ``chains`` cuts graphs into chains and orders them in groups, ``layers``
and ``convs`` compute a group's layers on stacked tensors, ``fused`` is the whole.
"""

from __future__ import annotations

__all__: list[str] = []
