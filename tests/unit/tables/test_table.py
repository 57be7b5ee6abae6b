"""Tables in memory and in files: values by hand, look-ups, locks, damaged and hostile files."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from archduel.core import Arch, Decision, Query
from archduel.errors import InvalidArchError, SettingError, TableError, UnknownNameError
from archduel.tables.build import make_table
from archduel.tables.estimator import TableEstimator, scramble
from archduel.tables.file import ALIGN, Fidelity, read_table_file, verify_table_file, write_table_file
from archduel.tables.table import EMPTY, ByteIndex, Table, build_index

NAN = float("nan")
TWO = [Fidelity("12", 12, 600), Fidelity("200", 200, 10_000)]


class Letters:
    """A space of words: architectures with the same letters in any order are equal."""

    name = "letters"
    kinds: ClassVar[dict[str, int]] = {"letter": 3}

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        return Decision("letter", "letter", (0, 1, 2)) if len(prefix) < 2 else None

    def validate(self, arch: Arch) -> None:
        return None

    def features(self, archs: Sequence[Arch]) -> np.ndarray[Any, Any]:
        return np.array([arch.choices for arch in archs], np.float32)

    def fingerprint(self, arch: Arch) -> str:
        return "".join(map(str, sorted(arch.choices)))


def word(*letters: int) -> Arch:
    return Arch("letters", letters)


@pytest.fixture
def table() -> Table:
    """Three words, two fidelities, two runs; the second run of the last word at the higher fidelity is missing."""
    values = np.array([[[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]], [[0.6, 0.7, 0.8], [0.8, 0.5, NAN]]])
    return make_table(
        [word(0, 0), word(0, 1), word(2)],
        {"validation": values, "test": values / 2, "seconds": values * 100},
        name="words",
        fidelities=TWO,
        columns={"params": [10, 20, 30]},
        units={"params": "count"},
        space=Letters(),
        provenance={"source": "by hand"},
    )


def test_values_are_means_of_the_runs_there_are(table: Table) -> None:
    np.testing.assert_allclose(table.validation(), [0.7, 0.6, 0.8], atol=1e-7)
    np.testing.assert_allclose(table.validation(fidelity="12"), [0.2, 0.3, 0.4], atol=1e-7)
    np.testing.assert_allclose(table.validation([word(2), word(0, 0)], run=0), [0.8, 0.6], atol=1e-7)
    np.testing.assert_allclose(table.validation(np.array([1]), run=1), [0.5], atol=1e-7)
    np.testing.assert_allclose(table.test(), [0.35, 0.3, 0.4], atol=1e-7)
    np.testing.assert_allclose(table.seconds(), [70, 60, 80], rtol=1e-6)
    assert np.isnan(table.validation(run=1)[2])
    assert table.column("params", [word(0, 1)]).tolist() == [20]
    assert table.best_validation == pytest.approx(0.8)


def test_architectures_are_found_by_choices_and_by_fingerprint(table: Table) -> None:
    assert table.archs == [word(0, 0), word(0, 1), word(2)]
    assert [table.arch(row) for row in range(3)] == table.archs
    assert [table.find(arch) for arch in table.archs] == [0, 1, 2]
    assert table.find(word(1, 0)) == 1, "an equal architecture"
    assert table.find(word(1, 0)) == 1, "and from the memo"
    assert word(1, 1) not in table
    for odd in (word(2, 255), word(255), word(300), word(-1), word(0, 0, 0)):
        assert table.find(odd) == -1
    with pytest.raises(InvalidArchError, match="belongs to 'other'"):
        table.find(Arch("other", (0,)))
    with pytest.raises(TableError, match=r"letters:1.1 is not among the 3"):
        table.validation([word(0, 0), word(1, 1)])


def test_what_a_table_does_not_have_is_named(table: Table) -> None:
    with pytest.raises(UnknownNameError, match="did you mean '200'"):
        table.validation(fidelity="20")
    with pytest.raises(UnknownNameError, match="column of table 'words' 'param'"):
        table.column("param")
    with pytest.raises(TableError, match="no train values"):
        table.read("train")
    with pytest.raises(TableError, match="runs 0 to 1"):
        table.validation(run=2)


def test_a_file_holds_the_same_table(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path / "deep" / "words.table")
    again = Table.open(tmp_path / "deep" / "words.table", space=Letters())
    assert again.header == table.header
    assert again.archs == table.archs
    np.testing.assert_array_equal(again.values("test"), table.values("test"))
    assert again.find(word(1, 0)) == 1
    assert not again.values("test").flags.writeable
    assert (
        verify_table_file(tmp_path / "deep" / "words.table")
        == read_table_file(again.path or Path())[0]["sha256"]
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["words.table"]


def test_the_same_table_makes_the_same_file(table: Table, tmp_path: Path) -> None:
    for name in ("a.table", "b.table"):
        table.write(tmp_path / name)
    assert (tmp_path / "a.table").read_bytes() == (tmp_path / "b.table").read_bytes()


def test_the_file_format_has_not_changed(table: Table, tmp_path: Path) -> None:
    """``golden/words.table`` was written by this test's table when the format was made (version 1)."""
    golden = Path(__file__).parents[2] / "golden" / "words.table"
    old = Table.open(golden, space=Letters())
    assert old.header == table.header
    for split in ("validation", "test", "seconds"):
        np.testing.assert_array_equal(old.values(split), table.values(split))
    assert [old.find(arch) for arch in (*table.archs, word(1, 0), word(1, 1))] == [0, 1, 2, 1, -1]
    table.write(tmp_path / "words.table")
    assert (tmp_path / "words.table").read_bytes() == golden.read_bytes()


