"""What a network does to one image, as a runtime for small devices would do it: operations, what they read and make, what they store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from archduel.errors import SettingError

__all__ = ["Operation", "Recorder", "Trace", "trace"]

VIEWS = {"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "detach", "alias", "t", "_to_copy", "clone", "contiguous", "lift_fresh"}
"""Operations that move no activation: a runtime gives the same memory another shape."""
CONSTANT = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_full"}
"""Operations whose outcome depends on a shape alone: a converter computes them before, and what is done to them, but for weighted operations."""
NORMS = {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
WEIGHTED = {"convolution", "addmm", "mm", "_convolution", "conv2d", "linear"}
FUSED = {"relu", "relu_", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min"}
"""Activations that runtimes compute together with the operation before them."""
HOSTS = {*WEIGHTED, "add", "add_", "avg_pool2d", "max_pool2d_with_indices", *NORMS, "mul"}
"""Operations that take an activation along."""



class Operation(NamedTuple):
    """One operation of a runtime.

    Attributes:
        name: torch's name of it, such as ``convolution``.
        inputs: numbers of the activations that it reads.
        outputs: of those that it makes.
        stored: numbers (weights, biases) that it has in the file, as a tuple (matrices, vectors, output channels).
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stored: tuple[int, int, int] = (0, 0, 0)


class Trace(NamedTuple):
    """A network as operations of a runtime.

    Attributes:
        operations: in the order in which they run.
        elements: of each activation for one image; number 0 is the input.
    """

    operations: tuple[Operation, ...]
    elements: tuple[int, ...]


