"""`archduel data`: what sets there are, what is in one, fetching, importing and clearing; and writing a folder of images."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from archduel.data.arrays import as_image
from archduel.data.cache import cache_root, entry_size, locked, replace_folder
from archduel.data.cache import clear as clear_cache
from archduel.data.cifar import FORMS, Form, form_of_folder, from_cifar
from archduel.data.dataset import SPLITS, Dataset, Source
from archduel.data.decode import SUFFIXES, open_image
from archduel.data.download import checksum, download, is_archive, unpack
from archduel.data.folder import image_files
from archduel.data.layout import is_image, left_behind
from archduel.data.load import NAMES, check_name, load, locate
from archduel.errors import DataError
from archduel.text import printable

__all__ = ["Line", "clear", "describe", "fetch", "import_set", "list_sets", "show", "write_folder"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Line:
    """One line of the list of data sets.

    Attributes:
        name: what `archduel search` takes.
        text: what it is.
        state: ``here``, ``not fetched``, ``imported`` or empty.
    """

    name: str
    text: str
    state: str


def list_sets(*, cache: Path | None = None) -> list[Line]:
    """Returns the named sets, then those imported."""
    sets = cache_root(cache) / "sets"
    states = {name: "here" if (sets / name).is_dir() else "not fetched" for name in ("cifar10", "cifar100")}
    states["digits"] = "here"
    lines = [Line(name, text, states.get(name, "")) for name, text in NAMES.items()]
    for path in sorted(sets.glob("*")) if sets.is_dir() else []:
        if path.is_dir() and path.name not in NAMES and not path.name.startswith(".") and not _unfinished(path):
            name = re.sub("^arrays-", "arrays:", path.name)
            lines.append(Line(name, f"{entry_size(path) / 1e6:.1f} MB in {path}", "imported"))
    return lines


def _unfinished(path: Path) -> bool:
    """Returns whether a folder is what an import of before left when it was killed."""
    return bool(re.fullmatch(r"tmp[a-z0-9_]{8}", path.name)) and {inner.name for inner in path.iterdir()} <= {"set", "raw"}


def show(
    source: Any, *, cache: Path | None = None, progress: Progress | None = None, **settings: Any
) -> Dataset:
    """Returns the data set as a search would see it; `describe` turns it into text."""
    return load(source, cache=cache, progress=progress, **settings)


def describe(dataset: Dataset) -> list[str]:
    """Returns what a person should know about a data set, a line each."""
    facts, sizes = dataset.facts, dataset.facts["sizes"]
    lines = [
        f"{dataset.name}: {dataset.n_classes} classes, {'grey' if dataset.in_channels == 1 else 'colour'}"
    ]
    for name in SPLITS:
        lines.append(f"  {name:<10} {facts['n_images'][name]:>9,} images ({facts['splits'][name]})")
    lines.append(
        f"  found      short side {sizes['smallest_short']} px at least, {sizes['median_short']} px median"
    )
    lines.append(
        f"  used       {dataset.image_size} x {dataset.image_size} px, rule {facts['rule']}: {facts['resolution_reason']}"
    )
    if dataset.preprocessing.value_range is not None:
        black, white = dataset.preprocessing.value_range
        lines.append(f"  values     {black:g} is black, {white:g} is white, in images of more than 8 bits")
    lines.append(f"  mirroring  {'yes' if dataset.flip else 'no'} ({facts['flip_reason']})")
    counts = [(name, sum(parts.values())) for name, parts in facts["per_class"].items()]
    shown = ", ".join(f"{name} {n:,}" for name, n in counts[:12])
    lines.append(f"  classes    {shown}{f' and {len(counts) - 12} more' if len(counts) > 12 else ''}")
    lines += [f"  warning: {warning}" for warning in dataset.warnings]
    lines += [f"  skipped: {name}: {reason}" for name, reason in dataset.skipped.items()]
    return lines


def fetch(name: str, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Downloads a named set from its original public address and checks it; returns its folder.

    Raises:
        DataError: if the name has no address, the network fails (the message says where to put the file) or the SHA-256 differs.
    """
    if name == "digits":
        raise DataError("digits is embedded; there is nothing to fetch")
    form = next((form for form in FORMS if form.data == name), None)  # the binary form: nothing to unpickle
    if form is None:
        raise DataError(f"there is no public address for {name!r}; these can be fetched: cifar10, cifar100")
    root = cache_root(cache)
    archive = download(
        form.url, root / "downloads" / name / form.archive, sha256=form.sha256, progress=progress
    )
    from_cifar(form, archive, root / "sets", name=name, final=root / "sets" / name, verify=False)
    return root / "sets" / name


