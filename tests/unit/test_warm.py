"""Rankers that begin with labels from elsewhere: how far these are trusted, and what a new search takes over from an earlier run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from archduel.commands.priors import (
    labels_of_run,
    read_source,
    warm_ranker,
    warmed_ranker,
    winner_of_run,
    with_prior,
)
from archduel.core import Arch, Cost, Estimate, Ranker, sample
from archduel.errors import ArchduelError, RunError, SettingError
from archduel.rankers.best import Jury
from archduel.rankers.gp import GaussianProcess
from archduel.rankers.renas import ReNAS
from archduel.rankers.warm import Source, Warm, WarmBeliefs, trust, warmed
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.stages.space import Stages
from archduel.strategies.best import Contenders
from archduel.strategies.candidates import whole_space
from archduel.testing.toy import ToyRanker, ToySpace, toy_score

SPACE = ToySpace()


def toys(n: int, seed: int = 0) -> list[Arch]:
    """Returns ``n`` different architectures."""
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(sample(SPACE, rng) for _ in range(5 * n)))[:n]


def process(seed: int = 0) -> GaussianProcess:
    return GaussianProcess(SPACE, reference=200, seed=seed)


def standardised(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / values.std())


class TestTrust:
    def test_agreement_is_trusted_the_more_the_more_labels_show_it(self) -> None:
        rng = np.random.default_rng(0)
        slopes = []
        for n in (5, 20, 80):
            said = standardised(rng.normal(size=n))
            slope, likely = trust(said, standardised(said + 0.3 * rng.normal(size=n)), 1.0)
            slopes.append(slope)
            assert likely > 0.5
        assert slopes[-1] > 0.9
        assert slopes[-1] >= slopes[0]

    @pytest.mark.parametrize("n", [10, 20, 40, 80])
    def test_noise_and_contradiction_count_for_little(self, n: int) -> None:
        rng = np.random.default_rng(n)
        noise = [trust(standardised(rng.normal(size=n)), standardised(rng.normal(size=n)), 1.0)[0] for _ in range(200)]
        assert np.mean(noise) < 0.1
        said = standardised(rng.normal(size=n))
        slope, likely = trust(said, -said, 1.0)
        assert slope < 0.02
        assert likely < 0.07

    def test_a_source_that_cannot_order_its_own_labels_is_not_trusted(self) -> None:
        said = standardised(np.random.default_rng(0).normal(size=10))
        assert trust(said, said, 0.0) == (0.0, 0.0)

    def test_the_slope_is_that_of_the_posterior(self) -> None:
        """Against the plain sum over correlations, each label's normal density multiplied out."""
        rng = np.random.default_rng(3)
        said = standardised(rng.normal(size=7))
        labels = standardised(0.5 * said + rng.normal(size=7))
        grid = np.linspace(0.05, 0.975, 38)
        density = np.array([np.prod(np.exp(-((labels - c * said) ** 2) / (2 * (1 - c * c))) / np.sqrt(1 - c * c)) for c in grid])
        none = np.prod(np.exp(-(labels**2) / 2))
        weights = 0.2 * 0.8 * density / 38
        expected = float((weights * grid).sum() / (weights.sum() + (1 - 0.2 * 0.8) * none))
        assert trust(said, labels, 0.8)[0] == pytest.approx(expected)


