"""`archduel audit`: extra time that is spent on knowing what the search of a finished race gained."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archduel import registry
from archduel.commands.options import parse_seconds
from archduel.commands.progress import Progress, duration
from archduel.commands.search.after import reserve
from archduel.commands.search.final import text_of
from archduel.commands.search.own import space_asked
from archduel.commands.search.race import constraint_of, further_limit, recipe_for
from archduel.commands.search.report import write_report
from archduel.commands.search.settings import Settings, load_arguments, may_know, read_settings
from archduel.commands.search.words import images_read
from archduel.core import Arch, Scale, Space, parse
from archduel.core.disk import lock, write_atomic
from archduel.core.job import JOURNAL, Job, Layout, read_result
from archduel.core.storage import read_journal
from archduel.data import Dataset, load
from archduel.errors import BudgetError, DataError, RunError, SettingError, elsewhere
from archduel.race import Candidate, Stretch, run_race, train_alone
from archduel.race.plan import RACE_SHARE
from archduel.race.training import Anytime
from archduel.reporting.statistics import gain_interval, gain_sentence
from archduel.spaces.family import build, recipe_changes
from archduel.strategies import RandomSearch
from archduel.training.images import Pixels, side_by_side
from archduel.training.metrics import evaluate
from archduel.training.runtime import mix_seed

__all__ = ["AUDIT", "audit", "audited", "check_audit"]

AUDIT = "audit.json"
LAYOUT = Layout("audit", "audit.toml", ("audit",), option="run")
RANDOM_SHARE = 0.4
"""Share of the time that random search may take at most; what it costs as much as is the search of the race."""
LEAST_SEEDS, MOST_SEEDS = 2, 20
HALF, LEAST_HALF = "half", 30.0
"""The time of an audit that nobody gave a time, and the seconds that it has at least."""
LEAST_SEARCH = 2.0  # seconds; no race is shorter
LEAST_SECONDS = 1.0
"""A training that is shorter says nothing."""
ALIKE = 0.8
"""Share of the first seed's time that a further seed needs at least."""
NAMES = {
    "search": "the best searched network of the race", "random": "random search at equal cost",
    "standard": "the best standard network of the race",
}  # fmt: skip


def check_audit(
    time: Any, settings: Settings, *, race: bool, result: Mapping[str, Any] | None = None, say: Callable[[str], None] | None = None
) -> None:
    """Refuses before a run what its audit would refuse after it, perhaps hours later, and says what it will depend on.

    Args:
        time: of the audit, None where nobody asked for one.
        settings: of the run.
        race: whether that is a race.
        result: of a finished run whose network is only trained on.
        say: takes a message for people.

    Raises:
        SettingError: for what is no time, or a run of which there is no audit.
    """
    if time is None:
        return
    if not (isinstance(time, str) and time == HALF):
        parse_seconds(time, "--audit")
    known = settings.start == "pretrained" or (result is not None and _is_known(result))
    why, instead = no_audit(front=settings.objectives is not None, race=race, known=known)
    if why:
        raise SettingError(f"{why}; leave --audit out, or search {instead}")
    if say is not None and may_know(settings):
        say("an audit follows only where a network from scratch is handed over, and not a part of a pretrained one; --start scratch leaves these out")


def no_audit(*, front: bool, race: bool, known: bool) -> tuple[str, str]:
    """Returns why there is no audit of a run and of which there is one, for a sentence; two empty texts where there is nothing against it.

    Args:
        front: whether the run has several objectives.
        race: whether it is a race.
        known: whether it hands over, or can only hand over, a part of a pretrained network.
    """
    if front:
        return "an audit is of one network, and a run with several objectives has one for each trade-off", "with accuracy alone"
    if not race:
        return "an audit is of races, and any other run trains random search's network and a standard one alike already (see its report)", "with --race"
    if known:
        return "an audit trains from scratch, and would compare something else than a part of a pretrained network", "with --start scratch"
    return "", ""


def audited(path: Path, time: str | float, progress: Progress, *, quiet: bool | None, command: str) -> None:
    """Measures the gain of a finished race (:func:`audit`), or says why there is nothing to measure."""
    if reason := _nothing_to_audit(_finished(path)):
        progress.say(f"no audit: {reason}")
    else:
        audit(path, time=time, quiet=quiet, command=command)


