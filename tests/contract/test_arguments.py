"""Every public entry answers to odd objects with an ArchduelError of one printable line, or with the right result."""

from __future__ import annotations

import datetime
import decimal
import fractions
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archduel
from archduel.commands.network.compare import compare
from archduel.commands.options import parse_count, parse_seconds, plain_value
from archduel.commands.search.settings import Settings, make_settings
from archduel.data import Dataset, load
from archduel.errors import ArchduelError, DataError, SettingError, UnknownNameError
from archduel.tables import open_table

X = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)
Y = np.arange(60) % 2


class Items:
    """A dataset whose items, length or attributes are what a test wants."""

    def __init__(self, item: Callable[[int], Any], n: int = 60, **attributes: Any) -> None:
        self.item, self.n = item, n
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> Any:
        if number >= self.n:
            raise IndexError(number)
        return self.item(number)


class Silent:
    """An object whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__


class Touchy:
    """An object that fails at every attribute."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


ODD = [
    None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), 1j, "", "x", "\0", "a\nb", "\udce9", "x" * 5000, b"x", bytearray(b"x"), [], [[]],
    [1, 2, 3], [[1], [2, 3]], (), (1, 2), {}, {"a": 1}, {1: 2}, {1}, range(3), iter([1]), object(), int, len, Ellipsis, np.int64(5), np.float32(0.5),
    np.array([]), np.zeros((2, 2)), np.array([None], object), torch.tensor([]), torch.zeros(2, 3), decimal.Decimal("1.5"), fractions.Fraction(1, 3),
    datetime.timedelta(seconds=5), Path("nothing"), Exception("e"), Items(lambda i: None), Items(lambda i: i / 0), Items(lambda i: i, n=-3), Silent(),
    Touchy(), memoryview(b"x"), sys, slice(1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def throw(entry: Callable[[Any], Any]) -> int:
    """Calls ``entry`` with every odd object; returns how many it took."""
    messages = []
    for odd in ODD:
        try:
            entry(odd)
        except ArchduelError as error:
            messages.append(str(error))
    assert all(message.replace("\n", "").isprintable() for message in messages), messages
    return len(ODD) - len(messages)


DATA: Mapping[str, Callable[[Any], Any]] = {
    "data": load,
    "images": lambda odd: load((odd, Y)),
    "labels": lambda odd: load((X, odd)),
    "items": lambda odd: load(Items(lambda i: odd)),
    "images of items": lambda odd: load(Items(lambda i: (odd, i % 2))),
    "labels of items": lambda odd: load(Items(lambda i: (X[i], odd))),
    "remember": archduel.data.remember if hasattr(archduel, "data") else load,
}


@pytest.mark.parametrize("entry", DATA.values(), ids=DATA.keys())
def test_no_odd_object_is_data(entry: Callable[[Any], Any]) -> None:
    assert throw(entry) == 0


@pytest.mark.parametrize("name", ["image_size", "seed", "max_images", "cache", "rule", "mode", "flip", "validation", "test", "seconds", "workers"])
def test_odd_settings_of_loading(name: str) -> None:
    throw(lambda odd: load((X, Y), **{name: odd}))


def test_attributes_of_a_dataset_are_looked_at_and_never_end_the_loading() -> None:
    for odd in ODD[1::3]:
        assert load(Items(lambda i: (X[i], i % 2), targets=odd)).n_classes == 2
        assert load(Items(lambda i: (X[i], i % 2), classes=odd)).classes == ("0", "1")


@pytest.mark.parametrize("name", sorted({*Settings.model_fields, "nonsense"}))
def test_odd_settings_of_a_search(name: str) -> None:
    throw(lambda odd: make_settings(**{"data": "digits", "evaluations": 4, name: odd}))


@pytest.mark.parametrize("name", ["out", "time", "audit", "max_params"])
def test_odd_arguments_of_a_search(name: str) -> None:
    given = {"evaluations": 4, "quiet": True, "out": "run"}
    assert throw(lambda odd: archduel.search("no/such", **{**given, name: odd})) == 0


@pytest.mark.parametrize("name", ["arch", "data", "out", "recipe", "changes", "space", "start", "seed", "device", "max_images", "accumulate", "workers"])
def test_odd_arguments_of_a_training(name: str) -> None:
    given = {"arch": "nasbench201:1.0.4.2.2.3", "data": "no/such", "out": "run", "quiet": True}
    assert throw(lambda odd: archduel.train(**{**given, name: odd})) == 0


OTHERS: Mapping[str, Callable[[Any], Any]] = {
    "load_network": archduel.load_network,
    "evaluate": archduel.evaluate,
    "compare": lambda odd: compare(odd, odd),
    "open_table": open_table,
    "parse": archduel.parse,
    "strategy": lambda odd: archduel.make_strategy(odd, None, seed=0),
}


@pytest.mark.parametrize("entry", OTHERS.values(), ids=OTHERS.keys())
def test_odd_arguments_of_other_entries(entry: Callable[[Any], Any]) -> None:
    assert throw(entry) == 0


def test_numbers_and_durations_of_other_libraries_are_taken() -> None:
    assert parse_seconds(datetime.timedelta(minutes=2)) == parse_seconds("2m") == parse_seconds(np.float32(120)) == 120
    assert parse_count(np.int64(5)) == parse_count(torch.tensor(5)) == 5
    made = make_settings(
        data=Path("x"), seconds=np.float64(60), max_params=np.int32(7), seed=torch.tensor(3), set={"final.epochs": np.int64(5), "race.x": (1, np.float32(0.5))}
    )
    assert (made.data, made.seconds, made.max_params, made.seed) == ("x", 60.0, 7, 3)
    assert made.set == {"final.epochs": 5, "race.x": [1, 0.5]}
    assert plain_value({"a": decimal.Decimal("1.5")}) == {"a": 1.5}
    data = load((X, Y), image_size=np.int64(12), seed=np.uint8(1), max_images=torch.tensor(40), validation=np.float32(0.25))
    assert (data.image_size, len(data.train) + len(data.validation) + len(data.test)) == (12, 40)
    for infinite in (float("inf"), np.float64("nan"), 1e300, "9" * 99):
        with pytest.raises(SettingError):
            parse_seconds(infinite)
        with pytest.raises(SettingError):
            parse_count(infinite)


@pytest.mark.parametrize("name", [":B", "./my.py:B", ":", "a.b:C:D", "x"])
def test_plug_ins_that_are_no_modules(name: str) -> None:
    with pytest.raises(UnknownNameError):
        archduel.make_strategy(name, None, seed=0)  # type: ignore[arg-type]


# -- Forms of data that are taken --------------------------------------------------------------------------------------


def known(data: Dataset) -> set[bytes]:
    return {image.tobytes() for split in (data.train, data.validation, data.test) for image in split.images}


PIXELS = {image.transpose(2, 0, 1).tobytes() for image in X}
WORDS = np.array(["cat", "dog"])[Y]


class Table(Items):
    """A data set of columns, as Hugging Face's."""

    column_names = ("image", "label")

    class features(dict):
        """Facts of columns."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(lambda i: {"image": X[i], "label": int(Y[i])})
        self.features = {"label": type("ClassLabel", (), {"names": names})()}  # type: ignore[assignment]

    def __getitem__(self, number: Any) -> Any:
        return Y.tolist() if number == "label" else super().__getitem__(number)


TAKEN: Mapping[str, Any] = {
    "text labels": (X, WORDS),
    "object labels": (X, WORDS.astype(object)),
    "bytes": (X, np.char.encode(WORDS)),
    "one-hot": (X, np.eye(2)[Y]),
    "column": (X, Y[:, None]),
    "tensors": (torch.from_numpy(X), torch.from_numpy(Y)),
    "bfloat16": (torch.from_numpy(X.astype(np.float32)).bfloat16(), Y),
    "sparse": (torch.from_numpy(X.astype(np.float32)).to_sparse(), Y),
    "lists": (list(X), Y.tolist()),
    "items with text": Items(lambda i: (X[i], WORDS[i])),
    "items with one-hot": Items(lambda i: (X[i], np.eye(2)[Y[i]])),
    "items with tensors": Items(lambda i: (torch.from_numpy(X[i]), torch.tensor(Y[i]))),
    "mappings": Items(lambda i: {"image": X[i], "label": Y[i]}),
    "columns": Table(["cat", "dog"]),
    "named arrays": {"images": X, "labels": Y},
    "a list of pairs": [(X[i], int(Y[i])) for i in range(60)],
}


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN.keys())
def test_forms_of_data(data: Any) -> None:
    found = load(data)
    assert known(found) == PIXELS
    names = found.classes == ("cat", "dog")
    assert names or found.classes == ("0", "1")
    for split in (found.train, found.validation, found.test):
        rows = [next(i for i in range(60) if X[i].transpose(2, 0, 1).tobytes() == image.tobytes()) for image in split.images[:3]]
        assert split.labels[:3].tolist() == Y[rows].tolist()


@pytest.mark.parametrize(
    "data",
    [
        ((X[:40], Y[:40]), (X[40:], Y[40:])),
        {"train": (X[:40], Y[:40]), "test": (X[40:], Y[40:])},
        {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:], "y_test": Y[40:]},
        (Items(lambda i: (X[i], Y[i]), n=40), Items(lambda i: (X[40 + i], Y[40 + i]), n=20)),
        {"train": Items(lambda i: (X[i], Y[i]), n=40), "test": Items(lambda i: (X[40 + i], Y[40 + i]), n=20)},
    ],
    ids=["pairs", "mapping of pairs", "names", "objects", "mapping of objects"],
)
def test_train_and_test_are_taken_as_splits(data: Any) -> None:
    found = load(data)
    assert (len(found.test), found.facts["splits"]["test"]) == (20, "given")
    assert {image.tobytes() for image in found.test.images} == {image.transpose(2, 0, 1).tobytes() for image in X[40:]}


def test_images_of_different_sizes_in_a_list() -> None:
    images = [X[i][: 4 + i % 3] for i in range(60)]
    assert load((images, Y)).image_size >= 4
    with pytest.raises(DataError, match="one label an image"):
        load((images, Y[:-1]))


def test_labels_of_items_count_not_those_that_a_dataset_says_it_has() -> None:
    data = load(Items(lambda i: (X[i], Y[i]), targets=[i % 4 for i in range(60)], classes=["cat", "dog", "car", "bus"]))
    assert data.classes == ("0", "1")
    assert any("not those in `targets`" in warning for warning in data.warnings)
    assert load(Items(lambda i: (X[i], Y[i]), targets=Y.tolist(), classes=["cat", "dog"])).classes == ("cat", "dog")


@pytest.mark.parametrize("what", ["image", "label"])
def test_items_that_change_are_refused(what: str) -> None:
    rng = np.random.default_rng(0)

    def item(number: int) -> Any:
        flipped = rng.random() < 0.5
        return (X[number][:, ::-1] if flipped and what == "image" else X[number]), Y[number] ^ (flipped and what == "label")

    with pytest.raises(DataError, match="each time it is read"):
        load(Items(item))


def test_two_broken_items_are_left_out_and_more_are_an_error() -> None:
    data = load(Items(lambda i: (X[i], Y[i]) if i not in (3, 17) else None))
    assert sum(data.facts["n_images"].values()) == 58
    assert any("2 of 60 items cannot be read" in warning for warning in data.warnings)
    with pytest.raises(DataError, match="item 3 of Items cannot be read"):
        load(Items(lambda i: (X[i], Y[i]) if i % 9 != 3 else None))
