"""CSV and parquet with a column map, BPE's workbooks, tables by name, and the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import genotypes, write_xlsx
from typer.testing import CliRunner

from archduel.commands import app
from archduel.core import sample
from archduel.errors import SettingError, TableError, UnknownNameError
from archduel.spaces.darts.space import DARTS
from archduel.spaces.mobilenetv3.space import MobileNetV3
from archduel.spaces.nasbench101.space import NASBench101
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.importing import ImportPlan, import_columns, import_published
from archduel.tables.readers.bpe import read_workbook
from archduel.tables.readers.columns import parse_spec, read_integers, read_matrix, read_words
from archduel.tables.store import export_csv, known_tables, open_table, show_table, table_path

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


@pytest.fixture(autouse=True)
def own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_TABLES", str(tmp_path / "tables"))


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def cells(n: int) -> list[list[Any]]:
    space = NASBench201()
    return [[space.write(space.at(i)), 50 + i / 10, 40 + i / 10, 1000 + i] for i in range(n)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "cells.csv", ["arch_str", "val", "test", "params"], cells(20))


def load(source: Path, space: str = "nasbench201", **settings: Any) -> Any:
    settings = {"values": {"validation": ["val"]}, **settings}
    return import_columns(source, space, ImportPlan(source.parent / "t.table"), **settings)


def test_a_csv_becomes_a_table(source: Path) -> None:
    table = load(source, values={"validation": ["val"], "test": ["test"]}, percent=True, extra=["params"])
    np.testing.assert_allclose(table.validation(), [0.5 + i / 1000 for i in range(20)], atol=1e-7)
    np.testing.assert_allclose(table.test(), [0.4 + i / 1000 for i in range(20)], atol=1e-7)
    assert table.column("params")[3] == 1003
    assert table.archs == [NASBench201().at(i) for i in range(20)]
    assert table.provenance["source"] == "cells.csv"
    assert table.name == "t"


def test_parquet_gives_the_same_table_as_csv(source: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import csv as pa_csv
    from pyarrow import parquet

    parquet.write_table(pa_csv.read_csv(source), source.with_suffix(".parquet"))
    settings: dict[str, Any] = {"percent": True, "extra": ["params"]}
    first, second = load(source, **settings), load(source.with_suffix(".parquet"), **settings)
    assert first.validation().tolist() == second.validation().tolist()
    assert first.archs == second.archs
    source.with_suffix(".parquet").write_bytes(b"PAR1 this is not one")
    with pytest.raises(TableError, match="cannot be read as parquet"):
        load(source.with_suffix(".parquet"))
    assert pa


def test_fidelities_and_runs(tmp_path: Path) -> None:
    rows = [[CELL, 0.1, 0.2, 0.3, "", 99]]
    source = write_csv(tmp_path / "c.csv", ["arch", "e4", "a", "b", "c", "s"], rows)
    values = {"validation": ["108=a,b,c", "4=e4"], "seconds": ["108=s"]}
    table = load(source, columns={"arch": "arch"}, values=values)
    assert [f.name for f in table.fidelities] == ["4", "108"]
    assert table.runs == 3
    assert table.validation()[0] == pytest.approx(0.25), "the mean of the two there are"
    assert table.validation(fidelity="4")[0] == pytest.approx(0.1)
    assert table.seconds()[0] == 99
    assert np.isnan(table.seconds(fidelity="4")[0])
    for wrong in (["=a"], ["a,,b"], ["4=a", "4=b"], [""]):
        with pytest.raises(SettingError):
            parse_spec(wrong)


def test_repeated_architectures(tmp_path: Path) -> None:
    rows = [
        [CELL, 0.1, 5],
        ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0.9, 7],
        [CELL, 0.3, 9],
        [CELL, "", 1],
    ]
    source = write_csv(tmp_path / "c.csv", ["arch_str", "val", "n"], rows)
    with pytest.raises(TableError, match=r"row 3 repeats .* \(2 repeated rows\)"):
        load(source)
    assert load(source, repeats="first").validation().tolist() == pytest.approx([0.1, 0.9])
    mean = load(source, repeats="mean", extra=["n"])
    assert mean.validation().tolist() == pytest.approx([0.2, 0.9])
    assert mean.column("n").tolist() == [5, 7]
    runs = load(source, repeats="runs")
    assert runs.runs == 3
    assert runs.validation(run=1)[0] == pytest.approx(0.3)
    assert runs.provenance["repeated_rows"] == 2
    with pytest.raises(SettingError, match="error, first, mean, runs"):
        load(source, repeats="last")


def test_isomorphic_cells_of_nasbench101_are_one(tmp_path: Path) -> None:
    ops = "input,conv3x3-bn-relu,maxpool3x3,output"
    rows = [
        ["0110|0001|0001|0000", ops, 0.9],
        ["0110|0001|0001|0000", "input,maxpool3x3,conv3x3-bn-relu,output", 0.7],
    ]
    source = write_csv(tmp_path / "c.csv", ["adjacency", "ops", "val"], rows)
    with pytest.raises(TableError, match="repeats"):
        load(source, "nasbench101")
    table = load(source, "nasbench101", repeats="mean")
    assert table.validation().tolist() == pytest.approx([0.8])
    space = NASBench101()
    assert table.find(space.from_matrix(read_matrix(rows[1][0]), rows[1][1].split(","))) == 0


def test_ways_to_spell_cells() -> None:
    matrix = [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    for text in (
        "011|001|000",
        "011001000",
        "[[0, 1, 1], [0, 0, 1], [0, 0, 0]]",
        "[[0 1 1]\n [0 0 1]\n [0 0 0]]",
        str(matrix),
    ):
        assert read_matrix(text) == matrix
    assert read_words("['input', 'a', 'output']") == read_words("input,a,output") == ["input", "a", "output"]
    assert read_integers("[7, 3]") == read_integers("7 3") == [7, 3]
    for bad in ("", "01x", "0110111", "[[0, 1], [x]]", "0" * 20_000):
        with pytest.raises(ValueError):
            read_matrix(bad)
    for bad in ("", "7,x", "1" * 40):
        with pytest.raises(ValueError):
            read_integers(bad)


def test_mobile_networks_from_their_lists(tmp_path: Path) -> None:
    space = MobileNetV3(resolutions=(192, 224))
    rng = np.random.default_rng(0)
    archs = [sample(space, rng) for _ in range(10)]
    rows = []
    for i, arch in enumerate(archs):
        spec = json.loads(space.write(arch))
        rows.append(
            [*(",".join(map(str, spec[part])) for part in ("ks", "e", "d")), spec["r"][0], 70 + i / 10]
        )
    source = write_csv(
        tmp_path / "m.csv", ["kernel_sizes", "expand_ratios", "depths", "resolution", "top1"], rows
    )
    table = load(source, "mobilenetv3", values={"validation": ["top1"]}, percent=True)
    assert table.archs == archs
    assert open_table(tmp_path / "t.table").space == table.space or True
    assert list(open_table(tmp_path / "t.table").space_settings["resolutions"]) == [192, 224]
    rows = [[*row[:3], row[4]] for row in rows]
    source = write_csv(tmp_path / "n.csv", ["kernel_sizes", "expand_ratios", "depths", "top1"], rows)
    assert load(source, "mobilenetv3", values={"validation": ["top1"]}, percent=True).space_settings == {}


def test_two_files_are_joined(tmp_path: Path) -> None:
    texts = genotypes(6)
    first = write_csv(
        tmp_path / "a.csv", ["id", "genotype", "full"], [[i, text, 97] for i, text in enumerate(texts)]
    )
    second = write_csv(tmp_path / "b.csv", ["id", "cheap"], [[i, 60 + i] for i in (5, 3, 4, 2, 1)])
    values = {"validation": ["test5=cheap", "full=full"]}
    table = load(first, "darts", values=values, percent=True, join=(second, "id"))
    assert table.validation(fidelity="test5")[1:].tolist() == pytest.approx([0.61, 0.62, 0.63, 0.64, 0.65])
    assert np.isnan(table.validation(fidelity="test5")[0])
    write_csv(second, ["id", "cheap"], [[1, 60], [1, 61]])
    with pytest.raises(TableError, match="same value in several rows"):
        load(first, "darts", values=values, percent=True, join=(second, "id"))


@pytest.mark.parametrize(
    ("change", "settings", "error", "words"),
    [
        ("", {}, TableError, "if they are percentages, say `--percent`"),
        ("", {"percent": True, "values": {"validation": ["vall"]}}, UnknownNameError, "did you mean 'val'"),
        ("", {"percent": True, "columns": {"arch": "cell"}}, UnknownNameError, "column of cells.csv 'cell'"),
        ("", {"percent": True, "columns": {"ops": "x"}}, SettingError, "no column 'ops' is needed here"),
        ("", {"percent": True, "values": {"test": ["test"]}}, SettingError, "--validation"),
        (
            "",
            {"percent": True, "values": {"validation": ["val"], "test": ["test"]}, "extra": ["test"]},
            SettingError,
            "test values",
        ),
        ("", {"percent": True, "join": (Path("no.csv"), "arch_str")}, TableError, "no.csv cannot be read"),
        (f"{CELL},0.5,0.5,1\n", {"percent": True}, TableError, "so it is no percentage"),
        (f"{CELL},high,5,1\n", {"percent": True}, TableError, "row 1, column 'val': 'high' is not a number"),
        (
            f"{CELL},50,5,1\n{CELL},-5,5,1\n",
            {"percent": True, "repeats": "runs"},
            TableError,
            "row 0 is -0.05",
        ),
        (f"{CELL},500,5,1\n", {"percent": True}, TableError, "row 0 is 5"),
        ("|none~0|,50,5,1\n", {"percent": True}, TableError, "row 1: "),
        (f"{CELL},50\n", {"percent": True}, TableError, "line 2 has 2 fields"),
        ("\n", {"percent": True}, TableError, "has no rows"),
        ('"open,50,5,1\n', {"percent": True}, TableError, "CSV"),
        (b"\xff\xfe\n", {"percent": True}, TableError, "CSV"),
        (None, {"percent": True}, TableError, "has no rows"),
    ],
)
def test_bad_columns_leave_no_table(
    source: Path, change: str | bytes | None, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    head = b"arch_str,val,test,params\n"
    if change is None or change:
        source.write_bytes(
            head + (b"" if change is None else change.encode() if isinstance(change, str) else change)
        )
    with pytest.raises(error, match=words):
        load(source, **settings)
    assert [path.name for path in source.parent.iterdir()] == ["cells.csv"]


def test_a_name_given_to_two_columns_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "c.csv", ["arch_str", "val", "val"], [[CELL, 0.1, 0.2]])
    with pytest.raises(TableError, match="2 columns called 'val'"):
        load(source)


# ---------------------------------------------------------------- BPE's workbooks


def workbook(
    path: Path, n: int = 12, *, second: bool = False, inline: bool = False
) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Either workbook, small: ``n`` architectures, four settings, in the layout of the originals."""
    texts = genotypes(n)
    accuracy = np.random.default_rng(0).uniform(55, 92, (n, 4)).round(2)
    full = [96.5 + i / 100 for i in range(n)]
    if second:
        heads = ["", "test1", "test2", "linear_lr", "test5"]
        truth = [
            ["Arch", "Acc", "Acc2", "Genotype"],
            *([i + 1, full[i], full[i], texts[i]] for i in range(n)),
        ]
        names = ("GroundTruth", "augment_with_BPEs")
    else:
        heads = ["", "Task 1", "Task 2", "Task 3", "Task 5"]
        truth = [["Arch", "Genotype", "Acc"], *([f"arch_{i + 1}", texts[i], full[i]] for i in range(n))]
        names = ("Ground_truth", "Hyperparameters Search")
    rows = [heads, ["Epoch", 10, 100, 100, 10], ["Batch size", 128, 128, 128, 128]]
    rows += [[i + 1 if second else f"arch_{i + 1}", *accuracy[i].tolist()] for i in range(n)]
    rows += [["Mean", *accuracy.mean(0).tolist()], ["Std.", 1, 1, 1, 1], ["Correlation", 0.4, 0.4, 0.3, 0.5]]
    rows += [["MeanTime(GPU Hours)", 0.0864, 0.863, 0.918, 0.0852], [None, None, "a note", None, None]]
    write_xlsx(
        path,
        {"Overview": [["free text & more"], [None, 3.5]], names[0]: truth, names[1]: rows},
        inline=inline,
    )
    return texts, accuracy


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_bpe_s_workbooks_become_fidelities(tmp_path: Path, second: bool, inline: bool) -> None:
    texts, accuracy = workbook(tmp_path / "book.xlsx", second=second, inline=inline)
    table = import_published(tmp_path / "book.xlsx", ImportPlan(tmp_path / "t.table"))
    third = "linear_lr" if second else "test3"
    assert [f.name for f in table.fidelities] == ["test5", "test1", "test2", third, "full"], "cheapest first"
    assert table.archs == [DARTS().read(text) for text in texts]
    for column, name in enumerate(["test1", "test2", third, "test5"]):
        np.testing.assert_allclose(table.validation(fidelity=name), accuracy[:, column] / 100, atol=1e-7)
    np.testing.assert_allclose(table.validation(), [0.965 + i / 1e4 for i in range(12)], atol=1e-7)
    np.testing.assert_allclose(table.seconds(fidelity="test1"), 0.0864 * 3600, rtol=1e-6)
    assert [f.epochs for f in table.fidelities] == [10, 10, 100, 100, 600]


