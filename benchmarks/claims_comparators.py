"""What CTNAS and ReNAS claim, on the parts of NAS-Bench-101 that are at hand: one fit a comparator, every search by it.

    ARCHDUEL_DATA=DATA python benchmarks/claims_comparators.py --table sample --part ctnas --runs 10 --out benchmarks/records/claims_ctnas.json
    ARCHDUEL_DATA=DATA python benchmarks/claims_comparators.py --table sample --part schedules --runs 10 --out benchmarks/records/claims_ctnas_schedules.json
    ARCHDUEL_DATA=DATA python benchmarks/claims_comparators.py --table sample --part renas --runs 10 --out benchmarks/records/claims_renas.json
    ARCHDUEL_DATA=DATA python benchmarks/claims_comparators.py --table three --part both --runs 10 --out benchmarks/records/claims_three_runs.json
    ARCHDUEL_DATA=DATA python benchmarks/claims_comparators.py --table sample --part labels --runs 10 --out benchmarks/records/claims_labels.json

Tables: ``sample``, 20,001 cells with the validation accuracy of one training at 108 epochs, which is also the one that judges; ``three``,
3,258 cells of NAS-Bench-1Shot1's second space with three trainings: the search sees the mean validation accuracy, the mean test accuracy judges.

Protocol: run r of all searches has the same 423 random labels (``--part labels``: other numbers), then each may ask ten more cells. Searches
with the same comparator share its fit, and its seconds are counted once, as the fit's. *First proposal*: the cell asked first after the labels.
Nobody gets other labels, other batches of policy updates (unless that is what is compared, and then the title says so) or more proposals.
``ctnas`` makes 300 centred updates of 16 draws at a rate of 0.003; *published schedule* makes the paper's 10,000 updates of one draw at 2e-4;
*released* the same with the two choices of the released code (``variant=released``, a baseline every 500, 200 draws and 100 pairs an
exploration). *No policy learning*: the same search with a learning rate of 1e-12. *Whole space*: the comparator's own ten best of all cells, no
policy at all. *Interacting*: a comparator with a hidden layer on the pair of embeddings, so that the opponent can change the order of candidates.
Taus: Kendall's, on all cells without a label and on 100 of them (CTNAS's protocol).
``--epochs`` shortens the training of the comparators (published: 1,000), not that of ReNAS's predictors. The record is written after every run; the same command adds runs.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import claims
import numpy as np
import torch
from recording import command, write_record
from scipy.stats import kendalltau, spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from archduel import environment
from archduel.assemble import assemble, derived_seed
from archduel.core import Arch, Budget, Local, search
from archduel.rankers import GCN, NAC, ReNAS, nac
from archduel.rankers.labels import sigmoid
from archduel.rankers.networks import Inputs, encode, make_encoder, reset_uniform
from archduel.rankers.published import VARIANTS
from archduel.tables import TableEstimator
from archduel.tables.estimator import searchable
from archduel.tables.importing import ImportPlan, import_columns

LABELS, PROPOSALS, HELD_OUT = 423, 10, 100

# -- A comparator whose two sides interact -------------------------------------------------------------------------------


class PairHead(nn.Module):
    """An encoder and a head with one hidden layer on two embeddings: f(a, b) = h(a, b) - h(b, a)."""

    def __init__(self, encoder: Any, hidden: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.one, self.other = (nn.Parameter(torch.empty(hidden, encoder.out_dim)) for _ in range(2))
        self.bias, self.out = nn.Parameter(torch.empty(hidden)), nn.Parameter(torch.empty(hidden))

    def sides(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (B, H) what each contributes to the hidden layer as the first and as the second of a pair."""
        embedding = self.encoder(*inputs)
        return embedding @ self.one.T + self.bias, embedding @ self.other.T

    def sides_at(self, places: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Returns the same of ``inputs`` at ``places`` (P,), each encoded once."""
        unique, index = torch.unique(places, return_inverse=True)
        first, second = self.sides(*(tensor[unique] for tensor in inputs))
        return first[index], second[index]

    def logits(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the logits of pairs; sides are broadcast."""
        return torch.relu(first[0] + second[1]) @ self.out - torch.relu(second[0] + first[1]) @ self.out


class PairNAC(NAC):
    """NAC in all but its head, which sees both embeddings at once."""

    def _build(self, width: int, n_ops: int) -> Any:
        encoder = make_encoder(width, n_ops, dim=self.embedding_dim, layers=self.layers, residual=True)
        model = PairHead(encoder)
        reset_uniform(model, self._generator)
        adam = torch.optim.Adam(list(model.parameters()), lr=self.lr, betas=(0.5, 0.999), weight_decay=self.weight_decay, foreach=True)
        return nac._Trainable(model, adam)  # type: ignore[arg-type]

    def _step(self, trainable: Any, data: Any, batch: Tensor) -> Tensor:
        n_pseudo = round(len(batch) * self.pseudo_ratio / (1 - self.pseudo_ratio)) if len(data.truth) else 0
        drawn = torch.randint(max(1, len(data.truth)), (n_pseudo,), generator=self._generator)
        places = torch.cat([batch, data.first[drawn], data.second[drawn]])
        sides, model = trainable.model.sides_at(places, data.inputs), trainable.model
        n, m = len(batch), len(batch) + n_pseudo
        other = torch.randperm(n, generator=self._generator)
        logits = model.logits(tuple(s[:n] for s in sides), tuple(s[:n][other] for s in sides))
        loss = F.binary_cross_entropy_with_logits(logits, (data.labels[batch] > data.labels[batch][other]).float())
        if n_pseudo:
            pseudo = model.logits(tuple(s[n:m] for s in sides), tuple(s[m:] for s in sides))
            loss = (1 - self.pseudo_ratio) * loss + self.pseudo_ratio * F.binary_cross_entropy_with_logits(pseudo, data.truth[drawn])
        trainable.optimizer.zero_grad()
        loss.backward()
        trainable.optimizer.step()
        return loss.detach()

    def _sizes(self, model: Mapping[str, Tensor]) -> tuple[int, int]:
        n_ops, dim = model["encoder.embedding"].shape
        return model["one"].shape[1] // dim, n_ops

    def _sides(self, archs: Sequence[Arch]) -> tuple[Tensor, Tensor]:
        assert self._trainable is not None
        inputs, _ = encode(self.space, list(archs), self.device)
        model: Any = self._trainable.model
        parts = [model.sides(*(tensor[i : i + 2048] for tensor in inputs)) for i in range(0, len(archs), 2048)]
        return torch.cat([first for first, _ in parts]), torch.cat([second for _, second in parts])

    @torch.inference_mode()
    def against(self, archs: Sequence[Arch], rivals: Sequence[Arch]) -> Any:
        """Returns (N, R) logits of all pairs."""
        model: Any = self._trainable.model  # type: ignore[union-attr]
        (a, b), (c, d) = self._sides(archs), self._sides(rivals)
        rows = [model.logits((a[i : i + 128, None], b[i : i + 128, None]), (c[None], d[None])) for i in range(0, len(a), 128)]
        return torch.cat(rows).double().numpy()

    @torch.inference_mode()
    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Any:
        """Returns (P,) probabilities that the first is better."""
        model: Any = self._trainable.model  # type: ignore[union-attr]
        return sigmoid(model.logits(self._sides(first), self._sides(second)).double().numpy())

    def matrix(self, archs: Sequence[Arch]) -> Any:
        """Returns (N, N) probabilities."""
        return sigmoid(self.against(archs, archs))

    def predict(self, archs: Sequence[Arch]) -> Any:
        """Returns (N,) the mean probability to win against the cells it learned from."""
        return sigmoid(self.against(archs, self.learned)).mean(1)


# -- Fits that several searches share ------------------------------------------------------------------------------------


class Fits:
    """What each comparator learned from the labels of one run, and the processor seconds of it."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def sharing(self, kind: type, name: str, space: Any, seed: int, settings: Mapping[str, Any]) -> Any:
        """Returns a ranker that learns when it is first asked to, and takes over what another of the name learned from then on."""
        fits = self

        class Sharing(kind):  # type: ignore[misc, valid-type]
            def fit(self, archs: Any, scores: Any, *, pairs: Any = None) -> Any:
                self.learned = list(archs)
                if name not in fits.states:
                    began = time.process_time()
                    super().fit(archs, scores, pairs=pairs)
                    fits.seconds[name], fits.states[name] = time.process_time() - began, deepcopy(self.state_dict())
                self.load_state_dict(deepcopy(fits.states[name]))
                return {}

        return Sharing(space, seed=seed, **settings)


RANKERS: dict[str, tuple[type, dict[str, Any]]] = {
    "nac": (NAC, {}),
    "nac, published head": (NAC, {"antisymmetric": False}),
    "nac, paper's layers": (NAC, {"antisymmetric": False, "variant": "paper"}),
    "nac, interacting": (PairNAC, {}),
    "regression twin": (GCN, {}),
    **{name: (ReNAS, dict(VARIANTS[name][1])) for name in sorted(VARIANTS) if name.startswith("renas-")},
}
FEW = {"iterations": 300, "batch": 16, "lr": 3e-3, "centre": True, "baseline_every": 30, "explore_every": 6}
STILL = {"lr": 1e-12, "weight_decay": 0.0}
RELEASED = {"variant": "released", "baseline_every": 500, "samples": 200, "keep": 100}
BASE = {"labels": LABELS, "verify": PROPOSALS}
TOP = {"labels": LABELS, "top": PROPOSALS}
Arm = tuple[str, str, dict[str, Any]]
CTNAS_ARMS: dict[str, Arm] = {
    "ctnas": ("ctnas", "nac", {**BASE, **FEW}),
    "ctnas, no policy learning": ("ctnas", "nac", {**BASE, **FEW, **STILL}),
    "whole space, nac": ("renas", "nac", TOP),
    "ctnas, interacting": ("ctnas", "nac, interacting", {**BASE, **FEW}),
    "ctnas, interacting, fixed baseline": ("ctnas", "nac, interacting", {**BASE, **FEW, "baseline": "fixed"}),
    "random": ("random", "", {}),
}
SCHEDULE_ARMS: dict[str, Arm] = {
    "ctnas": CTNAS_ARMS["ctnas"],
    "ctnas, published schedule": ("ctnas", "nac", BASE),
    "ctnas, released": ("ctnas", "nac", {**BASE, **RELEASED}),
}
MORE_ARMS: dict[str, Arm] = {
    "ctnas": CTNAS_ARMS["ctnas"],
    "ctnas, fixed baseline": ("ctnas", "nac", {**BASE, **FEW, "baseline": "fixed"}),
    "ctnas, random baseline": ("ctnas", "nac", {**BASE, **FEW, "baseline": "random"}),
    "ctnas, interacting, random baseline": ("ctnas", "nac, interacting", {**BASE, **FEW, "baseline": "random"}),
    "whole space, interacting": ("renas", "nac, interacting", TOP),
    "ctnas, published schedule and head": ("ctnas", "nac, published head", BASE),
}
RENAS_ARMS: dict[str, Arm] = {name: ("renas", name, TOP) for name in RANKERS if name.startswith("renas")}
THREE_ARMS = {name: CTNAS_ARMS[name] for name in ("ctnas", "ctnas, no policy learning", "whole space, nac", "random")} | {
    "ctnas, regression twin": ("ctnas", "regression twin", {**BASE, **FEW, "explore_every": 0}),
    "renas-4": RENAS_ARMS["renas-4"], "renas-6": RENAS_ARMS["renas-6"],
}  # fmt: skip
PARTS: dict[str, tuple[dict[str, Arm], tuple[str, ...]]] = {
    "ctnas": (CTNAS_ARMS, ()), "schedules": (SCHEDULE_ARMS, ()), "more": (MORE_ARMS, ("nac, paper's layers",)), "renas": (RENAS_ARMS, ()), "both": (THREE_ARMS, ()), "labels": ({"ctnas": CTNAS_ARMS["ctnas"]}, ()),
}  # fmt: skip
"""Part -> its searches, and comparators that are only judged."""

# -- One run -------------------------------------------------------------------------------------------------------------


def opened(data: Path, name: str, folder: Path) -> Any:
    """Returns the table."""
    file, columns = data / "nasbench101", {"adjacency": "adjacency", "ops": "ops"}
    if name == "sample":
        file, values = file / "cells_val_4budgets.parquet", {"validation": ["val_acc_108ep"], "test": ["val_acc_108ep"]}
    else:
        runs = {split: [",".join(f"{split[:3] if split == 'validation' else split}_acc_108ep_run{i}" for i in range(3))] for split in ("validation", "test")}
        file, values = file / "cells_val_test_3runs.parquet", runs
    return import_columns(file, "nasbench101", ImportPlan(folder / f"{name}.table"), values=values, columns=columns)


class Bout:
    """Everything that happens with the labels of one paired run."""

    def __init__(self, table: Any, space: Any, run: int, epochs: int) -> None:
        self.table, self.space, self.seed, self.epochs = table, space, derived_seed(0, f"run/{run}"), epochs
        self.fits, self.labelled = Fits(), np.empty(0, np.int64)

    def ranker(self, name: str) -> Any:
        """Returns a comparator that shares its fit with others of its name."""
        kind, settings = RANKERS[name]
        epochs = {} if kind is ReNAS else {"epochs": self.epochs}
        return self.fits.sharing(kind, name, self.space, derived_seed(self.seed, "ranker/seed"), {**settings, **epochs})

    def search(self, arm: Arm) -> dict[str, Any]:
        """Returns what one search asked after its labels: the first, the best by validation, and processor seconds without the fit."""
        strategy, ranker, settings = arm
        labels = settings.get("labels", LABELS)
        given = {"ranker": self.ranker(ranker)} if ranker else {}
        made = assemble(strategy, self.space, seed=self.seed, settings=settings, given=given)
        estimator, before = TableEstimator(self.table), sum(self.fits.seconds.values())
        began = time.process_time()
        found = search(made, Local(estimator.estimate), budget=Budget(labels + PROPOSALS), key=lambda query: self.table.find(query.arch), clock=None)
        seconds = time.process_time() - began - (sum(self.fits.seconds.values()) - before)
        rows = list(dict.fromkeys(self.table.find(told.query.arch) for told in found.told))
        if ranker:
            self.labelled = np.array(rows[:labels])
        return {"rows": rows[labels:], "incumbent": self.best(rows), "seconds": round(seconds, 2)}

    def best(self, rows: Sequence[int]) -> int:
        """Returns the row of the best validation accuracy."""
        return rows[int(np.argmax(self.table.validation()[rows]))]

    def agreement(self, name: str) -> dict[str, float]:
        """Returns taus of a comparator as it was fitted, on the cells without a label and on 100 of them."""
        archs, ranker = [self.table.arch(i) for i in self.labelled], self.ranker(name)
        ranker.fit(archs, self.table.validation()[self.labelled])
        rest = np.setdiff1d(np.arange(len(self.table)), self.labelled)
        truth, scores = self.table.test()[rest], ranker.predict([self.table.arch(i) for i in rest])
        some = np.random.default_rng(self.seed).choice(len(rest), HELD_OUT, replace=False)
        found = {"tau": float(kendalltau(scores, truth).statistic), "tau_100": float(kendalltau(scores[some], truth[some]).statistic)}
        if name.startswith("nac"):
            found |= self.opponents(ranker, rest[np.argsort(truth, kind="stable")])
        hundred = [self.table.arch(i) for i in rest[some]]
        times = []
        for _ in range(5):
            began = time.process_time()
            ranker.predict(hundred)
            times.append(time.process_time() - began)
        return {**found, "fit_seconds": round(self.fits.seconds[name], 2), "rank_100_ms": 1e3 * float(np.median(times))}

    def opponents(self, ranker: Any, by_truth: Any) -> dict[str, float]:
        """Returns whether the opponent matters: 200 cells against a weak and a strong one, logits compared as ranks and their saturation."""
        spread = [self.table.arch(i) for i in by_truth[np.linspace(0, len(by_truth) - 1, 200).astype(int)]]
        weak, strong = (self.table.arch(by_truth[int(q * (len(by_truth) - 1))]) for q in (0.05, 0.999))
        p = [np.asarray(ranker.prob(spread, [rival] * len(spread))) for rival in (weak, strong)]
        logits = [np.log(x) - np.log1p(-x) for x in p]
        saturated = [float(np.mean(np.abs(x - 0.5) > 0.48)) for x in p]
        return {"order_against_weak_and_strong": float(spearmanr(*logits).statistic), "saturated_weak": saturated[0], "saturated_strong": saturated[1]}


def one_run(table: Any, space: Any, run: int, arms: Mapping[str, Arm], judged: Sequence[str], epochs: int) -> dict[str, Any]:
    """Returns all searches and comparators of one run."""
    bout = Bout(table, space, run, epochs)
    searches = {name: bout.search(arm) for name, arm in arms.items()}
    rankers = dict.fromkeys([*(arm[1] for arm in arms.values() if arm[1]), *judged])
    return {"run": run, "searches": searches, "rankers": {name: bout.agreement(name) for name in rankers}}


# -- The record ----------------------------------------------------------------------------------------------------------


compared = partial(claims.compared, from_reference=False)


RISING = ("ctnas, interacting", "ctnas, interacting, fixed baseline")
"""Where the opponent can change the order: a rising baseline and a fixed one, compared by their first proposals."""


def summary(table: Any, runs: Sequence[Mapping[str, Any]], reference: Mapping[str, str]) -> dict[str, Any]:
    """Returns the figures over the runs: of searches the first proposal and the incumbent, of comparators their taus."""
    test = table.test()
    rank = np.argsort(np.argsort(-test, kind="stable"), kind="stable") + 1
    n = len(test)

    def over(read: Callable[[Mapping[str, Any]], float], skip: Sequence[str] = ()) -> dict[str, list[float]]:
        return {name: [read(run["searches"][name]) for run in runs] for name in runs[0]["searches"] if name not in skip}

    first, kept = reference["search"], reference["ranker"]
    found: dict[str, Any] = {
        "first_proposal_test": compared(over(lambda s: float(test[s["rows"][0]]), ["random"]), first),
        "first_proposal_rank_percent": compared(over(lambda s: float(100 * rank[s["rows"][0]] / n), ["random"]), first),
        "incumbent_test": compared(over(lambda s: float(test[s["incumbent"]])), first),
        "incumbent_rank_percent": compared(over(lambda s: float(100 * rank[s["incumbent"]] / n)), first),
        "seconds_without_fit": {name: float(np.mean(own)) for name, own in over(lambda s: s["seconds"]).items()},
    }
    if {*RISING} <= set(runs[0]["searches"]):
        pair = {name: [float(test[run["searches"][name]["rows"][0]]) for run in runs] for name in RISING}
        found["rising_minus_fixed_interacting"] = compared(pair, RISING[1])[RISING[0]]
    names = list(runs[0]["rankers"])
    for what in ("tau", "tau_100", "fit_seconds", "rank_100_ms", "order_against_weak_and_strong", "saturated_weak", "saturated_strong"):
        has = {name: [run["rankers"][name][what] for run in runs] for name in names if what in runs[0]["rankers"][name]}
        if has:
            found[what] = compared(has, kept if kept in has else next(iter(has)))
    return found


def write(out: Path, record: dict[str, Any], table: Any, search: str, ranker: str) -> None:
    """Writes the record with the figures over its runs, compared with one search and one comparator."""
    figures = summary(table, record["runs"], {"search": search, "ranker": ranker})
    write_record(out, {**record, "n": len(record["runs"]), "figures": figures})


def main() -> None:
    """Makes the runs that a record lacks and writes it after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=("sample", "three"), required=True)
    parser.add_argument("--part", choices=tuple(PARTS), required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 50, 100], help="for --part labels")
    parser.add_argument("--epochs", type=int, default=1_000, help="of the comparators")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after so many minutes")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arms, judged = PARTS[arguments.part]
    if arguments.part == "labels":
        arms = {f"{n} labels": ("ctnas", "nac", {**BASE, **FEW, "labels": n}) for n in arguments.labels}
    record: dict[str, Any] = {"command": command(), **environment(), "threads": 1, "epochs": arguments.epochs, "runs": []}
    if arguments.out.is_file():
        record["runs"] = json.loads(arguments.out.read_text())["runs"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table = opened(Path(os.environ["ARCHDUEL_DATA"]), arguments.table, Path(folder))
        space, first = searchable(table), next(iter(arms))
        record |= {"cells": len(table), "best_test": float(table.test().max()), "searches": {name: list(arm) for name, arm in arms.items()}}
        for run in range(len(record["runs"]), arguments.runs):
            if time.monotonic() - began > 60 * arguments.minutes:
                break
            if arguments.part == "labels":  # other labels are other fits: a bout each
                parts = {name: one_run(table, space, run, {name: arm}, (), arguments.epochs) for name, arm in arms.items()}
                made = {"run": run, "searches": {k: p["searches"][k] for k, p in parts.items()}, "rankers": {k: p["rankers"]["nac"] for k, p in parts.items()}}
            else:
                made = one_run(table, space, run, arms, judged, arguments.epochs)
            record["runs"].append(made)
            write(arguments.out, record, table, first, arms[first][1])
            taus = {name: round(found["tau"], 3) for name, found in made["rankers"].items()}
            print(run, taus, {name: round(100 * float(table.test()[s["rows"][0]]), 2) for name, s in made["searches"].items()}, flush=True)
        if record["runs"]:
            write(arguments.out, record, table, first, arms[first][1])


if __name__ == "__main__":
    main()
