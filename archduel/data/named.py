"""The menu of data sets, and what a name or a path stands for."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import numpy as np

from archduel.data.archive import is_archive
from archduel.data.arrays import from_arrays
from archduel.data.cifar import FORMS, form_of_folder, from_cifar
from archduel.data.folder import from_folder
from archduel.data.kept import is_kept, open_kept
from archduel.data.npz import from_npz
from archduel.data.source import Source
from archduel.errors import DataError

__all__ = ["NAMES", "check_name", "digits", "locate"]

NAMES = {
    "digits": "1,797 handwritten digits, 10 classes, 8 x 8 grey; embedded (scikit-learn)",
    "cifar10": "60,000 photographs, 10 classes, 32 x 32 colour; original archive, python or binary form",
    "cifar100": "60,000 photographs, 100 classes, 32 x 32 colour; original archive, python or binary form",
    "imagefolder": "imagefolder:PATH or just PATH; one subfolder of pictures a class, also below train/ val/ test/",
    "npz": "PATH.npz; arrays images (N, H, W[, C]) and labels (N,), or x_train, y_train, x_test, y_test",
}


def digits() -> Source:
    """Returns scikit-learn's handwritten digits, their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    names = [str(value) for value in range(10)]
    return from_arrays(pixels, data.target, name="digits", classes=names, flip=False)


def check_name(name: str) -> str:
    """Returns a name under which a set can be kept.

    Raises:
        DataError: for a name that is no plain word or stands for something else.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise DataError(f"a data set needs a plain name of letters, digits, '-', '_' and '.', got {name!r}")
    if name in ("digits", "imagefolder", "npz"):
        raise DataError(f"{name!r} is taken; choose another name")
    return name


def _cifar(name: str, root: Path) -> Source:
    """Returns CIFAR by name: kept before, or from an archive or folder that lies in the download folder."""
    final, place = root / "sets" / name, root / "downloads" / name
    if is_kept(final):
        return open_kept(final, name=name)
    if final.is_dir():
        return from_folder(final, name=name)
    for form in [form for form in FORMS if form.data == name]:
        for path in (place / form.archive, place / form.folder):
            if path.is_file() or (path.is_dir() and form_of_folder(path)):
                return from_cifar(form, path, root / "sets", name=name, final=final)
    addresses = " or ".join(form.url for form in FORMS if form.data == name)
    raise DataError(
        f"{name} is not here; `archduel data fetch {name}` downloads it. Without a network, get {addresses} and put the file into "
        f"{place}, or run `archduel data import {name} FILE`"
    )


def _path(path: Path, text: str, root: Path) -> Source:
    """Returns the pictures at a path."""
    if is_kept(path):
        return open_kept(path, name=text)
    if path.suffix.lower() == ".npz":
        return from_npz(path, root / "converted")
    form = form_of_folder(path) if path.is_dir() else next((f for f in FORMS if f.archive == path.name), None)
    if form is not None and path.exists():
        return from_cifar(form, path, root / "converted", name=text)
    if path.is_file() and is_archive(path):
        raise DataError(
            f"{path} is an archive; `archduel data import NAME {path}` unpacks it safely under a name of your choice"
        )
    return from_folder(path, name=text)


def locate(text: str, root: Path) -> Source:
    """Returns the pictures behind a name of the menu, an imported set or a path (a text with a separator is a path).

    Args:
        text: name or path.
        root: of the cache, where fetched and imported sets are.

    Raises:
        DataError: if there is no such thing.
    """
    if text == "digits":
        return digits()
    if text in ("cifar10", "cifar100"):
        return _cifar(text, root)
    if text.startswith("imagefolder:"):
        return from_folder(Path(text.removeprefix("imagefolder:")).expanduser(), name=text)
    kept = root / "sets" / text.replace(":", "-")
    if re.fullmatch(r"[\w.:-]+", text) and text not in (".", "..") and kept.is_dir():
        files = list(kept.glob("*.npz"))
        return _path(files[0] if files else kept, text, root)
    path = Path(text).expanduser()
    if path.exists() or path.suffix.lower() == ".npz" or "/" in text or "\\" in text:
        return _path(path, text, root)
    near = difflib.get_close_matches(
        text, [name for name in NAMES if name not in ("imagefolder", "npz")], n=1
    )
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(
        f"there is neither a data set nor a path {text!r}; {hint}`archduel data list` shows the data sets"
    )
