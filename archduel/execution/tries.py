"""What is to be judged, what came of it, and when it is tried again: one set of rules wherever the judging is done.

What a judge raises about a network is that network's answer. A process that was killed, a machine that vanished, a full disk or too little
memory say nothing of any network: the query is tried again, the last time while nothing else runs, and then the run ends without a word
about it in the journal. A network that stops a process twice has its answer. So has one that memory is too small for, every time, while one that was
trained before still can be.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from archduel.core import Cost, Estimate, Query, evaluation_seed
from archduel.execution.judging import (
    ATTEMPTS,
    AtOnce,
    grouped,
    of_too_little_memory,
    shrink,
    stopped,
    too_large,
)

__all__ = ["CONTROL", "HANGS", "Crew", "Job", "Rounds", "Trouble"]

HANGS = 2  # times that a query may hang a worker
CONTROL = -1  # place of a job whose answer is known: whether it can be done again tells a network's need of memory from the machine's lack of it


@dataclass(frozen=True)
class Job:
    """Queries for one worker.

    Attributes:
        run: number of the executor's run.
        place: of the first query in it.
        queries: what to judge at once.
        seeds: one a query.
        failures: how often the machine failed in it.
        hangs: how often a worker stopped computing in it.
        ordinals: one a query.
    """

    run: int
    place: int
    queries: list[Query]
    seeds: list[int]
    failures: int = 0
    hangs: int = 0
    ordinals: list[int] = field(default_factory=list)

    @property
    def alone(self) -> bool:
        """Whether it is tried for the last time, while no other worker takes memory."""
        return self.failures == ATTEMPTS - 1

    def split(self, n: int = 1) -> list[Job]:
        """Returns jobs of at most ``n`` of its queries each."""
        return [
            Job(self.run, self.place + i, self.queries[i : i + n], self.seeds[i : i + n], ordinals=self.ordinals[i : i + n])
            for i in range(0, len(self.queries), n)
        ]


class Trouble(NamedTuple):
    """Why there are no answers.

    Attributes:
        reason: in words.
        machine: whether the machine is to blame.
        seconds: what was spent.
        hung: whether the worker had stopped computing.
        answer: what stands if others can be trained and this cannot.
        short: whether it was memory that there was too little of: fewer at once may fit.
    """

    reason: str
    machine: bool
    seconds: float = 0.0
    hung: bool = False
    answer: Estimate | None = None
    short: bool = False


class Crew(Protocol):
    """Those who judge: processes of this machine, of others, of a cluster."""

    def busy(self) -> list[Job]:
        """Returns the jobs that are begun and not over."""

    def free(self) -> bool:
        """Returns whether another job can be begun."""

    def begin(self, job: Job) -> None:
        """Gives a job away."""

    def over(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        """Waits a little and returns what is over, with its answers or why there are none."""

    def abandon(self) -> None:
        """Is told that nobody waits for jobs of before any more."""


class Rounds:
    """Has a crew judge the queries of one run after the other, and answers in ask order.

    Args:
        crew: who judges.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        at_once: how many waiting queries are one job.
    """

    def __init__(self, crew: Crew, run_seed: int, at_once: AtOnce) -> None:
        self.crew, self.run_seed, self.at_once = crew, run_seed, at_once
        self._runs = 0
        self._sound: Job | None = None  # the latest query that was answered
        self._accused: tuple[Job, Estimate] | None = None  # whose verdict waits for the control

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given, each as soon as it and all before it are there.

        One run at a time: a new one drops what an unfinished one still waits for.

        Raises:
            MachineError: where the machine fails again and again.
            RunError: if a worker cannot be prepared.
        """
        self._runs += 1
        if self.crew.busy():
            self.crew.abandon()
        seeds = [evaluation_seed(self.run_seed, ordinal) for ordinal in ordinals]
        jobs = deque(
            Job(self._runs, place, some, theirs, ordinals=list(ordinals[place : place + len(some)]))
            for place, some, theirs in grouped(queries, seeds, self.at_once)
        )
        answers: dict[int, Estimate] = {}
        for place in range(len(queries)):
            while place not in answers:
                self._hand_out(jobs)
                answers |= self._collect(jobs)
            self._hand_out(jobs)  # nobody waits while the caller is busy with this answer
            yield answers.pop(place)

    def _hand_out(self, jobs: deque[Job]) -> None:
        """Gives away jobs while somebody is free. The last attempt at one is made alone."""
        while jobs and self.crew.free():
            busy = self.crew.busy()
            if any(job.alone for job in busy) or (jobs[0].alone and busy):
                return
            job = jobs.popleft()
            fewer = self.at_once(job.queries, job.seeds) if len(job.queries) > 1 else 1
            if fewer < len(job.queries):  # cut before it was known that so many do not fit into memory
                jobs.extendleft(reversed(job.split(max(1, fewer))))
                continue
            self.crew.begin(job)

    def _collect(self, jobs: deque[Job]) -> dict[int, Estimate]:
        """Waits and returns what this run's queries came to, by place; what the machine failed in is tried again."""
        answers: dict[int, Estimate] = {}
        for job, answer in self.crew.over():
            if job.run != self._runs:  # answers to an abandoned run are dropped
                continue
            if isinstance(answer, list) and len(answer) == 1 and of_too_little_memory(answer[0]):
                answer = Trouble(answer[0].reason, True, answer[0].cost.seconds, answer=answer[0], short=True)
            if job.place == CONTROL:
                answers |= self._judged(answer)
            elif isinstance(answer, list):
                self._sound = next((each for each, estimate in zip(job.split(), answer) if not estimate.failed), self._sound)
                answers |= {job.place + i: estimate for i, estimate in enumerate(answer)}
            elif (verdict := self._tried_again(jobs, job, answer)) is not None:
                answers[job.place] = verdict
        return answers

    def _judged(self, control: list[Estimate] | Trouble) -> dict[int, Estimate]:
        """Returns the verdict that waited for a control, now that this could be done.

        Raises:
            MachineError: where it could not: then nothing can.
        """
        assert self._accused is not None
        (job, verdict), self._accused = self._accused, None
        if not isinstance(control, list):
            raise stopped(job.queries[0], f"{verdict.reason} (so did {control.reason}, with a network that could be trained before)")
        return {job.place: verdict}

    def _tried_again(self, jobs: deque[Job], job: Job, trouble: Trouble) -> Estimate | None:
        """Puts a job back, in parts where it is several queries; where it had its attempts, returns its answer or ends the run.

        Raises:
            MachineError: where it was the machine, every time.
        """
        if len(job.queries) > 1:
            if trouble.short:
                shrink(self.at_once, job.queries, trouble.reason)
            jobs.extendleft(reversed(job.split(-(-len(job.queries) // 2) if trouble.short else 1)))
            return None
        again = replace(job, hangs=job.hangs + 1) if trouble.hung else replace(job, failures=job.failures + 1)
        verdict = trouble.answer or Estimate(math.nan, Cost(trouble.seconds), {}, trouble.reason)
        if again.hangs >= HANGS or (not trouble.machine and again.failures >= 2):
            return verdict
        if again.failures >= ATTEMPTS:
            # It failed alone and in a new process. If another one can be trained now, this network needs more memory than there is.
            if not trouble.short or self._sound is None:
                raise stopped(job.queries[0], trouble.reason)
            self._accused = job, trouble.answer or too_large(trouble.reason, trouble.seconds)
            jobs.appendleft(replace(self._sound, run=self._runs, place=CONTROL, failures=ATTEMPTS - 1, hangs=0))
            return None
        jobs.appendleft(again)
        return None
