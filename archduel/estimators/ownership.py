"""Which tensors of a supernet belong to which architectures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from archduel.core import Arch

__all__ = ["Ownership"]


class Ownership:
    """The tensors of a supernet (weights and buffers) by the operation they belong to.

    Args:
        network: a :class:`archduel.core.Supernet` that is a module.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._operations: frozenset[str] = network.operations  # type: ignore[assignment]
        self._tensors: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self._by_owner: dict[str, list[str]] = {}
        for name in self._tensors:
            self._by_owner.setdefault(self._owner(name), []).append(name)
        self._norms: dict[str, list[nn.BatchNorm2d]] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                self._norms.setdefault(self._owner(name), []).append(module)

    def _owner(self, name: str) -> str:
        """Returns the operation that a submodule or tensor is part of, empty for what everybody uses."""
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((prefix for prefix in prefixes if prefix in self._operations), "")

    def _owners(self, archs: tuple[Arch, ...]) -> list[str]:
        """Returns the operations of ``archs``, and everybody's part, in a fixed order."""
        used: frozenset[str] = frozenset().union(*(self.network.modules_of(arch) for arch in archs))  # type: ignore[operator]
        return ["", *sorted(used)]

    def names(self, *archs: Arch) -> list[str]:
        """Returns the names of all tensors that at least one of ``archs`` uses."""
        return [name for owner in self._owners(archs) for name in self._by_owner.get(owner, ())]

    def parameters(self, arch: Arch) -> list[nn.Parameter]:
        """Returns the weights that ``arch`` uses."""
        tensors = (self._tensors[name] for name in self.names(arch))
        return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]

    def norms(self, arch: Arch) -> list[nn.BatchNorm2d]:
        """Returns the batch norms with statistics that ``arch`` uses."""
        return [norm for owner in self._owners((arch,)) for norm in self._norms.get(owner, ())]

    def copies(self, *archs: Arch) -> dict[str, Tensor]:
        """Returns copies of the tensors that ``archs`` use."""
        return {name: self._tensors[name].detach().clone() for name in self.names(*archs)}

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Writes ``values`` into the network."""
        for name, value in values.items():
            self._tensors[name].copy_(value)
