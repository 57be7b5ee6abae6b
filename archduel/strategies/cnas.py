"""CNAS: a curriculum over search spaces, operation by operation.

Guo, Chen, Zheng, Zhao, Chen, Huang, Tan: "Breaking the Curse of Space Explosion: Towards Efficient NAS with Curriculum
Search", ICML 2020.

    paper               here
    Omega_i             stages[i]           masks over the decisions of one space
    O_1 ... O_K         order               operations, the first has weights
    w                   shared              the weights, learned on the training images
    pi(.; theta)        policy              one for all stages
    R(a, w)             shared.estimate     accuracy on a batch of validation images
    lambda              entropy

Deviations from the paper (P) and the released code (R):
 1. The final choice, and that of every stage, is made on validation images with recalibrated batch norm (R: on the test set, batch
    norm never in evaluation mode).
 2. The policy's head covers all operations from the start and the stage masks it (R: 4 of the 8 can never be chosen).
 3. w learns before theta in each epoch, as in R (P lists theta first).
 4. The moving average of rewards starts at the first reward (P and R do not say; R's moves before it is used, as here).
 5. ``grow="nodes"`` gives nodes that are not there yet the operation ``none``; ``grow="fixed"`` is the control: all stages have the
    whole space, so it takes as many epochs (P: the stage's space from scratch; R: one stage only).
 6. w learns from every draw; a draw that the constraint forbids has reward 0 and is never chosen.
 7. Added: ``verify`` of the best candidates are evaluated on their own in the end.
 8. The policy is one LSTM of 128 for both cells, whose nodes are picked by a linear head (R: two of 128, picked by attention); it reads
    which kind of question comes next.
 9. The option ``batches`` makes an epoch a part of a pass; ``batch`` architectures share a policy update (P and R: 1).
10. Added: ``judged_by="joint"`` (the default) chooses by accuracy, loss and multiply-adds together; ``score`` is P's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Cost,
    Decision,
    Policy,
    Prices,
    Probe,
    Query,
    SharedEstimator,
    Space,
    State,
    StepReport,
    decisions,
    sample,
)
from archduel.core.space import Allowed, WordedSpace
from archduel.errors import SettingError, check_at_least, check_below_one, check_positive, unknown
from archduel.strategies.one_shot import OneShot, distinct_draws, feasible, fewer_updates, within

__all__ = ["CNAS", "growing_options", "node_stages", "numbered", "operation_stages", "random_order"]

# -- Stages of a growing search space, as masks over the decisions of one space (CNAS) ----------------------------------


FIRST = ("sep_conv_3x3", "nor_conv_3x3")
"""What the first stage has, by name: an operation with weights."""
PROBES = 64  # random architectures that are looked at to find the decisions of a space
NODE = re.compile(r"(?:^|/)node(\d+)(?:/|$)")


def _met(space: Space, kind: str) -> dict[str, Decision]:
    """Returns the decisions of ``kind`` that random architectures meet, by name."""
    if kind not in space.kinds:
        raise SettingError(f"space {space.name} has no decisions of kind {kind!r}, it has {', '.join(space.kinds)}")
    rng = np.random.default_rng(0)
    met = (d for _ in range(PROBES) for d in decisions(space, sample(space, rng).choices))
    return {d.name: d for d in met if d.kind == kind}


def growing_options(space: Space, kind: str) -> tuple[list[int], list[int]]:
    """Returns the options of ``kind`` between which there is a choice, and those that are only ever forced; ascending.

    Raises:
        SettingError: for a kind that the space does not have, or without any choice.
    """
    met = _met(space, kind).values()
    free = {option for d in met if len(d.options) > 1 for option in d.options}
    if not free:
        raise SettingError(f"kind {kind!r} of space {space.name} leaves no choice, so nothing can grow")
    return sorted(free), sorted({option for d in met for option in d.options} - free)


def numbered(space: Space, kind: str, names: Sequence[str | int]) -> list[int]:
    """Returns the options that ``names`` (names or numbers) mean.

    Raises:
        UnknownNameError: for a name or number that is no option of ``kind``.
        SettingError: for none, or one named twice.
    """
    known, _ = growing_options(space, kind)
    words = {str(option): option for option in known}
    if isinstance(space, WordedSpace):
        words = {space.words(kind)[option]: option for option in known} | words
    if isinstance(names, str) or not names:
        raise SettingError(f"order must be a list of operations, got {names!r}; the space has {', '.join(words)}")
    for name in names:
        if str(name) not in words:
            raise unknown("operation", str(name), words)
    found = [words[str(name)] for name in names]
    if len(set(found)) < len(found):
        raise SettingError(f"order names an operation twice: {', '.join(map(str, names))}")
    return found


def random_order(space: Space, kind: str, rng: np.random.Generator) -> list[int]:
    """Returns all options in a random order, but one with weights first (the last option where options have no names)."""
    known, _ = growing_options(space, kind)
    words = space.words(kind) if isinstance(space, WordedSpace) else ()
    first = next((words.index(name) for name in FIRST if name in words and words.index(name) in known), known[-1])
    rest = [option for option in known if option != first]
    return [first, *(rest[i] for i in rng.permutation(len(rest)).tolist())]


def operation_stages(space: Space, kind: str, order: Sequence[int]) -> list[Allowed]:
    """Returns masks that allow the first 1, 2, ... options of ``order``."""
    _, forced = growing_options(space, kind)
    return [{kind: sorted([*order[:n], *forced])} for n in range(1, len(order) + 1)]


def node_stages(space: Space, kind: str, idle: str) -> list[Allowed]:
    """Returns masks that allow the first 1, 2, ... nodes of each cell; later ones have the operation ``idle`` only.

    Raises:
        SettingError: for a space without numbered nodes, or whose nodes cannot be idle.
    """
    met = [(found, d) for d in _met(space, kind).values() if (found := NODE.search(d.name))]
    if not met:
        raise SettingError(f"space {space.name} cannot grow by nodes: its decisions have no names such as normal/node2/op0")
    words = space.words(kind) if isinstance(space, WordedSpace) else ()
    if idle not in words or any(words.index(idle) not in d.options for _, d in met):
        raise SettingError(
            f"growing by nodes needs the operation {idle!r} in space {space.name}, for nodes that are not there yet; "
            "the DARTS space has it with preset=cnas"
        )
    nodes = sorted({int(found[1]) for found, _ in met})
    late = [[d.name for found, d in met if int(found[1]) > node] for node in nodes]
    return [{name: (words.index(idle),) for name in names} for names in late]


GROWTH = ("operations", "nodes", "fixed")


class CNAS(OneShot):
    """Learns weights and policy in a space that grows from stage to stage; both are kept.

    Args:
        policy: the distribution that is trained.
        shared: the weights.
        rng: the randomness of the order of operations and of warm-ups.
        generator: the randomness of the policy's draws.
        constraint: which architectures may be chosen.
        grow: ``operations`` (the paper's), ``nodes`` or ``fixed`` (the control).
        kind: the kind of decision whose options are the operations.
        order: operations (names or numbers) in the order of the stages, those left out are never searched; None = random.
        warmup_epochs: of w alone with uniform sampling, at the beginning of a stage.
        stage_epochs: of w and theta, after the warm-up.
        batches: training batches, and at most validation batches, of an epoch; 0 = a whole pass.
        batch: architectures a policy update.
        lr: Adam's learning rate for the policy.
        weight_decay: Adam's, for the policy.
        grad_clip: largest gradient norm of the policy, 0 = off.
        entropy: weight of the entropy bonus.
        momentum: of the moving average of rewards.
        uniform: whether w learns from uniform architectures after the warm-up too.
        candidates: architectures drawn at the end of a stage, the best of which is the stage's choice.
        verify: candidates that are evaluated on their own in the end.
        judged_by: what the choice among candidates goes by: ``joint``, shared weights and multiply-adds, or the ``score`` alone (the paper's).

    Raises:
        UnknownNameError: for an operation in ``order`` that the space does not have.
        SettingError: for numbers out of range, or a space that cannot grow so.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"policy": {"name": "lstm", "hidden": 128}}
    schedule: ClassVar[str] = "constant"
    probe: ClassVar[Probe] = Probe("reward", {"warmup_epochs": 0, "stage_epochs": 3, "batches": 4}, 4)

    def __init__(
        self,
        space: Space,
        policy: Policy,
        shared: SharedEstimator,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        grow: str = "operations",
        kind: str = "op",
        order: Sequence[str | int] | None = None,
        warmup_epochs: int = 20,
        stage_epochs: int = 40,
        batches: int = 0,
        batch: int = 1,
        lr: float = 3e-4,
        weight_decay: float = 5e-4,
        grad_clip: float = 5.0,
        entropy: float = 5e-3,
        momentum: float = 0.99,
        uniform: bool = False,
        candidates: int = 10,
        verify: int = 0,
        judged_by: str = "joint",
    ) -> None:
        if grow not in GROWTH:
            raise SettingError(f"grow is {grow!r}, expected one of {', '.join(GROWTH)}")
        check_at_least(0, warmup_epochs=warmup_epochs, batches=batches)
        check_at_least(1, stage_epochs=stage_epochs, batch=batch, candidates=candidates)
        check_positive(lr=lr)
        check_below_one(momentum=momentum)
        super().__init__(space, shared, constraint, verify, judged_by)
        self.policy, self.rng, self.generator, self.grow, self.decision_kind = policy, rng, generator, grow, kind
        self.warmup_epochs, self.stage_epochs, self.batch, self.candidates = warmup_epochs, stage_epochs, batch, candidates
        self.entropy, self.momentum, self.grad_clip, self.uniform = entropy, momentum, grad_clip, uniform
        self.batches = batches or shared.n_batches("train")
        self.checks = min(self.batches, shared.n_batches("validation")) if batches else shared.n_batches("validation")
        self.order = [] if order is None else numbered(space, kind, order)
        self._idle_stages = node_stages(space, kind, "none") if grow == "nodes" else []
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=lr, weight_decay=weight_decay)
        self.epoch = 0
        self.baseline: float | None = None

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices) -> dict[str, Any]:
        """Returns settings: each stage an equal share, a third of it warm-up."""
        stages, n = cls._n_stages(allowance), allowance.batches
        candidates = within(3, 0.1 * allowance.work / (stages * prices.score), 10)
        left = max(0.5 * allowance.work, allowance.work - stages * candidates * prices.score)
        each = left / (stages * (3 * prices.learn + 2 * prices.reward))  # one epoch of warm-up, two of both
        warmup = within(1, each / n, 20)
        batches = within(2, each / warmup, n)
        lr = fewer_updates(2 * warmup * stages * batches, paper=100_000, farthest=3e-3)
        return {"warmup_epochs": warmup, "stage_epochs": 2 * warmup, "batches": batches, "lr": lr, "candidates": candidates}

    @classmethod
    def learns(cls, settings: Mapping[str, Any], allowance: Allowance) -> int:
        """Returns the batches of all stages."""
        each = settings["batches"] or allowance.batches
        return int(cls._n_stages(allowance) * (settings["warmup_epochs"] + settings["stage_epochs"]) * each)

    @classmethod
    def judges(cls, settings: Mapping[str, Any], allowance: Allowance, validation: int) -> int:
        """Returns the validation batches of all rewards and choices."""
        each = min(settings["batches"] or validation, validation)
        return int(cls._n_stages(allowance) * (settings["stage_epochs"] * each + settings["candidates"] * validation))

    @classmethod
    def _n_stages(cls, allowance: Allowance) -> int:
        given, space = allowance.given, allowance.space
        assert space is not None
        if given.get("grow") == "nodes":
            return len(node_stages(space, given.get("kind", "op"), "none"))
        return len(given.get("order") or ()) or len(growing_options(space, given.get("kind", "op"))[0])

    @property
    def stages(self) -> list[Allowed]:
        """The masks Omega_1, Omega_2, ..."""
        if self.grow == "nodes":
            return self._idle_stages
        grown = operation_stages(self.space, self.decision_kind, self.order)
        return grown if self.grow == "operations" else [grown[-1]] * len(grown)

    def step(self) -> StepReport | None:
        """Makes one epoch (Algorithm 1): of w alone while a stage warms up, of w and theta after that; None when finished."""
        if self.closing.any is None:
            self._begin()
        per_stage, stages = self.warmup_epochs + self.stage_epochs, self.stages
        stage, place = divmod(self.epoch, per_stage)
        if stage == len(stages):
            return None
        omega, warm = stages[stage], place < self.warmup_epochs
        cost = self.shared.learn(self._draws(omega, uniform=warm or self.uniform), self.batches)
        metrics: dict[str, float] = {"stage": stage + 1, "warmup": float(warm), "stage_done": float(place == per_stage - 1)}
        if not warm:
            learned, paid = self._improve_policy(omega)
            metrics, cost = metrics | learned, cost + paid
        self.epoch += 1
        if place == per_stage - 1:
            cost += self._choose(omega, last=stage + 1 == len(stages))
        return StepReport(metrics | {"epoch": self.epoch, "done": self.epoch / (per_stage * len(stages))}, Cost(images=cost.images))

    def _begin(self) -> None:
        """Draws the order of operations, and an architecture to name before any is judged."""
        self.order = self.order or random_order(self.space, self.decision_kind, self.rng)
        self.closing.any = sample(self.space, self.rng, self.constraint)

    def _draws(self, omega: Allowed, *, uniform: bool) -> Iterator[Arch]:
        """Yields an architecture a batch: uniform in Omega_i or from the policy."""
        if uniform:
            while True:
                yield sample(self.space, self.rng, allowed=omega)
        with torch.no_grad():  # closed before the first yield, or the weights would learn without gradients
            archs = self.policy.draw(self.batches, self.generator, allowed=omega).archs
        yield from archs

    def _improve_policy(self, omega: Allowed) -> tuple[dict[str, float], Cost]:
        """One pass of REINFORCE over validation batches (Algorithm 1, the update of theta); returns metrics and cost."""
        rewards, entropies, cost = [], [], Cost()
        for _ in range(max(1, self.checks // self.batch)):
            draw = self.policy.draw(self.batch, self.generator, allowed=omega)
            scores, paid = self._rewards(draw.archs)
            advantage = draw.log_prob.new_tensor([score - self._moved(score) for score in scores])
            self.optimizer.zero_grad()
            (-(draw.log_prob * advantage + self.entropy * draw.entropy).mean()).backward()
            if self.grad_clip:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.grad_clip)
            self.optimizer.step()
            rewards += scores
            entropies.append(float(draw.entropy.detach().mean()))
            cost += paid
        return {"reward": float(np.mean(rewards)), "entropy": float(np.mean(entropies))}, cost

    def _rewards(self, archs: Sequence[Arch]) -> tuple[list[float], Cost]:
        """Returns R(a, w) of each architecture on the next validation batch; 0 for a forbidden one or a failure."""
        queries = [Query(arch, "batch") for arch in archs if self._allows(arch)]
        estimates = self.shared.estimate(queries) if queries else []
        found = {q.arch: 0.0 if e.failed else e.score for q, e in zip(queries, estimates)}
        return [found.get(arch, 0.0) for arch in archs], sum((e.cost for e in estimates), Cost())

    def _allows(self, arch: Arch) -> bool:
        return feasible(self.space, arch, self.constraint)

    def _moved(self, reward: float) -> float:
        """Returns the moving average after it took ``reward`` in."""
        before = reward if self.baseline is None else self.baseline
        self.baseline = self.momentum * before + (1 - self.momentum) * reward
        return self.baseline

    def _choose(self, omega: Allowed, *, last: bool) -> Cost:
        """Judges draws of the policy on validation images; the best is the stage's choice, in the end the search's."""
        found = distinct_draws(self.policy, self.candidates, self.generator, omega, self._allows)
        if not found and last:
            found = [sample(self.space, self.rng, self.constraint) for _ in range(self.candidates)]
        cost = self.closing.judge(self.shared, found) if found else Cost()
        if last:
            self.closing.finish()
        return cost

    def state_dict(self) -> State:
        """Returns all that changes, the shared weights included."""
        state = super().state_dict() | {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"order": self.order, "epoch": self.epoch, "baseline": self.baseline}
        return deepcopy(state | {"rng": self.rng.bit_generator.state, "generator": self.generator.get_state()})

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order, self.epoch, self.baseline = list(state["order"]), state["epoch"], state["baseline"]
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