@dataclass(frozen=True)
class Contestant:
    """A network that is trained with every seed.

    Attributes:
        role: ``handed over``, or ``search``, ``random``, ``standard`` for what it is compared with.
        arch: the architecture.
        scale: its size.
        params: parameters.
        macs: multiply-adds for one image.
    """

    role: str
    arch: Arch
    scale: Scale
    params: int
    macs: int

    def record(self) -> dict[str, Any]:
        """Returns JSON values."""
        names = ("channels", "depth", "image_size", "in_channels", "n_classes")
        scale = {name: getattr(self.scale, name) for name in names}
        return {"role": self.role, "arch": str(self.arch), "scale": scale, "params": self.params, "macs": self.macs}


def contestant_from(role: str, values: Mapping[str, Any]) -> Contestant:
    """Returns the contestant in a record of :meth:`Contestant.record` or of a race's candidate."""
    return Contestant(role, parse(values["arch"]), Scale(**values["scale"]), values["params"], values["macs"])


def _nothing_to_audit(result: Mapping[str, Any]) -> str:
    """Returns why a finished run cannot be audited, empty where it can."""
    why, instead = no_audit(front="front" in result, race="race" in result, known=_is_known(result))
    return f"{why}; audit a run {instead}" if why else ""


def _is_known(result: Mapping[str, Any]) -> bool:
    """Whether a finished run has handed over a part of a pretrained network."""
    race = result.get("race")
    winner = race["candidates"][race["winner"]]["arch"] if race else ""
    return winner.partition(":")[0] in (result.get("start") or {}).get("known", ())


def audit(
    run: str | Path, *, time: str | float | None = None, data: str | None = None, quiet: bool | None = None, command: str | None = None, gone: float = 0.0
) -> dict[str, Any]:
    """Trains the handed-over network's architecture and its rivals alike, with several seeds, and says what the search gained.

    The rivals are random search's choice at the cost of the race's search, the best standard network of the race, and the best
    searched one where another kind was handed over. The same call continues an interrupted audit; a longer ``time`` adds seeds.

    Args:
        run: folder of a finished race.
        time: all that the audit may take, such as ``"30m"``; None = as long as the run took, ``"half"`` = half of that.
        data: where the run's images are now; None = where they were.
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.
        command: how it was started, for the record.
        gone: seconds that have passed since it was started, and count.

    Returns:
        The content of ``audit.json``, which is written into the run's folder; its report is written again.

    Raises:
        RunError: for a run that is not finished, or one of which there is no audit (:func:`no_audit`).
        DataError: for images that have changed since.
        BudgetError: where the time is too short for two seeds.
    """
    path, progress = Path(run), Progress(quiet=quiet)
    settings = read_settings(path)
    settings = settings if data is None else settings.model_copy(update={"data": str(data)})
    given = None if time is None or time == HALF else parse_seconds(time, "--time")
    held = lock(path / ".lock", path)
    try:
        result = _finished(path)
        if reason := _nothing_to_audit(result):
            raise RunError(f"there is no audit of {path}: {reason}")
        winner = result["race"]["candidates"][result["race"]["winner"]]
        what = {"fingerprint": result["data"]["fingerprint"], "arch": winner["arch"], "scale": winner["scale"]}
        line = command or " ".join(sys.argv)
        if given is None:
            given = float(result["clock"]) if time is None else max(LEAST_HALF, float(result["clock"]) / 2)
            why = "as long as the run" if time is None else "half of the run's time" if given > LEAST_HALF else "the least that says much"
            progress.say(f"audit for {duration(given)}, {why}")
        with Job(path / "audit", LAYOUT, {"audit": what}, command=line, gone=gone) as job:
            return _Audit(path, job, settings, result, progress, given).run()
    finally:
        progress.end()
        held.release()


def _finished(path: Path) -> dict[str, Any]:
    """Returns the result of a finished run."""
    result = read_result(path)
    if result is None:
        raise RunError(f"{path} is not finished, so there is nothing to audit yet; the same `archduel search` command continues it")
    return result


