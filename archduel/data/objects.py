"""Images from objects in a program: datasets with ``len()`` and items, lists of images, splits in pairs and mappings.

What such an object says of itself (``targets``, ``classes``) is compared with its items: attributes are often left over from before
labels were merged or images chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.arrays import as_image, decided, from_arrays, plain
from archduel.data.dataset import PARTS, SPLITS, Source, label_codes
from archduel.data.levels import spread_of
from archduel.errors import DataError

__all__ = ["IMAGES", "LABELS", "from_dataset", "from_mapping", "from_parts", "is_dataset", "is_parts", "lost_items", "zipped"]

LOOKED_AT = 50  # items read twice before anything else
IMAGES = ("image", "img", "images", "pixel_values", "pixels", "x")
LABELS = ("label", "labels", "fine_label", "target", "targets", "class", "y")
Item = tuple[Any, Any]


def lost_items(n: int) -> int:
    """Returns how many of ``n`` images may be unreadable: one in a hundred, and two of a small set."""
    return max(2, n // 100)


# -- One item: (image, label) or a mapping of the usual names; a label as a number or a text ----------------------------


def _pair(item: Any, name: str) -> Item:
    """Returns image and label of an item."""
    if isinstance(item, Mapping):
        image, label = (next((key for key in keys if key in item), None) for keys in (IMAGES, LABELS))
        if image is not None and label is not None:
            return item[image], item[label]
        raise DataError(f"the items of {name} have {', '.join(map(str, list(item)[:6]))}; expected 'image' and 'label', or (image, label)")
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(f"the items of {name} must be (image, label), got {type(item).__name__}")
    return item[0], item[1]


def _label(value: Any) -> int | str:
    """Returns a label as a whole number or a text; of a vector with a single 1, its place."""
    if isinstance(value, (str, bytes)):
        return value if isinstance(value, str) else value.decode("utf-8", "replace")
    array = plain(value)
    if array.ndim == 1 and array.size > 1 and array.dtype.kind in "fiub" and array.sum() == 1 and set(array.tolist()) <= {0, 1}:
        return int(array.argmax())
    if array.size != 1 or array.dtype.kind not in "iubfU":
        raise DataError(f"a label must be a whole number or a text, got {str(value)[:60]!r}")
    only = array.reshape(-1)[0].item()
    if isinstance(only, float) and only != round(only):
        raise DataError(f"a label must be a whole number or a text, got {only}")
    return only if isinstance(only, str) else int(only)


def _as_array(image: Any) -> NDArray[Any]:
    return np.asarray(image) if isinstance(image, Image.Image) else plain(image)


def _same(first: Item, second: Item) -> bool:
    one, two = _as_array(first[0]), _as_array(second[0])
    equal = one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    return bool(equal) and _label(first[1]) == _label(second[1])


# -- A whole object ------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads items of a dataset one at a time (such objects are seldom made for threads); keeps what went wrong."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name, self._lock = dataset, name, Lock()
        self.lost: dict[int, str] = {}
        try:
            self.n = len(dataset)
        except Exception as error:  # code of others
            raise DataError(f"len() of {name} fails: {type(error).__name__}: {error}"[:300]) from error
        if not self.n:
            raise DataError(f"{name} is empty")

    def item(self, number: int) -> Item:
        """Returns one item; raises whatever the dataset raises."""
        with self._lock:
            return _pair(self.dataset[number], self.name)

    def checked(self, number: int) -> Item | None:
        """Returns one item, or None where it cannot be read; DataError where too many cannot."""
        try:
            image, label = self.item(number)
            return image, _label(label)
        except Exception as error:  # code of others
            self.lost[number] = f"{type(error).__name__}: {error}"[:200]
            if len(self.lost) > min(lost_items(self.n), self.n - 1):
                first = min(self.lost)
                raise DataError(f"item {first} of {self.name} cannot be read: {self.lost[first]}") from error
            return None


def _sample(reader: _Reader) -> dict[int, Item]:
    """Returns items evenly spread over a dataset.

    Raises:
        DataError: if they are others when they are read again.
    """
    found = {}
    for number in range(0, reader.n, max(1, reader.n // LOOKED_AT)):
        item = reader.checked(number)
        if item is None:
            continue
        if not _same(item, reader.item(number)):
            raise DataError(
                f"item {number} of {reader.name} is another one each time it is read; give the data set without random transforms "
                "and shuffling: archduel varies training images itself, and validation and test images must stay as they are"
            )
        found[number] = item
    return found


def _targets(dataset: Any, n: int) -> Sequence[Any] | None:
    """Returns the labels that a dataset says it has, or None."""
    try:
        if getattr(dataset, "target_transform", None) is not None:
            return None
        said = getattr(dataset, "targets", None)
        if said is None and hasattr(dataset, "column_names"):  # a table of columns: labels without decoding images
            said = next((dataset[key] for key in LABELS if key in dataset.column_names), None)
        return said if said is not None and len(said) == n else None
    except Exception:  # an attribute that cannot be used is none
        return None


def _class_names(dataset: Any) -> list[str] | None:
    """Returns the class names that a dataset says it has, or None."""
    names = getattr(dataset, "classes", None)
    if names is None:
        features = getattr(dataset, "features", None)
        names = next((getattr(features[key], "names", None) for key in LABELS if key in features), None) if isinstance(features, Mapping) else None
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        return None
    return list(names) if len(set(names)) == len(names) else None


def _labels(dataset: Any, reader: _Reader, sample: Mapping[int, Item]) -> tuple[list[int], list[Any], list[str] | None, list[str]]:
    """Returns numbers of the items, their labels, class names and warnings; what items say counts."""
    targets, names = _targets(dataset, reader.n), _class_names(dataset)
    told: list[str] = []
    if targets is not None:
        try:
            said = [_label(value) for value in targets]
            wrong = next((number for number, (_, label) in sample.items() if said[number] != label), None)
        except Exception:  # no labels, or an object of others that fails
            wrong, said = next(iter(sample), 0), []
        if wrong is None:
            return list(range(reader.n)), said, names, told
        what = f"item {wrong} is {sample[wrong][1]!r}, `targets` says {said[wrong]!r}" if said else "they are no labels"
        told.append(f"the labels of the items are not those in `targets` ({what}): the items' are used, and no names from `classes`")
        names = None
    kept, labels = [], []
    for number in range(reader.n):
        item = sample.get(number) or reader.checked(number)
        if item is not None:
            kept.append(number)
            labels.append(item[1])
    return kept, labels, names, told


def _decided(sample: Mapping[int, Item]) -> tuple[Any, list[str]]:
    """Returns the range of numbers of a dataset's arrays, and warnings."""
    arrays = [plain(image) for image, _ in sample.values() if not isinstance(image, Image.Image)]
    kinds = {array.dtype for array in arrays}
    deep = [kind for kind in kinds if kind != np.uint8 and kind.kind in "iuf"]
    if not deep:
        return None, []
    if len(kinds) > 1:
        raise DataError(f"the images are arrays of several types ({', '.join(sorted(map(str, kinds)))}); give all in one")
    return decided(spread_of(arrays), deep[0])


