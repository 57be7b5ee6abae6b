"""NAS-Bench-201 and NATS-Bench in all their forms."""

from __future__ import annotations

import bz2
import io
import os
import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import cell, write_pbz2

from archduel.errors import TableError, UnknownNameError
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.importing import ImportPlan, import_published
from archduel.tables.store import open_table
from archduel.tables.table import Table

SPACE = NASBench201()
INDICES = (0, 11, 284)
TEXTS = {index: SPACE.write(SPACE.at(index)) for index in INDICES}


def whole(names: tuple[str, str] = ("12", "200")) -> dict[str, Any]:
    """The one-file form."""
    return {
        "meta_archs": [SPACE.write(SPACE.at(index)) for index in range(300)],
        "total_archs": 15_625,
        "arch2infos": {index: cell(index, TEXTS[index], names=names) for index in INDICES},
        "evaluated_indexes": set(INDICES),
    }


def write_folder(path: Path) -> Path:
    path.mkdir()
    write_pbz2(
        path / "meta.pickle.pbz2", {"meta_archs": ["x"], "total_archs": 15_625, "evaluated_indexes": set()}
    )
    for index in INDICES:
        write_pbz2(path / f"{index:06d}.pickle.pbz2", cell(index, TEXTS[index]))
    return path


def write_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(write_folder(path.parent / "folder"), "NATS-tss-v1_0-3ffb9-simple")
    return path


def write_one(path: Path) -> Path:
    write_pbz2(path, whole())
    return path


def write_pth(path: Path, zipped: bool) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(whole(("less", "full")), path, _use_new_zipfile_serialization=zipped)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda path: write_folder(path / "NATS-tss-v1_0-3ffb9-simple"),
    "tar": lambda path: write_tar(path / "NATS-tss-v1_0-3ffb9-simple.tar"),
    "one file": lambda path: write_one(path / "NATS-tss-v1_0-3ffb9.pickle.pbz2"),
    "pth": lambda path: write_pth(path / "NAS-Bench-201-v1_1-096897.pth", False),
    "zip pth": lambda path: write_pth(path / "NAS-Bench-201-v1_1-096897.pth", True),
}


@pytest.mark.parametrize("form", list(WRITERS))
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_every_form_gives_the_same_table(tmp_path: Path, form: str, dataset: str) -> None:
    table = import_published(WRITERS[form](tmp_path), ImportPlan(tmp_path / "t.table"), dataset=dataset)
    assert [SPACE.index(arch) for arch in table.archs] == list(INDICES)
    assert [f.name for f in table.fidelities] == ["12", "200"]
    assert table.runs == 2
    rows = np.array(INDICES) / 20
    if (
        dataset == "cifar10"
    ):  # validation from cifar10-valid, test from cifar10; seeds 777 and 888 differ by 0.1 points
        expected, tested = 50 + rows, 50 + rows + 10
        np.testing.assert_allclose(table.validation(fidelity="12"), (30 + rows - 0.3) / 100, atol=1e-6)
        assert np.isnan(table.test(fidelity="12", run=1)).all(), "one seed of two was trained on all images"
    else:
        expected, tested = 50 + rows + 20, 50 + rows + 20 + 1
    np.testing.assert_allclose(table.validation(run=0), expected / 100, atol=1e-6)
    np.testing.assert_allclose(table.validation(run=1), (expected + 0.1) / 100, atol=1e-6)
    np.testing.assert_allclose(table.test(), (tested + 0.05) / 100, atol=1e-6)
    np.testing.assert_allclose(table.seconds(), 40 * 12.5 + 4.0)
    np.testing.assert_allclose(table.seconds(fidelity="12"), 12 * 12.5 + 4.0)
    assert table.column("params").tolist() == [129_306] * 3
    assert table.column("macs").tolist() == [15_647_370] * 3
    np.testing.assert_allclose(table.column("latency_ms"), 15.0)
    assert table.fidelities[1].images == 200 * {"cifar10": 25_000, "cifar100": 50_000}[dataset]
    assert open_table(tmp_path / "t.table").provenance["dataset"] == dataset


def test_a_schedule_without_this_data_set_is_left_out(tmp_path: Path) -> None:
    table = import_published(
        write_one(tmp_path / "f.pickle.pbz2"), ImportPlan(tmp_path / "t.table"), dataset="ImageNet16-120"
    )
    assert [f.name for f in table.fidelities] == ["200"]
    np.testing.assert_allclose(table.validation(run=0), (80 + np.array(INDICES) / 20) / 100, atol=1e-6)


def test_the_size_space_is_recognised(tmp_path: Path) -> None:
    cells = {
        index: cell(index, text, names=("12", "90")) for index, text in ((0, "8:8:8:8:8"), (1, "8:8:8:8:16"))
    }
    write_pbz2(tmp_path / "NATS-sss-v1_0-50262.pickle.pbz2", {"arch2infos": cells})
    table = import_published(tmp_path / "NATS-sss-v1_0-50262.pickle.pbz2", ImportPlan(tmp_path / "t.table"))
    assert (table.space_name, len(table)) == ("natsbench_sss", 2)
    assert [f.epochs for f in table.fidelities] == [12, 90]


def test_where_recorded_sizes_disagree_seed_888_counts(tmp_path: Path) -> None:
    mixed = cell(0, TEXTS[0], seeds=(777, 888, 999))
    for (name, seed), trial in mixed["200"]["all_results"].items():
        trial["params"] = np.float64(0.5 if seed == 888 and name == "cifar10-valid" else 0.4)
    write_pbz2(tmp_path / "f.pickle.pbz2", {"arch2infos": {0: mixed}})
    table = import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"))
    assert table.column("params").tolist() == [500_000]
    assert table.runs == 3


