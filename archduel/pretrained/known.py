"""Networks that already know images as a side of a race: probed before it begins, opened with their weights, fine-tuned."""

from __future__ import annotations

import bisect
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Scale
from archduel.pretrained.features import (
    an_image,
    cached_features,
    frozen_features,
    measure_norms,
    own_features,
    pixels_digest,
)
from archduel.pretrained.members import member
from archduel.pretrained.prefixes import Proposal, Seen, full, named, prefix, prefix_of
from archduel.pretrained.probes import logistic_head, ridge_probe
from archduel.pretrained.resolution import (
    ENOUGH_IMAGES,
    FINE_TUNING,
    MORE,
    MOST_IMAGES,
    MOST_VALIDATION,
    Forecast,
    Looks,
    enough_images,
    forecast,
    images_in,
    ladder,
    looks,
)
from archduel.pretrained.smallest import refuse_impossible, smallest
from archduel.pretrained.weights import load, weights_of
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.space import RESOLUTIONS, WIDTHS, Plan, Pretrained, arch_of, count, plan_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archduel.spaces.pretrained.member import Member, Shown
    from archduel.training.images import Pixels
    from archduel.training.recipe import Recipe

__all__ = ["Known"]

SECONDS, MOST_SECONDS = 0, 60_000.0
"""Place of the seconds among kept features: no network ends before its first block. Float16 holds them to a thousandth, up to so many."""
PROBE_SHARE = 0.08
"""Of the time, what frozen features may cost before the race."""
LATE = 1.25
"""Times that looking may take longer than the forecast before larger resolutions are left out."""
TIMED = 64  # images that a forecast is made with
CLEARLY = 0.1
"""By which a teacher's frozen features must be better than those of a part of a backbone that learns from it.

Of 300 s of one core 7 blocks (64 %, the whole backbone 80 %) came to 83.1 % with 80 s of them for a teacher and 82.2 % alone; 12 blocks (82 %) to
86.5 % with a teacher and 88.6 % alone (``benchmarks/records/warm_up.json``, one run each).
"""
SHORTER = 0.3
"""Nats by which frozen features of fewer blocks must say more than those of all that the limits allow: fine-tuning changes the last blocks most.

A thousand images of twenty classes, 60 s at 128 px: 16, 15 and 12 blocks came to 81.3, 79.3 and 76.3 % and all with the neck to 81.3 %, although frozen
features of 12 said about as much as those of all (``benchmarks/records/small_sets.jsonl``, one run each, 400 test images).
"""
LEAST_LESSONS = 3.0
"""Passes over the images that a teacher makes at least before it is asked; of few images more, it must be shown enough of them."""
CALIBRATION = 512  # images that a thinned network's norms are measured on, and its head begins with
TUNING: Mapping[str, Any] = {
    "optimizer": "adamw", "weight_decay": 0.01, "batch_size": 64, "frozen_norms": True, "layer_decay": 0.8, "cutout": 0, "one_change": 0.0,
}  # fmt: skip
"""How a pretrained network is trained, beside the race's recipe.

Frozen norms matter most: with statistics of small batches 60 s of fine-tuning came to 72 %, with the published ones to 84 %
(``benchmarks/records/fine_tuning.json``).
"""
RATE, LARGEST_RATE = 0.036, 0.004
"""Learning rate times the number of parts of a network (stem, blocks, neck, head), and its bound: 4e-3 was best for 7 blocks, 2e-3 for 12 and for all
(``benchmarks/records/fine_tuning_adamw.jsonl``)."""


def _longest(seen: Sequence[Seen]) -> dict[int, Seen]:
    """Returns for each resolution the probe of the most blocks."""
    sides = {each.resolution for each in seen}
    return {side: max((each for each in seen if each.resolution == side), key=lambda each: each.blocks) for side in sides}


