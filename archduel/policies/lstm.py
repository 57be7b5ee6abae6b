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
from archduel.errors import check_at_least, check_positive

__all__ = ["LSTMPolicy"]

# Prefixes whose next decision is remembered, so that the space is not asked anew in every draw.
MOST_PATHS = 100_000


class LSTMPolicy(nn.Module):
    """Draws architectures decision by decision.

    Args:
        generator: draws the first parameters, and says on which device they live.
        hidden: width of the LSTM and of its embeddings.
        bound: parameters start uniform in [-bound, bound].
        temperature: divides the logits; above 1 draws are more even.
    """

    def __init__(
        self, space: Space, *, generator: torch.Generator, hidden: int = 64, bound: float = 0.1, temperature: float = 1.0
    ) -> None:
        super().__init__()
        check_at_least(1, hidden=hidden)
        check_positive(temperature=temperature)
        self.space = space
        self.temperature = temperature
        self._kind = {kind: i for i, kind in enumerate(space.kinds)}
        sizes = list(space.kinds.values())
        self._first = [sum(sizes[:i]) for i in range(len(sizes))]  # where a kind's answers begin in the vocabulary
        self.vocabulary = sum(sizes)
        self._rows: dict[tuple[str, tuple[int, ...]], int] = {}
        self._paths: dict[tuple[int, ...], Decision | None] = {}
        # on "meta" first: the default initialisation would draw from the global generator
        self.answers = nn.Embedding(self.vocabulary + 1, hidden, device="meta")  # last row: the start
        self.questions = nn.Embedding(len(sizes), hidden, device="meta")
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, device="meta")
        self.head = nn.Linear(hidden, self.vocabulary, device="meta")
        self.to_empty(device=generator.device)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        self._masks: Tensor  # (R, V) added to logits; the first row allows all
        self.register_buffer("_masks", torch.zeros(1, self.vocabulary, device=generator.device), persistent=False)

    def _decision(self, prefix: tuple[int, ...]) -> Decision | None:
        if prefix not in self._paths:
            # a cache, not a leak: a long search meets more prefixes than memory should hold, and most never again
            if len(self._paths) > MOST_PATHS:
                self._paths.clear()
            self._paths[prefix] = self.space.decision(prefix)
        return self._paths[prefix]

    def _row(self, decision: Decision, allowed: Allowed | None) -> int:
        """Returns the row of ``_masks`` that forbids all but the answers that may be given."""
        options = permitted(decision, allowed)
        key = (decision.kind, options)
        if key not in self._rows:
            first = self._first[self._kind[decision.kind]]
            row = torch.full((1, self.vocabulary), -torch.inf)
            row[0, [first + option for option in options]] = 0.0
            self._rows[key] = len(self._masks)
            self._masks = torch.cat([self._masks, row.to(self._masks)])
        return self._rows[key]

    def draw(self, n: int, generator: torch.Generator, *, allowed: Allowed | None = None) -> Draw:
        """Returns ``n`` architectures with their log probabilities.

        Raises:
            SettingError: if ``allowed`` leaves a decision without answers.
        """
        archs = [Arch(self.space.name, path) for path in self._paths_drawn(n, generator, allowed)]
        # a sharp policy often draws the same: each different one is judged once
        distinct = {arch: i for i, arch in enumerate(dict.fromkeys(archs))}
        log_prob, entropy = self._judge(list(distinct), allowed)
        if len(distinct) < n:
            places = torch.tensor([distinct[arch] for arch in archs], device=log_prob.device)
            log_prob, entropy = log_prob[places], entropy[places]
        return Draw(archs, log_prob, entropy)

    @torch.inference_mode()
    def _paths_drawn(self, n: int, generator: torch.Generator, allowed: Allowed | None) -> list[tuple[int, ...]]:
        """Returns ``n`` sequences of answers, all drawn side by side."""
        paths: list[tuple[int, ...]] = [()] * n
        device, lstm = self.head.weight.device, self.lstm
        weights = lstm.all_weights[0]  # to the gates: from the input, from the state, two biases
        token = torch.full((n,), self.vocabulary, device=device)
        state = (torch.zeros(n, lstm.hidden_size, device=device),) * 2
        drawn = list(range(n))  # the paths that go on
        while True:
            decided = [self._decision(self._ended(paths, i)) for i in drawn]
            going = [k for k, decision in enumerate(decided) if decision is not None]
            if not going:
                return paths
            if len(going) < len(drawn):
                drawn, token, state = [drawn[k] for k in going], token[going], (state[0][going], state[1][going])
            questions = [decision for decision in decided if decision is not None]
            kinds = [self._kind[decision.kind] for decision in questions]
            x = self.answers(token) + self.questions(torch.tensor(kinds, device=device))
            # nn.LSTM over a single step costs several times as much
            state = torch.lstm_cell(x, state, *weights)  # (drawn, H) each
            # before _masks is read, since a new mask makes a new tensor of it
            rows = [self._row(decision, allowed) for decision in questions]
            logits = self.head(state[0]) / self.temperature + self._masks[rows]  # (drawn, V)
            token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            for i, kind, answer in zip(drawn, kinds, token.tolist()):
                paths[i] = (*paths[i], answer - self._first[kind])

    def _ended(self, paths: list[tuple[int, ...]], i: int) -> tuple[int, ...]:
        """Returns path i, which is now complete if the space leaves it no choice any more."""
        # a decision with one answer needs no random number, and its log probability is 0
        end = paths[i]
        while (decision := self._decision(end)) is not None:
            if len(decision.options) > 1:
                return paths[i]
            end = (*end, decision.options[0])
        paths[i] = end
        return end

    def log_prob(self, archs: Sequence[Arch], *, allowed: Allowed | None = None) -> Tensor:
        """Returns (N,) natural log probabilities, differentiable.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        # going through the decisions raises what an architecture of another space deserves
        for arch in archs:
            for _ in decisions(self.space, arch.choices):
                pass
        return self._judge(archs, allowed)[0]

    def _judge(self, archs: Sequence[Arch], allowed: Allowed | None) -> tuple[Tensor, Tensor]:
        """Returns log probability (N,) and entropy (N,), both summed over the decisions."""
        answered = [self._answered(arch, allowed) for arch in archs]
        # the start token pads the shorter ones; what stands there is left out of the sums by ``real``
        longest = max([1, *map(len, answered)])
        filled = [[*each, *[(0, self.vocabulary, 0)] * (longest - len(each))] for each in answered]
        table = torch.tensor(filled, dtype=torch.int64, device=self.head.weight.device).view(-1, longest, 3)
        kind, token, row = table.unbind(-1)  # (N, T) each
        before = torch.cat([torch.full_like(token[:, :1], self.vocabulary), token[:, :-1]], 1)
        out, _ = self.lstm(self.answers(before) + self.questions(kind))  # (N, T, H)
        mask = self._masks[row]  # (N, T, V)
        log_p = (self.head(out) / self.temperature + mask).log_softmax(-1)  # (N, T, V)
        real = (token < self.vocabulary).to(log_p.dtype)
        picked = log_p.gather(-1, token.clamp(max=self.vocabulary - 1)[..., None])[..., 0]  # (N, T)
        # p log p is 0 where p is, but 0 times -inf would be nan
        plogp = log_p.exp() * log_p.masked_fill(mask.isinf(), 0.0)
        return (picked * real).sum(-1), -(plogp.sum(-1) * real).sum(-1)

    def _answered(self, arch: Arch, allowed: Allowed | None) -> list[tuple[int, int, int]]:
        """Returns kind, token and row of ``_masks`` of each answer up to the last that was a choice; the rest is certain."""
        answers, free = [], 0
        for t, choice in enumerate(arch.choices):
            decision = self._decision(arch.choices[:t])
            assert decision is not None
            kind = self._kind[decision.kind]
            answers.append((kind, self._first[kind] + choice, self._row(decision, allowed)))
            free = t + 1 if len(decision.options) > 1 else free
        return answers[:free]
