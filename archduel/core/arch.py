"""The value everything is about: an architecture, without weights; and the size and cost of the network that it becomes.

A light module: spaces, rankers and strategies import it, and none of them shall wait for PyTorch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from archduel.errors import InvalidArchError, brief, check_at_least

__all__ = ["Arch", "Counts", "Scale", "parse"]

# -- How large a network is built from an architecture, and what that costs ---------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """The size at which an architecture becomes a network.

    Attributes:
        channels: width of the first stage (NB201 16, NB101 128, DARTS 16 in search and 36 on CIFAR-10).
        depth: cells in all for ``darts`` (20), cells a stage for ``nasbench201`` (5) and ``nasbench101`` (3);
            ``mobilenetv3`` ignores it.
        image_size: side of the square input in pixels.
        in_channels: 1 or 3.
        n_classes: outputs.
    """

    channels: int = 16
    depth: int = 5
    image_size: int = 32
    in_channels: int = 3
    n_classes: int = 10

    def __post_init__(self) -> None:
        check_at_least(1, **asdict(self))


class Counts(NamedTuple):
    """The closed-form cost of a network for one image; auxiliary heads are left out.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds of convolutions and linear layers.
    """

    params: int
    macs: int


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """An architecture: the name of its space and one integer for each decision.

    Nothing about it is checked, because only its space could do that.

    Prints as ``nasbench201:1.0.4.2.2.3`` and is read back by :func:`parse`.
    """

    space: str
    choices: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.space}:{'.'.join(map(str, self.choices))}"


def parse(text: str) -> Arch:
    """Returns the architecture that ``text`` (``space:1.0.4``) names; whether it is valid only its space knows.

    Raises:
        InvalidArchError: if the text has another form.
    """
    if not isinstance(text, str):
        raise InvalidArchError(f"{brief(text)} is not an architecture; expected a text such as nasbench201:1.0.4.2.2.3")
    # isdigit alone would take digits of other scripts, which int reads too: one architecture would then have many names
    space, colon, choices = text.strip().partition(":")
    parts = choices.split(".") if choices else []
    if not colon or not space or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidArchError(
            f"{text!r} is not an architecture; expected SPACE:CHOICE.CHOICE..., such as nasbench201:1.0.4.2.2.3"
        )
    return Arch(space, tuple(int(part) for part in parts))