class TestWarm:
    def test_few_labels_and_a_prior_order_better_than_few_labels(self) -> None:
        archs = toys(260)
        truth = np.array([toy_score(arch) for arch in archs])
        other = Source("other", archs[:60], truth[:60] + 0.3 * truth[:60] ** 2)
        warm, cold = warmed(SPACE, process, [other]), process()
        warm.fit(archs[60:68], truth[60:68])
        cold.fit(archs[60:68], truth[60:68])
        rest, answers = archs[68:], truth[68:]
        assert kendalltau(warm.predict(rest), answers)[0] > kendalltau(cold.predict(rest), answers)[0] + 0.05

    def test_shuffled_labels_harm_little(self) -> None:
        archs = toys(260)
        truth = np.array([toy_score(arch) for arch in archs])
        lost = []
        for seed in range(8):
            order = np.random.default_rng(seed).permutation(100)
            source = Source("shuffled", [archs[i] for i in order[:60]], np.random.default_rng(seed).permutation(truth[order[:60]]))
            learned = order[60:75]
            warm, cold = warmed(SPACE, process, [source]), process()
            for ranker in (warm, cold):
                ranker.fit([archs[i] for i in learned], truth[learned])
            taus = [kendalltau(ranker.predict(archs[100:]), truth[100:])[0] for ranker in (warm, cold)]
            lost.append(taus[1] - taus[0])
        assert np.mean(lost) < 0.02

    def test_of_two_sources_the_one_that_explains_counts(self) -> None:
        archs = toys(120)
        truth = np.array([toy_score(arch) for arch in archs])
        good, bad = Source("good", archs[:50], truth[:50]), Source("bad", archs[:50], np.random.default_rng(1).permutation(truth[:50]))
        told = warmed(SPACE, process, [bad, good]).fit(archs[50:70], truth[50:70])
        assert told["prior_2"] > 0.5
        assert abs(told["prior_1"]) < 0.2

    def test_equal_labels_of_a_source_are_refused(self) -> None:
        archs = toys(20)
        with pytest.raises(SettingError, match="distinct"):
            warmed(SPACE, process, [Source("flat", archs[:5], [0.5] * 5)]).fit(archs[5:], [toy_score(arch) for arch in archs[5:]])

    def test_a_source_of_nothing_is_refused(self) -> None:
        with pytest.raises(SettingError, match="from somewhere"):
            Warm(SPACE, process, [])

    def test_a_ranker_that_always_begins_anew_is_refused(self) -> None:
        space = NASBench201()
        with pytest.raises(SettingError, match="best, gp or nac"):
            warmed(space, lambda: ReNAS(space, epochs=2), [Source("s", [], [])])

    def test_labels_that_the_prior_explains_wholly_can_be_learned(self) -> None:
        archs = toys(40)
        scores = [toy_score(arch) for arch in archs]
        ranker = warmed(SPACE, process, [Source("same", archs, scores)])
        ranker.fit(archs, scores)
        assert np.isfinite(ranker.predict(archs)).all()


class TestBeforeAnyLabel:
    def test_the_order_of_a_source_is_expected(self) -> None:
        archs = toys(200)
        truth = np.array([toy_score(arch) for arch in archs])
        ranker = warmed(SPACE, process, [Source("other", archs[:80], truth[:80] ** 3)])
        assert isinstance(ranker, Warm)
        assert kendalltau(ranker.prior(archs[80:]), truth[80:])[0] > 0.6

    def test_nothing_is_expected_of_labels_that_are_noise(self) -> None:
        archs = toys(60)
        noise = np.random.default_rng(2).normal(size=60)
        ranker = warmed(SPACE, process, [Source("noise", archs, noise)])
        assert isinstance(ranker, Warm)
        assert ranker.known[0].reliability == 0.0
        assert not ranker.prior(archs).any()

    def test_of_two_sources_each_counts_as_far_as_it_can_be_trusted(self) -> None:
        archs = toys(120)
        truth = np.array([toy_score(arch) for arch in archs])
        sources = [Source("good", archs[:60], truth[:60]), Source("noisy", archs[:60], truth[:60] + np.random.default_rng(3).normal(0, 0.3, 60))]
        ranker = warmed(SPACE, process, sources)
        assert isinstance(ranker, Warm)
        first, second = ranker.known
        assert first.reliability > second.reliability
        expected = first.reliability * first.ranker.predict(archs) + second.reliability * second.ranker.predict(archs)
        assert ranker.prior(archs) == pytest.approx(expected)

    def test_of_a_large_source_a_part_is_learned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("archduel.rankers.warm.ENOUGH", 30)
        archs = toys(100)
        ranker = warmed(SPACE, process, [Source("large", archs, [toy_score(arch) for arch in archs])])
        assert isinstance(ranker, Warm)
        assert len(ranker.known[0].ranker.process().x) == 30  # type: ignore[attr-defined]

    def test_a_source_may_be_learned_by_another_kind_of_ranker(self) -> None:
        archs = toys(60)
        ranker = warmed(SPACE, process, [Source("s", archs[:30], [toy_score(arch) for arch in archs[:30]])], teach=lambda: ToyRanker(SPACE))
        ranker.fit(archs[30:40], [toy_score(arch) for arch in archs[30:40]])
        assert isinstance(ranker, Warm)
        assert isinstance(ranker.known[0].ranker, ToyRanker)
        assert isinstance(ranker.rest, GaussianProcess)