def from_dataset(dataset: Any, *, name: str = "dataset", given: NDArray[np.int8] | None = None) -> Source:
    """Returns the source for an object with ``len()`` whose items are (image, label) or mappings with such entries.

    The image is PIL, an array or a tensor; the label a whole number, a text or a vector with a single 1. ``targets`` is used
    where the items bear it out, else every item is read once more.

    Args:
        dataset: the object.
        name: for messages.
        given: (N,) int8, the split of each; None = splits are made.

    Raises:
        DataError: for items of another form, items that change from reading to reading, or many that cannot be read.
    """
    reader = _Reader(dataset, name)
    if (error := _first(reader)) is not None:
        raise error
    sample = _sample(reader)
    kept, labels, names, told = _labels(dataset, reader, sample)
    codes, classes = label_codes(labels, names)
    taken, more = _decided(sample)
    split = np.zeros(len(kept), np.int8) if given is None else given[kept]
    if reader.lost:
        first = min(reader.lost)
        more.append(f"{len(reader.lost)} of {reader.n} items cannot be read and are left out, such as item {first} ({reader.lost[first]})")

    def read(number: int) -> Image.Image:
        value = reader.item(kept[number])[0]
        if isinstance(value, Image.Image):
            return value.copy()  # the caller closes what it gets
        return as_image(value, value_range=taken, tensor=hasattr(value, "detach"))

    return Source(name, codes, classes, read, None, split, resident=True, warnings=(*told, *more), value_range=taken)


def _first(reader: _Reader) -> DataError | None:
    """Returns the error for an object whose first item has another form, which is nothing to leave out."""
    try:
        reader.item(0)
    except DataError as error:
        return error
    except Exception:  # a broken item: counted with the others
        return None
    return None


# -- Several parts: splits one by one ------------------------------------------------------------------------------------


