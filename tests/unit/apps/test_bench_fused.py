"""The benchmark of fused training: its records, its file, its errors; speeds themselves are measured, not tested."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pytest

from archduel.commands.bench import fused as bench
from archduel.commands.bench.fused import line, with_facts
from archduel.errors import SettingError, UnknownNameError
from archduel.fusing.judging import FusedPlan

RATES = {(2, 1, 1): (4.0, 0.5), (1, 2, 1): (3.0, 0.6), (2, 1, 8): (20.0, 0.1)}
PEAK = 1000


class Start:
    """A start for one."""

    def wait(self) -> None:
        """Starts."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Replaces the measurements by numbers; returns what was asked for."""
    asked: list[tuple[int, int, int]] = []

    def throughput(name: str, processes: int, threads: int, k: int, seconds: float) -> bench.Throughput:
        asked.append((processes, threads, k))
        return bench.Throughput(*RATES[asked[-1]], PEAK * k)

    monkeypatch.setattr(bench, "throughput", throughput)
    monkeypatch.setattr(bench, "_plan", lambda row: FusedPlan(8, 0.1, {8: 0.02}, 1000))
    return asked


def test_the_baseline_is_the_faster_way(quick: list[tuple[int, int, int]], tmp_path: Path) -> None:
    (record,) = bench.bench_fused(["nasbench201-4"], repeats=1)
    assert quick == [(2, 1, 1), (1, 2, 1), (2, 1, 8)]
    assert (record["sequential_per_second"], record["fused_per_second"], record["ratio"]) == (4.0, 20.0, 5.0)
    assert record["cpu_ratio"] == pytest.approx(5.0)
    assert record["peak_bytes"] == {"processes": 1000, "threads": 1000, "fused": 8000}
    assert (
        0 <= record["max_abs_difference"] < 1e-2
    )  # which kernels run is measured, float32; exactness: test_fused.py in float64
    assert "ratio 5.00" in line(record)
    written = with_facts([record])
    assert written["ratio"] == {"min": 5.0, "median": 5.0}
    names = {
        "space",
        "recipe",
        "k",
        "device",
        "fused_per_second",
        "sequential_per_second",
        "ratio",
        "max_abs_difference",
    }
    assert names <= set(written["records"][0])


def test_where_a_group_loses_the_faster_way_one_by_one_is_taken(
    quick: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bench, "_plan", lambda row: FusedPlan(1, 0.1, {8: 0.2}, 1000, "a group is not faster")
    )
    monkeypatch.setitem(RATES, (1, 2, 1), (6.0, 0.3))
    (record,) = bench.bench_fused(["nasbench201-4"], repeats=1)
    assert quick == [(2, 1, 1), (1, 2, 1)]  # not measured a third time: it is the faster of the two
    assert record["fused_per_second"] == 6.0
    assert record["ratio"] == 1.0
    assert "one by one" in line(record)


@pytest.mark.parametrize("k", [1, 3])
def test_work_trains_for_a_while(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    row = bench.ROWS["nasbench201-4"]
    monkeypatch.setitem(bench.ROWS, "nasbench201-4", bench.Row(row.space, row.recipe.with_(epochs=0.1)))
    answers: queue.Queue[Any] = queue.Queue()
    bench._work("nasbench201-4", 0, 1, k, 0.01, Start(), answers)
    done, wall, cpu, peak = answers.get()
    assert done >= k
    assert done % k == 0
    assert wall > 0.01
    assert cpu > 0
    assert peak >= 0


def test_processes_say_how_fast_they_were() -> None:
    found = bench.throughput("nasbench201-4", 1, 1, 2, 0.01)
    assert found.rate > 0
    assert found.cpu > 0
    assert found.peak >= 0


def test_bad_settings_are_errors() -> None:
    with pytest.raises(UnknownNameError, match="nasbench201-4"):
        bench.bench_fused(["nasbench201-5"])
    with pytest.raises(SettingError, match="cores"):
        bench.bench_fused(["nasbench201-4"], cores=0)
    with pytest.raises(SettingError, match="k must"):
        bench.bench_fused(["nasbench201-4"], k=0)
