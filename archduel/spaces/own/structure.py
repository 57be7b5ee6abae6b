"""Which questions a program asks after which answers, found by running it: so that most questions are known without running it again.

Most decisions of a network (a width, a kernel) change no later question; a few (a depth, an operation with choices of its own) do. A
:class:`Structure` finds out which by changing one answer after the other, keeps a tree over the answers of the few alone, and runs the
program once for each of its nodes. It is a function of the program and nothing else: no order of asking changes what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from archduel.core import Decision
from archduel.errors import SettingError
from archduel.spaces.own.choices import Answer, Question, Trace, kind_of

__all__ = ["Run", "Structure", "by_name"]

Run = Callable[[Answer], Trace]
"""Runs the program with somebody who answers, and returns what it asked."""

BASES = 1
"""Random architectures from which every answer is changed once more: some answers matter only beside others."""
PROBES = 60
"""Random architectures whose questions are compared with those of the program; what is found wrong is mended."""


def by_name(answers: Mapping[str, int]) -> Answer:
    """Returns who gives these answers, and the first option where there is none."""
    return lambda question: min(answers.get(question.name, 0), len(question.options) - 1)


@dataclass
class _Node:
    """The questions after some structural answers, up to and with the next structural one."""

    questions: tuple[Question, ...]
    decisions: tuple[Decision, ...]
    goes_on: bool
    children: dict[int, _Node] = field(default_factory=dict)


class Structure:
    """The tree of a program's questions.

    Attributes:
        questions: every question that was met while exploring, by name, in the order of meeting; of a name with several
            sets of options the first.
        always: names that every program run asked.
        counts: kind of question -> the numbers of options that it was met with.
        free: names of the questions whose answers change no later question.
        reached: (name, label of an option) -> a run of the program that took it.

    Args:
        run: runs the program.

    Raises:
        SettingError: for a program that asks differently when it is run again, or asks nothing.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.questions: dict[str, Question] = {}
        self.options: dict[str, dict[tuple[object, ...], Question]] = {}
        self.always: set[str] = set()
        self.counts: dict[str, set[int]] = {}
        self.free: set[str] = set()
        self.reached: dict[tuple[str, str], Trace] = {}
        self._root: _Node | None = None
        self._explore()

    # -- exploring ---------------------------------------------------------------------------------------------------------

    def _met(self, answer: Answer) -> Trace:
        """Returns what the program asks, and notes questions that are new."""
        trace = self.run(answer)
        names = {question.name for question, _ in trace}
        self.always = self.always & names if self.questions else names
        for question, _ in trace:
            self.questions.setdefault(question.name, question)
            self.options.setdefault(question.name, {}).setdefault(question.key, question)
            self.counts.setdefault(kind_of(question.name), set()).add(len(question.options))
        for question, index in trace:
            self.reached.setdefault((question.name, question.labels[index]), trace)
        return trace

    def _explore(self) -> None:
        start = self._met(by_name({}))
        if not start:
            raise SettingError(
                "there is nothing to choose: the constructor asks no choice of two options or more; "
                "write choose(name, [first, second]), repeat or switch in it"
            )
        _same(start, self.run(by_name({})))
        structural: set[str] = set()
        done: set[str] = set()
        waiting = [start]
        while waiting:
            trace = waiting.pop(0)
            new = [question.name for question, _ in trace if question.name not in done]
            done.update(new)
            waiting += self._flipped(trace, new, structural)
        rng = np.random.default_rng(0)
        for _ in range(BASES):
            trace = self._met(lambda question: int(rng.integers(len(question.options))))
            _same(trace, self.run(by_name({question.name: index for question, index in trace})))
            self._flipped(trace, [question.name for question, _ in trace if question.name not in structural], structural)
        self.free = set(self.questions) - structural
        self._mend(rng)

    def _flipped(self, trace: Trace, names: Sequence[str], structural: set[str]) -> list[Trace]:
        """Returns what is asked after each change of one of ``names`` that changes later questions; notes which do."""
        answers = {question.name: index for question, index in trace}
        wanted, different = set(names), []
        for place, (question, index) in enumerate(trace):
            for option in range(len(question.options)) if question.name in wanted else ():
                if option != index:
                    after = self._met(by_name({**answers, question.name: option}))
                    if [q.key for q, _ in after[place + 1 :]] != [q.key for q, _ in trace[place + 1 :]]:
                        structural.add(question.name)
                        different.append(after)
        return different

    def _mend(self, rng: np.random.Generator) -> None:
        """Compares random architectures with the program; an answer that matters after all is taken out of ``free``."""
        for _ in range(PROBES):
            answers = self._draw(rng)
            while (guilty := self._guilty(answers)) is not None:
                self.free.discard(guilty)
                self._root = None
        self._root = None

    def _draw(self, rng: np.random.Generator) -> dict[str, int]:
        answers: dict[str, int] = {}
        prefix: tuple[int, ...] = ()
        while (question := self.question(prefix)) is not None:
            answers[question.name] = int(rng.integers(len(question.options)))
            prefix = (*prefix, answers[question.name])
        return answers

    def _agrees(self, answers: Mapping[str, int]) -> bool:
        trace = self._met(by_name(answers))
        path = tuple(self.path([index for _, index in trace]))
        return [question.key for question in path] == [question.key for question, _ in trace]

    def _guilty(self, answers: Mapping[str, int]) -> str | None:
        """Returns a free decision whose answer changes later questions, None where the tree is right about these answers."""
        if self._agrees(answers):
            return None
        # with first options alone the tree is right, because its nodes were made so: on the way there it becomes right at one answer
        left = dict(answers)
        for name in [name for name in answers if name in self.free and answers[name]]:
            left[name] = 0
            if self._agrees(left):
                return name
        return next((name for name in answers if name in self.free), None)

    # -- asking ------------------------------------------------------------------------------------------------------------

    def _node(self, answers: Mapping[str, int], asked: int) -> _Node:
        """Returns the node after the structural ``answers``, ``asked`` questions from the beginning."""
        questions = []
        for question, _ in self.run(by_name(answers))[asked:]:
            questions.append(question)
            if question.name not in self.free:  # what exploring did not meet may matter
                break
        goes_on = bool(questions) and questions[-1].name not in self.free
        return _Node(tuple(questions), tuple(map(self._decision, questions)), goes_on)

    def _decision(self, question: Question) -> Decision:
        return Decision(question.name, self.kind(question), tuple(range(len(question.options))))

    def kind(self, question: Question) -> str:
        """Returns the kind of a question: its name without places, with the number of options where that is not always the same."""
        kind, n = kind_of(question.name), len(question.options)
        return kind if self.counts.get(kind, {n}) == {n} else f"{kind}/{n}"

    def _nodes(self, prefix: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """Yields each node on the way of ``prefix`` with the number of questions before it."""
        if self._root is None:
            self._root = self._node({}, 0)
        node, asked = self._root, 0
        answers: dict[str, int] = {}
        while True:
            yield node, asked
            asked += len(node.questions)
            if not node.goes_on or asked > len(prefix):
                return
            answer = prefix[asked - 1]
            answers[node.questions[-1].name] = answer
            if answer not in node.children:
                if not 0 <= answer < len(node.questions[-1].options):
                    return
                node.children[answer] = self._node(answers, asked)
            node = node.children[answer]

    def _last(self, prefix: Sequence[int]) -> tuple[_Node, int] | None:
        """Returns the node that the question after ``prefix`` stands in, and its place there; None where there is no further one."""
        last = None
        for last in self._nodes(prefix):  # noqa: B007 - the last one is wanted
            pass
        assert last is not None
        node, asked = last
        place = len(prefix) - asked
        return (node, place) if place < len(node.questions) else None

    def question(self, prefix: Sequence[int]) -> Question | None:
        """Returns the question after the answers ``prefix``, None when there is no further one."""
        found = self._last(prefix)
        return None if found is None else found[0].questions[found[1]]

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the question after ``prefix`` in the words of a space."""
        found = self._last(prefix)
        return None if found is None else found[0].decisions[found[1]]

    def size(self, most_nodes: int = 200, draws: int = 400) -> tuple[int, bool]:
        """Returns how many architectures there are, and whether that is exact; else it is an unbiased estimate.

        Source of the estimate: Knuth, "Estimating the efficiency of backtrack programs", Mathematics of Computation 29 (1975).
        """
        total, nodes = 0, 0
        stack: list[tuple[int, tuple[int, ...]]] = [(1, ())]
        while stack:
            ways, prefix = stack.pop()
            node, asked = list(self._nodes(prefix))[-1]
            nodes += 1
            if nodes > most_nodes:
                return self._estimate(draws), False
            questions = node.questions[:-1] if node.goes_on else node.questions
            ways *= math.prod(len(question.options) for question in questions)
            if not node.goes_on:
                total += ways
                continue
            prefix = (*prefix, *(0,) * (asked + len(questions) - len(prefix)))
            stack += [(ways, (*prefix, answer)) for answer in range(len(node.questions[-1].options))]
        return total, True

    def _estimate(self, draws: int) -> int:
        rng, total = np.random.default_rng(0), 0.0
        for _ in range(draws):
            ways, prefix = 1.0, ()
            while (question := self.question(prefix)) is not None:
                ways *= len(question.options)
                prefix = (*prefix, int(rng.integers(len(question.options))))  # type: ignore[assignment]
            total += ways
        return round(total / draws)

    def path(self, choices: Sequence[int]) -> Iterator[Question]:
        """Yields the questions that ``choices`` answer and, where they end too early, those that follow in the last node."""
        for node, _ in self._nodes(choices):
            yield from node.questions


def _same(first: Trace, second: Trace) -> None:
    """Raises SettingError for a program that asked something else when it was run with the same answers."""
    for one, two in zip(first, second):
        if one[0].key != two[0].key:
            raise SettingError(
                f"the constructor is not the same when it runs again with the same answers: after {_names(first, one)} it asked "
                f"{one[0].name!r} {list(one[0].labels)}, then {two[0].name!r} {list(two[0].labels)}; what is random, or depends on "
                "the time or on a variable that changes, must not decide what is asked"
            )
    if len(first) != len(second):
        raise SettingError(
            f"the constructor is not the same when it runs again with the same answers: it asked {len(first)} questions, then {len(second)}; "
            "what is random, or depends on the time or on a variable that changes, must not decide what is asked"
        )


def _names(trace: Trace, until: tuple[Question, int]) -> str:
    place = trace.index(until)
    return repr(trace[place - 1][0].name) if place else "nothing"