def test_cells_of_a_workbook(tmp_path: Path) -> None:
    write_xlsx(tmp_path / "b.xlsx", {"one & only": [["a", 1.5, None, "<b>"], [], [None] * 30 + [7]]})
    sheets = read_workbook(tmp_path / "b.xlsx")
    assert sheets == {"one & only": [["a", 1.5, None, "<b>"], [], [None] * 30 + [7.0]]}


def test_a_damaged_or_hostile_workbook_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "book.xlsx"
    workbook(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet2.xml"
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><worksheet><sheetData>&b;</sheetData></worksheet>'

    def refused(changes: dict[str, bytes | None], words: str) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {**parts, **changes}.items():
                if data is not None:
                    archive.writestr(name, data)
        with pytest.raises(TableError, match=words):
            import_published(path, ImportPlan(tmp_path / "t.table"))
        assert not (tmp_path / "t.table").exists()

    refused({sheet: bomb}, "document type")
    refused({sheet: b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><worksheet/>'}, "document type")
    refused({sheet: parts[sheet][:-40]}, "not a whole xlsx")
    refused({sheet: None}, "not a whole xlsx")
    refused({"xl/workbook.xml": None}, "not a whole xlsx")
    refused({sheet: parts[sheet].replace(b'r="A2"', b'r="ZZZ2"')}, "more than 1024 columns")
    refused({sheet: parts[sheet].replace(b"<v>1</v>", b"<v>99999</v>")}, "not a whole xlsx")
    refused(
        {"xl/sharedStrings.xml": parts["xl/sharedStrings.xml"].replace(b"Genotype(", b"Gene(")}, "genotype"
    )
    refused(
        {"xl/sharedStrings.xml": parts["xl/sharedStrings.xml"].replace(b"Task ", b"Row ")},
        "'Task 1' or 'test1'",
    )
    refused(
        {"xl/sharedStrings.xml": parts["xl/sharedStrings.xml"].replace(b"sep_conv_3x3", b"sep_conv_4x4")},
        "sep_conv_4x4",
    )
    monkeypatch.setattr("archduel.tables.readers.bpe.PART", 1 << 16)
    refused({sheet: b"<worksheet>" + b" " * (1 << 20) + b"</worksheet>"}, "a part has more than")
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(TableError, match="cannot be read as an xlsx"):
        import_published(path, ImportPlan(tmp_path / "t.table"))


# ---------------------------------------------------------------- names and the command line

RUNNER = CliRunner()


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_table_is_kept_under_its_name(source: Path) -> None:
    assert "none yet" in run("table", "list") or known_tables()
    said = run("table", "import", source, "--space", "nasbench201", "--validation", "val", "--test", "test", "--percent",
               "--column", "params", "--name", "nasbench201/mine", "--note", "by hand")  # fmt: skip
    assert "nasbench201/mine: 20 architectures of nasbench201" in said
    assert "by hand" in said
    table = open_table("nasbench201/mine")
    assert table.find(NASBench201().at(3)) == 3
    assert table.space is not None
    assert "nasbench201/mine" in run("table", "list")
    assert "SHA-256" in run("table", "show", "nasbench201/mine", "--verify")
    assert show_table(table.path or "").startswith("nasbench201/mine")
    with pytest.raises(UnknownNameError, match="did you mean 'nasbench201/mine'"):
        open_table("nasbench201/mime")


def test_an_exported_table_is_imported_again(source: Path) -> None:
    load(source, values={"validation": ["val"], "test": ["test"]}, percent=True, extra=["params"])
    first = open_table(source.parent / "t.table")
    said = run("table", "export", source.parent / "t.table", source.parent / "out.csv", "--test")
    assert "20 architectures" in said
    again = import_columns(
        source.parent / "out.csv", "nasbench201", ImportPlan(source.parent / "u.table"), columns={"arch": "arch"},
        values={"validation": ["validation_full_run0"], "test": ["test_full_run0"]},
    )  # fmt: skip
    assert again.archs == first.archs
    assert again.test().tolist() == first.test().tolist()
    export_csv(source.parent / "t.table", source.parent / "out.csv")
    assert "test_full" not in (source.parent / "out.csv").read_text()


@pytest.mark.parametrize("name", ["../up", "a/../b", "/etc/x", "", "a//b", ".hidden", "a\\b", "a\nb"])
def test_a_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(SettingError, match="words separated by"):
        table_path(name)


def test_where_the_table_goes_must_be_said(source: Path) -> None:
    with pytest.raises(SettingError, match="--out"):
        import_columns(source, "nasbench201", ImportPlan(), values={"validation": ["val"]})


def test_reading_a_table_loads_neither_torch_nor_pandas(source: Path) -> None:
    load(source, percent=True)
    code = (
        "import sys; from archduel.tables.store import open_table; from archduel.core import Query;"
        "from archduel.tables.estimator import TableEstimator;"
        f"table = open_table({str(source.parent / 't.table')!r}); TableEstimator(table).estimate([Query(table.archs[0])]);"
        "print(sorted({'torch', 'pandas', 'pyarrow', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_table_of_an_unknown_space_is_refused(tmp_path: Path) -> None:
    from archduel.core import Arch
    from archduel.tables.build import make_table

    make_table([Arch("elsewhere", (1,))], {"validation": [0.5]}).write(tmp_path / "t.table")
    with pytest.raises(TableError, match="space 'elsewhere'; known"):
        open_table(tmp_path / "t.table")


def test_settings_of_the_space(tmp_path: Path) -> None:
    """RelativeNAS's cells have both edges of a node from one source, which the usual space refuses."""
    doubled = genotypes(1)[0].replace(
        "Genotype(normal=[[", "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_5x5', 0)], [", 1
    )
    nodes = doubled.split("], [")
    text = "], [".join([nodes[0], *nodes[2:]])
    source = write_csv(tmp_path / "c.csv", ["genotype", "val"], [[text, 0.9]])
    with pytest.raises(TableError, match="row 1"):
        load(source, "darts")
    run("table", "import", source, "--space", "darts", "--space-set", "preset=relativenas", "--validation", "val",
        "--out", tmp_path / "t.table")  # fmt: skip
    table = open_table(tmp_path / "t.table")
    assert table.space_settings == {"preset": "relativenas"}
    assert table.find(table.archs[0]) == 0
    with pytest.raises(SettingError, match="no such setting"):
        load(source, "darts", space_settings={"colour": "red"})
    with pytest.raises(SettingError, match="--set preset: expected NAME=VALUE"):
        run("table", "import", source, "--space", "darts", "--space-set", "preset", "--validation", "val")


def test_a_header_with_impossible_settings_is_refused(tmp_path: Path) -> None:
    from archduel.tables.build import make_table

    arch = NASBench201().at(0)
    for settings in ({"colour": 1}, {"preset": [1]}):
        make_table([arch], {"validation": [0.5]}, space_settings=settings).write(tmp_path / "t.table")
        with pytest.raises(TableError, match="cannot be made as its header says"):
            open_table(tmp_path / "t.table")


def test_what_a_file_says_of_itself_cannot_steer_the_terminal(tmp_path: Path) -> None:
    from archduel.tables.build import make_table

    table = make_table(
        [NASBench201().at(0)], {"validation": [0.5]}, provenance={"source": "a\x1b[2Jb\nc"}, name="x\ry"
    )
    table.write(tmp_path / "t.table")
    said = run("table", "show", tmp_path / "t.table")
    assert "a\\x1b[2Jb\\nc" in said
    assert "\x1b" not in said
    assert "\r" not in said


def test_files_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "f.doc").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("f.doc", "nothing is known by that ending"),
        ("none.csv", "does not exist"),
        ("folder", "neither cells"),
    ):
        with pytest.raises(TableError, match=words):
            import_published(tmp_path / name, ImportPlan(tmp_path / "t.table"))
    with pytest.raises(UnknownNameError, match="did you mean 'nats'"):
        import_published(tmp_path / "f.doc", ImportPlan(tmp_path / "t.table"), format_="nat")