def import_set(name: str, path: Path, *, cache: Path | None = None, replace: bool = False) -> Source:
    """Takes images from disk into the keeping of archduel under a name; returns them.

    Args:
        name: a plain word; ``cifar10`` and ``cifar100`` take the original archive, packed or unpacked, and check it.
        path: an archive (`.zip`, `.tar`, `.tar.gz` ...) or folder of class folders, an `.npz`, or a CIFAR archive.
        cache: root of the cache.
        replace: remove a set of that name first.

    Raises:
        DataError: for a name that is taken, or for images or archives that cannot be used.
    """
    path, root = Path(path).expanduser(), cache_root(cache)
    final = root / "sets" / check_name(name)
    if not path.exists():
        raise DataError(f"there is no file or folder {path}")
    if final.exists() and not replace:
        raise DataError(
            f"there is a set {name!r} already, in {final}; choose another name or replace it (--replace)"
        )
    with locked(root / "sets" / f".{name}.import.lock") as held:
        for dead in (root / "sets").glob(f".{name}.import-*") if held else ():  # of imports that were killed
            shutil.rmtree(dead, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.import-", dir=root / "sets") as scratch:
            fresh = Path(scratch) / "set"
            _take(name, path, fresh)
            _check(fresh)
            replace_folder(fresh, final)
    return locate(name, root)


def _check(folder: Path) -> None:
    """Raises what is wrong with a folder that is about to become a set."""
    files = list(folder.glob("*.npz"))
    locate(str(files[0] if files else folder), folder.parent)


def _take(name: str, path: Path, fresh: Path) -> None:
    """Fills the folder ``fresh`` from ``path``."""
    form = form_of_folder(path) if path.is_dir() else _published(name, path)
    if form is not None:
        from_cifar(form, path, fresh.parent, name=name, final=fresh)
    elif path.suffix.lower() == ".npz":
        fresh.mkdir()
        shutil.copyfile(path, fresh / path.name)
    elif path.is_dir():
        _copy(path, fresh)
    elif is_archive(path):
        _unpack(path, fresh)
    else:
        raise DataError(f"{path} is neither a folder nor an archive nor an .npz file")


def _published(name: str, path: Path) -> Form | None:
    """Returns which CIFAR archive a file is, by its name or, under the name of such a set, by its SHA-256."""
    named = next((form for form in FORMS if form.archive == path.name), None)
    if named is not None or name not in ("cifar10", "cifar100") or not is_archive(path):
        return named
    found = checksum(path)
    return next((form for form in FORMS if form.data == name and form.sha256 == found), None)


def _is_image(name: str) -> bool:
    *folders, last = PurePosixPath(name).parts or ("",)
    hidden = left_behind(last, folder=False) or any(part != "." and left_behind(part) for part in folders)
    return is_image(last) and not hidden


def _unpack(path: Path, fresh: Path) -> None:
    """Unpacks the images of an archive; folders that only wrap the class folders are left out."""
    raw = fresh.with_name("raw")
    raw.mkdir()
    if not unpack(path, raw, _is_image):
        raise DataError(f"{path} holds no images; known endings: {' '.join(sorted(SUFFIXES))}")
    top = raw
    while (
        len(inside := list(top.iterdir())) == 1
        and inside[0].is_dir()
        and any(p.is_dir() for p in inside[0].iterdir())
    ):
        top = inside[0]
    top.rename(fresh)


def _copy(path: Path, fresh: Path) -> None:
    root = path.resolve()
    for name in image_files(path):
        inner = root / name
        if not inner.resolve().is_relative_to(root):
            _check_link(inner)
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(inner, fresh / name)


def _check_link(path: Path) -> None:
    """Raises for a link that leads out of the folder to something that is no image: a stranger's folder may hold such."""
    try:
        with open_image(path):
            pass
    except Exception as error:  # Pillow's readers raise whatever a file leads them to
        raise DataError(f"{printable(path)} is a link that leads out of its folder, to no image; remove it") from error


def clear(*, cache: Path | None = None, everything: bool = False) -> int:
    """Removes decoded images; with ``everything`` also what was fetched and imported. Returns the bytes freed."""
    return clear_cache(cache_root(cache), everything=everything)


def _folder_names(classes: tuple[str, ...]) -> list[str]:
    """Returns names that are safe as folders, in label order, all different."""
    names = [re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name).strip(". ") or "_" for name in classes]
    if len({name.lower() for name in names}) < len(names):
        names = [f"{number:04d}_{name}" for number, name in enumerate(names)]
    return names


def write_folder(data: Any, to: Path, *, cache: Path | None = None) -> int:
    """Writes images as PNG files into class folders; returns how many.

    Args:
        data: a :class:`Dataset` (its splits become `train/`, `validation/`, `test/`), or ``(images, labels)`` or a dataset object
            (class folders only).
        to: a folder that does not exist or is empty.
        cache: root of the cache, for dataset names.

    Raises:
        DataError: if the folder holds something already.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"{to} is there already; give a folder that is empty or does not exist")
    if isinstance(data, Dataset):
        names, n = _folder_names(data.classes), 0
        for part, split in zip(SPLITS, (data.train, data.validation, data.test)):
            for pixels, label in zip(split.images, split.labels.tolist()):
                _save(as_image(pixels, tensor=True), to / part / names[label] / f"{n:06d}.png")
                n += 1
        return n
    from archduel.data.load import source_of

    source = source_of(data, cache=cache)
    names = _folder_names(source.classes)
    for number, label in enumerate(source.labels.tolist()):
        with source.read(number) as image:
            _save(image, to / names[label] / f"{number:06d}.png")
    return len(source)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG", compress_level=1)
