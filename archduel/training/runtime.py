"""Randomness that ends where it began: initialisation and layers draw from the global generator, which is put back."""

from __future__ import annotations

import ctypes
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from archduel.training.recipe import Recipe

__all__ = ["INDUCTOR", "Backend", "Compiled", "at_a_time", "autocast", "channels_last_for", "compiled_call", "crashes_channels_last", "in_parts", "isolated", "keep_freed_memory", "mix_seed", "mode_kept", "seeded_build", "visible_devices"]

# -- A network through ``torch.compile``: compiled before the first step, with its time known, and done without where that fails 
#
# The network itself stays as it is: what is compiled is a second way to call it. So checkpoints have the same keys, a training
# continues with or without, and evaluation never compiles anything.


Backend = str | Callable[..., Any]
"""What ``torch.compile`` takes: a name of `torch.compiler.list_backends()`, or a function from a graph to what runs it."""

INDUCTOR = "inductor"
"""torch's own compiler."""
# Compilers' messages carry whole graphs; a reason is for reading in a line.
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
    # The trial step is a real one: batch norms would remember its images.
    buffers = [(buffer, buffer.clone()) for buffer in forward.buffers()]
    try:
        call = torch.compile(forward, backend=backend)
        if sizes > 1:
            # Without it the second batch size is compiled again in the middle of the training.
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


# -- Which memory layout a network is trained in ------------------------------------------------------------------------


def crashes_channels_last(model: nn.Module) -> bool:
    """Whether ``model`` has a 1x1 convolution of stride 2 with fewer than 8 outputs.

    On maps of 64 pixels torch 2.13 writes past its memory in the gradient of such a convolution, on CPUs, channels last.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(m.kernel_size == (1, 1) and m.stride == (2, 2) and m.out_channels < 8 for m in convolutions)


def channels_last_for(model: nn.Module, recipe: Recipe, device: torch.device) -> bool:
    """Returns whether ``model`` is trained channels last on ``device``: as ``recipe`` says, unless it, or torch, fails there."""
    if getattr(model, "_archduel_contiguous", False):
        return False
    if device.type == "cpu" and recipe.image_size > 32 and crashes_channels_last(model):
        return False
    return recipe.channels_last


def in_parts(model: nn.Module, side: int, n: int, device: str | torch.device) -> int:
    """Returns in how many parts ``n`` images go through a network one after the other: on a CPU as many as its caches hold at a time.

    Measured on EfficientNet-Lite0, bf16, one core, training on batches of 64: 121 images of 128 px a second in four parts and 86 in one, 46 of 224 px in parts of 8
    and 19 in one (``benchmarks/records/in_parts.json``).

    Args:
        model: the network; ``works_at`` is the side at which its layers see images that it enlarges itself.
        side: of the images in pixels.
        n: how many there are.
        device: where it computes.
    """
    if torch.device(device).type != "cpu":
        return 1
    side = max(side, int(getattr(model, "works_at", side)))
    return min(max(1, n // FEWEST_AT_ONCE), max(1, round(n * side * side / PIXELS_AT_ONCE)))


def at_a_time(model: nn.Module, side: int, n: int, device: str | torch.device) -> int:
    """Returns how many of many images go through a network at a time, ``n`` at most; see :func:`in_parts`."""
    return math.ceil(n / in_parts(model, side, n, device))


PIXELS_AT_ONCE, FEWEST_AT_ONCE = 64 * 64 * 64, 8
"""Pixels of images that go through a network at a time on a CPU, and images however large they are."""


# -- Memory between two training steps on a CPU -------------------------------------------------------------------------


TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""What glibc's ``mallopt`` calls the free memory from which it returns some, and the number of blocks mapped one by one."""


def keep_freed_memory(library: Any = None) -> bool:
    """Lets this process keep the memory that it frees, for its next step; true if that could be set.

    A training step frees nearly all that it took. glibc gives much of it back to the system, and the next step pays for getting
    it again, page by page and filled with zeros. The peak does not change; after a training less becomes free for
    other processes. Without glibc (macOS, Windows, musl) nothing happens.

    Args:
        library: the C library; the process's own by default.
    """
    if library is None:
        if platform.libc_ver()[0] != "glibc":
            return False
        library = ctypes.CDLL(None)
    # Never give back, and never map a block by itself, which is given back as soon as it is freed.
    return bool(library.mallopt(TRIM_THRESHOLD, 2**31 - 1)) and bool(library.mallopt(MMAP_MAX, 0))


# -- Training and evaluation mode of networks ---------------------------------------------------------------------------


@contextmanager
def mode_kept(model: nn.Module) -> Iterator[None]:
    """Gives every module the training flag back that it had."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


T = TypeVar("T")


def visible_devices(device: str) -> int:
    """Returns how many devices a name means here: all that torch sees for ``cuda``, one for any other."""
    return max(1, torch.cuda.device_count()) if device == "cuda" else 1


def mix_seed(seed: int, *numbers: int | str) -> int:
    """Returns a seed (31 bits) that depends on all of the arguments and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, (seed, *numbers))).encode()).digest()
    # 31 bits, because some generators take a signed 32-bit seed.
    return int.from_bytes(digest[:4], "big") >> 1


@contextmanager
def isolated(device: str | torch.device = "cpu") -> Iterator[Callable[[int], None]]:
    """Puts torch's global generators (CPU and ``device``) back afterwards; yields a function that seeds them inside."""
    device = torch.device(device)
    accelerated = device.type == "cuda"

    def reseed(seed: int) -> None:
        """Seeds the generators of the CPU and of ``device``, and no other's."""
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch every device
        if accelerated:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)

    # Only the device in use: torch would else save the generators of every GPU.
    with torch.random.fork_rng(devices=[device] if accelerated else []):
        yield reseed


def seeded_build(build: Callable[[], T], seed: int) -> T:
    """Returns ``build()`` with its random numbers drawn from ``seed``; the global generators stay untouched."""
    with isolated() as reseed:
        reseed(seed)
        return build()


# -- Numbers that networks compute with -----------------------------------------------------------------------------------

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the context in which a network computes with ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])