def test_old_records_without_times(tmp_path: Path) -> None:
    old = cell(0, TEXTS[0])
    for schedule in old.values():
        for trial in schedule["all_results"].values():
            trial.update(train_times=None, eval_times={}, latency=None, more=[1, {"x": 2}])
    write_pbz2(tmp_path / "f.pickle.pbz2", {"arch2infos": {0: old}})
    table = import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"))
    assert "seconds" not in table.splits
    assert np.isnan(table.column("latency_ms")).all()


def test_trainings_that_share_a_curve_are_not_half_read(tmp_path: Path) -> None:
    shared = cell(0, TEXTS[0])
    first, second, *_ = shared["200"]["all_results"].values()
    second["train_times"] = first["train_times"]
    write_pbz2(tmp_path / "f.pickle.pbz2", {"arch2infos": {0: shared}})
    with pytest.raises(TableError, match="share one learning curve"):
        import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"))


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def hostile(path: Path) -> dict[str, bytes]:
    good = pickle.dumps(whole(), 4)
    other, wrong_index, no_results = whole(), whole(), whole()
    other["arch2infos"][0]["12"]["arch_str"] = "|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    wrong_index["arch2infos"][0]["12"]["arch_index"] = 5
    no_results["arch2infos"][0]["12"].pop("all_results")
    squeeze = bz2.compress
    return {
        "runs": squeeze(pickle.dumps({**whole(), "x": Runs(path)}, 4)),
        "not bz2": good,
        "cut": squeeze(good)[:-20],
        "cut inside": squeeze(good[: len(good) // 2]),
        "empty": b"",
        "a list": squeeze(pickle.dumps([1])),
        "no cells": squeeze(pickle.dumps({"arch2infos": {}})),
        "odd cells": squeeze(pickle.dumps({"arch2infos": {0: 5}})),
        "odd schedule": squeeze(pickle.dumps({"arch2infos": {0: {"long": {}}}})),
        "empty cell": squeeze(pickle.dumps({"arch2infos": {0: {}}})),
        "unknown operation": squeeze(pickle.dumps(other)),
        "another index": squeeze(pickle.dumps(wrong_index)),
        "no results": squeeze(pickle.dumps(no_results)),
    }


@pytest.mark.parametrize("name", list(hostile(Path())))
def test_damaged_and_hostile_files_leave_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / "f.pickle.pbz2").write_bytes(hostile(tmp_path / "made")[name])
    with pytest.raises(TableError, match=r"f\.pickle\.pbz2"):
        import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"))
    assert [path.name for path in tmp_path.iterdir()] == ["f.pickle.pbz2"]


def test_an_unknown_data_set_or_one_without_values(tmp_path: Path) -> None:
    write_one(tmp_path / "f.pickle.pbz2")
    with pytest.raises(UnknownNameError, match="did you mean 'cifar100'"):
        import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"), dataset="cifar1000")
    short = {"arch2infos": {0: {"12": cell(0, TEXTS[0])["12"]}}}
    write_pbz2(tmp_path / "g.pickle.pbz2", short)
    with pytest.raises(TableError, match="no validation accuracy on ImageNet16-120"):
        import_published(
            tmp_path / "g.pickle.pbz2", ImportPlan(tmp_path / "t.table"), dataset="ImageNet16-120"
        )


def test_a_folder_with_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder")
    (folder / "000011.pickle.pbz2").rename(tmp_path / "elsewhere.pbz2")
    (folder / "000011.pickle.pbz2").symlink_to(tmp_path / "elsewhere.pbz2")
    with pytest.raises(TableError, match="leads out of"):
        import_published(folder, ImportPlan(tmp_path / "t.table"))


def test_a_tar_is_never_extracted(tmp_path: Path) -> None:
    inner = io.BytesIO(bz2.compress(pickle.dumps(cell(11, TEXTS[11]))))
    with tarfile.open(tmp_path / "f.tar", "w") as archive:
        for name in ("../../escape.txt", "/etc/escape.txt", "../000000.pickle.pbz2.txt"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("000007.pickle.pbz2")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        member = tarfile.TarInfo("../000011.pickle.pbz2")
        member.size = len(inner.getvalue())
        archive.addfile(member, inner)
    table = import_published(tmp_path / "f.tar", ImportPlan(tmp_path / "t.table"))
    assert [SPACE.index(arch) for arch in table.archs] == [11]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.tar", "t.table"]
    (tmp_path / "g.tar").write_bytes((tmp_path / "f.tar").read_bytes()[:3000])
    with pytest.raises(TableError, match=r"g\.tar"):
        import_published(tmp_path / "g.tar", ImportPlan(tmp_path / "u.table"))


def test_imported_tables_are_values(tmp_path: Path) -> None:
    """An OrderedDict of cells and a plain one give the same file."""
    plain, ordered = whole(), whole()
    ordered["arch2infos"] = OrderedDict(plain["arch2infos"])
    files = []
    for value in (plain, ordered):
        write_pbz2(tmp_path / "f.pickle.pbz2", value)
        files.append(
            import_published(tmp_path / "f.pickle.pbz2", ImportPlan(tmp_path / "t.table"))
            .validation()
            .tolist()
        )
    assert files[0] == files[1]
    assert isinstance(Table.open(tmp_path / "t.table"), Table)
