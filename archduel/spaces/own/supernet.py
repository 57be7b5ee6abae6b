"""One network with the weights of every architecture of a person's own space: tensors of one name are slices of one.

An architecture's tensor is the leading channels (first two dimensions) and the middle of the kernel (further ones) of the shared tensor of
its name; options of a ``switch`` have tensors of their own. The person's module runs unchanged, with these slices in the place of its weights.
Source of slicing: Cai et al., "Once-for-All", ICLR 2020 (without its kernel transformation).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from archduel.core import Arch, Scale, sample
from archduel.errors import SettingError
from archduel.spaces.own.network import build_own
from archduel.spaces.own.quiet import weights_not_drawn
from archduel.spaces.own.space import OwnSpace
from archduel.spaces.own.weights import window

__all__ = ["OwnSupernet"]

RANDOM = 60
"""Random architectures, beside one for every option, that show which tensors there are and how large they become."""
BUILT = 128
"""Networks that are kept built; their own weights are never used."""


class OwnSupernet(nn.Module):
    """A :class:`archduel.core.Supernet` over a person's own space.

    Args:
        space: at the scale of the images.
        scale: of the images.

    Raises:
        SettingError: for a space whose networks call tensors of different dimensions alike; names the decision.
    """

    def __init__(self, space: OwnSpace, scale: Scale) -> None:
        super().__init__()
        self.space, self.scale = space, scale
        self._built: OrderedDict[Arch, tuple[nn.Module, dict[str, str]]] = OrderedDict()
        with torch.device("cpu"):  # a person's constructor may need real tensors
            archs = _covering(space)
            networks = [self._network(arch) for arch in archs]
            owners = _holders(space, archs, networks)
            self.holders = nn.ModuleDict({f"h{i}": holder for i, holder in enumerate(owners.values())})
        self._place = {key: f"h{i}" for i, key in enumerate(owners)}
        used = [frozenset(self._place[_home(key)] for key in keys.values()) for _, keys in networks]
        self._everywhere = frozenset.intersection(*used)
        if getattr(networks[0][0], "_archduel_contiguous", False):
            object.__setattr__(self, "_archduel_contiguous", True)

    def _network(self, arch: Arch) -> tuple[nn.Module, dict[str, str]]:
        """Returns the network of ``arch`` with weights of no meaning, and the name of the shared tensor of each of its own."""
        if arch not in self._built:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]), weights_not_drawn():
                network = build_own(self.space, arch, self.scale)
            self._built[arch] = network, _keys(network)
            while len(self._built) > BUILT:
                self._built.popitem(last=False)
        return self._built[arch]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draws all weights anew: as the person's constructor does, from the largest networks on; what none of them reaches, uniformly."""
        for holder in self.holders.values():
            for tensor in (*holder.parameters(), *holder.buffers()):
                bound = tensor[0].numel() ** -0.5 if tensor.ndim > 1 and tensor.is_floating_point() else 0.0
                tensor.zero_() if not bound else tensor.uniform_(-bound, bound, generator=generator)
        for arch in _covering(self.space):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
                network = self.space.build(arch)
            for name, value in _tensors(network).items():
                shared = self._shared(_keys(network)[name])
                shared[window(shared, value.shape)] = value

    def _shared(self, key: str) -> Tensor:
        tensor: Tensor = getattr(self.holders[self._place[_home(key)]], key.rpartition(".")[2])
        return tensor

    def _slices(self, arch: Arch, network: nn.Module, keys: Mapping[str, str]) -> dict[str, Tensor]:
        slices = {}
        for name, own in _tensors(network).items():
            if _home(keys[name]) not in self._place or any(a > b for a, b in zip(own.shape, self._shared(keys[name]).shape)):
                raise SettingError(f"{arch}: {name} {tuple(own.shape)} was not met while the shared weights were made; it is a rare combination of answers")
            shared = self._shared(keys[name])
            slices[name] = shared if shared.shape == own.shape else shared[window(shared, own.shape)]
        return slices

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Returns (N, classes) logits of ``arch``; only its operations run."""
        network, keys = self._network(arch)
        network.train(self.training)
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                # who measures statistics says so to the shared norm
                holder = self.holders[self._place[_home(keys[f"{name}.running_mean" if name else "running_mean"])]]
                module.training, module.momentum, module.track_running_stats = holder.training, holder.momentum, holder.track_running_stats  # type: ignore[assignment]
        logits: Tensor = functional_call(network, self._slices(arch, network, keys), (x,))
        return logits

    def extract(self, arch: Arch) -> nn.Module:
        """Returns a person's own module with copies of these weights."""
        network = build_own(self.space, arch, self.scale)
        copies = {name: value.detach().cpu().clone() for name, value in self._slices(arch, network, _keys(network)).items()}
        network.load_state_dict({name: copies[name] for name in network.state_dict()})
        return network

    @property
    def operations(self) -> frozenset[str]:
        """The names of the submodules that not every architecture has."""
        return frozenset(f"holders.{name}" for name in self._place.values() if name not in self._everywhere)

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns which of ``operations`` the architecture uses."""
        _, keys = self._network(arch)
        used = {self._place[_home(key)] for key in keys.values() if _home(key) in self._place}
        return frozenset(f"holders.{name}" for name in used - self._everywhere)


def _covering(space: OwnSpace) -> list[Arch]:
    """Returns architectures that take every option, the largest last."""
    rng = np.random.default_rng(0)
    texts = {", ".join(f"{question.name}={question.labels[index]}" for question, index in trace): None for trace in space.structure.reached.values()}
    archs = list(dict.fromkeys([space.start(), *map(space.read, texts), *(sample(space, rng) for _ in range(RANDOM))]))
    return sorted(archs, key=lambda arch: (len(arch.choices), arch.choices))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _keys(network: nn.Module) -> dict[str, str]:
    """Returns name of a tensor -> name of the shared one: with the option of each ``switch`` that it stands in."""
    options = {name: module.__dict__["_archduel_option"] for name, module in network.named_modules() if "_archduel_option" in module.__dict__}
    keys = {}
    for name in _tensors(network):
        parts = name.split(".")
        marked = [part + (f"@{options[path]}" if (path := ".".join(parts[: i + 1])) in options else "") for i, part in enumerate(parts)]
        keys[name] = "/".join(marked[:-1]) + "." + marked[-1]
    return keys


def _home(key: str) -> str:
    """Returns the module that a shared tensor stands in."""
    return key.rpartition(".")[0]


def _holders(space: OwnSpace, archs: list[Arch], networks: list[tuple[nn.Module, dict[str, str]]]) -> dict[str, nn.Module]:
    """Returns a module for each module of any network, with its tensors as large as they become."""
    largest: dict[str, Tensor] = {}
    first: dict[str, Arch] = {}
    norms: dict[str, nn.BatchNorm2d] = {}
    for arch, (network, keys) in zip(archs, networks):
        for name, value in _tensors(network).items():
            key = keys[name]
            known = largest.get(key)
            if known is not None and known.ndim != value.ndim:
                raise SettingError(_forbidden(space, key, first[key], arch, known, value))
            shape = value.shape if known is None else [max(a, b) for a, b in zip(known.shape, value.shape)]
            first.setdefault(key, arch)
            if known is None or list(shape) != list(known.shape):
                made = torch.empty(shape, dtype=value.dtype)
                largest[key] = nn.Parameter(made, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else made
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                norms[_home(keys[f"{name}.running_mean" if name else "running_mean"])] = module
    return {home: _holder(home, largest, norms.get(home)) for home in sorted({_home(key) for key in largest})}


def _holder(home: str, largest: Mapping[str, Tensor], norm: nn.BatchNorm2d | None) -> nn.Module:
    tensors = {key.rpartition(".")[2]: value for key, value in largest.items() if _home(key) == home}
    if norm is not None:
        return nn.BatchNorm2d(len(tensors["running_mean"]), eps=norm.eps, momentum=norm.momentum, affine="weight" in tensors)
    holder = nn.Module()
    for name, value in tensors.items():
        if isinstance(value, nn.Parameter):
            holder.register_parameter(name, value)
        else:
            holder.register_buffer(name, value)
    return holder


def _forbidden(space: OwnSpace, key: str, first: Arch, second: Arch, known: Tensor, value: Tensor) -> str:
    one, two = space.values(first), space.values(second)
    different = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    return (
        f"{space.name} has no shared weights: {key.replace('/', '.')} is {tuple(known.shape)} in one network and {tuple(value.shape)} in another, which "
        f"differ in {', '.join(different[:4])}; give layers that are no larger or smaller ones of the other names of their own, or make them with switch"
    )
