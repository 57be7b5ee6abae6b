"""Which executors there are, and what none of them can do is said at once."""

from __future__ import annotations

from typing import Any

import pytest

from archduel.commands.search.settings import make_settings
from archduel.errors import ArchduelError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"executor": "foldr"}, "did you mean 'folder'"),
        ({"executor": "folder", "evaluations": None}, "nothing to do in a race"),
        ({"executor": "folder", "race": True}, "nothing to do in a race"),
        ({"executor": "local", "workers": 2, "seconds": 60}, "one network at a time"),
        ({"set": {"executor.lease": 60}}, "executor processes takes limit"),
        ({"executor": "folder", "set": {"executor.leese": 60}}, "executor folder takes beat and lease and limit"),
        ({"executor": "folder", "set": {"executor.lease": "long"}}, "executor.lease"),
        ({"executor": "local", "set": {"executor.limit": 5}}, "executor local takes none"),
        ({"window": 0}, "window"),
        ({"executor": "ray", "evaluations": None}, "nothing to do in a race"),
        ({"executor": "ray://head"}, "ray://HOST:10001"),
        ({"executor": "ray", "set": {"executor.lease": 60}}, "executor ray takes limit and patience"),
        ({"gpus_per_task": 1}, "--gpus-per-task says what a task takes of a Ray cluster"),
        ({"executor": "folder", "cpus_per_task": 1}, "the executor is folder"),
        ({"executor": "ray", "gpus_per_task": 1}, "a task that trains on cpu takes no GPU"),
        ({"executor": "ray", "device": "cuda", "gpus_per_task": 0}, "a task that trains on cuda takes some share of a GPU"),
    ],
)
def test_impossible_combinations(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchduelError, match=message):
        make_settings(data="digits", **{"evaluations": 8, **given})


def test_possible_ones_and_that_older_runs_keep_their_names() -> None:
    assert make_settings(data="digits", evaluations=8, executor="local").workers == 1
    assert make_settings(data="digits", evaluations=8, executor="folder", set={"executor.lease": 60, "executor.beat": 5}).executor == "folder"
    assert make_settings(data="digits", evaluations=8, executor="ray", device="cuda").gpus_each == 1
    assert make_settings(data="digits", evaluations=8, executor="ray://head:10001", cpus_per_task=2).executor_kind == "ray"
    assert "executor" not in make_settings(data="digits", evaluations=8).identity()
