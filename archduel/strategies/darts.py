"""DARTS: the architecture as weights of a mixture, learned by gradient descent.

Liu, Simonyan, Yang: "DARTS: Differentiable Architecture Search", ICLR 2019.

    paper               here
    alpha               alphas              one matrix (edges, operations) for each kind of cell
    w                   shared.supernet     moved by shared.update
    xi                  shared.lr           step size of the virtual step; order=1 sets it to 0
    epsilon             RADIUS / ||grad of L_val with respect to w'||

The default draws the mixture, ``variant="dirichlet"``: Chen, Wang, Cheng, Tang, Hsieh: "DrNAS: Dirichlet Neural Architecture Search", ICLR 2021.

    beta                concentration       elu(alpha) + 1, 1 at the start: the weights of an edge are uniform on the simplex
    theta               _weights            drawn from Dirichlet(beta) anew for each batch; gradients go through the draw
    lambda d(beta, 1)   weight_decay        Adam's, which pulls alpha to 0 and so beta to 1 (their l2)

Deviations:
 1. The virtual step is w - xi (grad + weight_decay w + momentum v), as in the authors' code; the paper's equation 7 has the
    gradient alone. The finite difference (equation 8) is taken at w, before the virtual step, and w is put back bit by bit.
 2. The real step of w is the shared estimator's, which is Nesterov's and clips.
 3. The derived cell is the supernet's ``derive`` of the mixture's mean, which never holds ``none`` (P's rule for its own space). It and
    cells derived from alphas with Gumbel noise are judged with the shared weights, and the first by accuracy, loss and multiply-adds
    is named. ``variant="paper"`` names the derived cell unless the constraint forbids it, with ``none`` where the space's supernet
    derives it (as NAS-Bench-201's DARTS does); the others follow by their score. ``judged`` has P's mixture and ends as the default does.
 4. A derived cell whose output does not depend on its input is not named (P names whatever is derived); the first cell of noisy alphas
    that is none takes its place, and the last step's metrics say so (``constant``). Nor is one named that scores no better with the shared
    weights than a guess while another candidate does (``guesses``).
 5. Added: ``beta_decay`` (Ye et al.: "beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search", CVPR 2022): L_val gets the mean
    over the edges of log sum exp alpha, with a weight that rises linearly to this number over the epochs (they: 50); 0, DARTS, is the default.
 6. Added: ``verify`` of the finalists are evaluated on their own in the end (P: the best of four searches).
 7. Of DrNAS there is the distribution alone: no partial channels, no pruning in the middle. ``none``, which no cell that is named holds,
    is not mixed (they: mixed). First order, as theirs; alpha's learning rate is ours (they: 6e-4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Cost,
    MixingSupernet,
    Prices,
    Probe,
    SharedEstimator,
    Space,
    State,
    StepReport,
    sample,
)
from archduel.errors import InfeasibleError, SettingError, check_at_least, check_positive
from archduel.strategies.one_shot import OneShot, epochs_within, feasible, fewer_updates, ignores_input
from archduel.strategies.rounds import first_distinct

__all__ = ["DARTS"]

RADIUS = 0.01
FARTHEST = -10.0
"""Below this alpha the concentration stays at 5e-5: elu(-20) + 1 is 0 in float32, of which there is no distribution."""
LEAST = 1e-30
"""Below any sum of gamma draws that matters: where all of an edge underflow, its operations get nothing instead of nan."""
Batch = tuple[Tensor, Tensor]


def concentration(alpha: Tensor) -> Tensor:
    """Returns beta, positive and of the shape of ``alpha``, 1 where alpha is 0 (DrNAS's code)."""
    return F.elu(alpha.clamp_min(FARTHEST)) + 1


def dirichlet(alpha: Tensor, mixed: Tensor, generator: torch.Generator) -> Tensor:
    """Returns weights (edges, operations) drawn from a Dirichlet distribution an edge, differentiable for ``alpha``; each row sums to 1.

    Args:
        alpha: (edges, operations).
        mixed: (operations,), 1 for those that take part; the others get 0.
        generator: of the draw.
    """
    # gamma draws over their sum; torch's own Dirichlet would draw from the global generator
    drawn = torch._standard_gamma(concentration(alpha).to(generator.device), generator=generator).to(alpha.device) * mixed
    return drawn / drawn.sum(1, keepdim=True).clamp_min(LEAST)


class DARTS(OneShot):
    """Descends on alpha with validation batches and on w with training batches, in turns.

    Args:
        shared: the weights; its supernet must be able to mix.
        generator: the randomness of the first alphas and of the candidates.
        constraint: which architectures are allowed.
        order: 2 differentiates through a step of w, 1 does not; 0 = as the variant's paper, 1 for ``dirichlet``, else 2.
        epochs: passes over the training batches.
        batches: of an epoch; 0 = a whole pass.
        lr: Adam's learning rate for alpha.
        weight_decay: Adam's, for alpha.
        beta_decay: weight that the decay of the mixture's weights reaches in the last epoch; 0 = none. Not for ``dirichlet``.
        candidates: architectures that are judged in the end, the derived one included.
        verify: of these, how many are evaluated on their own.
        variant: ``dirichlet``, a mixture drawn for each batch, whose cells are judged by shared weights and size; ``judged``, the
            same end for DARTS's softmax; ``paper``, DARTS: the cell that its softmax derives, whatever it is.

    Raises:
        SettingError: for a supernet that cannot mix, another variant, or numbers out of range.
    """

    probe: ClassVar[Probe] = Probe("mix", {"epochs": 3, "batches": 2}, 2)
    updates: ClassVar[int] = 19_500
    """Of alpha in the paper's search on CIFAR-10."""
    most_epochs: ClassVar[int] = 50
    variants: ClassVar[tuple[str, ...]] = ("dirichlet", "judged", "paper")

    def __init__(
        self,
        space: Space,
        shared: SharedEstimator,
        *,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        order: int = 0,
        epochs: int = 50,
        batches: int = 0,
        lr: float = 3e-4,
        weight_decay: float = 1e-3,
        beta_decay: float = 0.0,
        candidates: int = 5,
        verify: int = 0,
        variant: str = "dirichlet",
    ) -> None:
        if variant not in self.variants:
            raise SettingError(f"variant is {variant!r}, expected {' or '.join(map(repr, self.variants))}")
        if order not in (0, 1, 2):
            raise SettingError(f"order is {order}, expected 1, 2, or 0 for the variant's own")
        if beta_decay and variant == "dirichlet":
            raise SettingError(f"beta_decay is {beta_decay:g}: it is of a softmax, and this mixture is drawn; set variant='judged' or 'paper' with it")
        check_at_least(1, epochs=epochs, candidates=candidates)
        check_at_least(0, batches=batches, beta_decay=beta_decay)
        check_positive(lr=lr)
        if not isinstance(shared.supernet, MixingSupernet):
            raise SettingError(f"the supernet of space {space.name} cannot mix operations; search it with spos, cnas or relativenas")
        super().__init__(space, shared, constraint, verify, "score" if variant == "paper" else "joint")
        self.generator, self.variant, self._draw = generator, variant, 0
        self.order, self.epochs, self.candidates, self.beta_decay = order or self._order(variant), epochs, candidates, beta_decay
        self.batches = batches or shared.n_batches("train")
        self.supernet: MixingSupernet = shared.supernet
        device = next(iter(shared.supernet.parameters())).device
        self.alphas = {
            name: (1e-3 * torch.randn(shape, generator=generator, device=generator.device)).to(device).requires_grad_()
            for name, shape in self.supernet.mix_shapes.items()
        }
        self.optimizer = torch.optim.Adam(self.alphas.values(), lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)
        self.epoch = 0

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices) -> dict[str, Any]:
        """Returns settings: epochs of the mixture, and what judges five candidates in the end."""
        work = max(0.5 * allowance.work, allowance.work - 5 * prices.score)
        epochs, batches = epochs_within(work / prices.mix, allowance.batches, 25, cls.most_epochs)
        lr = fewer_updates(epochs * batches, paper=cls.updates, farthest=0.1)
        return {"epochs": epochs, "batches": batches, "lr": lr}

    @classmethod
    def mixing(cls, given: Mapping[str, Any], options: int) -> float:
        """Returns what a batch costs: all operations run, some of which cost nothing; second order takes three more passes."""
        order = given.get("order") or cls._order(given.get("variant", "dirichlet"))
        return max(1.0, 0.5 * options) * (5 if order == 2 else 2)

    @staticmethod
    def _order(variant: str) -> int:
        """Returns the order of the gradient in the paper of a variant."""
        return 1 if variant == "dirichlet" else 2

    def step(self) -> StepReport | None:
        """Makes one epoch (Algorithm 1); None when finished."""
        if self.epoch == self.epochs:
            return None
        train, validation = self.shared.batches("train"), self.shared.batches("validation")
        losses, images = 0.0, 0
        if self.closing.any is None:  # until a cell that may be named has been derived
            self.closing.any = self._some_cell()
        for _ in range(self.batches):
            batch = next(train)
            self._draw_anew()
            self._update_alphas(batch, next(validation))
            self._draw_anew()
            loss = self.shared.loss(self._weights(), batch)
            self.shared.update(loss)
            losses, images = losses + float(loss.detach()), images + len(batch[1])
        self.epoch += 1
        metrics = {"epoch": self.epoch, "done": self.epoch / self.epochs, "loss": losses / self.batches}
        if self._may_be_named(derived := self._derived()):
            self.closing.any = derived
        elif ignores_input(self.space, derived):
            metrics["constant"] = 1.0
        if self.epoch == self.epochs:
            self.closing.judge(self.shared, self._candidates())
            self.closing.finish()
            if self.closing.refused(derived):
                metrics["guesses"] = 1.0
        return StepReport(metrics | {"entropy": self.entropy(), "skips": self._skips()}, Cost(images=images))

    def _may_be_named(self, arch: Arch) -> bool:
        """Whether ``arch`` is allowed and looks at its input."""
        return feasible(self.space, arch, self.constraint) and not ignores_input(self.space, arch)

    def _some_cell(self, tries: int = 100) -> Arch:
        """Returns a random cell that is allowed, one that looks at its input unless there are hardly any."""
        rng = np.random.default_rng(0)
        drawn = [sample(self.space, rng, self.constraint)]
        while ignores_input(self.space, drawn[-1]) and len(drawn) < tries:
            drawn.append(sample(self.space, rng, self.constraint))
        return drawn[-1]

    def _draw_anew(self) -> None:
        """Chooses the next draw of the mixture: until then it stays, so that all passes of a second-order gradient see one."""
        if self.variant == "dirichlet":
            self._draw = int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))

    def _weights(self) -> Mapping[str, Tensor]:
        """Returns the mixture: the softmax of alpha over the operations of each edge, or what is drawn."""
        if self.variant != "dirichlet":
            return {name: alpha.softmax(1) for name, alpha in self.alphas.items()}
        generator = torch.Generator(self.generator.device).manual_seed(self._draw)
        return {name: dirichlet(alpha, self._mixed(alpha), generator) for name, alpha in self.alphas.items()}

    def _mixed(self, like: Tensor) -> Tensor:
        """Returns (operations,) of 1, and 0 for ``none``, on the device of ``like``."""
        return torch.tensor([float(name != "none") for name in self.supernet.mix_ops], device=like.device)

    def _mean(self, alpha: Tensor) -> Tensor:
        """Returns (edges, operations): the mean of what is drawn with ``alpha``, or the softmax."""
        if self.variant != "dirichlet":
            return alpha.softmax(1)
        beta = concentration(alpha) * self._mixed(alpha)
        return beta / beta.sum(1, keepdim=True).clamp_min(LEAST)

    def _update_alphas(self, train: Batch, validation: Batch) -> None:
        """Takes one step of Adam on L_val(w - xi grad L_train(w, alpha), alpha)."""
        gradients = self.gradients(train, validation)
        decay, edges = self.beta_decay * self.epoch / self.epochs, sum(len(alpha) for alpha in self.alphas.values())
        for alpha, gradient in zip(self.alphas.values(), gradients):
            # the gradient of log sum exp is the softmax: the strongest operation of an edge is held back most
            alpha.grad = gradient + decay / edges * alpha.detach().softmax(1) if decay else gradient
        self.optimizer.step()

    def gradients(self, train: Batch, validation: Batch) -> list[Tensor]:
        """Returns the gradient for each alpha: equation 7 and 8 for ``order=2``, else with xi = 0."""
        if self.order == 1:
            return self._slopes(validation)[0]
        weights = list(self.shared.supernet.parameters())
        kept = [w.detach().clone() for w in weights]
        xi, momentum, decay = self.shared.lr, self.shared.momentum, self.shared.weight_decay
        steps = self._slopes(train, weights)[1]
        with torch.no_grad():
            for w, g in zip(weights, steps):
                w.sub_(xi * (g + decay * w + momentum * self.shared.velocity(w)))  # w'
        direct, slopes = self._slopes(validation, weights)
        norm = float(torch.stack([g.norm() for g in slopes]).norm())
        if norm == 0.0:
            self._put(weights, kept)
            return direct
        epsilon = RADIUS / norm
        self._put(weights, [w + epsilon * g for w, g in zip(kept, slopes)])  # w+
        above = self._slopes(train)[0]
        self._put(weights, [w - epsilon * g for w, g in zip(kept, slopes)])  # w-
        below = self._slopes(train)[0]
        self._put(weights, kept)
        return [d - xi * (a - b) / (2 * epsilon) for d, a, b in zip(direct, above, below)]

    def _slopes(self, batch: Batch, weights: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the gradients of the loss on ``batch`` for the alphas and for ``weights`` (zeros where it depends on none)."""
        wanted = [*self.alphas.values(), *weights]
        found = torch.autograd.grad(self.shared.loss(self._weights(), batch), wanted, allow_unused=True)
        filled = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found)]
        return filled[: len(self.alphas)], filled[len(self.alphas) :]

    @torch.no_grad()
    def _put(self, weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        for w, value in zip(weights, values):
            w.copy_(value)

    def entropy(self) -> float:
        """Returns the entropy of the mean mixture in nats, averaged over edges; log of the number of mixed operations at the start."""
        rows = torch.cat([self._mean(alpha.detach()) for alpha in self.alphas.values()])
        return float(torch.special.entr(rows).sum(1).mean())

    def _skips(self) -> float:
        """Returns the share of edges on which skip is the strongest operation (the collapse that DARTS is known for)."""
        skips = [i for i, name in enumerate(self.supernet.mix_ops) if name.startswith("skip")]
        strongest = torch.cat([alpha.detach().argmax(1) for alpha in self.alphas.values()])
        return float(sum((strongest == i).double().mean() for i in skips))

    def _derived(self, noise: float = 0.0) -> Arch:
        """Returns the cell of the alphas, with ``noise`` times Gumbel noise."""
        weights = {k: self._mean(a.detach() + noise * self._gumbel(a)) for k, a in self.alphas.items()}
        if self.variant != "paper" and "none" in self.supernet.mix_ops:
            for heavy in weights.values():
                heavy[:, list(self.supernet.mix_ops).index("none")] = -1.0
        return self.supernet.derive(weights)

    def _gumbel(self, like: Tensor) -> Tensor:
        """Returns standard Gumbel noise of the shape of ``like``."""
        drawn = torch.empty(like.shape, device=self.generator.device).exponential_(generator=self.generator)
        return -drawn.log().to(like.device)

    def _candidates(self, tries: int = 2000) -> list[Arch]:
        """Returns the derived cell and cells of noisy alphas, those that are allowed; the noise grows until there are enough."""
        found: dict[Arch, None] = {}
        for i in range(tries):
            arch = self._derived(2.0 * i / tries)
            if self._may_be_named(arch):
                found[arch] = None
            if len(found) == self.candidates:
                break
        if not found:
            raise InfeasibleError(f"none of {tries} cells derived from alphas satisfies the constraint and looks at its input; loosen the limits, or search longer")
        self.closing.any = next(iter(found))
        return list(found)

    def best(self) -> Arch:
        """Returns the first of ``finalists``, the derived cell before candidates are judged; raises StateError before any step."""
        return self.finalists(1)[0] if self.closing.any else self.closing.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` cells that differ in fingerprint: by stand-alone score, by shared weights, the paper's derived one before these."""
        closing = self.closing
        if self.variant != "paper" and closing.inherited.ranked():
            return super().finalists(n)
        derived = [closing.any] if closing.any and closing.any not in closing.trained and not closing.refused(closing.any) else []
        return first_distinct(self.space, [*closing.trained.ranked(), *derived, *closing.ranked()], n)

    def state_dict(self) -> State:
        """Returns all that changes, the shared weights included."""
        state = super().state_dict() | {"optimizer": self.optimizer.state_dict()}
        state |= {"alphas": {name: alpha.detach() for name, alpha in self.alphas.items()}, "epoch": self.epoch}
        return deepcopy(state | {"generator": self.generator.get_state()})

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for name, alpha in self.alphas.items():
                alpha.copy_(state["alphas"][name])
        self.epoch = state["epoch"]
        self.generator.set_state(state["generator"])
