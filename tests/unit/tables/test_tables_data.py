"""Public benchmark data through the importers: published maxima, hashes, agreement between files."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import write_xlsx

from archduel.tables.importing import ImportPlan, import_columns, import_published
from archduel.tables.table import Table

pytestmark = pytest.mark.data
RUNS = range(3)


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("ARCHDUEL_DATA")
    if not folder:
        pytest.skip("ARCHDUEL_DATA does not name the folder of public data")
    return Path(folder)


@pytest.fixture
def load(data: Path, tmp_path: Path) -> Any:
    def load_(file: str, space: str, validation: list[str], **settings: Any) -> Table:
        values = {"validation": validation, **settings.pop("values", {})}
        return import_columns(data / file, space, ImportPlan(tmp_path / "t.table"), values=values, **settings)

    return load_


def test_nasbench201_has_its_published_optima(load: Any) -> None:
    file = "nasbench201/nasbench201.parquet"
    columns: dict[str, Any] = {"percent": True, "columns": {"arch": "arch_str"}}
    ten = load(
        file,
        "nasbench201",
        ["200=cifar10_val", "12=cifar10_val_12ep"],
        values={"test": ["200=cifar10_test"]},
        **columns,
    )
    space: Any = ten.space
    assert len(ten) == 15_625
    assert [space.index(arch) for arch in ten.archs] == list(range(15_625)), "rows in the benchmark's order"
    assert round(100 * ten.best_validation, 2) == 91.61
    assert (round(100 * ten.test().max(), 2), int(ten.test().argmax())) == (94.37, 6111)
    assert round(100 * ten.validation(fidelity="12").max(), 2) == 84.89
    assert [ten.find(arch) for arch in ten.archs[::97]] == list(range(0, 15_625, 97))
    hundred = load(file, "nasbench201", ["cifar100_val"], values={"test": ["cifar100_test"]}, **columns)
    assert (round(100 * hundred.test().max(), 2), int(hundred.test().argmax())) == (73.51, 9930)


def test_nasbench201_s_trials_as_runs(load: Any) -> None:
    trials = ",".join(f"cifar10_test_v11_trial{i}" for i in RUNS)
    values = {"test": ["cifar10_test_v11_mean"]}
    table = load("nasbench201/nasbench201.parquet", "nasbench201", [trials], percent=True, values=values)
    counts = np.count_nonzero(~np.isnan(table.values("validation")[0]), axis=0)
    assert np.bincount(counts).tolist() == [0, 2225, 5439, 7961]
    np.testing.assert_allclose(table.validation(), table.test(run=0), atol=1e-6)


def test_nasbench101_s_hashes_and_budgets(load: Any, data: Path) -> None:
    from pyarrow import parquet

    file = "nasbench101/cells_val_4budgets.parquet"
    specs = [f"{epochs}=val_acc_{epochs}ep" for epochs in (4, 12, 36, 108)]
    table = load(
        file,
        "nasbench101",
        specs,
        values={"seconds": ["108=training_seconds_108ep"]},
        extra=["trainable_parameters"],
    )
    source = parquet.read_table(data / file, columns=["hash", "val_acc_108ep"])
    assert len(table) == 20_001
    stored = [bytes(row).hex() for row in table._arrays["fingerprints"]]
    assert stored == source.column("hash").to_pylist()
    assert table.validation().tolist() == source.column("val_acc_108ep").to_pylist(), (
        "float32 values are kept exactly"
    )
    assert round(table.best_validation, 5) == 0.94912


def test_three_runs_agree_with_the_single_one(load: Any) -> None:
    runs = {
        split: [",".join(f"{short}_acc_108ep_run{i}" for i in RUNS)]
        for split, short in (("validation", "val"), ("test", "test"))
    }
    three = load(
        "nasbench101/cells_val_test_3runs.parquet",
        "nasbench101",
        runs["validation"],
        values={"test": runs["test"]},
    )
    assert (len(three), three.runs) == (3258, 3)
    assert round(float(three.test().max()), 5) == 0.93907
    one = load("nasbench101/cells_val_4budgets.parquet", "nasbench101", ["val_acc_108ep"])
    shared = [(row, found) for row, arch in enumerate(one.archs) if (found := three.find(arch)) >= 0]
    assert len(shared) > 100
    single = one.validation()
    for row, found in shared:
        assert min(abs(single[row] - three.values("validation")[0, :, found])) == 0


def test_isomorphic_rows_of_the_transfer_file(load: Any) -> None:
    file = "nasbench101/cells_transfer_fashion_mnist.csv"
    assert len(load(file, "nasbench101", ["cifar10_test_acc_108ep"], repeats="mean")) == 97


def test_bpe_s_settings_rank_as_reported(load: Any, data: Path) -> None:
    from scipy.stats import spearmanr

    with open(data / "bpe/settings.csv") as lines:
        reported = {row["setting"]: float(row["spearman_recomputed"]) for row in csv.DictReader(lines)}
    specs = [*(f"{name}={name}" for name in reported), "full=test_acc_full"]
    table = load(
        "bpe/architectures.csv",
        "darts",
        specs,
        percent=True,
        join=(data / "bpe/proxy_accuracies.csv", "arch_id"),
    )
    assert (len(table), len(table.fidelities)) == (100, 38)
    for name, rho in reported.items():
        assert spearmanr(
            table.validation(fidelity=name), table.validation(fidelity="full")
        ).statistic == pytest.approx(rho, abs=2e-4)


def test_bpe_s_workbook_equals_the_csv_files(data: Path, tmp_path: Path) -> None:
    with open(data / "bpe/architectures.csv") as first, open(data / "bpe/proxy_accuracies.csv") as second:
        truth, proxies = list(csv.DictReader(first)), list(csv.DictReader(second))
    names = [name for name in proxies[0] if name != "arch_id"]
    rows = [
        ["", *names],
        *([float(row["arch_id"]), *(float(row[name]) for name in names)] for row in proxies),
    ]
    sheet = [
        ["Arch", "Acc", "Acc 2", "Genotype"],
        *([int(r["arch_id"]), float(r["test_acc_full"]), None, r["genotype"]] for r in truth),
    ]
    write_xlsx(tmp_path / "book.xlsx", {"GroundTruth": sheet, "augment_with_BPEs": rows})
    table = import_published(tmp_path / "book.xlsx", ImportPlan(tmp_path / "t.table"))
    assert (len(table), len(table.fidelities)) == (100, 38)
    np.testing.assert_allclose(
        table.validation(fidelity="test32"), [float(row["test32"]) / 100 for row in proxies], atol=1e-7
    )
    assert round(100 * table.best_validation, 2) == 97.45


def test_other_spaces(load: Any) -> None:
    cells = load("darts_random214/architectures.csv", "darts", ["best_test_acc"], percent=True)
    assert (len(cells), round(100 * cells.best_validation, 2)) == (214, 97.56)
    mobile = load(
        "ofa_mbv3_dynast/ofa_mbv3_subnets.parquet",
        "mobilenetv3",
        ["imagenet_top1"],
        percent=True,
        repeats="mean",
        extra=["params", "macs"],
    )
    assert round(100 * mobile.best_validation, 2) == 77.47
    assert mobile.provenance["repeated_rows"] + len(mobile) == 2373
    assert mobile.space_settings == {}, "all have 224 pixels"
    widths = load("natsbench_sss/natsbench_sss.parquet", "natsbench_sss", ["cifar10_val_90ep"], percent=True)
    space: Any = widths.space
    assert (len(widths), round(100 * widths.best_validation, 3)) == (32_768, 90.712)
    assert space.write(widths.archs[int(widths.validation().argmax())]) == "64:64:64:64:64"
    hundred = load(
        "natsbench_sss/natsbench_sss.parquet", "natsbench_sss", ["cifar100_val_90ep"], percent=True
    )
    assert space.write(hundred.archs[int(hundred.validation().argmax())]) == "64:48:48:64:64"
