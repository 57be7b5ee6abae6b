"""An estimator that looks architectures up: simulated cost, seeded runs, and no way to a test value."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Cost, Decision, Estimate, Query, Space, State, check_decisions, sample
from archduel.errors import SettingError
from archduel.tables.table import Table, mean_of_runs

__all__ = ["Restricted", "TableEstimator", "covered", "scramble", "searchable"]

# -- A space narrowed to the architectures of a table, so that a search over an incomplete benchmark meets nothing else -


MEMO = 1 << 16
"""Questions whose answers are remembered: those near the root, which every architecture meets, and what a search looks at now."""


class Restricted:
    """The same decisions, with only the answers that lead to one of the listed architectures.

    A draw is uniform over the list. Graphs, features and fingerprints are those of the space.

    Args:
        space: the whole one.
        archs: the architectures, or their choices as bytes (a hundred of them for each of a million rows, in place of a kilobyte).
    """

    def __init__(self, space: Space, archs: Iterable[Arch | bytes]) -> None:
        self.space = space
        self.name = space.name
        self._keys = [arch if isinstance(arch, bytes) else bytes(arch.choices) for arch in archs]
        # in order, so that those with a common beginning are neighbours: a tree of all beginnings has as many entries as all choices
        self._sorted = sorted(self._keys)
        self._answers: dict[bytes, tuple[int, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "space":
            raise AttributeError(name)
        return getattr(self.space, name)

    @property
    def kinds(self) -> Mapping[str, int]:
        """Vocabulary size of each kind of decision."""
        return self.space.kinds

    @property
    def size(self) -> int:
        """The number of architectures."""
        return len(self._keys)

    @property
    def archs(self) -> list[Arch]:
        """All of them, in the order of the list."""
        return [Arch(self.name, tuple(key)) for key in self._keys]

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question with the answers that the list has."""
        decision = self.space.decision(prefix)
        if decision is None:
            return None
        return Decision(decision.name, decision.kind, self._answers_to(prefix))

    def _answers_to(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Returns the answers, rising, that the list has after ``prefix``."""
        try:
            start = bytes(prefix)
        except ValueError:  # no choice above 255 is listed
            return ()
        if (known := self._answers.get(start)) is None:
            known = tuple(self._found(start))
            if len(self._answers) >= MEMO:
                self._answers.clear()
            self._answers[start] = known
        return known

    def _found(self, start: bytes) -> Iterator[int]:
        """Yields the next choice of the first key after ``start`` and of those that differ there, one search for each."""
        keys, at = self._sorted, len(start)
        row = bisect_left(keys, start)
        while row < len(keys) and keys[row].startswith(start):
            if len(keys[row]) == at:  # ends here
                row += 1
                continue
            yield (choice := keys[row][at])
            if choice == 255:
                return
            row = bisect_left(keys, start + bytes([choice + 1]), row)

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` is one of the list."""
        if arch.space != self.name or max(arch.choices, default=0) > 255 or not self._lists(bytes(arch.choices)):
            check_decisions(self, arch)

    def _lists(self, key: bytes) -> bool:
        row = bisect_left(self._sorted, key)
        return row < len(self._sorted) and self._sorted[row] == key

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns an architecture, uniform over the list."""
        return Arch(self.name, tuple(self._keys[int(rng.integers(len(self._keys)))]))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F) structural features."""
        return self.space.features(archs)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the space's fingerprint."""
        return self.space.fingerprint(arch)


def covered(table: Table, space: Space, *, probes: int = 300) -> bool:
    """Returns whether ``probes`` random architectures of ``space`` are all in ``table``."""
    rng = np.random.default_rng(20210305)  # fixed, and unlikely to be how the table was drawn
    return all(sample(space, rng) in table for _ in range(probes))


def searchable(table: Table) -> Space:
    """Returns the table's space, narrowed to the table's architectures unless it covers the whole space."""
    assert table.space is not None, "tables are opened together with their space"
    return table.space if covered(table, table.space) else Restricted(table.space, table.keys())


_GOLDEN, _FIRST, _SECOND = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def scramble(seed: int, fidelity: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns (N,) uint64 well-mixed bits of seed, fidelity and row (SplitMix64): the same on every machine."""
    state = np.full(len(rows), seed % 2**64, np.uint64)
    for number in (np.full(len(rows), fidelity, np.uint64), rows.astype(np.uint64)):
        state = state + (number + np.uint64(1)) * _GOLDEN  # wraps around, as it should
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        state = state ^ (state >> np.uint64(31))
    return state


class TableEstimator:
    """Answers queries from a :class:`Table`: the score is a validation accuracy, the cost is what training took.

    Test values are locked: the estimator keeps a copy of the table that has none. Read them from the table itself,
    after the search.

    A query of an architecture that the table does not have fails with that reason. The cost of a query is that of one
    training (the mean training time where the score is a mean over runs), unless ``charge`` says otherwise.
    """

    def __init__(
        self,
        table: Table,
        *,
        fidelity: str | None = None,
        reduce: str | int = "mean",
        charge: str = "one",
        once: str = "never",
        seed: int = 0,
    ) -> None:
        """Takes the table's validation side.

        Args:
            table: the benchmark.
            fidelity: name of the fidelity of queries that name none; None = the most expensive one.
            reduce: ``mean`` of the runs, ``sample`` (one run of each architecture, drawn by ``seed``, the same each
                time it is asked), or the number of a run from 0.
            charge: ``one`` = a mean costs what one training costs, ``all`` = what all its runs cost together.
            once: ``never`` = every query is charged; ``arch`` = a row of the table only the first time; ``fingerprint``
                = of architectures with one fingerprint only the first.
            seed: draws the runs of ``sample``.

        Raises:
            SettingError: for a setting of another value.
            UnknownNameError: for an unknown fidelity.
        """
        if reduce not in ("mean", "sample") and not (isinstance(reduce, int) and 0 <= reduce < table.runs):
            raise SettingError(
                f"reduce is {reduce!r}, expected 'mean', 'sample' or a run from 0 to {table.runs - 1}"
            )
        if charge not in ("one", "all"):
            raise SettingError(f"charge is {charge!r}, expected 'one' or 'all'")
        if once not in ("never", "arch", "fingerprint"):
            raise SettingError(f"once is {once!r}, expected 'never', 'arch' or 'fingerprint'")
        self.table = table.locked()
        self._position = table.position(fidelity)
        self.fidelity = table.fidelities[self._position].name
        self.reduce, self.charge, self.once, self.seed = reduce, charge, once, seed
        self.asked = 0
        self._paid: set[int] = set()  # row (or fingerprint class) and fidelity, as one number
        self._n_fidelities = len(table.fidelities)
        self._classes: NDArray[np.int64] | None = self.table.classes if once == "fingerprint" else None
        self._answers: dict[int, tuple[memoryview, memoryview, memoryview]] = {}
        self._columns = {name: self.table.column(name).data for name in table.columns}

    @property
    def metric(self) -> str:
        """What the score is."""
        return self.table.metric

    @property
    def distinct(self) -> int:
        """How many distinct evaluations were asked for: of (row or fingerprint class, fidelity)."""
        return len(self._paid)

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns one estimate a query, in order."""
        self.asked += len(queries)
        return [self._one(query.arch, query.fidelity) for query in queries]

    def _one(self, arch: Arch, fidelity: str | None) -> Estimate:
        row = self.table.find(arch)
        position = self._position if fidelity is None else self.table.position(fidelity)
        if row < 0:
            return Estimate(math.nan, reason=f"{arch} is not in table {self.table.name!r}")
        scores, seconds, images = self._answers.get(position) or self._answer(position)
        score = scores[row]
        if score != score:
            name = self.table.fidelities[position].name
            return Estimate(
                score, reason=f"{arch} has no value at fidelity {name!r} in table {self.table.name!r}"
            )
        key = (row if self._classes is None else int(self._classes[row])) * self._n_fidelities + position
        free = self.once != "never" and key in self._paid
        self._paid.add(key)
        cost = Cost() if free else Cost(seconds[row], images[row])
        return Estimate(score, cost, {name: column[row] for name, column in self._columns.items()})

    def highest(self) -> float:
        """Returns the highest score that a query without a fidelity can be told; nan where there is none."""
        scores = np.asarray(self._answer(self._position)[0])
        return float(np.nanmax(scores)) if (scores == scores).any() else math.nan

    def _answer(self, position: int) -> tuple[memoryview, memoryview, memoryview]:
        """Returns score, seconds and images of every row at a fidelity, worked out once."""
        table = self.table
        accuracy = table.values("validation")[position]  # (R, N)
        took = table.values("seconds")[position] if "seconds" in table.splits else np.zeros_like(accuracy)
        took = np.where(np.isnan(accuracy), np.float32(np.nan), took)
        if isinstance(self.reduce, int):
            accuracy, took = accuracy[self.reduce, None], took[self.reduce, None]
        elif self.reduce == "sample":
            run = self._draw(accuracy, position)
            accuracy, took = np.take_along_axis(accuracy, run, 0), np.take_along_axis(took, run, 0)
        seconds = np.nan_to_num(mean_of_runs(took))  # a training may be listed without its time
        trainings = np.ones(len(table), np.int64)
        if self.charge == "all":
            trainings = np.count_nonzero(~np.isnan(accuracy), axis=0)
        images = trainings * table.fidelities[position].images
        answer = mean_of_runs(accuracy).data, (seconds * trainings).data, images.data
        self._answers[position] = answer
        return answer

    def _draw(self, accuracy: NDArray[np.float32], position: int) -> NDArray[np.int64]:
        """Returns (1, N) the run of each row, drawn uniformly from those that are there."""
        there = ~np.isnan(accuracy)  # (R, N)
        count = np.maximum(there.sum(axis=0), 1).astype(np.uint64)
        nth = scramble(self.seed, position, np.arange(len(self.table))) % count
        return np.argmax(there.cumsum(axis=0) == nth.astype(np.int64) + 1, axis=0)[None]

    def state_dict(self) -> State:
        """Returns what was asked so far."""
        return {"asked": self.asked, "paid": np.array(sorted(self._paid), np.int64)}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.asked = int(state["asked"])
        self._paid = set(np.asarray(state["paid"]).tolist())

    def __reduce__(self) -> tuple[Any, ...]:
        settings = (self.fidelity, self.reduce, self.charge, self.once, self.seed)
        return _again, (self.table, settings, self.state_dict())


def _again(table: Table, settings: tuple[Any, ...], state: State) -> TableEstimator:
    """Returns the estimator in another process."""
    fidelity, reduce, charge, once, seed = settings
    made = TableEstimator(table, fidelity=fidelity, reduce=reduce, charge=charge, once=once, seed=seed)
    made.load_state_dict(state)
    return made