@dataclass
class Known:
    """Opens networks of space ``pretrained`` for a race; see :class:`archduel.race.sides.Opener`.

    Args:
        space: with the backbones whose weights are at hand.
        scale: input and classes of the race.
        mean: with which images are normalised, of values in 0..1, one a channel.
        std: likewise.
        allowed: whether a network is within the limits.
        precision: ``bf16`` or ``fp32``.
        seed: of what is drawn.
        cache: root of the cache; None = the user's.
        say: takes messages for people.
        searches: whether other networks than plain fine-tuning are proposed.
        alone: whether nothing else takes part, so that it is an error where nothing is within the limits.
        seen: probes of what the limits allow.
        beyond: probes of whole backbones that they do not.
        smaller: whether a front of sizes is wanted, and networks with fewer blocks or pixels than fine-tuning does best with enter too.
        least: the resolution of each backbone below which no network enters: smaller images learn faster to begin with, and that is all a race sees.
        longest: of each backbone and resolution the probe of the most blocks that the limits allow; for the same reason shorter ones stay out.
        outside: backbones that do not enter beside another.
    """

    space: Pretrained
    scale: Scale
    mean: Sequence[float]
    std: Sequence[float]
    allowed: Callable[[Arch, Scale, Counts], bool]
    precision: str = "fp32"
    seed: int = 0
    cache: Path | None = None
    say: Callable[[str], None] = lambda text: None
    searches: bool = True
    alone: bool = True
    smaller: bool = False
    seen: list[Seen] = field(default_factory=list)
    beyond: list[Seen] = field(default_factory=list)
    least: dict[str, int] = field(default_factory=dict)
    longest: dict[tuple[str, int], Seen] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    _features: dict[tuple[str, int, bool], Mapping[int, NDArray[np.float16]]] = field(default_factory=dict)
    _labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _trunks: dict[str, Any] = field(default_factory=dict)  # while images are looked at
    _images: int = ENOUGH_IMAGES
    _first: list[Proposal] = field(default_factory=list)
    _looked: set[tuple[str, int]] = field(default_factory=set)

    # -- before the race -----------------------------------------------------------------------------------------------

    def prepare(
        self, train: Pixels, validation: Pixels, seconds: float | None, noted: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.process_time, *, meet: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Looks at images with frozen backbones; returns what was seen, as JSON values, and proposes who enters first.

        Args:
            train: training images.
            validation: on which probes are compared.
            seconds: for this and the race; None = it must repeat exactly, and the clock decides nothing.
            noted: what this returned before an interruption.
            now: the clock.
            meet: whether networks at several resolutions can be compared by training them.

        Raises:
            InfeasibleError: where no cut is within the limits and nothing else takes part.
        """
        if noted is None:
            plan = self._plan(train, validation, seconds, now, meet=meet)
            noted = {"rows": plan.rows, "judged": plan.judged, "resolutions": None}
        seconds, meet = noted.get("seconds", seconds), noted.get("meet", meet)  # an interrupted race has less left and goes on as it began
        rows, judges, done = int(noted["rows"]), int(noted.get("judged", MOST_VALIDATION)), noted["resolutions"]
        shown, judged = (
            part.fraction(min(1.0, number / len(part)), self.seed) for part, number in ((train, rows), (validation, judges))
        )
        self._labels, self._images = shown.labels.cpu().numpy(), len(train)
        parts = [(part, pixels_digest(part, (*self.mean, *self.std))) for part in (shown, judged)]
        looked: list[list[Any]] = []
        for name in self.space.backbones:
            sides = plan.sides if done is None else [r for b, r, _ in done if b == name]
            looked += self._look(name, parts, sides, None if done is not None or seconds is None else self._allowance(seconds), now)
        self._trunks.clear()
        costs = {(b, r): cost for b, r, cost in (looked if done is None else done)}
        self._looked = set(costs)
        self._probe(shown, judged, costs)
        self._first = self._proposals(seconds, meet)
        return {"rows": rows, "judged": judges, "resolutions": [[b, r, cost] for (b, r), cost in costs.items()], "seconds": seconds, "meet": meet}

    def _plan(self, train: Pixels, validation: Pixels, seconds: float | None, now: Callable[[], float], *, meet: bool) -> Looks:
        """Returns what is looked at; a race that must repeat exactly has no clock: two resolutions, and as many images as are ever probed."""
        sides = self._ladder()
        if seconds is None:
            return Looks(sides[:2], min(len(train), MOST_IMAGES), min(len(validation), MOST_VALIDATION))
        name = self.space.backbones[0]
        trunk = self._trunk(name)
        few = train.fraction(min(1.0, TIMED / len(train)), self.seed).resized(min(train.image_size, sides[0]))
        cost = an_image(trunk, self._shown(name, sides[0]), few, now, precision=self.precision)
        return looks(sides, cost, seconds, self._allowance(seconds), len(train), len(validation), meet=meet)

    def _allowance(self, seconds: float) -> float:
        """Returns what looking with one backbone may take of the time."""
        return PROBE_SHARE * seconds / len(self.space.backbones)

    def _shown(self, name: str, side: int) -> Shown:
        """Returns what makes normalised images what a backbone was shown, at so many pixels."""
        from archduel.spaces.pretrained.member import Shown

        shown = Shown(self.scale.in_channels, self._scale(side).image_size, side)
        shown.between(self.mean, self.std, backbone(name))
        return shown

    def _look(
        self, name: str, parts: Sequence[tuple[Pixels, str]], sides: Sequence[int], allowance: float | None, now: Callable[[], float]
    ) -> list[list[Any]]:
        """Makes the features of one backbone at rising resolutions; returns backbone, resolution and seconds an image of each.

        Args:
            name: of the backbone.
            parts: training images, then validation images, each with a digest.
            sides: the resolutions in pixels.
            allowance: seconds that this may take, None = the clock decides nothing.
            now: the clock.
        """
        trunk, digest = self._trunk(name), self._digest(name)
        number = sum(len(images) for images, _ in parts)
        made: list[list[Any]] = []
        for side in sides:
            if allowance is not None and made and made[-1][2] * (side / made[-1][1]) ** 2 * number > LATE * allowance:
                break
            began, cost = now(), 0.0
            for place, (images, pixels) in enumerate(parts):
                found = self._of(trunk, name, (pixels, digest), images, side, now)
                self._features[name, side, place == 0] = {blocks: made for blocks, made in found.items() if blocks > 0}
                cost += float(found[SECONDS][0, 0])  # of when they were made: what the cache has costs nothing, training still does
            cost /= number
            allowance = None if allowance is None else allowance - (now() - began)
            made.append([name, side, cost])
        return made

    def _ladder(self) -> tuple[int, ...]:
        return ladder(self.scale.image_size, self.space.resolutions or RESOLUTIONS)

    def _digest(self, name: str) -> str:
        """Returns what tells these weights from others."""
        weights = self._published(name)
        digest = hashlib.blake2b(digest_size=16)
        for key in sorted(weights):
            digest.update(key.encode())
            digest.update(weights[key].numpy().tobytes()[:4096])
        return digest.hexdigest()

    def _trunk(self, name: str) -> Any:
        """Returns a backbone, built once for its speed and for what it sees."""
        if name not in self._trunks:
            self._trunks[name] = load(name, weights=self._published(name))
        return self._trunks[name]

    def _published(self, name: str) -> dict[str, Tensor]:
        """Returns the weights of a backbone, read once."""
        if name not in self._weights:
            self._weights[name] = weights_of(name, cache=self.cache)
        return self._weights[name]

    def _of(
        self, trunk: Any, name: str, digests: tuple[str, str], images: Pixels, side: int, now: Callable[[], float]
    ) -> Mapping[int, NDArray[Any]]:
        """Returns the features of the images, and under :data:`SECONDS` how long it took to make them."""
        shown = self._shown(name, side)
        large = images.image_size > side
        key = *digests, side, f"{self.precision}, with seconds{', made smaller' if large else ''}"

        def make() -> Mapping[int, NDArray[Any]]:
            seen, began = images.once_at(side) if large else images, now()
            made = frozen_features(trunk, shown, seen, precision=self.precision)
            return {**made, SECONDS: np.array([[min(now() - began, MOST_SECONDS)]], np.float16)}

        found = cached_features(key, make, cache=self.cache)
        assert found is not None
        return found

    def _probe(self, train: Pixels, validation: Pixels, costs: Mapping[tuple[str, int], float]) -> None:
        """Compares all cuts that the limits allow."""
        answers = validation.labels.cpu().numpy()
        for (name, side), cost in costs.items():
            features = self._features[name, side, True]
            held_out = self._features[name, side, False]
            most = self._most(name, side, sorted(features))
            for blocks in features:
                fits = blocks <= most and prefix(name, side, blocks) is not None
                if fits or blocks == max(features):  # the whole backbone may be a teacher where it is above the limits
                    probe = ridge_probe(features[blocks], self._labels, held_out[blocks], answers, self.scale.n_classes)
                    (self.seen if fits else self.beyond).append(Seen(name, side, blocks, probe.accuracy, probe.score, cost, len(answers), probe.evidence))
        if self.seen:
            best = max(self.seen, key=lambda seen: seen.score)
            self.say(
                f"frozen features: {named(arch_of(prefix_of(best)))} and a linear probe are right on {best.accuracy:.1%} of the validation images"
            )
        else:
            self.say("frozen features: no part of a pretrained network is within the limits without being thinned")

    def _most(self, name: str, side: int, cuts: Sequence[int]) -> int:
        """Returns the most blocks of a backbone that the limits allow at a resolution, 0 where none are; ``cuts`` rise.

        More blocks never cost less of anything, and where latency is measured or a graph is looked at an answer takes a quarter of a second:
        a few are asked for, not all.
        """

        def above(blocks: int) -> bool:
            plan = prefix(name, side, blocks)
            return plan is not None and self.sized(arch_of(plan)) is None

        place = bisect.bisect_left(cuts, True, key=above)
        return cuts[place - 1] if place else 0

    # -- who enters ----------------------------------------------------------------------------------------------------

    def first(self) -> Sequence[Proposal]:
        """Returns who enters first: plain fine-tuning, and the same at other resolutions and with other cuts."""
        return self._first

    def _proposals(self, seconds: float | None, meet: bool = True) -> list[Proposal]:
        plans: list[tuple[str, Plan]] = []
        for name, (centre, most) in self._centres(seconds, meet).items():
            here = [seen for seen in self.seen if seen.backbone == name]
            longest = _longest(here)
            sides = sorted(longest)
            largest, at = longest[centre].blocks, sides.index(centre)
            others = [side for side in sides[at + 1 : at + 2] if side <= most and (meet or self.smaller)]
            whole = prefix(name, centre, largest)
            assert whole is not None
            plans.append(("tuned", whole))
            plans += [("search", plan) for plan in (prefix(name, side, largest) for side in others) if plan is not None]
            best = max((seen for seen in here if seen.resolution == centre), key=lambda seen: seen.score)
            if not self.smaller:
                self.least[name] = centre
                self.longest |= {(name, side): each for side, each in longest.items()}
            if best.blocks != largest and self.sized(arch_of(prefix_of(best))) is not None:
                plans.append(("search", prefix_of(best)))
        if meet or self.smaller or not plans:
            plans += [("search", plan) for plan in self._thinned()]
        if not self.searches:
            plans = plans[:1]
        return [Proposal(role, arch_of(plan)) for role, plan in plans]

    def _centres(self, seconds: float | None, meet: bool) -> dict[str, Forecast]:
        """Returns where fine-tuning each backbone that enters begins, the one whose frozen features say most there first.

        Larger networks learn more slowly to begin with, as larger images do, so others stay out: where networks can be compared by training them those that
        say less by :data:`MORE`, else all. They may still be teachers. Where the clock decides nothing, and for fronts of sizes, all enter.
        """
        found: dict[str, Forecast] = {}
        says: dict[str, float] = {}
        for name in self.space.backbones:
            if longest := _longest([seen for seen in self.seen if seen.backbone == name]):
                found[name] = self._centre(longest, seconds, meet=meet)
                says[name] = longest[found[name].first].says
        order = sorted(found, key=lambda name: -says[name])
        enter = order if self.smaller or seconds is None else [name for name in order if says[name] > says[order[0]] - MORE][: None if meet else 1]
        self.outside = set(order) - set(enter)
        if self.outside:
            self.say(f"frozen features of {' and '.join(enter)} say most at the resolution that the time allows; {', '.join(sorted(self.outside))} stays out")
        return {name: found[name] for name in enter}

    def _centre(self, longest: Mapping[int, Seen], seconds: float | None, *, meet: bool) -> Forecast:
        """Returns at which resolution fine-tuning what is kept begins, of the probe of most blocks at each."""
        shown = None if seconds is None else {side: images_in(seconds, self._cost(each), meet=meet) for side, each in longest.items()}
        return forecast({side: each.says for side, each in longest.items()}, shown, enough_images(self._images))

    def _cost(self, seen: Seen) -> float:
        """Returns the seconds of a pass for one image through what is kept; the pass that was measured was through all blocks."""
        plans = prefix_of(seen), full(backbone(seen.backbone), seen.resolution, 1.0)
        cut, whole = (count(arch_of(plan), self._scale(seen.resolution)).macs for plan in plans)
        return seen.seconds * min(1.0, cut / whole)

    def _scale(self, resolution: int) -> Scale:
        """Returns input and classes of a network that works at a resolution; images are never larger than it looks at them."""
        return Scale(1, 1, min(self.scale.image_size, resolution), self.scale.in_channels, self.scale.n_classes)

    def teacher(self, pupil: Arch, reached: float, seconds: float, n: int) -> tuple[Arch, Scale] | None:
        """Returns a whole backbone above the limits whose frozen features, at some resolution, come to more than ``reached``.

        See :class:`archduel.race.teaching.Teacher`. It is fine-tuned at the resolution that the time allows, where its frozen features
        may say less (66 % at 64 px became 85 % in 100 s). A part of a backbone is compared by what its own frozen features come to, for
        it was already fine-tuned when it ``reached`` more, and learns only from one that is better by :data:`CLEARLY`.
        """
        if not self.searches:
            return None  # plain fine-tuning learns from nobody
        if pupil.space == self.space.name:
            reached = 1.0 if (probe := self.foretold(pupil)) is None else probe.accuracy + CLEARLY
        able = {seen.backbone for seen in self.beyond if seen.accuracy > reached}
        passes = {seen: seconds / (FINE_TUNING * max(seen.seconds, 1e-9) * n) for seen in self.beyond if seen.backbone in able}
        soon = [seen for seen, number in passes.items() if number >= max(LEAST_LESSONS, enough_images(n) / n)]
        if not soon:
            return None
        arch = arch_of(prefix_of(max(soon, key=lambda seen: (seen.score, seen.resolution))))
        return arch, self._scale(plan_of(arch).resolution)

    def _thinned(self) -> list[Plan]:
        """Returns for each backbone the widest network of all stages that is within the limits only when thinned."""
        plans: list[Plan] = []
        for name in self.space.backbones:
            source, side = backbone(name), self.least.get(name, self._ladder()[0])
            if self._within(arch_of(full(source, side, 1.0))) is None:
                thinner = (full(source, side, width) for width in WIDTHS if width != 1)
                plans += islice((plan for plan in thinner if self.sized(arch_of(plan)) is not None), 1)
        if not plans and not self.seen:
            plans = [plan_of(arch) for arch in smallest(self.space, self.scale, self._fits, self.seed, alone=self.alone)]
        return plans

    def check(self) -> None:
        """Raises InfeasibleError where no part of a backbone is within the limits, as far as the smallest of 400 random ones show."""
        refuse_impossible(self.space, self.scale, self._fits, self.seed)

    def _fits(self, arch: Arch) -> bool:
        return self.sized(arch) is not None

    def sized(self, arch: Arch) -> tuple[Scale, Counts] | None:
        """Returns input, classes and cost of an architecture; None above the limits, at a resolution that the time does not allow, or at a smaller one
        than the forecast says."""
        plan = plan_of(arch)
        if self._looked and (plan.backbone, plan.resolution) not in self._looked:
            return None
        if plan.backbone in self.outside or plan.resolution < self.least.get(plan.backbone, 0) or not self._is_long(arch, plan):
            return None
        return self._within(arch)

    def _within(self, arch: Arch) -> tuple[Scale, Counts] | None:
        """Returns input, classes and cost of an architecture, None above the limits."""
        scale = self._scale(plan_of(arch).resolution)
        counts = count(arch, scale)
        return (scale, counts) if self.allowed(arch, scale, counts) else None

    def _is_long(self, arch: Arch, plan: Plan) -> bool:
        """Whether no more blocks could be kept, or fewer are clearly better."""
        longest = self.longest.get((plan.backbone, plan.resolution))
        if longest is None or not plan.is_prefix or len(plan.kept) + (plan.head == "neck") >= longest.blocks:
            return True
        return (probe := self.foretold(arch)) is not None and probe.score > longest.score + SHORTER

    # -- opening -------------------------------------------------------------------------------------------------------

    def open(self, arch: Arch, scale: Scale, images: Pixels, seed: int, *, fresh: bool) -> nn.Module:
        """Returns the network with the backbone's weights, and where it is fresh a head that a linear probe found.

        Args:
            arch: what it is.
            scale: of :meth:`sized`.
            images: of the training, at the size of ``scale``.
            seed: of what is drawn.
            fresh: whether it is about to be trained; else saved weights will replace these.
        """
        import torch

        plan = plan_of(arch)
        weights = self._published(plan.backbone)
        model = member(arch, scale, self.mean, self.std, generator=torch.Generator().manual_seed(seed), weights=weights)
        if fresh:
            self._begin(model, plan, images)
        model.tune()
        return model

    def foretold(self, arch: Arch) -> Seen | None:
        """Returns what a probe of a network's frozen features came to; None for one whose insides are changed."""
        return next((seen for seen in self.seen if arch_of(prefix_of(seen)) == arch), None)

    def _begin(self, model: Member, plan: Plan, images: Pixels) -> None:
        """Measures the norms of a network whose insides were changed, and gives it a head."""
        import torch

        known = self._features.get((plan.backbone, plan.resolution, True))
        blocks = len(plan.kept) + (plan.head == "neck")
        if plan.is_prefix and known is not None:
            made, labels = known[blocks], self._labels
        else:
            few = images.fraction(min(1.0, CALIBRATION / len(images)), self.seed)
            if not plan.is_prefix:
                measure_norms(model, few)
            made, labels = own_features(model, few, precision=self.precision), few.labels.cpu().numpy()
        features = torch.from_numpy(made).float()
        with torch.no_grad():
            if model.head.hidden is not None:
                features = model.head.hidden(features)
            weight, bias = logistic_head(features.numpy(), labels, self.scale.n_classes)  # type: ignore[arg-type]
            model.head.classifier.weight.copy_(weight)
            model.head.classifier.bias.copy_(bias)

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        """Returns how a pretrained network is trained, where others are trained with ``recipe``."""
        plan = plan_of(arch)
        side, parts = self._scale(plan.resolution).image_size, len(plan.kept) + (plan.head == "neck") + 2
        return recipe.with_(**TUNING, lr=min(LARGEST_RATE, RATE / parts), image_size=side, crop_pad=max(1, round(side / 8)))

    def named(self, arch: Arch) -> str:
        """Returns a name for people."""
        return named(arch)