@pytest.mark.parametrize("on_disk", [False, True])
def test_tables_and_estimators_travel_to_other_processes(table: Table, tmp_path: Path, on_disk: bool) -> None:
    if on_disk:
        table.write(tmp_path / "t.table")
        table = Table.open(tmp_path / "t.table", space=Letters())
    assert pickle.loads(pickle.dumps(table)).test().tolist() == table.test().tolist()
    estimator = TableEstimator(table, reduce="sample", once="arch", seed=5)
    first = estimator.estimate([Query(word(0, 0))])
    other = pickle.loads(pickle.dumps(estimator))
    assert other.estimate([Query(word(0, 0))])[0].score == first[0].score
    assert other.estimate([Query(word(0, 0))])[0].cost.seconds == 0, "it knows what was paid"
    with pytest.raises(TableError, match="locked"):
        other.table.test()


def test_an_estimator_says_score_cost_and_columns(table: Table) -> None:
    estimator = TableEstimator(table)
    first, second, third = estimator.estimate([Query(word(0, 0)), Query(word(0, 0), "12"), Query(word(1, 1))])
    assert first.score == pytest.approx(0.7)
    assert (first.cost.seconds, first.cost.images) == (pytest.approx(70), 10_000)
    assert first.values == {"params": 10}
    assert second.score == pytest.approx(0.2)
    assert second.cost.images == 600
    assert third.failed
    assert "not in table 'words'" in third.reason
    assert estimator.metric == "validation_accuracy"


def test_a_mean_over_runs_can_be_charged_for_all_of_them(table: Table) -> None:
    costs = [
        e.cost for e in TableEstimator(table, charge="all").estimate([Query(word(0, 0)), Query(word(2))])
    ]
    assert [cost.images for cost in costs] == [20_000, 10_000], "the second word has one run"
    assert costs[0].seconds == pytest.approx(140)


def test_one_run_can_be_chosen_and_a_missing_one_fails(table: Table) -> None:
    known, missing = TableEstimator(table, reduce=1).estimate([Query(word(0, 1)), Query(word(2))])
    assert known.score == pytest.approx(0.5)
    assert missing.failed
    assert "no value at fidelity '200'" in missing.reason


def test_sampled_runs_are_seeded_uniform_and_keep_their_time() -> None:
    archs = [word(a, b, c) for a, b, c in itertools.product(range(10), repeat=3)]
    runs = np.repeat([[[0.1], [0.2], [0.3]]], len(archs), axis=2)  # (1, 3, 1000)
    table = make_table(archs, {"validation": runs, "seconds": runs * 1000})
    queries = [Query(arch) for arch in archs]

    def draw(seed: int) -> np.ndarray[Any, Any]:
        estimates = TableEstimator(table, reduce="sample", seed=seed).estimate(queries)
        assert all(e.cost.seconds == pytest.approx(1000 * e.score, rel=1e-6) for e in estimates)
        return np.array([e.score for e in estimates])

    first, second = draw(0), draw(1)
    assert (draw(0) == first).all()
    for scores in (first, second):
        assert all(270 < count < 400 for count in np.unique(scores.round(3), return_counts=True)[1])
    assert 270 < (first == second).sum() < 400, "runs of two seeds are independent"
    backwards = TableEstimator(table, reduce="sample").estimate(queries[::-1])
    assert [e.score for e in backwards[::-1]] == first.tolist(), "the order of asking does not matter"


def test_scrambled_bits_are_splitmix64_of_the_three_numbers() -> None:
    def slow(seed: int, fidelity: int, row: int) -> int:
        word_, state = 2**64 - 1, seed & (2**64 - 1)
        for number in (fidelity, row):
            state = (state + (number + 1) * 0x9E3779B97F4A7C15) & word_
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word_
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & word_
            state ^= state >> 31
        return state

    for seed, fidelity in ((0, 0), (7, 3), (-1, 1), (2**63, 2)):
        assert scramble(seed, fidelity, np.arange(5)).tolist() == [
            slow(seed, fidelity, row) for row in range(5)
        ]


