"""The strategy of a search: settings from the command line are checked before anything is trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from archduel import registry
from archduel.assemble import declaration
from archduel.commands.search.plan import fixed_plan
from archduel.commands.search.settings import make_settings
from archduel.commands.search.strategy import check_settings, check_types, closed_form_costs, make_strategy
from archduel.errors import SettingError, UnknownNameError
from archduel.spaces.family import family

IMAGES: Any = SimpleNamespace(
    image_size=8, flip=True, train=range(60), validation=range(20), test=range(20), in_channels=1, n_classes=2
)


def made(strategy: str, **given: object) -> Any:
    settings = make_settings(data="x", evaluations=8, strategy=strategy, workers=1, set=given)
    space = registry.make("space", "nasbench201")
    plan = fixed_plan(settings, IMAGES, family("nasbench201").ladder)
    return make_strategy(settings, plan, space, None, costs=closed_form_costs(plan, IMAGES))


def test_the_plan_sets_labels_and_iterations_unless_told_otherwise() -> None:
    assert (made("ctnas").labels, made("ctnas").iterations) == (6, 100)
    assert made("ctnas", **{"strategy.iterations": 7}).iterations == 7


def test_a_small_budget_leaves_something_to_learn_with() -> None:
    assert made("local").initial == 3


@pytest.mark.parametrize("strategy", sorted(registry.STRATEGIES))
def test_every_strategy_of_the_menu_can_be_made(strategy: str) -> None:
    try:
        assert made(strategy).ask(2)
    except SettingError as error:  # it says what it lacks
        wanted = "works on shared weights" if declaration(strategy).kind == "one-shot" else "needs"
        assert wanted in str(error)  # noqa: PT017


def test_settings_of_another_type_are_named() -> None:
    for value in ("x", 1.5, True):
        with pytest.raises(SettingError, match=r"--set strategy.samples: expected int, such as \d+, got"):
            made("ctnas", **{"strategy.samples": value})
    with pytest.raises(SettingError, match=r"--set ranker.epochs: expected int"):
        made("ctnas", **{"ranker.epochs": "many"})
    check_types("strategy", "ctnas", {"lr": 1})


def test_partners_that_a_strategy_has_not_are_named() -> None:
    with pytest.raises(SettingError, match=r"--set ranker.epochs: strategy 'evolution' has no ranker"):
        made("evolution", **{"ranker.epochs": 3})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ranker": "nca"}, "ranker 'nca' is unknown; did you mean 'nac'"),
        ({"set": {"strategy.lrr": 1}}, "setting of strategy 'ctnas': 'lrr' is unknown; did you mean 'lr'"),
        ({"set": {"ranker.epoch": 1}}, "setting of ranker 'nac': 'epoch' is unknown; did you mean 'epochs'"),
        ({"set": {"policy.dim": 1}}, "setting of policy 'lstm': 'dim' is unknown"),
    ],
)
def test_names_and_settings_are_checked_before_any_image_is_read(given: dict[str, Any], said: str) -> None:
    with pytest.raises((SettingError, UnknownNameError), match=said):
        check_settings(make_settings(data="nowhere", **given))
    check_settings(make_settings(data="nowhere", strategy="evolution", set={"strategy.population": 20}))


def test_settings_out_of_range_are_said_in_plain_words() -> None:
    for given, said in (
        ({"evaluations": 0}, "setting evaluations: expected at least 4, got 0"),
        ({"workers": 1000}, "setting workers: expected at most 256, got 1000"),
        ({"metric": "auc"}, "setting metric: expected 'accuracy', 'balanced_accuracy' or 'macro_f1', got 'auc'"),
        ({"image_size": "big"}, "setting image_size: expected a valid integer"),
    ):
        with pytest.raises(SettingError, match=said):
            make_settings(data="x", **given)
