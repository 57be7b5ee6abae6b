"""The layers that cells are made of. All are plain modules with fixed shapes; nothing is in place, nothing has a hidden state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["AuxiliaryHead", "DropPath", "FactorizedReduce", "GlobalMax", "Normalise", "Normalised", "ReLUConvBN", "Scriptable", "SqueezeExcitation", "Tail", "Zero", "adopt", "conv", "dilated", "feed_drop_path", "initialise", "normalised_input", "plain_norms", "pyramid", "separable", "set_drop_path", "stepwise"]

# -- The feature pyramid of a network: its last map at every size, for tasks other than naming the image --------------


def stepwise(x: torch.Tensor, layers: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """Yields what each layer makes of the one before; the first gets ``x``."""
    for layer in layers:
        x = layer(x)
        yield x


def pyramid(x: torch.Tensor, maps: Iterable[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Returns stride -> the last map of that stride, finest first.

    A stride is the product of the halvings so far, so that it is a power of two also where an odd side was rounded up;
    a map of one pixel cannot shrink any further and keeps its stride.

    Args:
        x: (N, C, H, W), what entered the network.
        maps: (N, c, h, w), in the order in which the network makes them.
    """
    found: dict[int, torch.Tensor] = {}
    stride, side = 1, x.shape[-1]
    for made in maps:
        stride *= 2 if made.shape[-1] < side else 1
        side = made.shape[-1]
        found[stride] = made
    return found


# -- Moving weights from a supernet to a network of its own -------------------------------------------------------------


def adopt(target: nn.Module, source: nn.Module) -> None:
    """Copies weights and buffers of ``source`` into ``target``, which has the same layers.

    A batch norm of ``target`` may have weights where that of ``source`` has none; they become 1 and 0, which computes the
    same.
    """
    for module in target.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    left_out = target.load_state_dict(source.state_dict(), strict=False)
    norms = {name for name, module in target.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert not left_out.unexpected_keys
    assert {key.rpartition(".")[0] for key in left_out.missing_keys} <= norms


def plain_norms(module: nn.Module) -> None:
    """Replaces every batch norm inside ``module`` by one without weights."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(child.num_features, affine=False))


def conv(
    c_in: int, c_out: int, kernel: int, stride: int = 1, *, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Returns a convolution without bias whose padding keeps the size (divided by ``stride``, rounded up)."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, affine: bool = True) -> None:
        super().__init__(nn.ReLU(), conv(c_in, c_out, kernel, stride), nn.BatchNorm2d(c_out, affine=affine))


def dilated(channels: int, kernel: int, stride: int, *, affine: bool = True) -> nn.Sequential:
    """Returns ReLU, depthwise convolution with dilation 2, 1x1 convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        conv(channels, channels, kernel, stride, dilation=2, groups=channels),
        conv(channels, channels, 1),
        nn.BatchNorm2d(channels, affine=affine),
    )


def separable(channels: int, kernel: int, stride: int, *, affine: bool = True) -> nn.Sequential:
    """Returns twice: ReLU, depthwise convolution, 1x1 convolution, batch norm; the stride in the first."""
    layers: list[nn.Module] = []
    for step in (stride, 1):
        layers += [
            nn.ReLU(),
            conv(channels, channels, kernel, step, groups=channels),
            conv(channels, channels, 1),
            nn.BatchNorm2d(channels, affine=affine),
        ]
    return nn.Sequential(*layers)


class Scriptable(nn.Module):
    """A network whose forward says by lists and conditions how its layers are joined, which no script of TorchScript can say.

    Its forward must not depend on sizes: ``torch.fx`` follows it as a straight line, and that line is scripted.
    """

    def __prepare_scriptable__(self) -> nn.Module:
        """Returns what ``torch.jit.script`` reads in its place: the same layers, called one after the other as the present mode does."""
        line = torch.fx.symbolic_trace(self)
        for node in line.graph.nodes:
            node.type = None  # of two kinds of output the script knows neither
        line.recompile()
        # a property that is there for people, and that a second script of the same network would define a second time
        type(line).__jit_unused_properties__ = [*torch.fx.GraphModule.__jit_unused_properties__, "code"]
        # read for annotations, about which torch warns though they are its own
        type(line).__init__ = nn.Module.__init__  # type: ignore[method-assign,assignment]
        return line


class Normalised(Scriptable):
    """A network behind its normalisation.

    Args:
        mean: (C,), of training images.
        std: (C,), likewise.
        network: takes what :class:`Normalise` makes.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], network: nn.Module) -> None:
        super().__init__()
        self.normalise, self.network = Normalise(mean, std), network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits (N, classes) of images (N, C, H, W) in 0..1."""
        logits: torch.Tensor = self.network(self.normalise(x))
        return logits