def test_distinct_queries_can_be_charged_once(table: Table) -> None:
    asked = [Query(word(0, 1)), Query(word(1, 0)), Query(word(0, 1), "12")]
    seconds = [e.cost.seconds for e in TableEstimator(table, once="arch").estimate(asked)]
    assert seconds == [pytest.approx(60), 0, pytest.approx(30)]
    seconds = [e.cost.seconds for e in TableEstimator(table).estimate(asked)]
    assert seconds[1] == pytest.approx(60)


def test_equal_fingerprints_can_be_charged_once() -> None:
    rows = [word(0, 1), word(1, 0), word(1, 1)]  # trained separately, equal by fingerprint
    table = make_table(rows, {"validation": [0.1, 0.2, 0.3], "seconds": [1, 2, 3]}, space=Letters())
    assert table.find(word(1, 0)) == 1, "the architecture itself goes before an equal one"
    estimator = TableEstimator(table, once="fingerprint")
    assert [e.cost.seconds for e in estimator.estimate([Query(row) for row in rows])] == [1, 0, 3]
    assert (estimator.asked, estimator.distinct) == (3, 2)


def test_an_estimator_continues_from_its_state(table: Table) -> None:
    whole, part = TableEstimator(table, once="arch"), TableEstimator(table, once="arch")
    asked = [Query(word(0, 0)), Query(word(0, 1)), Query(word(0, 0))]
    part.estimate(asked[:2])
    rest = TableEstimator(table, once="arch")
    rest.load_state_dict(part.state_dict())
    assert rest.estimate(asked[2:]) == whole.estimate(asked)[2:]
    assert (rest.asked, rest.distinct) == (whole.asked, whole.distinct)


def test_test_values_are_out_of_a_search_s_reach(table: Table) -> None:
    estimator = TableEstimator(table)
    with pytest.raises(TableError, match="test values are locked during a search"):
        estimator.table.test()
    assert not any("test" in key for key in estimator.table._arrays)
    assert table.test()[0] == pytest.approx(0.35), "the owner of the table reads them at the end"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reduce": "median"}, "'mean', 'sample' or a run from 0 to 1"),
        ({"reduce": 2}, "a run from 0 to 1"),
        ({"charge": "half"}, "'one' or 'all'"),
        ({"once": "always"}, "'never', 'arch' or 'fingerprint'"),
    ],
)
def test_wrong_settings_are_named(table: Table, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        TableEstimator(table, **settings)


@pytest.mark.parametrize(
    ("archs", "values", "words"),
    [
        ([], {"validation": []}, "at least one architecture"),
        ([word(0), word(0)], {"validation": [0.1, 0.2]}, "1 of 2 architectures are there twice"),
        ([word(0), Arch("x", (0,))], {"validation": [0.1, 0.2]}, "one space"),
        ([word(255)], {"validation": [0.1]}, "above 254"),
        ([word(256)], {"validation": [0.1]}, "above 254"),
        ([word(0)], {"validation": [91.2]}, "fractions of 1"),
        ([word(0)], {"validation": [-0.1]}, "expected 0 to 1"),
        ([word(0)], {"validation": [float("inf")]}, "expected 0 to 1"),
        ([word(0)], {"validation": [0.1], "seconds": [-1]}, "seconds of row 0 is -1"),
        ([word(0)], {"test": [0.1]}, "expected validation"),
        ([word(0)], {"validation": [0.1], "flops": [1]}, "expected validation"),
        ([word(0)], {"validation": [0.1, 0.2]}, "has shape"),
    ],
)
def test_what_cannot_be_a_table_is_refused(archs: list[Arch], values: dict[str, Any], words: str) -> None:
    with pytest.raises(TableError, match=words):
        make_table(archs, values)


def test_a_table_without_values_at_its_last_fidelity_has_no_best() -> None:
    values = np.array([[[0.5, 0.6]], [[NAN, NAN]]])
    assert np.isnan(make_table([word(0), word(1)], {"validation": values}, fidelities=TWO).best_validation)
    with pytest.raises(TableError, match="equal names"):
        make_table([word(0), word(1)], {"validation": values}, fidelities=TWO[:1] * 2)
    with pytest.raises(TableError, match="column 'n' has shape"):
        make_table([word(0)], {"validation": [0.5]}, columns={"n": [1, 2]})
    with pytest.raises(TableError, match="2 fingerprints for 1"):
        make_table([word(0)], {"validation": [0.5]}, fingerprints=["a", "b"])


def test_every_key_is_found_in_an_index_and_no_other() -> None:
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, 4, (5000, 9)).astype(np.uint8), axis=0)
    rng.shuffle(keys)
    slots = build_index(keys)
    index = ByteIndex(keys, slots)
    assert [index.find(key.tobytes()) for key in keys] == list(range(len(keys)))
    assert all(index.find(bytes([5, *key[1:]])) == -1 for key in keys[:500])
    assert (slots != EMPTY).sum() == len(keys)


