"""What is said about Ray where there is none."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import worker_judges
from test_executors import queries

from archduel.errors import SettingError
from archduel.execution import RayTasks
from archduel.execution.cluster import cluster_address


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"pip install 'archduel\[ray\]'"):
        list(RayTasks(worker_judges.factory, run_seed=0).run(queries(1), [0]))


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address("ray") == "local"
    assert cluster_address("ray://head:10001") == "ray://head:10001"
    for given in ("head:6379", "auto", "ray://head:1"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        assert cluster_address("ray") == given
    monkeypatch.setenv("RAY_ADDRESS", "head")
    for wrong in ("ray", "ray://head", "ray://:10001", "ray://head:port", "ray://head:99999"):
        with pytest.raises(SettingError, match="ray://HOST:10001"):
            cluster_address(wrong)


@pytest.mark.parametrize("given", [{"cpus": 0}, {"cpus": -1}, {"gpus": 1.5}, {"cpus": float("nan")}])
def test_resources_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="a task needs CPUs or GPUs"):
        RayTasks(worker_judges.factory, run_seed=0, **given)
