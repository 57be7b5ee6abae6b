"""A training recipe: everything that turns an untrained network into a trained one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from archduel.errors import SettingError

__all__ = ["RECIPES", "Recipe"]

TYPES: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
CHOICES = {"schedule": ("cosine", "linear", "constant"), "precision": ("fp32", "bf16", "fp16")}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Accuracies it leads to are comparable only within one recipe.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: peak learning rate of SGD with Nesterov momentum.
        momentum: of SGD.
        weight_decay: L2, on all parameters unless ``decay_norm_bias`` is false.
        decay_norm_bias: whether norms and biases decay too.
        schedule: ``cosine`` or ``linear``, per step, to ``lr_min``; ``constant``.
        lr_min: learning rate at the end.
        warmup_epochs: linear rise from 0 (may be a fraction).
        grad_clip: largest gradient norm, 0 = off.
        label_smoothing: 0..1.
        mixup: alpha of the Beta distribution, 0 = off.
        cutout: side of the square in pixels (of ``image_size``), 0 = off.
        crop_pad: zero padding before the random crop in pixels (of ``image_size``), 0 = off.
        flip: random horizontal flip.
        drop_path: largest drop-path probability, rising linearly over the epochs.
        auxiliary_weight: loss weight of the auxiliary head, 0 = no head.
        data_fraction: share of the training images used (the same for every network).
        precision: ``fp32``, ``bf16`` or ``fp16`` (autocast).
        channels_last: memory format of convolutions; on CPUs a step takes a quarter to a third less time with it
            (``benchmarks/records/training_step.json``).
        ema: decay of the exponential moving average of weights, 0 = off.
        channels: width (``Scale.channels``).
        depth: depth (``Scale.depth``).
        image_size: input side in pixels; images of another size are resized.
    """

    epochs: float = 10
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norm_bias: bool = True
    schedule: str = "cosine"
    lr_min: float = 0.0
    warmup_epochs: float = 0.0
    grad_clip: float = 5.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutout: int = 0
    crop_pad: int = 4
    flip: bool = True
    drop_path: float = 0.0
    auxiliary_weight: float = 0.0
    data_fraction: float = 1.0
    precision: str = "fp32"
    channels_last: bool = True
    ema: float = 0.0
    channels: int = 16
    depth: int = 5
    image_size: int = 32

    def __post_init__(self) -> None:
        for item in fields(self):
            kind = str(item.type)
            value = getattr(self, item.name)
            if not isinstance(value, TYPES[kind]) or (kind != "bool" and isinstance(value, bool)):
                raise SettingError(f"{item.name} must be of type {kind}, got {value!r}")
            if isinstance(value, (int, float)) and not value >= 0:
                raise SettingError(f"{item.name} must be at least 0, got {value}")
        if not self.epochs > 0:
            raise SettingError(f"epochs must be above 0, got {self.epochs}")
        for name in ("batch_size", "channels", "depth", "image_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "drop_path", "ema"):
            if not getattr(self, name) < 1:
                raise SettingError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 < self.data_fraction <= 1:
            raise SettingError(f"data_fraction must be in (0, 1], got {self.data_fraction}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def with_(self, **changes: Any) -> Recipe:
        """Returns the recipe with some settings changed."""
        return replace(self, **changes)


# BPE crops with 4 px at 32 px and then shrinks to 16 px, where that is 2 px.
RECIPES = {
    "bpe1": Recipe(
        epochs=10, batch_size=128, lr=0.03, weight_decay=3e-4, channels=8, depth=6, image_size=16,
        drop_path=0.2, auxiliary_weight=0.4, crop_pad=2,
    ),
    "bpe2": Recipe(
        epochs=30, batch_size=128, lr=0.03, weight_decay=3e-4, channels=16, depth=16, image_size=16,
        drop_path=0.2, auxiliary_weight=0.4, crop_pad=2,
    ),
    "nasbench201": Recipe(epochs=200, batch_size=256, lr=0.1, weight_decay=5e-4, grad_clip=0.0),
}  # fmt: skip
