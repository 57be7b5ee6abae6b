"""Seconds of a whole search of CTNAS with the published numbers, and of a plain path of the same algorithm.

    python benchmarks/ctnas_time.py --table nasbench101/labelled --repeats 3 --out benchmarks/records/ctnas_time.json

423 labels, 1,000 epochs of the comparator, 10,000 updates of the policy with one draw each, 100 explorations of 512 pairs. One
thread. The plain path does what a first version would: both sides of each pair are encoded, a controller keeps the graph of every
step and draws one architecture at a time, every verdict is asked anew, every draw is checked decision by decision. Of it a part is
measured, and the whole computed from how often each part occurs.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import archduel
from archduel.commands.bench.search_trials import Protocol, parse_contestants, run_trial
from archduel.core import Arch, GraphSpace, Space, check_decisions
from archduel.tables import open_table
from archduel.tables.estimator import searchable

LABELS, BATCH, EPOCHS, UPDATES, EXPLORATIONS, PAIRS = 423, 256, 1_000, 10_000, 100, 512
ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999), "weight_decay": 5e-4}


class PlainComparator(nn.Module):
    """Four residual graph layers on each side of a pair, a linear head on both embeddings."""

    def __init__(self, n_ops: int, dim: int = 128) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(n_ops, dim), nn.Linear(2 * dim, 1)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(4))

    def embed(self, ops: Tensor, flow: Tensor) -> Tensor:
        """Returns (B, dim) of (B, V) kinds and (B, V, V) flow."""
        x = self.embedding(ops)
        for layer in self.layers:
            x = torch.relu(torch.bmm(flow, layer(x)) + x)
        return x.mean(1)

    def forward(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Returns (B,) logits."""
        return self.head(torch.cat([self.embed(*first), self.embed(*second)], 1)).squeeze(1)


class PlainController(nn.Module):
    """The policy step by step, with the graph of every step kept."""

    def __init__(self, space: Space, hidden: int = 64) -> None:
        super().__init__()
        self.space, self.hidden, sizes = space, hidden, list(space.kinds.values())
        self.first = dict(zip(space.kinds, np.cumsum([0, *sizes]).tolist()))
        self.embed, self.cell = nn.Embedding(sum(sizes) + 1, hidden), nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, sum(sizes))

    def forward(self) -> tuple[Arch, Tensor, Tensor]:
        """Returns an architecture, its log probability and the entropy."""
        token = torch.tensor([self.head.out_features])
        state = torch.zeros(1, self.hidden), torch.zeros(1, self.hidden)
        answers: tuple[int, ...] = ()
        log_prob, entropy = torch.zeros(()), torch.zeros(())
        while (decision := self.space.decision(answers)) is not None:
            state = self.cell(self.embed(token), state)
            logits = self.head(state[0])[:, [self.first[decision.kind] + option for option in decision.options]]
            spread = torch.distributions.Categorical(logits=logits)
            place = spread.sample()
            log_prob, entropy = log_prob + spread.log_prob(place).sum(), entropy + spread.entropy().sum()
            answers = (*answers, decision.options[int(place)])
            token = torch.tensor([self.first[decision.kind] + answers[-1]])
        return Arch(self.space.name, answers), log_prob, entropy


