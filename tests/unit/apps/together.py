"""What one process of a distributed training does in the tests: ``torchrun together.py FOLDER``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from archduel.commands.train.train import train_network
from archduel.training import loop
from archduel.training.loop import Running

ARCH = "nasbench201:1.3.0.1.0.2"
CHANGES = {
    "epochs": 2, "batch_size": 24, "channels": 4, "depth": 1, "crop_pad": 1, "flip": True, "cutout": 2, "lr": 0.05,
    "auxiliary_weight": 0.4, "colour_jitter": 0.2, "hue_jitter": 0.1, "ema": 0.5,
}  # fmt: skip


def make_images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(88) % 3
    return (rng.integers(0, 90, (88, 8, 8, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8), labels


def train(out: Path, **settings: object) -> dict:
    torch.set_num_threads(1)
    loop.train.__kwdefaults__["checkpoint_seconds"] = 0.0
    return train_network(ARCH, make_images(), out, recipe="digits", changes=CHANGES, hold_out=True, quiet=True, **settings)


def killed_in_the_second_epoch() -> None:
    """Kills process 1 when the second epoch begins."""
    genuine = Running.run_epoch

    def run_epoch(self: Running, epoch: int, stop: object) -> bool:
        if epoch == 1 and self.team.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return genuine(self, epoch, stop)

    Running.run_epoch = run_epoch


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    train(folder / "synced", sync_norm=True)
    train(folder / "apart", sync_norm=False)
    train(folder / "apart", sync_norm=False)  # finished already: nothing is done
    killed_in_the_second_epoch()
    try:
        train(folder / "killed", sync_norm=True)
    except Exception as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