class _Audit:
    """One audit: who takes part, sets of paired trainings, and what they say."""

    def __init__(
        self, path: Path, job: Job, settings: Settings, result: Mapping[str, Any], progress: Progress, seconds: float
    ) -> None:
        self.path, self.job, self.result, self.progress, self.seconds = path, job, result, progress, seconds
        self.records = read_journal(path / JOURNAL)
        chosen = next((r["seconds"] for r in self.records if r["event"] == "time"), settings.seconds)
        self.settings = settings.model_copy(update={"seconds": chosen})
        self.space = self._space()
        self.seed = mix_seed(settings.seed, "audit")
        self.threads = settings.threads * (settings.workers if settings.device == "cpu" else 1)
        self.end = seconds - reserve(seconds)

    def _space(self) -> Space:
        """Returns the space in which random search is a rival: the run's, or the one beside it where the network that was handed over is of that."""
        race = self.result["race"]
        if self.settings.beside is not None:
            beside: Space = registry.make("space", self.settings.beside)
            if str(race["candidates"][race["winner"]]["arch"]).startswith(f"{beside.name}:"):
                return beside
        return space_asked(self.settings)

    def run(self) -> dict[str, Any]:
        """Does all that is left and returns the content of audit.json."""
        self.dataset = self._data()
        race = self.result["race"]
        self.winner = race["candidates"][race["winner"]]
        self.side = int(self.winner["scale"]["image_size"])
        self._check_time()
        rivals = [contestant_from("handed over", self.winner), *self._rivals()]
        alone: dict[tuple[Arch, Scale], Contestant] = {}
        for contestant in rivals:
            alone.setdefault((contestant.arch, contestant.scale), contestant)
        self.contestants = list(alone.values())
        self._train_sets()
        audited = self._summary(rivals)
        self.job.note("finished")
        self._write(audited)
        return audited

    def _write(self, audited: dict[str, Any]) -> None:
        write_atomic(self.path / AUDIT, json.dumps(audited, indent=1).encode() + b"\n")
        write_report(self.path)
        for line in [audited["conditions"], *(part["sentence"] for part in audited["gain"].values())]:
            self.progress.say(line)
        self.progress.say(f"report  {self.path / 'report.html'}")

    def _data(self) -> Dataset:
        begun = next((r for r in self.records if r["event"] == "data"), None)
        with elsewhere("the run was made with these images: --data says where they are now"):
            dataset = load(self.settings.data, progress=self.progress.reading, **load_arguments(self.settings, begun))
        self.progress.end()
        if dataset.fingerprint != self.result["data"]["fingerprint"]:
            raise DataError(f"{dataset.name} has changed since the run, which an audit must not mix; make a new run of these images")
        return dataset

    def _check_time(self) -> None:
        """Raises BudgetError where two seeds would not fit, before anything is trained."""
        most = 3 + (self.winner["role"] == "standard")
        left = self.end - self.job.clock
        if self.job.noted("set") is None and self.job.noted("random") is None:
            left *= 1 - RANDOM_SHARE
        if self.job.noted("set", number=LEAST_SEEDS - 1) is None and left < LEAST_SEEDS * most * (LEAST_SECONDS + 0.5):
            needed = LEAST_SEEDS * most * (LEAST_SECONDS + 0.5) / (1 - RANDOM_SHARE) / 0.9 + self.job.clock + 1
            raise BudgetError(
                f"an audit of {self.seconds:.0f} s is too short for {LEAST_SEEDS} seeds of {most} networks; give at least --time {needed:.0f}s", needed
            )

    # -- who takes part ------------------------------------------------------------------------------------------------

    def _rivals(self) -> list[Contestant]:
        """Returns what the handed-over network is compared with, all fixed before any test image is read."""
        rivals = [self._random()]
        best = {"standard": self._best("standard"), "search": self._best("search", "start")}
        wanted = ("standard", "search") if self.winner["role"] in ("standard", "random") else ("standard",)
        return rivals + [contestant_from(role, found) for role in wanted if (found := best[role]) is not None]

    def _best(self, *roles: str) -> Mapping[str, Any] | None:
        """Returns the candidate of these kinds that got furthest in the race, and scored best there."""
        there = [c for c in self.result["race"]["candidates"] if c["role"] in roles and c["curve"] and not c["reason"]]
        known = (self.result.get("start") or {}).get("known", ())  # an audit trains from scratch, which those did not
        there = [c for c in there if c["number"] != self.winner["number"] and c["arch"].partition(":")[0] not in known]
        scored = [(len(c["curve"]), c["curve"][-1]["score"], -c["number"], c) for c in there]
        return max(scored, key=lambda entry: entry[:3])[-1] if scored else None

    def _search_cost(self) -> float:
        """Returns the seconds that the race took until the network was chosen."""
        clocks = {r["event"]: r["clock"] for r in reversed(self.records) if r["event"] in ("size", "choice")}
        return max(1.0, float(clocks["choice"]) - float(clocks["size"]))

    def _random(self) -> Contestant:
        """Returns the choice of random search, which gets as many seconds as the race's search had, where there are so many."""
        noted = self.job.noted("random")
        if noted is not None:
            return contestant_from("random", noted)
        cost = self._search_cost()
        plan = self.job.once("random begins", lambda: {
            "search_seconds": cost, "gone": self.job.clock,
            "random_seconds": max(LEAST_SEARCH, min(cost, RANDOM_SHARE * (self.end - self.job.clock))),
        })  # fmt: skip
        self.progress.say(f"random search for {duration(plan['random_seconds'])}, the race's search had {duration(cost)} ...")
        settings = self.settings
        race = run_race(
            self.dataset, self.space, RandomSearch(self.space, rng=np.random.default_rng(self.seed)),
            folder=self.job.path / "random", seconds=plan["gone"] + plan["random_seconds"] / RACE_SHARE, gone=plan["gone"],
            max_params=settings.max_params, max_macs=settings.max_macs, random_only=True, last_training=False,
            scratch_side=self.side, recipe=recipe_for(settings, self.dataset, self.side), metric=settings.metric, by_likelihood=settings.rank_by == "likelihood",
            seed=self.seed, device=settings.device, threads=self.threads, journal=self.job.part("random"), **self._limits(),
        )  # fmt: skip
        found = _contestant("random", race.winner)
        self.job.note("random", **found.record(), networks=len(race.candidates))
        return found

    def _limits(self) -> dict[str, Any]:
        """Returns the limits of the race that are functions."""
        return {"allowed": further_limit(self.settings), "constraint": constraint_of(self.settings, self.space, self.dataset, self.side)}

    # -- paired trainings ----------------------------------------------------------------------------------------------

    def _train_sets(self) -> None:
        """Trains all contestants with one seed after another, as long as the time allows; at least two seeds."""
        data = self.dataset
        look = data.preprocessing
        images = side_by_side(data.train.images, data.validation.images)
        labels = np.concatenate([data.train.labels, data.validation.labels])
        self.both = Pixels(images, labels, look.mean, look.std, self.settings.device)
        self.test = Pixels(data.test.images, data.test.labels, look.mean, look.std, self.settings.device)
        for number in range(MOST_SEEDS):
            plan = self.job.noted("set", number=number) or self._plan_set(number)
            if plan is None:
                break
            left = [c for c in self.contestants if self.job.noted("trained", set=number, role=c.role) is None]
            if left:
                self.progress.say(f"seed {number + 1}: {len(left)} networks, {duration(plan['each'])} each ...")
            for contestant in left:
                self._train(number, contestant, plan["each"])
            if left:
                self.job.note("set ends", number=number)

    def _plan_set(self, number: int) -> dict[str, Any] | None:
        """Notes how long each training of the next seed is; None if there is no time for one."""
        overhead, count, left = self._overhead(), len(self.contestants), self.end - self.job.clock
        longest = max(float(self.winner["seconds"]), 2 * LEAST_SECONDS)
        if number < LEAST_SEEDS:
            sets = max(LEAST_SEEDS - number, int(left / (count * (longest + overhead))))
        else:
            sets = int(left / (count * (ALIKE * self.job.noted("set", number=0)["each"] + overhead)))  # type: ignore[index]
        each = min(longest, left / (max(sets, 1) * count) - overhead)
        if sets < 1:
            return None
        return self.job.note("set", number=number, each=max(each, LEAST_SECONDS))

    def _overhead(self) -> float:
        """Returns the seconds of a training that are none: building, testing, saving; measured on the seeds so far."""
        records = self.job.journal.records
        starts = {r["number"]: r for r in records if r["event"] == "set"}
        ends = {r["number"]: r["clock"] for r in records if r["event"] == "set ends"}
        more = [(ends[n] - starts[n]["clock"]) / len(self.contestants) - starts[n]["each"] for n in ends]
        return max([0.05, *more]) if more else 0.3 + 2e-5 * len(self.test)

    def _train(self, number: int, contestant: Contestant, each: float) -> None:
        """Trains one network from scratch and reads the test images once; the record has both."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, "weights", number))
        model = build(contestant.arch, contestant.scale, generator=generator)
        side = contestant.scale.image_size  # under a RAM limit networks see images at sizes of their own
        recipe = recipe_for(self.settings, self.dataset, side).with_(**recipe_changes(contestant.arch))
        trainer = Anytime(model, self.both.resized(side), recipe, seed=mix_seed(self.seed, "images", number), device=self.settings.device)
        path = self.job.path / "checkpoints" / f"{number}-{contestant.role.replace(' ', '-')}.safetensors"
        done = trainer.load(path)["done"] if path.exists() else 0.0

        def save(seconds: float) -> None:
            trainer.save(path, done=seconds)
            self.job.note("saved", set=number, role=contestant.role, done=round(seconds, 3))  # so that the clock goes on from here

        about = {"set": number, "role": contestant.role}
        try:
            took = train_alone(trainer, Stretch(each, done, threads=self.threads), save=save)
        except RunError as error:
            self.job.note("trained", **about, reason=str(error), score=None)
            return
        found = evaluate(trainer.model, self.test.resized(side), device=self.settings.device)
        score = found.score(self.settings.metric)
        self.job.note("trained", **about, reason="", score=score, accuracy=found.accuracy, seconds=round(took, 3), passes=trainer.passes)
        path.unlink(missing_ok=True)

    # -- what they say -------------------------------------------------------------------------------------------------

    def _scores(self) -> dict[str, list[float]]:
        """Returns the test scores of each contestant on the seeds with which all could be trained."""
        roles = [c.role for c in self.contestants]
        scores: dict[str, list[float]] = {role: [] for role in roles}
        for number in range(MOST_SEEDS):
            found = {role: self.job.noted("trained", set=number, role=role) for role in roles}
            values = {role: record["score"] for role, record in found.items() if record is not None}
            if len(values) == len(roles) and None not in values.values():
                for role, value in values.items():
                    scores[role].append(value)
        return scores

    def _summary(self, rivals: Sequence[Contestant]) -> dict[str, Any]:
        scores = self._scores()
        n = len(scores["handed over"])
        if not n:
            raise RunError("no seed could be trained with all networks; see audit/journal.jsonl for the reasons")
        plan, drawn = self.job.noted("random begins"), self.job.noted("random")
        assert plan is not None
        assert drawn is not None
        sets = [r["each"] for r in self.job.journal.records if r["event"] == "set"]
        facts = {
            "seconds": self.seconds, "clock": round(self.job.clock, 2), "seeds": n, "metric": self.settings.metric,
            "n_test": len(self.dataset.test), "each": sets, "run_seconds": self.winner["seconds"],
            "search_seconds": plan["search_seconds"], "random_seconds": plan["random_seconds"], "random_networks": drawn["networks"],
        }  # fmt: skip
        networks = [{**c.record(), "text": text_of(self.space, c.arch), "test": scores[c.role]} for c in self.contestants]
        gains = {rival.role: self._gain(rival, scores, facts) for rival in rivals[1:]}
        return {**facts, "conditions": _conditions(facts, images_read(self.result["data"])), "networks": networks, "gain": gains}

    def _gain(self, rival: Contestant, scores: Mapping[str, Sequence[float]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Returns paired differences, their interval and the sentence against one rival."""
        name = NAMES[rival.role]
        if rival.role == "random" and facts["random_seconds"] < 0.95 * facts["search_seconds"]:
            share = facts["random_seconds"] / facts["search_seconds"]
            name = f"random search with {share:.0%} of the search's time"
        if rival.role not in scores:
            same = f"The network that was handed over is also that of {name}: there is nothing to compare."
            return {"differences": [], "interval": None, "sentence": same}
        ours, theirs = scores["handed over"], scores[rival.role]
        differences = [a - b for a, b in zip(ours, theirs)]
        sentence = gain_sentence(differences, 1, len(ours), other=name, n_test=facts["n_test"], subject="the network that was handed over")
        interval = gain_interval(differences, 1, len(ours), n_test=facts["n_test"])
        return {"differences": differences, "interval": interval.record(), "sentence": sentence}


def _contestant(role: str, candidate: Candidate) -> Contestant:
    entry = candidate.entry
    return Contestant(role, entry.arch, entry.scale, entry.counts.params, entry.counts.macs)


def _conditions(facts: Mapping[str, Any], tested: str) -> str:
    """Returns how the networks were trained, and what that means for a network that had longer in the run."""
    each = sorted(facts["each"])
    span = duration(each[0]) if math.isclose(each[0], each[-1], rel_tol=0.05) else f"{duration(each[0])} to {duration(each[-1])}"
    run = facts["run_seconds"]
    less = f"; in the run it had {duration(run)}, so longer trainings may order them otherwise" if each[0] < 0.8 * run else ""
    return f"Audit: every network trained alike with {facts['seeds']} paired seeds, {span} each{less}. {tested} test images."
