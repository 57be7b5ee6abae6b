"""A training recipe: everything that turns an untrained network into a trained one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from archduel.errors import SettingError

__all__ = ["Recipe", "recipe_text", "text_recipe"]

TYPES: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("cosine", "linear", "linear_tail", "exponential", "constant"),
    "lr_update": ("step", "epoch"),
    # Names of autocast: weights and their updates stay in float32 whatever a network computes with.
    "precision": ("fp32", "bf16", "fp16"),
    "test_rule": ("crop", "inner"),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Accuracies it leads to are comparable only within one recipe.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: ``sgd``, or ``adamw`` for fine-tuning pretrained networks, whose layers' gradients differ a thousandfold in size; networks that
            are trained together or share weights are trained with SGD.
        lr: peak learning rate.
        momentum: of SGD; AdamW averages gradients with 0.9 and their squares with 0.999.
        nesterov: whether the momentum is Nesterov's (the released codes of the papers use the plain one).
        weight_decay: L2 (AdamW: taken from the weights apart from the gradient), on all parameters unless ``decay_norm_bias`` is false.
        decay_norm_bias: whether norms and biases decay too.
        schedule: ``cosine`` or ``linear`` to ``lr_min``; ``linear_tail`` to 0 with a slower end (RelativeNAS);
            ``exponential``, times ``gamma`` an epoch; ``constant``.
        lr_update: whether the learning rate changes with every ``step`` or, as in the papers, with every ``epoch``.
        lr_min: learning rate at the end.
        gamma: factor of the ``exponential`` schedule.
        warmup_epochs: linear rise from 0 (may be a fraction).
        grad_clip: largest gradient norm, 0 = off.
        label_smoothing: 0..1.
        mixup: alpha of the Beta distribution, 0 = off.
        cutout: side of the square in pixels (of ``image_size``), 0 = off.
        crop_pad: zero padding before the random crop in pixels (of ``image_size``), 0 = off.
        crop_scale: least share of an image's area that a random crop of random shape keeps (ImageNet: 0.08), 0 = off; for
            images that are read from disk while training.
        test_rule: how images read while training are looked at when testing: ``crop`` the whole centre square, ``inner`` the
            inner 7/8 of its side (ImageNet: 224 of 256 px).
        colour_jitter: largest relative change of brightness, contrast and saturation, 0 = off.
        hue_jitter: largest turn of the hue as a share of the circle, 0..0.5.
        one_change: strength of one random change an image besides, of colour or place (:data:`archduel.training.augment.ONE_OF`), 0..1, 0 = off.
        flip: random horizontal flip.
        drop_path: largest drop-path probability, rising linearly over the epochs.
        auxiliary_weight: loss weight of the auxiliary head, 0 = no head.
        data_fraction: share of the training images used (the same for every network).
        precision: ``fp32``, ``bf16`` or ``fp16`` (autocast).
        channels_last: memory format of convolutions; on CPUs a step takes a quarter to a third less time with it
            (``benchmarks/records/training_step.json``).
        frozen_norms: whether batch norms keep their statistics and use them while training too, as fine-tuning on few images wants it.
        layer_decay: learning rate of a layer as a share of that of the layer behind it, for networks that say the order of their
            layers (pretrained ones): what is near the input is known best. 1 = one rate for all.
        ema: decay of the exponential moving average of weights, 0 = off.
        channels: width (``Scale.channels``).
        depth: depth (``Scale.depth``).
        image_size: input side in pixels; images of another size are resized.
    """

    epochs: float = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norm_bias: bool = True
    schedule: str = "cosine"
    lr_update: str = "step"
    lr_min: float = 0.0
    gamma: float = 0.97
    warmup_epochs: float = 0.0
    grad_clip: float = 5.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutout: int = 0
    crop_pad: int = 4
    crop_scale: float = 0.0
    test_rule: str = "crop"
    colour_jitter: float = 0.0
    hue_jitter: float = 0.0
    one_change: float = 0.0
    flip: bool = True
    drop_path: float = 0.0
    auxiliary_weight: float = 0.0
    data_fraction: float = 1.0
    precision: str = "fp32"
    channels_last: bool = True
    frozen_norms: bool = False
    layer_decay: float = 1.0
    ema: float = 0.0
    channels: int = 16
    depth: int = 5
    image_size: int = 32

    def __post_init__(self) -> None:
        # Settings come from files and command lines, where 1 may stand for 1.0; a bool, which Python counts as an int, is a slip.
        for item in fields(self):
            kind = str(item.type)
            value = getattr(self, item.name)
            if not isinstance(value, TYPES[kind]) or (kind != "bool" and isinstance(value, bool)):
                raise SettingError(f"{item.name} must be of type {kind}, got {value!r}")
            # Written so that nan fails too: no comparison with it is true.
            if isinstance(value, (int, float)) and not value >= 0:
                raise SettingError(f"{item.name} must be at least 0, got {value}")
        if not self.epochs > 0:
            raise SettingError(f"epochs must be above 0, got {self.epochs}")
        for name in ("batch_size", "channels", "depth", "image_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}")
        # At 1 a momentum never fades, no label and no path is left, and an average never moves.
        for name in ("momentum", "label_smoothing", "drop_path", "ema"):
            if not getattr(self, name) < 1:
                raise SettingError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name, most in (("data_fraction", 1.0), ("gamma", 1.0), ("layer_decay", 1.0)):
            if not 0 < getattr(self, name) <= most:
                raise SettingError(f"{name} must be in (0, {most:g}], got {getattr(self, name)}")
        for name, most in (("crop_scale", 1.0), ("colour_jitter", 1.0), ("hue_jitter", 0.5), ("one_change", 1.0)):
            if getattr(self, name) > most:
                raise SettingError(f"{name} must be in [0, {most:g}], got {getattr(self, name)}")
        # Both are random crops of the same image; which comes first would have to be said.
        if self.crop_scale and self.crop_pad:
            raise SettingError("crop_scale and crop_pad exclude each other; set crop_pad to 0 for crops of random shape")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def with_(self, **changes: Any) -> Recipe:
        """Returns the recipe with some settings changed."""
        return replace(self, **changes)


def recipe_text(recipe: Recipe) -> str:
    """Returns what differs from the default recipe as JSON; :func:`text_recipe` reads it, also in another process."""
    # Only what differs, so that texts in journals stay short and stay equal when a setting is added.
    usual = asdict(Recipe())
    return json.dumps({name: value for name, value in asdict(recipe).items() if value != usual[name]}, sort_keys=True)


def text_recipe(text: str) -> Recipe:
    """Returns the recipe that :func:`recipe_text` wrote.

    Raises:
        SettingError: for other text.
    """
    try:
        return Recipe(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{text!r} is not a recipe: {error}") from error
