"""One search on a Ray cluster of two nodes, directly and through Ray's client; its journal is that of one process, times aside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_executors_job import TINY, journal

import archduel
from archduel.errors import RunError

pytest.importorskip("ray", reason="tests of the executor ray need Ray: pip install 'archduel[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of files of Ray's own


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, str]]:
    """Returns the addresses of a cluster of two nodes: for who is on a node, and for who is not."""
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port})
    nodes.add_node(num_cpus=1)
    yield nodes.address, f"ray://{nodes.address.partition(':')[0]}:{port}"
    nodes.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "local", quiet=True, executor="local", **TINY)


def networks(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "networks").rglob("*.safetensors"))]


def test_the_journal_and_the_networks_are_those_of_one_process(cluster: tuple[str, str], local: archduel.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster[0])
    run = archduel.search("digits", out=tmp_path / "ray", quiet=True, executor="ray", **TINY)
    assert journal(run.folder) == journal(local.folder)
    assert networks(run.folder) == networks(local.folder)


def test_a_run_goes_on_elsewhere_through_the_client_from_its_folder_alone(cluster: tuple[str, str], local: archduel.Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(local.folder / "run.toml", folder)
    lines = (local.folder / "journal.jsonl").read_text().splitlines(keepends=True)
    cut = [i for i, line in enumerate(lines) if '"estimate"' in line][-3]
    (folder / "journal.jsonl").write_text("".join(lines[:cut]))
    words = [sys.executable, "-c", "import sys, json, archduel; archduel.search('digits', out=sys.argv[1], quiet=True, executor=sys.argv[2], cpus_per_task=0.5, **json.loads(sys.argv[3]))"]
    done = subprocess.run([*words, str(folder), cluster[1], json.dumps(TINY)], capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert journal(folder) == journal(local.folder)


def test_a_node_without_the_images_or_the_folder_is_named(cluster: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.commands.search import executors

    monkeypatch.setenv("RAY_ADDRESS", cluster[0])
    made = executors.RayTasks
    for changed, message in (({"data": "/nowhere/at/all"}, r"on .*nowhere.* another place of the images"), ({"folder": Path("/nowhere")}, "does not see /nowhere")):
        # as it would be on another machine
        monkeypatch.setattr(executors, "RayTasks", lambda judge, changed=changed, **given: made(replace(judge, **changed), **given))
        with pytest.raises(RunError, match=f"(?s){message}"):
            archduel.search("digits", out=tmp_path / str(len(message)), quiet=True, executor="ray", **TINY)


def test_a_node_with_other_versions_is_named_before_anything_is_computed(cluster: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.commands.search import executors

    monkeypatch.setenv("RAY_ADDRESS", cluster[0])
    there = {**executors.versions(), "torch": "1.0"}
    monkeypatch.setattr(executors, "versions", lambda: there)
    with pytest.raises(RunError, match=r"torch is .* here, 1\.0 at the driver"):
        archduel.search("digits", out=tmp_path / "run", quiet=True, executor="ray", **TINY)
    assert '"estimate"' not in (tmp_path / "run" / "journal.jsonl").read_text()
