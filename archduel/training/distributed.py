"""The processes that train one network together, under ``torchrun`` or anything that sets the same variables.

A step's images are cut into parts, one a process and micro-batch. Losses are weighted by their share of the step's images,
so the gradient is that of the whole batch, whatever the number of processes and however the parts fall.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from archduel.errors import RunError, SettingError
from archduel.training.images import Images

__all__ = ["ALONE", "Team", "joined", "member", "peers_lost", "unused_parameters"]

# -- Which parameters of a network never get a gradient: operations whose output goes nowhere ---------------------------


def unused_parameters(model: nn.Module, images: Images, device: torch.device) -> list[str]:
    """Returns the names of parameters that a training step leaves without a gradient, tried on a copy with two images.

    Args:
        model: not changed.
        images: what it will be trained on.
        device: where.
    """
    # A copy, because the trial moves running statistics and leaves gradients.
    trial = copy.deepcopy(model).to(device).train()
    raw, _ = next(images.batches([torch.arange(2)], 0))
    with torch.enable_grad():
        out = trial(raw.to(device).float() / 255)
        sum(part.sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    return [name for name, parameter in trial.named_parameters() if parameter.grad is None]


LOST = ("connection closed by peer", "connection reset", "broken pipe", "socket", "timed out", "timeout", "ncclremoteerror")
"""What the backends say, in lower case, when another process is gone."""
# Long, because processes arrive at different times: one of them may still decode its images.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Team:
    """One process of a training.

    Attributes:
        rank: number of this process, 0 = the one that writes files and prints.
        size: how many there are.
        accumulate: micro-batches that each process adds up before a step.
        sync_norm: whether batch norm sees the images of all processes (else each its own part).
    """

    rank: int = 0
    size: int = 1
    accumulate: int = 1
    sync_norm: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Raises SettingError unless every part of ``batch`` images has at least two (batch norm needs them)."""
        least = 2 * self.size * self.accumulate
        if self.size * self.accumulate > 1 and batch < least:
            raise SettingError(
                f"a step of {batch} images is too small for {self.size} processes x {self.accumulate} micro-batches; "
                f"it needs at least {least}: set a larger batch_size or fewer processes"
            )

    def parts(self, n: int) -> list[slice]:
        """Returns which of a step's ``n`` images this process takes, a slice a micro-batch.

        Each process has a contiguous share, as :func:`torch.tensor_split` cuts it, so a micro-batch more or less does not
        move images between processes.
        """
        shares = self.size * self.accumulate
        # Cut for processes and micro-batches at once: more of the latter subdivide a share and move no image.
        edges = [i * (n // shares) + min(i, n % shares) for i in range(shares + 1)]
        first = self.rank * self.accumulate
        return [slice(edges[i], edges[i + 1]) for i in range(first, first + self.accumulate)]

    def wrapped(self, model: nn.Module, device: torch.device, *, some_unused: bool) -> nn.Module:
        """Returns what to call for training: the network, or it inside DistributedDataParallel."""
        if self.size == 1:
            return model
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        # recent versions of torch have another name for it; running statistics are averaged once an epoch instead
        sync: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=some_unused,
            # Gradients are then communicated where they are, without a copy of all of them.
            gradient_as_bucket_view=True,
            **sync,
        )

    def adding(self, forward: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Returns the context of a micro-batch: gradients travel with the last one only."""
        if last or not isinstance(forward, DistributedDataParallel):
            return nullcontext()
        return forward.no_sync()

    def total(self, value: Tensor) -> Tensor:
        """Returns the sum of ``value`` over all processes."""
        if self.size == 1:
            return value
        # all_reduce writes into its argument, which the caller goes on with.
        value = value.clone()
        distributed.all_reduce(value)
        return value

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes."""
        if self.size == 1 or not tensors:
            return
        # One message for all statistics: many small ones cost their latency each.
        flat = self.total(torch.cat([tensor.reshape(-1).float() for tensor in tensors])) / self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view_as(tensor))

    def agree(self, number: int, what: str, device: torch.device) -> None:
        """Raises RunError unless all processes have the same ``number``."""
        if self.size == 1:
            return
        total = int(self.total(torch.tensor(number, dtype=torch.int64, device=device)))
        if total != number * self.size:
            raise RunError(f"the processes do not agree on {what}; --out must be a folder that all machines share")


ALONE = Team()


def member() -> tuple[int, int, int]:
    """Returns rank, number of processes and rank on this machine as the environment says; (0, 1, 0) without a launcher."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1, 0
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank, size, int(os.environ.get("LOCAL_RANK", rank))


@contextmanager
def joined(device: torch.device, *, accumulate: int = 1, sync_norm: bool = False) -> Iterator[Team]:
    """Joins the processes that a launcher started, and leaves them at the end; without a launcher there is one process.

    Args:
        device: of this process; CUDA devices talk by NCCL, others by gloo.
        accumulate: micro-batches a process and step.
        sync_norm: batch norm over all processes.

    Raises:
        RunError: if another process ends before its work is done.
    """
    rank, size, _ = member()
    if size == 1:
        yield Team(accumulate=accumulate)
        return
    # Whoever made the group may still need it afterwards.
    if distributed.is_initialized():  # by the caller, who also ends it
        with peers_lost(size):
            yield Team(rank, size, accumulate, sync_norm)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        with peers_lost(size):
            yield Team(rank, size, accumulate, sync_norm)
    finally:
        distributed.destroy_process_group()


@contextmanager
def peers_lost(size: int) -> Iterator[None]:
    """Turns the backend's complaint about a process that is gone into words."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:
        if not any(text in str(error).lower() for text in LOST):
            raise
        raise RunError(
            f"another of the {size} processes of this training ended (killed, out of memory, or lost from the network); "
            "the same command continues from the last checkpoint, also with another number of processes"
        ) from error
