"""A network through ``torch.compile``: compiled before the first step, with its time known, and done without where that fails.

The network itself stays as it is: what is compiled is a second way to call it. So checkpoints have the same keys, a training
continues with or without, and evaluation never compiles anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["INDUCTOR", "Backend", "Compiled", "compiled_call"]

Backend = str | Callable[..., Any]
"""What ``torch.compile`` takes: a name of `torch.compiler.list_backends()`, or a function from a graph to what runs it."""

INDUCTOR = "inductor"
"""torch's own compiler."""
LONGEST_REASON = 300


@dataclass(frozen=True)
class Compiled:
    """What came of compiling.

    Attributes:
        call: what to call for a training step, (N, C, H, W) to logits: compiled, or the network itself where that failed.
        seconds: it took.
        reason: why the network itself is called, empty if it is not.
    """

    call: Callable[[Tensor], object]
    seconds: float
    reason: str = ""


def compiled_call(
    forward: nn.Module,
    trial: Callable[[Callable[[Tensor], object], Tensor], Tensor],
    x: Tensor,
    *,
    backend: Backend = INDUCTOR,
    sizes: int = 1,
) -> Compiled:
    """Compiles ``forward`` and its gradient by one trial step, which leaves weights and running statistics as they are.

    Args:
        forward: the network, or it inside DistributedDataParallel.
        trial: gets what to call and ``x``, returns the loss of a step; its gradients are thrown away.
        x: (N, C, H, W) as a step's images will be.
        backend: of ``torch.compile``.
        sizes: how many batch sizes there will be; for more than one they are compiled once, for any size.
    """
    began = time.perf_counter()
    buffers = [(buffer, buffer.clone()) for buffer in forward.buffers()]
    try:
        call = torch.compile(forward, backend=backend)
        if sizes > 1:
            torch._dynamo.maybe_mark_dynamic(x, 0)
        trial(call, x).backward()  # type: ignore[no-untyped-call]
        return Compiled(call, time.perf_counter() - began)
    except Exception as error:  # compilers raise whatever a missing tool or a layer they do not know leads them to
        return Compiled(forward, time.perf_counter() - began, _short(error))
    finally:
        forward.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _short(error: Exception) -> str:
    """Returns what went wrong in a line: up to the first line of the message that does not announce another one."""
    said = type(error).__name__
    for line in filter(None, map(str.strip, str(error).splitlines())):
        said += f": {line}" if not said.endswith(":") else f" {line}"
        if not line.endswith(":"):
            break
    return said[:LONGEST_REASON]
