"""Several processes that train one network: the weights of one process, and what happens when one is killed.

Weights agree to 1e-4 of their size after two epochs of three steps: sums over processes round differently.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from together import train

from archduel.core.job import read_result
from archduel.networks.trained import load_trained

SCRIPT = Path(__file__).with_name("together.py")
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_trained(folder)[0].state_dict()


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], *, running: bool = True) -> None:
    for name in first:
        if running or not ("running" in name or "tracked" in name):
            torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Three trainings of two processes with gloo under torchrun, the last of which loses a process in its second epoch."""
    folder = tmp_path_factory.mktemp("pair")
    # torchrun ends the other process as soon as it sees one dead; looking often, it was at times there before that one had said why it ends
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--monitor-interval", "5"]
    done = subprocess.run(
        [*launcher, SCRIPT, folder], env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=300
    )
    return folder, done


def test_two_processes_train_the_network_of_one(pair, tmp_path) -> None:
    folder, _ = pair
    alone = train(tmp_path / "alone")
    close(weights(tmp_path / "alone"), weights(folder / "synced"))
    together = read_result(folder / "synced")
    assert alone["images"] == together["images"] == 104
    assert alone["last_epoch"] == pytest.approx(together["last_epoch"], rel=1e-3)  # losses and accuracies, also of held-out images
    assert alone["test"]["loss"] == pytest.approx(together["test"]["loss"], rel=1e-3)


def test_without_synchronised_norms_processes_are_as_micro_batches(pair, tmp_path) -> None:
    folder, _ = pair
    train(tmp_path / "two parts", accumulate=2)
    close(weights(tmp_path / "two parts"), weights(folder / "apart"), running=False)


def test_a_killed_process_ends_the_job_in_words_and_one_process_continues(pair) -> None:
    folder, done = pair
    assert done.returncode != 0
    assert "RunError: another of the 2 processes of this training ended (killed" in done.stderr
    assert "the same command continues from the last checkpoint" in done.stderr
    assert (folder / "killed" / "checkpoint.safetensors").exists()
    train(folder / "killed")
    close(weights(folder / "synced"), weights(folder / "killed"))
    assert len((folder / "killed" / "journal.jsonl").read_text().splitlines()) == 2