class Plain:
    """The parts of the plain path on one table."""

    def __init__(self, table: str) -> None:
        opened = open_table(table)
        self.space = searchable(opened)
        self.archs = opened.archs[:LABELS]
        self.labels = torch.from_numpy(opened.validation(self.archs))
        assert isinstance(self.space, GraphSpace)
        self.comparator = PlainComparator(self.space.graphs(self.archs[:1]).n_ops)
        self.controller = PlainController(self.space)
        self.learn = torch.optim.Adam(self.comparator.parameters(), **ADAM)
        self.improve = torch.optim.Adam(self.controller.parameters(), **ADAM)
        self.drawn = self.archs[:PAIRS]

    def encode(self, archs: Sequence[Arch]) -> tuple[Tensor, Tensor]:
        """Returns kinds of node (B, V) and flow (B, V, V)."""
        graphs = self.space.graphs(archs)  # type: ignore[attr-defined]
        flow = torch.from_numpy(graphs.adj[:, 0]).transpose(-1, -2) + torch.eye(graphs.adj.shape[-1])
        return torch.from_numpy(graphs.ops[:, 0]), flow

    def epoch(self, *, pseudo: bool = False) -> None:
        """Learns from each label once against another, and from as many pseudo-labelled pairs if wanted."""
        for batch in torch.randperm(LABELS).split(BATCH):
            other = batch[torch.randperm(len(batch))]
            sides = [[self.archs[i] for i in side.tolist()] for side in (batch, other)]
            truth = (self.labels[batch] > self.labels[other]).float()
            if pseudo:
                more = [[self.drawn[i] for i in torch.randint(len(self.drawn), (len(batch),)).tolist()] for _ in sides]
                sides = [[*side, *extra] for side, extra in zip(sides, more)]
                truth = torch.cat([truth, torch.ones(len(batch))])
            logits = self.comparator(*(self.encode(side) for side in sides))
            self.learn.zero_grad()
            F.binary_cross_entropy_with_logits(logits, truth).backward()
            self.learn.step()

    def update(self) -> None:
        """Draws one architecture and makes a step of REINFORCE with the comparator's verdict."""
        arch, log_prob, entropy = self.controller()
        check_decisions(self.space, arch)
        with torch.no_grad():
            reward = float(self.comparator(self.encode([arch]), self.encode(self.archs[:1])).sigmoid())
        self.improve.zero_grad()
        (-(reward * log_prob + 5e-4 * entropy)).backward()
        self.improve.step()

    def explore(self) -> None:
        """Draws, judges pairs and learns from them for an epoch."""
        with torch.no_grad():
            self.drawn = [self.controller()[0] for _ in range(PAIRS)]
            other = [self.drawn[i] for i in torch.randperm(PAIRS).tolist()]
            self.comparator(self.encode(self.drawn), self.encode(other)).sigmoid()
        self.epoch(pseudo=True)


def seconds(work: Callable[[], Any], times: int, repeats: int) -> dict[str, Any]:
    """Returns median and spread of the processor seconds of one ``work``, of which ``times`` are measured together."""
    work()
    took = []
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(times):
            work()
        took.append((time.process_time() - began) / times)
    return {"n": repeats, "times": times, "median": statistics.median(took), "low": min(took), "high": max(took)}


def whole(table: str, repeats: int) -> dict[str, Any]:
    """Returns processor and clock seconds of whole searches, as `archduel bench search` runs them."""
    (contestant,) = parse_contestants(f"ctnas[labels={LABELS};verify=10]")
    cpu, clock = [], []
    for run in range(repeats):
        began = time.perf_counter()
        cpu.append(run_trial(Protocol(table), contestant, LABELS + 10, run).cpu_seconds)
        clock.append(time.perf_counter() - began)
    return {"n": repeats, "median": statistics.median(cpu), "low": min(cpu), "high": max(cpu), "median_clock": statistics.median(clock)}


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = Plain(given.table)
    parts = {
        "epoch": (seconds(path.epoch, 10, given.repeats), EPOCHS),
        "update": (seconds(path.update, 100, given.repeats), UPDATES),
        "exploration": (seconds(path.explore, 1, given.repeats), EXPLORATIONS),
    }
    plain = sum(part["median"] * times for part, times in parts.values())
    search = whole(given.table, given.repeats)
    print(f"search {search['median']:.1f} s, plain path {plain:.1f} s", flush=True)
    record = {
        "command": "python " + shlex.join(sys.argv),
        "what": "processor seconds, one thread; clock seconds where it says so",
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "versions": {"archduel": archduel.__version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "search": {"labels": LABELS, "epochs": EPOCHS, "updates": UPDATES, "explorations": EXPLORATIONS, **search},
        "plain_path": {name: {**part, "occurs": times} for name, (part, times) in parts.items()},
        "plain_path_seconds": plain,
        "ratio": plain / search["median"],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
