"""What the folders above images mean: classes, splits, one level too many, or what systems and tools leave behind.

Nothing is taken for granted from a name alone: a folder `test_tube` with images is a class, `seg_test` with the subfolders of
`seg_train` is a split. What can be read in two ways is not guessed: the error says what was seen and what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from archduel.data.dataset import SPLITS
from archduel.data.decode import SUFFIXES
from archduel.errors import DataError
from archduel.text import composed

__all__ = ["SPLIT_NAMES", "Layout", "below", "entries", "image_count", "is_folder", "is_image", "layout_of", "left_behind", "some", "split_of", "unwrapped"]

SPLIT_NAMES = {
    "train": 0, "training": 0, "trainval": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2,
}  # fmt: skip
_NOUNS = "set|data|dataset|images|image|imgs|img|split|folder|dir|files"
_SPLIT_WORD = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?:{_NOUNS})?")

# What file servers (Synology, QNAP, NetApp), systems (Windows, macOS, Linux) and tools put beside or between images.
_LEFT_FOLDERS = re.compile(
    r"""__macosx | @eadir | \#?@?recycle | \#?@?recycle[_-]?bin | @recently-snapshot | [\#~]snapshot | @(?:tmp|sharebin|transcode|syno.*|__thumb)
    | \$recycle\.bin | recycler | recycled | system\ volume\ information | found\.\d{3} | config\.msi | \$.*\.~bt
    | lost\+found | network\ trash\ folder | temporary\ items | trash(?:es|-\d+)? | __pycache__ | node_modules | cvs | _?thumbnails? | _gsdata_
    | _vti_\w+ | picasaoriginals | .*\.lrdata | .*\.(?:photoslibrary|aplibrary) | \#sync | _svn""",
    re.VERBOSE,
)
_LEFT_FILES = re.compile(
    r"(?:eh)?thumbs(?:_\w+)?\.db(?::.*)?|desktop\.ini|icon\r|albumart(?:small|_\{.*\}_\w+)\.jpg|zbthumbnail\.info|synophoto_thumb_\w+\.jpg"
)
MOST_COUNTED = 100_000  # images counted in what is left out; more are not worth the walk


def split_of(name: str) -> int | None:
    """Returns the split (0 train, 1 validation, 2 test) that a name speaks of, or None: ``train2017``, ``Test_set``, ``01_val``."""
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    found = {SPLIT_NAMES[match[1]] for word in words if (match := _SPLIT_WORD.fullmatch(word))}
    return found.pop() if len(found) == 1 else None


def left_behind(name: str, *, folder: bool = True) -> bool:
    """Returns whether a file or folder of this name is no data: hidden, or left by a system, a file server or a tool."""
    return name.startswith(".") or bool((_LEFT_FOLDERS if folder else _LEFT_FILES).fullmatch(name.lower()))


def is_image(name: str) -> bool:
    """Returns whether a file is an image by its ending."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a folder; one that cannot be looked at (a link to itself) is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def entries(folder: str, left: list[str] | None = None) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder in order, without what was left behind, the paths of which go into ``left``.

    Raises:
        DataError: if it cannot be listed.
    """
    found = []
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                if not left_behind(entry.name, folder=is_folder(entry)):
                    found.append(entry)
                elif left is not None and not entry.name.startswith("._"):  # those are no images: what macOS knows of a file
                    left.append(entry.path)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)


def image_count(path: str) -> int:
    """Returns how many images a file or folder that was left out holds, up to a bound."""
    if not os.path.isdir(path) or os.path.islink(path):
        return int(is_image(path))
    n = 0
    for _, _, files in os.walk(path):
        n += sum(map(is_image, files))
        if n > MOST_COUNTED:
            break
    return n