class TestBeliefs:
    """A warm Gaussian process answers in the unit of the labels, and imagines further ones."""

    @staticmethod
    def learned() -> tuple[WarmBeliefs, list[Arch], np.ndarray]:
        archs = toys(160)
        percent = 100 * np.array([toy_score(arch) for arch in archs])
        ranker = warmed(SPACE, process, [Source("other", archs[:60], percent[:60] ** 2)])
        assert isinstance(ranker, WarmBeliefs)
        ranker.fit(archs[60:90], percent[60:90])
        return ranker, archs, percent

    def test_they_are_what_predict_and_uncertainty_say(self) -> None:
        ranker, archs, _ = self.learned()
        mean, deviation = ranker.beliefs(archs[90:])
        assert mean == pytest.approx(ranker.predict(archs[90:]), rel=1e-4)
        assert deviation == pytest.approx(ranker.uncertainty(archs[90:]), rel=1e-2, abs=1e-2)

    def test_they_are_in_the_unit_of_the_labels(self) -> None:
        ranker, archs, percent = self.learned()
        mean, deviation = ranker.beliefs(archs[90:])
        off = np.abs(mean - percent[90:])
        assert off.mean() < 4.0  # of 100
        assert np.mean(off < 2 * deviation) > 0.5

    def test_what_is_assumed_makes_sure_and_moves_no_mean(self) -> None:
        ranker, archs, _ = self.learned()
        before, after = ranker.beliefs(archs[90:]), ranker.beliefs(archs[90:], assumed=archs[90:93])
        assert after[0] == pytest.approx(before[0])
        assert (after[1][:3] < 0.7 * before[1][:3]).all()
        assert (after[1] <= before[1] + 1e-6).all()


def searched(ranker: Ranker | None, seed: int, queries: int = 60) -> list[Arch]:
    """Returns what a search of the toy space asks, in order."""
    strategy = Contenders(SPACE, ranker or process(seed), rng=np.random.default_rng(seed))
    asked: list[Arch] = []
    while len(asked) < queries:
        new = strategy.ask(queries - len(asked))
        if not new and strategy.step() is None:
            break
        strategy.tell(new, [Estimate(toy_score(query.arch), Cost()) for query in new])
        asked += [query.arch for query in new]
    return asked


def until_best(asked: list[Arch]) -> int:
    """Returns the queries up to the best chain, one more than all where it was not met."""
    return next((i for i, arch in enumerate(asked, 1) if toy_score(arch) == 1.0), len(asked) + 1)


class TestSearch:
    def test_half_of_the_first_design_is_what_is_expected_to_be_best(self) -> None:
        archs = toys(80)
        ranker = warmed(SPACE, process, [Source("other", archs, [toy_score(arch) for arch in archs])])
        assert isinstance(ranker, Warm)
        everything = whole_space(SPACE, None, 50_000)[1]
        best = [everything[i] for i in np.argsort(-ranker.prior(everything), kind="stable")[:3]]
        asked = searched(ranker, 0, 6)
        assert asked[:3] == best
        assert len({SPACE.fingerprint(arch) for arch in asked}) == 6

    def test_in_a_space_too_large_to_list_it_is_bred(self) -> None:
        archs = toys(80)
        ranker = warmed(SPACE, process, [Source("other", archs, [toy_score(arch) for arch in archs])])
        assert isinstance(ranker, Warm)
        strategy = Contenders(SPACE, ranker, rng=np.random.default_rng(0), whole=0, bred=60)
        first = [query.arch for query in strategy.ask(6)]
        assert ranker.prior(first[:3]).min() > np.quantile(ranker.prior(toys(300, 1)), 0.95)

    @pytest.mark.parametrize("whole", [0, 50_000])
    def test_where_nothing_is_expected_the_first_design_is_that_of_a_cold_search(self, whole: int) -> None:
        archs = toys(60)
        ranker = warmed(SPACE, process, [Source("noise", archs, np.random.default_rng(2).normal(size=60))])
        warm, cold = (Contenders(SPACE, each, rng=np.random.default_rng(5), whole=whole, bred=60) for each in (ranker, process()))
        assert warm.ask(6) == cold.ask(6)

    def test_a_run_that_was_begun_before_sources_foretold_goes_on_as_it_began(self) -> None:
        """Its first design is random, and a source is learned by the search's own ranker, in normal scores."""
        space, rng = NASBench201(), np.random.default_rng(0)
        archs = list(dict.fromkeys(sample(space, rng) for _ in range(40)))[:24]
        scores = [float(i) for i in range(24)]
        ranker = warmed_ranker("gp", [Source("old", archs, scores, foretells=False)], space, seed=3)
        assert type(ranker) is Warm
        assert not ranker.prior(archs).any()
        assert isinstance(ranker.known[0].ranker, GaussianProcess)
        new = warmed_ranker("gp", [Source("new", archs, scores)], space, seed=3)
        assert isinstance(new, WarmBeliefs)
        assert isinstance(new.known[0].ranker, Jury)

    def test_a_useful_prior_shortens_it_and_a_contradicting_one_does_no_harm(self) -> None:
        cold, useful, against = [], [], []
        for seed in range(6):
            archs = toys(40, seed)
            truth = np.array([toy_score(arch) for arch in archs])
            rankers = [warmed(SPACE, partial(process, seed), [Source("s", archs, labels)], seed=seed) for labels in (truth**3, -truth)]
            cold.append(until_best(searched(None, seed)))
            useful.append(until_best(searched(rankers[0], seed)))
            against.append(until_best(searched(rankers[1], seed)))
        assert np.mean(useful) < 0.75 * np.mean(cold)
        assert np.mean(against) < np.mean(cold) + 4  # of which three are the first ones


