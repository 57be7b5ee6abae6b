"""Several processes that train one network: the weights of one process, and what happens when one is killed.

Weights agree to 1e-4 of their size after two epochs of three steps: sums over processes round differently.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from together import train

from archduel.apps.trained import load_trained

SCRIPT = Path(__file__).with_name("together.py")
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_trained(folder)[0].state_dict()


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], *, running: bool = True) -> None:
    for name in first:
        if running or not ("running" in name or "tracked" in name):
            torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """Two trainings of two processes with gloo."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {**os.environ, **QUIET, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [
        subprocess.Popen([sys.executable, SCRIPT, folder], env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
            process.wait()
    return folder


def test_two_processes_train_the_network_of_one(pair, tmp_path) -> None:
    alone = train(tmp_path / "alone")
    close(weights(tmp_path / "alone"), weights(pair / "synced"))
    assert alone["images"] == 134


def test_without_synchronised_norms_processes_are_as_micro_batches(pair, tmp_path) -> None:
    train(tmp_path / "two parts", accumulate=2)
    close(weights(tmp_path / "two parts"), weights(pair / "apart"), running=False)


def test_a_killed_process_ends_the_job_in_words_and_one_process_continues(tmp_path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, SCRIPT, tmp_path, "kill"], env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "RunError: another of the 2 processes of this training ended (killed" in done.stderr
    assert "the same command continues from the last checkpoint" in done.stderr
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists()
    train(tmp_path / "killed")
    train(tmp_path / "alone")
    close(weights(tmp_path / "alone"), weights(tmp_path / "killed"))
    assert len((tmp_path / "killed" / "journal.jsonl").read_text().splitlines()) == 2