def some(names: list[str], n: int = 5) -> str:
    """Returns the first names for a message, and how many more there are."""
    return ", ".join(repr(name) for name in names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


# -- What lies directly in a folder, looked at no further than needed ----------------------------------------------------


@dataclass(frozen=True)
class _Child:
    """A folder below the root: whether it holds images itself, else its folders."""

    path: Path
    images: bool
    folders: tuple[str, ...] = ()

    @property
    def split(self) -> int | None:
        return split_of(self.path.name)


def _peek(path: Path) -> _Child:
    """Returns what a folder holds; ends at its first image, since class folders may have many."""
    folders = []
    try:
        with os.scandir(path) as listed:
            for entry in listed:
                inside = is_folder(entry)
                if left_behind(entry.name, folder=inside):
                    continue
                if not inside and is_image(entry.name):
                    return _Child(path, True)
                if inside:
                    folders.append(entry.name)
    except OSError as error:
        raise DataError(f"the folder {path} cannot be listed: {error.strerror}") from error
    return _Child(path, False, tuple(sorted(folders)))


def _holds_images(path: Path, seen: frozenset[str] = frozenset()) -> bool:
    """Returns whether there is an image anywhere below a folder; links may form a circle."""
    here, real = _peek(path), os.path.realpath(path)
    return here.images or (real not in seen and any(_holds_images(path / name, seen | {real}) for name in here.folders))


def unwrapped(folder: Path) -> Path:
    """Returns the folder below ``folder`` that holds the class folders: one that only wraps another is passed."""
    while True:
        here = _peek(folder)
        full = (folder / name for name in here.folders if _holds_images(folder / name))
        inside = list(islice(full, 2))
        if here.images or len(inside) != 1:
            return folder
        below = _peek(inside[0])
        if below.images or (len(below.folders) == 1 and _peek(below.path / below.folders[0]).images):
            return folder  # a single class
        folder = inside[0]


# -- Splits or classes? --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What the folders below a root are.

    Attributes:
        splits: split -> its folder; empty where the folders are classes.
        notes: what a person should know about how names were read.
    """

    splits: dict[int, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def layout_of(root: Path, *, as_classes: bool = False) -> Layout:
    """Returns whether the folders below ``root`` are splits, and which, or classes.

    Args:
        root: the folder.
        as_classes: where the folders could be splits under other names, take them for classes.

    Raises:
        DataError: where the structure can be read in two ways, or the classes lie further below.
    """
    children = [_peek(Path(entry.path)) for entry in entries(str(root)) if is_folder(entry)]
    loose = any(is_image(entry.name) and not is_folder(entry) for entry in entries(str(root)))
    found = _splits(root, children)
    if found is not None:
        return found
    if not as_classes and not loose:
        _refuse_unclear(root, [child for child in children if child.images or _holds_images(child.path)])
    return Layout()


def _alike(children: list[_Child]) -> list[str]:
    """Returns the folders that all children have (two or more of them, most of each child's), else none."""
    shared = set.intersection(*({composed(name) for name in child.folders} for child in children)) if children else set()
    return sorted(shared) if len(shared) > 1 and all(len(shared) * 2 >= len(child.folders) for child in children) else []


def _splits(root: Path, children: list[_Child]) -> Layout | None:
    """Returns the splits where there are some for sure: `train` with class folders, or words for splits with the same class folders."""
    named = {code: [child for child in children if child.split == code] for code in range(3)}
    train = [child for child in named[0] if child.folders]
    if not train:
        return None
    if not any(child.path.name.lower() in SPLIT_NAMES for child in train):
        classes = [child for child in children if child.images and child.split is None]
        others = [child for code in (1, 2) for child in named[code] if child.folders]
        alike = any(_same_classes(train[0], other) for other in others)
        if (others or classes) and not alike:
            return None  # train_station/{day,night} beside test_tube/{full,empty} or bus/: words by chance
    found: dict[int, Path] = {}
    notes = []
    for code in range(3):
        usable = [child for child in named[code] if code or child.folders]
        usable = [child for child in usable if child.path.name.lower() in SPLIT_NAMES] or usable
        if len(usable) > 1:
            raise DataError(f"{usable[0].path} and {usable[1].path} both look like the {SPLITS[code]} split; keep one")
        for child in usable:
            found[code] = unwrapped(child.path)
            if child.path.name.lower() not in SPLIT_NAMES:
                notes.append(f"the folder {child.path.name!r} is taken for the {SPLITS[code]} split")
    return Layout(found, tuple(notes))


def _same_classes(first: _Child, second: _Child) -> bool:
    """Returns whether two splits hold the same class folders, whatever wraps them."""
    one, two = (_peek(unwrapped(child.path)) for child in (first, second))
    return bool(_alike([one, two])) or (bool(one.folders) and set(one.folders) == set(two.folders))


def _refuse_unclear(root: Path, children: list[_Child]) -> None:
    """Raises where folders are splits without train, flat splits, splits or sources under other names, or only wrap the classes."""
    words = [child for child in children if child.split is not None]
    hint = f"; if they are classes, say `imagefolder:{root}`"
    listed = some([child.path.name for child in children])
    if len(words) > 1 and len(words) == len(children) and len({child.split for child in words}) > 1:
        what = "and none of them is for training" if 0 not in {child.split for child in words} else "with different class folders"
        what = "without class folders in them" if any(child.images for child in words) else what
        raise DataError(f"{root} holds {listed}, which look like splits {what}; expected train/CLASS/..., val/CLASS/..., test/CLASS/...{hint}")
    if len(words) == 1 and words[0].folders and len(children) > 1:
        others = {child.path.name for child in children if child is not words[0]}
        if others & set(words[0].folders):
            raise DataError(
                f"{root} holds {listed}, and {words[0].path.name!r} has such folders, too: it looks like a split beside classes; put "
                f"the others into {root / 'train'}{hint}"
            )
    if len(children) == 1 and not children[0].images and (inner := unwrapped(root)) != root:
        raise DataError(f"{root} holds its images in one folder, {children[0].path.name!r}; did you mean {inner}?")
    if len(children) > 1 and not any(child.images for child in children) and (shared := _alike(children)):
        if all(split_of(name) is not None for name in shared):
            raise DataError(
                f"{root} holds {listed}, each with {some(shared)}; if those are splits of each class, turn it round: train/CLASS/..., "
                f"test/CLASS/...; if each is a set of its own, give one of them{hint}"
            )
        raise DataError(
            f"{root} holds {listed}, which have no images themselves but the same folders ({some(shared)}): are they splits or sources of "
            f"one set? Call them train, val and test, or join them{hint}"
        )


def below(folder: Path) -> Iterator[Path]:
    """Yields the images below a folder in order, without what was left behind."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not left_behind(name))
        for name in sorted(files):
            if is_image(name) and not left_behind(name, folder=False):
                yield Path(place, name)