def run_folder(path: Path, winner: str = "stages:1.0.1.1.1.2.2.0.0.1") -> Path:
    """Returns the folder of a finished search with four labels of two spaces."""
    path.mkdir()
    result = {
        "search": [["stages:1.0.1.1.1.2.2.0.0.1", 0.5], ["stages:1.1.1.1.1.2.2.0.0.1", 0.25], ["resnet:0.1", 0.4]],
        "random": [["stages:0.0.1.1.1.2.2.0.0.1", None], ["stages:1.0.1.1.1.1.2.0.0.1", 0.3]],
        "networks": {"search": {"arch": winner}},
    }
    (path / "result.json").write_text(json.dumps(result))
    return path


class TestSources:
    def test_of_a_run_the_labels_of_the_space(self, tmp_path: Path) -> None:
        source = labels_of_run(run_folder(tmp_path / "r"), Stages())
        assert [str(arch) for arch in source.archs] == ["stages:1.0.1.1.1.2.2.0.0.1", "stages:1.1.1.1.1.2.2.0.0.1", "stages:1.0.1.1.1.1.2.0.0.1"]
        assert list(source.scores) == [0.5, 0.25, 0.3]
        assert str(winner_of_run(tmp_path / "r")) == "stages:1.0.1.1.1.2.2.0.0.1"

    def test_a_run_that_is_not_finished_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no finished search"):
            winner_of_run(tmp_path)

    def test_a_run_of_another_space_has_no_labels(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="0 architectures of space 'toy'"):
            read_source(str(run_folder(tmp_path / "r")), SPACE, 0)

    def test_a_number_of_labels_is_drawn_by_the_seed(self) -> None:
        space = NASBench201()
        one, two, other = (read_source("digits201:20", space, seed) for seed in (1, 1, 2))
        assert len(one.archs) == 20
        assert one.archs == two.archs
        assert one.archs != other.archs
        assert max(one.scores) <= 1.0

    @pytest.mark.parametrize(("text", "message"), [("digits201:1", "from 2"), ("digits201:5000", "1,000 labels"), ("nowhere", "unknown"), ("", "needs a name")])
    def test_what_cannot_be_drawn_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ArchduelError, match=message):
            read_source(text, NASBench201(), 0)

    def test_a_table_of_another_space_is_refused(self) -> None:
        with pytest.raises(ArchduelError, match="'nasbench201'"):
            read_source("digits201", SPACE, 0)

    def test_a_strategy_without_a_ranker_has_no_prior(self) -> None:
        with pytest.raises(SettingError, match="no ranker"):
            with_prior("random", {"prior": "digits201:20"}, NASBench201(), seed=0)

    def test_several_sources_stand_in_one_setting(self) -> None:
        ranker = warm_ranker("gp", {}, "digits201:20+digits201:30", NASBench201(), seed=0)
        assert isinstance(ranker, Warm)
        assert [len(source.archs) for source in ranker.sources] == [20, 30]

    def test_settings_without_a_prior_stay(self) -> None:
        assert with_prior("best", {"batch": 3}, NASBench201(), seed=0) == ({"batch": 3}, {})