class Recorder(TorchDispatchMode):
    """Within this context every operation on what came of an image is written down.

    Args:
        image: (1, C, H, W), activation number 0.
        litert: whether the ways of LiteRT are followed, see :func:`trace`.

    Attributes:
        operations: in order, views left out.
        elements: of each activation.
    """

    def __init__(self, image: torch.Tensor, *, litert: bool = True) -> None:
        super().__init__()
        self.litert = litert
        self.operations: list[Operation] = []
        self.elements = [image.numel()]
        self._numbers = {id(image): 0}
        self._alive: list[torch.Tensor] = [image]  # an address must not come back while it is looked up by
        self._origin: dict[int, int] = {}
        self._stored: set[int] = set()
        self._constants: set[int] = set()  # tensors that depend on a shape alone
        self._computed: dict[Any, list[int]] = {}  # what was done before to the same activations -> its outcome

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Does the operation and writes it down."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = list(_tensors((args, (kwargs or {}).values())))
        made = list(_tensors((out,)))
        inputs = [self._numbers[id(t)] for t in tensors if id(t) in self._numbers]
        if name in CONSTANT or not (inputs or self._computes_on_constants(name, tensors)):
            self._follow(name, tensors, made)
            return out
        made = made[:1] if name in NORMS or name.endswith(("_with_indices", "max_pool2d")) else made
        self._alive += [*tensors, *made]
        if name in VIEWS:
            self._numbers |= {id(t): inputs[0] for t in made}
            return out
        plain = all(id(t) in self._numbers for t in tensors)  # without weights, which may differ
        key = (name, tuple(inputs), _written((args, tuple((kwargs or {}).items()))))
        if plain and (before := self._computed.get(key)):
            self._numbers |= dict(zip(map(id, made), before))
            return out
        stored = self._weights(name, [t for t in tensors if id(t) not in self._numbers])
        if self.litert and inputs and (padded := _padded(name, args)):
            self.operations.append(Operation("pad", (inputs[0],), (len(self.elements),)))
            inputs[0] = len(self.elements)
            self.elements.append(padded)
        outputs = []
        for tensor in made:
            outputs.append(len(self.elements))
            self.elements.append(tensor.numel())
        self._numbers |= {id(t): number for t, number in zip(made, outputs)}
        self.operations.append(Operation(name, tuple(dict.fromkeys(inputs)), tuple(outputs), stored))
        if plain:
            self._computed[key] = outputs
        return out

    def _computes_on_constants(self, name: str, tensors: list[torch.Tensor]) -> bool:
        """Whether a runtime does an operation although its outcome is always the same: LiteRT's converter leaves it convolutions of zeros."""
        return self.litert and name in WEIGHTED and any(id(t) in self._constants for t in tensors)

    def _follow(self, name: str, tensors: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        """Remembers which weights a view is of, and what depends on a shape alone."""
        if name in CONSTANT or any(id(t) in self._constants for t in tensors):
            self._constants |= {id(t) for t in made}
            self._alive += made
        elif name in VIEWS and tensors and made:
            self._origin[id(made[0])] = self._origin.get(id(tensors[0]), id(tensors[0]))
            self._alive += made

    def _weights(self, name: str, constants: list[torch.Tensor]) -> tuple[int, int, int]:
        """Returns the numbers in matrices and in vectors that an operation has, and its output channels; what two share counts once."""
        if name in NORMS:
            return 0, 2 * max((t.numel() for t in constants), default=0), 0  # a factor and a summand a channel
        matrices = vectors = channels = 0
        for tensor in constants:
            origin = self._origin.get(id(tensor), id(tensor))
            if tensor.ndim == 0 or origin in self._stored:
                continue
            self._stored.add(origin)
            if origin in self._constants:  # numbers of a file, in no channel
                matrices += tensor.numel()
            elif tensor.ndim == 1:
                vectors += tensor.numel()
            else:
                matrices += tensor.numel()
                channels += tensor.shape[1] if name in ("addmm", "mm") else tensor.shape[0]
        return matrices, vectors, channels if name in WEIGHTED else 0


def _padded(name: str, args: tuple[Any, ...]) -> int:
    """Returns the elements of the map that is padded before an operation; 0 where the operation pads itself.

    TensorFlow pads a strided convolution behind the map first, torch on both sides alike: a converter writes a padding of its own.
    """
    if name == "convolution":
        kernel, stride, padding = args[1].shape[2:], args[3], args[4]
    elif name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel, stride, padding = args[1], (args[2] if len(args) > 2 and args[2] else args[1]), (args[3] if len(args) > 3 else (0, 0))
    else:
        return 0
    sides = args[0].shape[2:]
    kernel, stride, padding = (tuple(v) * (2 // len(v)) for v in (kernel, stride, padding))
    if not any(padding) or all(_same(*each) for each in zip(sides, kernel, stride, padding)):
        return 0
    channels: int = args[0].shape[1]
    return channels * math.prod(side + 2 * pad for side, pad in zip(sides, padding))


def _same(side: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether a padding is what TensorFlow calls SAME."""
    needed = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return needed // 2 == padding and needed - needed // 2 == padding


def _written(value: Any) -> Any:
    """Returns arguments as something to compare, tensors left out."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_written, value))
    return None if isinstance(value, torch.Tensor) else repr(value)


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Iterable) and not isinstance(value, str):
            yield from _tensors(value)


def trace(network: nn.Module, given: Sequence[int] | torch.Tensor, *, litert: bool = True) -> Trace:
    """Returns the operations of one input's way through a network, as a runtime would do them.

    Args:
        network: takes such inputs on its own device; run in evaluation mode, its mode stays.
        given: shape of an input without the batch, (C, H, W) of an image; or a batch of one.
        litert: whether strided layers get a padding of their own where TensorFlow's differs from torch's, and convolutions of zeros are computed, as
            converters to LiteRT write it, and in their order.

    Raises:
        SettingError: if the network cannot be run on such an input.
    """
    modes = [(module, module.training) for module in network.modules()]
    device = next((p.device for p in (*network.parameters(), *network.buffers())), torch.device("cpu"))
    try:
        network.eval()
        with torch.no_grad():
            image = given.to(device) if isinstance(given, torch.Tensor) else torch.zeros(1, *given, device=device)
            recorder = Recorder(image, litert=litert)
            with recorder:
                network(image)
    except (RuntimeError, ValueError, IndexError) as error:  # what torch raises for an input of another form
        raise SettingError(
            f"RAM and flash are those of a network on one input, and {type(network).__name__} cannot be run on one of shape {tuple(image.shape)}: "
            f"{str(error).strip().splitlines()[0]}; for other inputs than images say space_of(..., example=(channels, length))"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    return _fused(recorder.operations, recorder.elements, late=litert)


def _fused(operations: Sequence[Operation], elements: Sequence[int], *, late: bool) -> Trace:
    """Returns the operations with norms and activations taken into those before them, and padding into the convolution behind it.

    Between a sum and the activation that reads it other operations may lie: ``late`` says whether what becomes one operation runs at the place
    of the last of them, as in files converted to LiteRT, or at that of the first.
    """
    readers = [number for operation in operations for number in operation.inputs]
    makers: dict[int, int] = {}
    merged: list[Operation | None] = []
    for operation in operations:
        host = makers.get(operation.inputs[0]) if operation.inputs else None
        before = merged[host] if host is not None else None
        if before is not None and host is not None and readers.count(operation.inputs[0]) == 1:
            if len(operation.inputs) == 1 and _joins(before, operation):
                operation, merged[host] = before._replace(outputs=operation.outputs, stored=_with_bias(before, operation)), None
            elif _takes_border(before, operation):
                operation, merged[host] = operation._replace(inputs=before.inputs), None
            if merged[host] is None and not late:
                makers |= dict.fromkeys(operation.outputs, host)
                merged[host] = operation
                continue
        makers |= dict.fromkeys(operation.outputs, len(merged))
        merged.append(operation)
    return Trace(tuple(operation for operation in merged if operation is not None), tuple(elements))


def _takes_border(before: Operation, operation: Operation) -> bool:
    """Whether a border that the network puts around a map is the padding of the convolution behind it, as runtimes take it."""
    return before.name == "constant_pad_nd" and operation.name == "convolution"


def _joins(before: Operation, operation: Operation) -> bool:
    """Whether an operation disappears in the one before, whose only reader it is."""
    if operation.name in NORMS:
        return before.name in WEIGHTED
    return operation.name in FUSED and before.name in HOSTS


def _with_bias(before: Operation, operation: Operation) -> tuple[int, int, int]:
    """Returns what is stored once a norm is folded: a bias a channel, which there may have been before."""
    matrices, vectors, channels = before.stored
    return (matrices, max(vectors, channels), channels) if operation.name in NORMS else before.stored