def test_repeated_keys_share_the_first_row() -> None:
    keys = np.array([[1, 1], [2, 2], [1, 1]], np.uint8)
    assert ByteIndex(keys, build_index(keys)).find(b"\1\1") == 0


def test_a_damaged_index_neither_loops_nor_leaves_the_table() -> None:
    keys = np.array([[1], [2]], np.uint8)
    full = np.ones(8, np.uint32)  # every slot says row 1, none is empty
    assert ByteIndex(keys, full).find(b"\1") == -1
    assert ByteIndex(keys, np.full(8, 77, np.uint32)).find(b"\1") == -1


# ---------------------------------------------------------------- damaged and hostile files


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Writes the file again with a changed header whose checksum is right."""
    data = path.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[ALIGN : ALIGN + length])
    changed = change(header)
    text = changed if isinstance(changed, bytes) else json.dumps(changed or header).encode()
    start, new = (-(-(ALIGN + size) // ALIGN) * ALIGN for size in (length, len(text)))
    front = (data[:8] + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest()).ljust(
        ALIGN, b"\0"
    ) + text
    path.write_bytes(front.ljust(new, b"\0") + data[start:])


@pytest.fixture
def file(table: Table, tmp_path: Path) -> Path:
    table.write(tmp_path / "words.table")
    return tmp_path / "words.table"


def test_any_truncation_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for length in [*range(130), *range(130, len(data), 97), len(data) - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(TableError, match=r"words\.table is not a whole table file"):
            Table.open(file)
    file.write_bytes(data + b"\0")
    with pytest.raises(TableError, match="its header says"):
        Table.open(file)


def test_any_changed_byte_of_the_header_is_refused(file: Path) -> None:
    data = file.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    for position in [*range(48), *range(ALIGN, ALIGN + length, 41)]:
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(TableError):
            Table.open(file)


def test_a_changed_value_is_found_by_verifying(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert len(Table.open(file)) == 3
    with pytest.raises(TableError, match="SHA-256"):
        verify_table_file(file)


def _put(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header: b"{" * 100_000,
        lambda header: b"[]",
        lambda header: b"\xff\xfe",
        _put("format", value="other"),
        _put("version", value=2),
        _put("name", value=3),
        _put("arrays", value=[]),
        _put("arrays", "choices", value=None),
        _put("arrays", "choices", "dtype", value="|O"),
        _put("arrays", "choices", "shape", value=[2**40, 2**40]),
        _put("arrays", "choices", "shape", value=[3, -2]),
        _put("arrays", "choices", "shape", value=[3, True]),
        _put("arrays", "choices", "shape", value=[3] * 40),
        _put("arrays", "choices", "shape", value=[1, 6]),
        _put("arrays", "choices", "offset", value=-64),
        _put("arrays", "choices", "offset", value=1),
        _put("arrays", "choices", "offset", value=2**62),
        _put("arrays", "index", "shape", value=[3]),
        _put("arrays", "index", "shape", value=[2]),
        _put("arrays", "value/extra", value={"dtype": "|u1", "shape": [1], "offset": 0}),
        _put("size", value=-5),
        _put("size", value="many"),
        _put("splits", value=["test"]),
        _put("splits", value=["validation", "validation"]),
        _put("splits", value=["validation", ["test"]]),
        _put("fidelities", value=[]),
        _put("fidelities", value=[{"name": 3}]),
        _put("fidelities", value=[{"name": "a", "epochs": "x"}, {"name": "b"}]),
        _put("runs", value=1),
        _put("runs", value=0),
        _put("columns", value={"other": ""}),
    ],
)
def test_a_hostile_header_gives_one_error(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite(file, change)
    with pytest.raises(TableError, match=r"words\.table"):
        Table.open(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.table").write_text("accuracy,arch\n" * 50)
    with pytest.raises(TableError, match="it begins with b'accuracy'"):
        Table.open(tmp_path / "text.table")
    with pytest.raises(TableError, match="cannot be read"):
        Table.open(tmp_path / "missing.table")
    with pytest.raises(TableError, match="cannot be read"):
        Table.open(tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot be written"):
        write_table_file(tmp_path / "file" / "x.table", {}, {"a": np.zeros(3, np.uint8)})
    with pytest.raises(TableError, match="dtype"):
        write_table_file(tmp_path / "x.table", {}, {"a": np.zeros(3, np.int16)})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