class FactorizedReduce(nn.Module):
    """Halves the map without losing pixels: two 1x1 convolutions of stride 2, the second one pixel further.

    An odd map gets one row and column of zeros at top and left (as CNAS does; DARTS fails there).
    """

    def __init__(self, c_in: int, c_out: int, *, affine: bool = True) -> None:
        super().__init__()
        self.first = conv(c_in, c_out // 2, 1, 2)
        self.second = conv(c_in, c_out - c_out // 2, 1, 2)
        self.norm = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, ceil(H / 2), ceil(W / 2))."""
        x = functional.relu(x)
        odd = x.shape[2] % 2  # no condition, which torch.fx could not follow
        x = functional.pad(x, (odd, 0, odd, 0))
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    """Nothing, at the size that the other operations would have."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns zeros (N, C, ceil(H / stride), ceil(W / stride))."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class GlobalMax(nn.Module):
    """The largest value of each channel: ``nn.AdaptiveMaxPool2d(1)`` as an operation that converters to LiteRT know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, C, 1, 1)."""
        return x.amax((2, 3), keepdim=True)


class SqueezeExcitation(nn.Module):
    """Scales every channel by what a small network says about the means of all channels.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; MobileNetV3 puts ``hardsigmoid`` in the sigmoid's place.

    Args:
        channels: of the maps.
        hidden: width of the small network.
        gate: makes the factors of its answer.
    """

    def __init__(self, channels: int, hidden: int, gate: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid) -> None:
        super().__init__()
        self.gate = gate
        self.reduce, self.expand = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, C, H, W), each channel times a number in 0..1."""
        scale = functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))  # (N, hidden, 1, 1)
        return x * self.gate(self.expand(scale))


class DropPath(nn.Module):
    """Drops a whole branch a sample while training, and scales what is kept by ``1 / (1 - p)``.

    Attributes:
        p: probability of being dropped, 0..1; changed during training by :func:`set_drop_path`.
        generator: where the masks come from, on the device of the input; None = torch's own of that device.
        rate: () the probability as a tensor, which compiled networks use: a number would be compiled in (:func:`feed_drop_path`).
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None
        self.rate: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` with some samples zero (training) or ``x`` itself."""
        if self.training and self.rate is not None:
            keep = (1.0 - self.rate).to(x.dtype)
            return x * (torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep) / keep
        if not self.training or self.p == 0.0:
            return x
        mask = x.new_empty(x.shape[0], 1, 1, 1)  # (N, 1, 1, 1)
        return x * mask.bernoulli_(1.0 - self.p, generator=self.generator) / (1.0 - self.p)

    def extra_repr(self) -> str:
        """Returns the probability."""
        return f"p={self.p:g}"


def set_drop_path(module: nn.Module, p: float, generator: torch.Generator | None = None) -> int:
    """Sets the drop-path probability everywhere in ``module`` and returns in how many places.

    Args:
        module: a network; one without drop path is left as it is.
        p: 0..1, exclusive of 1.
        generator: source of the masks from now on; None = torch's own.
    """
    places = [part for part in module.modules() if isinstance(part, DropPath)]
    for part in places:
        part.p, part.generator = p, generator
    return len(places)


def feed_drop_path(module: nn.Module, p: float) -> int:
    """Does what :func:`set_drop_path` does for a compiled network, which is not compiled anew for every probability."""
    places = [part for part in module.modules() if isinstance(part, DropPath)]
    device = next((parameter.device for parameter in module.parameters()), None)
    for part in places:
        if part.rate is None:
            part.rate = torch.zeros((), device=device)
        part.rate.fill_(p)
    return len(places)


class Tail(nn.Sequential):
    """Global average pool and classifier: (N, C, H, W) to (N, classes)."""

    def __init__(self, channels: int, n_classes: int, *, norm: bool = False) -> None:
        first = [nn.BatchNorm2d(channels), nn.ReLU()] if norm else []
        super().__init__(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


class AuxiliaryHead(nn.Sequential):
    """The classifier that DARTS puts on the output of the second reduction while training.

    Maps of 7 and 8 pixels are pooled 5 x 5 (stride 2 and 3), others adaptively to 2 x 2, as BPE does.

    Args:
        channels: of the map it sits on.
        size: side of that map in pixels.
        n_classes: outputs.
        last_norm: whether the 2 x 2 convolution has a batch norm (DARTS's ImageNet head has none).
    """

    def __init__(self, channels: int, size: int, n_classes: int, *, last_norm: bool = True) -> None:
        pool = (
            nn.AvgPool2d(5, size - 5, count_include_pad=False) if size in (7, 8) else nn.AdaptiveAvgPool2d(2)
        )
        last = [nn.BatchNorm2d(768)] if last_norm else []
        super().__init__(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *last,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, n_classes),
        )


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draws all weights anew from ``generator``, as PyTorch's defaults would, and returns the network.

    Convolutions and linear layers: uniform in +-1 / sqrt(fan in), biases too; norms: weight 1, bias 0, mean 0, variance 1.
    A network that has a method ``initialise(generator)`` is asked to do it itself.
    """
    own = getattr(network, "initialise", None)
    if own is not None:
        own(generator)
        return network
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters(recurse=False):
                parameter.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network


# -- Before the first layer ---------------------------------------------------------------------------------------------


class Normalise(nn.Module):
    """Input (N, C, H, W) in 0..1 as networks were trained with it: less the mean, by the standard deviation, a channel.

    Args:
        mean: (C,), of training images.
        std: (C,), likewise.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # assigned, not declared in the class: torch.jit.script reads no annotation that is a text
        self.mean = nn.Buffer(torch.tensor(mean).view(1, -1, 1, 1))
        self.std = nn.Buffer(torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, C, H, W)."""
        return (x - self.mean) / self.std


class _NormalisedInput:
    """Normalises what a module is called with, before its own forward."""

    def __init__(self, normalise: Normalise) -> None:
        self.normalise = normalise

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Returns the inputs with the first one normalised."""
        x, *rest = inputs
        return (self.normalise.to(x.device)(x), *rest)


def normalised_input(mean: Sequence[float], std: Sequence[float], module: nn.Module) -> nn.Module:
    """Returns a copy of ``module`` that takes images in 0..1: the same class and the same state dict, no module around it."""
    copied = copy.deepcopy(module)
    copied.register_forward_pre_hook(_NormalisedInput(Normalise(mean, std)))
    return copied.eval()
