"""A recurrent policy over any space: the controller of ENAS and CTNAS, one output head for each kind of decision.

Pham et al.: "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018; Guo et al.: CTNAS, CVPR 2021.

Deviations from the papers:
1. The questions are those of the space, in its order (papers: one hand-written controller a space).
2. Besides the last answer the LSTM reads which kind of question comes next.
3. A node is picked by a linear head with a mask (papers: additive attention over the nodes so far).
4. Answers are drawn step by step without gradients; their log probability is one differentiable pass over whole sequences.
   The numbers are the same, a draw is several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archduel.core import Arch, Decision, Draw, Space, decisions
from archduel.core.space import Allowed, permitted
from archduel.errors import SettingError

__all__ = ["LSTMPolicy"]


class LSTMPolicy(nn.Module):
    """Draws architectures decision by decision.

    Args:
        space: what may be decided.
        generator: the randomness of the first parameters.
        hidden: width of the LSTM and of its embeddings.
        bound: parameters start uniform in [-bound, bound].
        temperature: divides the logits.
    """

    def __init__(
        self, space: Space, *, generator: torch.Generator, hidden: int = 64, bound: float = 0.1, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if hidden < 1 or temperature <= 0:
            raise SettingError(f"hidden must be at least 1 and temperature above 0, got {hidden} and {temperature}")
        self.space = space
        self.temperature = temperature
        self._kind = {kind: i for i, kind in enumerate(space.kinds)}
        sizes = list(space.kinds.values())
        self._first = [sum(sizes[:i]) for i in range(len(sizes))]  # where a kind's answers begin in the vocabulary
        self.vocabulary = sum(sizes)
        self._rows: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._paths: dict[tuple[int, ...], Decision | None] = {}
        # meta first: the default initialisation would draw from the global generator
        self.answers = nn.Embedding(self.vocabulary + 1, hidden, device="meta")  # last row: the start
        self.questions = nn.Embedding(len(sizes), hidden, device="meta")
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, device="meta")
        self.head = nn.Linear(hidden, self.vocabulary, device="meta")
        self.to_empty(device=generator.device)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def _decision(self, prefix: tuple[int, ...]) -> Decision | None:
        if prefix not in self._paths:
            if len(self._paths) > 100_000:  # a cache, not a leak
                self._paths.clear()
            self._paths[prefix] = self.space.decision(prefix)
        return self._paths[prefix]

    def _row(self, decision: Decision, allowed: Allowed | None) -> Tensor:
        """Returns (V,) float32: 0 for the answers that may be given, minus infinity for all others."""
        options = permitted(decision, allowed)
        key = (decision.kind, options)
        if key not in self._rows:
            first = self._first[self._kind[decision.kind]]
            row = torch.full((self.vocabulary,), -torch.inf)
            row[[first + option for option in options]] = 0.0
            self._rows[key] = row.to(self.head.weight.device)
        return self._rows[key]

    def draw(self, n: int, generator: torch.Generator, *, allowed: Allowed | None = None) -> Draw:
        """Returns ``n`` architectures with their log probabilities.

        Raises:
            SettingError: if ``allowed`` leaves a decision without answers.
        """
        archs = [Arch(self.space.name, path) for path in self._paths_drawn(n, generator, allowed)]
        log_prob, entropy = self._judge(archs, allowed)
        return Draw(archs, log_prob, entropy)

    @torch.no_grad()
    def _paths_drawn(self, n: int, generator: torch.Generator, allowed: Allowed | None) -> list[tuple[int, ...]]:
        """Returns ``n`` sequences of answers, all drawn side by side."""
        paths: list[tuple[int, ...]] = [()] * n
        token = torch.full((n,), self.vocabulary, device=self.head.weight.device)
        state: tuple[Tensor, Tensor] | None = None
        while True:
            asked = [self._decision(path) for path in paths]
            open_ = [i for i, decision in enumerate(asked) if decision is not None]
            if not open_:
                return paths
            questions = [self._kind[asked[i].kind] if asked[i] is not None else 0 for i in range(n)]  # type: ignore[union-attr]
            x = self.answers(token) + self.questions(torch.tensor(questions, device=token.device))
            out, state = self.lstm(x[:, None], state)  # (n, 1, H)
            mask = torch.stack([self._row(asked[i], allowed) for i in open_])  # type: ignore[arg-type]
            logits = self.head(out[open_, 0]) / self.temperature + mask  # (open, V)
            picked = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            token[open_] = picked
            for i, answer in zip(open_, picked.tolist()):
                paths[i] = (*paths[i], answer - self._first[questions[i]])

    def log_prob(self, archs: Sequence[Arch], *, allowed: Allowed | None = None) -> Tensor:
        """Returns (N,) natural log probabilities, differentiable.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        for arch in archs:
            for _ in decisions(self.space, arch.choices):
                pass
        return self._judge(archs, allowed)[0]

    def _judge(self, archs: Sequence[Arch], allowed: Allowed | None) -> tuple[Tensor, Tensor]:
        """Returns log probability (N,) and entropy (N,), both summed over the decisions."""
        device = self.head.weight.device
        longest = max((len(arch.choices) for arch in archs), default=0)
        tokens = torch.full((len(archs), longest + 1), self.vocabulary)
        kinds = torch.zeros((len(archs), longest), dtype=torch.int64)
        real = torch.zeros((len(archs), longest))
        free = torch.zeros(self.vocabulary, device=device)
        masks = []
        for b, arch in enumerate(archs):
            for t in range(longest):
                if t >= len(arch.choices):
                    masks.append(free)
                    continue
                decision = self._decision(arch.choices[:t])
                assert decision is not None
                kinds[b, t] = kind = self._kind[decision.kind]
                tokens[b, t + 1] = self._first[kind] + arch.choices[t]
                real[b, t] = 1.0
                masks.append(self._row(decision, allowed))
        tokens, kinds, real = tokens.to(device), kinds.to(device), real.to(device)
        out, _ = self.lstm(self.answers(tokens[:, :-1]) + self.questions(kinds))  # (N, T, H)
        mask = torch.stack(masks).view(len(archs), longest, self.vocabulary)
        log_p = (self.head(out) / self.temperature + mask).log_softmax(-1)  # (N, T, V)
        target = tokens[:, 1:].clamp(max=self.vocabulary - 1)
        picked = log_p.gather(-1, target[..., None])[..., 0]  # (N, T)
        plogp = log_p.exp() * log_p.masked_fill(mask.isinf(), 0.0)
        return (picked * real).sum(-1), -(plogp.sum(-1) * real).sum(-1)
