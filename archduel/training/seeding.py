"""Randomness that ends where it began: initialisation and layers draw from the global generator, which is put back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["isolated", "mix_seed", "seeded_build"]

T = TypeVar("T")


def mix_seed(seed: int, *numbers: int | str) -> int:
    """Returns a seed (31 bits) that depends on all of the arguments and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, (seed, *numbers))).encode()).digest()
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

    with torch.random.fork_rng(devices=[device] if accelerated else []):
        yield reseed


def seeded_build(build: Callable[[], T], seed: int) -> T:
    """Returns ``build()`` with its random numbers drawn from ``seed``; the global generators stay untouched."""
    with isolated() as reseed:
        reseed(seed)
        return build()