class _Joined:
    """Several datasets one after the other."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts]).tolist()
        said = [_targets(part, len(part)) for part in parts]
        self.targets = [label for part in said for label in part] if all(part is not None for part in said) else None  # type: ignore[union-attr]
        self.classes = _class_names(parts[0])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> Any:
        part = int(np.searchsorted(self.ends, number, side="right"))
        return self.parts[part][number - (self.ends[part - 1] if part else 0)]


class _Zipped:
    """A list of images and a list of labels as a dataset: the images may differ in size."""

    def __init__(self, images: Sequence[Any], labels: Any) -> None:
        self.images, self.labels = images, labels if isinstance(labels, (list, tuple)) else plain(labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        return self.images[number], self.labels[number]


def is_dataset(value: Any) -> bool:
    """Returns whether a value is an object with ``len()`` and items, neither an array nor a list, a text or a mapping."""
    plain_kinds = (str, bytes, list, tuple, Mapping)
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not hasattr(value, "shape") and not isinstance(value, plain_kinds)


def _is_pair(value: Any) -> bool:
    """Returns whether a value is (images, labels): images of at least two axes, as many labels."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    try:
        return len(value[0]) == len(value[1]) and len(value[0]) > 0 and np.ndim(value[0][0]) >= 2 and np.ndim(value[1][0]) <= 1
    except Exception:  # no sizes, or code of others
        return False


def is_parts(value: Any) -> bool:
    """Returns whether a value is two or three splits: pairs of arrays or dataset objects, train first and test last."""
    listed = isinstance(value, (tuple, list)) and len(value) in (2, 3)
    return listed and (all(map(is_dataset, value)) or all(map(_is_pair, value)))


def from_parts(parts: Mapping[int, Any], name: str) -> Source:
    """Returns the source for split code -> pair of arrays or dataset object.

    Raises:
        DataError: for splits of different forms, or none for training.
    """
    if 0 not in parts:
        raise DataError(f"{name} has {', '.join(SPLITS[code] for code in sorted(parts))} but no train")
    values = [parts[code] for code in sorted(parts)]
    if all(map(_is_pair, values)):
        images, labels = ([value[i] for value in values] for i in (0, 1))
        lengths = [len(part) for part in images]
        arrays = [plain(part) if hasattr(part, "shape") else None for part in images]
        if all(array is not None for array in arrays) and len({(array.shape[1:], array.dtype) for array in arrays}) == 1:  # type: ignore[union-attr]
            whole: NDArray[Any] = np.concatenate(arrays)  # type: ignore[arg-type]
            given = np.repeat(np.array(sorted(parts), np.int8), lengths)
            return from_arrays(whole, np.concatenate([plain(part) for part in labels]), name=name, given=given)
        values = [_Zipped(*value) for value in values]
    if not all(is_dataset(value) for value in values):
        kinds = ", ".join(type(value).__name__ for value in values)
        raise DataError(f"the splits of {name} must all be (images, labels) or all dataset objects, got {kinds}")
    joined = _Joined(values)
    lengths = [len(value) for value in values]
    return from_dataset(joined, name=name, given=np.repeat(np.array(sorted(parts), np.int8), lengths))


def from_mapping(data: Mapping[Any, Any], pairs: Callable[[set[str]], list[tuple[str, str, int]]]) -> Source:
    """Returns the source for a mapping: split -> dataset or pair, or names of arrays as in an ``.npz`` file.

    Args:
        data: the mapping.
        pairs: finds (images, labels, split) among names.

    Raises:
        DataError: for other names.
    """
    names = {str(key): value for key, value in data.items()}
    codes = dict(PARTS)
    if names and set(names) <= set(codes):
        return from_parts({codes[key]: value for key, value in names.items()}, "the mapping")
    found = pairs(set(names))
    return from_parts({code: (names[images], names[labels]) for images, labels, code in found}, "the mapping")


def zipped(images: Any, labels: Any) -> Source | None:
    """Returns the source for a list of images of different sizes (or PIL images) and their labels, None for anything else."""
    if not isinstance(images, (list, tuple)) or not images:
        return None
    if not all(isinstance(image, Image.Image) or (hasattr(image, "shape") and len(image.shape) in (2, 3)) for image in images):
        return None
    if len(images) != len(labels):
        raise DataError(f"there are {len(images)} images but {len(labels)} labels; there must be one label an image")
    same = not isinstance(images[0], Image.Image) and len({tuple(image.shape) for image in images}) == 1
    return None if same else from_dataset(_Zipped(images, labels), name="images")
