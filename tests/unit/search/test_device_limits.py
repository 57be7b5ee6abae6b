"""RAM and flash in the settings of a search: which space, which sides, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from archduel import choose, space_of
from archduel.commands.progress import Progress
from archduel.commands.search.beside import side_beside
from archduel.commands.search.race import constraint_of, further_limit, smaller_sides
from archduel.commands.search.result import gain
from archduel.commands.search.settings import Settings, make_settings
from archduel.core import Scale, sample
from archduel.data import load
from archduel.errors import SettingError, UnknownNameError
from archduel.race.sizes import Sizes
from archduel.spaces.family import count, family
from archduel.strategies.random import RandomSearch


def test_the_usual_space_under_limits_is_that_of_small_networks():
    assert make_settings(data="digits", seconds=60, max_ram=64_000).space == "tiny"
    assert make_settings(data="digits", seconds=60, max_flash=64_000).space == "tiny"
    assert make_settings(data="digits", seconds=60).space == "stages"
    assert make_settings(data="digits", seconds=60, max_ram=64_000, space="resnet").space == "resnet"
    assert make_settings(data="digits", evaluations=4, max_ram=64_000).space == "nasbench201"


def test_whole_networks_race_beside_small_ones_under_limits():
    assert make_settings(data="digits", seconds=60, max_ram=64_000).beside == "stages"
    assert make_settings(data="digits", seconds=60, max_flash=64_000).beside == "stages"
    assert make_settings(data="digits", seconds=60, max_flash=64_000, beside="resnet").beside == "resnet"
    for others in ({}, {"max_params": 64_000}, {"max_ram": 64_000, "space": "tiny"}):
        assert make_settings(data="digits", seconds=60, **others).beside is None  # who names a space gets that one
    assert make_settings(data="digits", evaluations=4, max_ram=64_000).beside is None  # no race
    assert "beside" not in make_settings(data="digits", seconds=60).identity()


def test_what_cannot_race_beside():
    with pytest.raises(SettingError, match="beside is 'stages', which is the space itself"):
        make_settings(data="digits", seconds=60, beside="stages")
    with pytest.raises(SettingError, match="beside is 'stages', but this run is no race; add --race"):
        make_settings(data="digits", evaluations=4, beside="stages")
    with pytest.raises(UnknownNameError, match="stage"):
        make_settings(data="digits", seconds=60, beside="stage")


def test_a_side_of_another_space_has_a_strategy_and_limits_of_its_own():
    data = load("digits")
    settings = make_settings(data="digits", seconds=60, max_ram=8_000, int8=True)
    seen = []

    def make(space, constraint):
        seen.append((space.name, constraint))
        return RandomSearch(space, rng=np.random.default_rng(0)), 3

    def within(space):
        return constraint_of(settings, space, data)

    (side,) = side_beside(settings, data, within, make, Progress(quiet=True))
    assert side.asker.space.name == "stages"
    assert side.opener is None
    assert side.random_first == 3
    assert side.favours
    assert seen == [("stages", side.asker.constraint)]
    assert side.asker.constraint is not None
    assert not side_beside(make_settings(data="digits", seconds=60), data, within, make, Progress(quiet=True))


def test_a_space_of_which_nothing_fits_takes_no_part(capsys):
    data = load("digits")
    settings = make_settings(data="digits", seconds=60, max_flash=3_000, int8=True)
    sides = side_beside(settings, data, lambda space: constraint_of(settings, space, data), None, Progress())
    assert sides == []
    assert "space stages takes no part: no" in capsys.readouterr().out


def test_runs_of_before_are_named_as_before():
    assert "max_ram" not in make_settings(data="digits", seconds=60).identity()
    assert "int8" not in make_settings(data="digits", seconds=60).identity()
    assert "max_ram" in make_settings(data="digits", seconds=60, max_ram=64_000).identity()
    assert Settings(data="digits").device_limit == Settings(data="digits", int8=True).device_limit.__class__()


def test_no_limit_and_nonsense():
    assert further_limit(make_settings(data="digits", seconds=60)) is None
    with pytest.raises(SettingError, match="max_ram"):
        make_settings(data="digits", seconds=60, max_ram=0)


def test_the_limit_is_asked_at_the_scale_of_the_network():
    allowed = further_limit(make_settings(data="digits", seconds=60, max_ram=10_000, int8=True))
    arch = family("stages")().start()
    assert allowed(arch, Scale(4, 1, 16, 3, 10))
    assert not allowed(arch, Scale(64, 1, 32, 3, 10))


def test_smaller_sides_are_free_under_a_ram_limit_unless_somebody_chose_one():
    assert smaller_sides(make_settings(data="digits", seconds=60, max_ram=64_000), 64) == (32, 16)
    assert smaller_sides(make_settings(data="digits", seconds=60, max_ram=64_000), 32) == (16,)
    assert smaller_sides(make_settings(data="digits", seconds=60, max_ram=64_000, image_size=32), 32) == ()
    assert smaller_sides(make_settings(data="digits", seconds=60, max_flash=64_000), 64) == ()


def test_the_words_at_the_end_say_ram_and_flash():
    winner = {
        "text": "net", "params": 5, "macs": 6, "test": {"accuracy": [0.5]}, "footprint": {"ram": 1_000, "flash": 2_000, "int8": True},
        "confusion": [[1, 0], [0, 1]],
    }  # fmt: skip
    result = {
        "networks": {"search": winner}, "metric": "accuracy", "gain": {}, "data": {"splits": {"test": 10}, "classes": ["a", "b"]}, "agreement": [],
    }  # fmt: skip
    assert any("in int8: 1,000 bytes of RAM for activations, 2,000 bytes of flash" in line for line in gain(result))


class FortyEight(nn.Module):
    """A network of a person's own whose last layer is made for the side of its images."""

    def __init__(self, in_channels, n_classes, image_size):
        super().__init__()
        width = choose("width", [4, 512])
        self.first, self.last = nn.Conv2d(in_channels, width, 3, padding=1), nn.Linear(width * 48 * 48, n_classes)

    def forward(self, x):
        return self.last(self.first(x).relu().flatten(1))


def test_an_own_network_is_asked_about_at_the_side_of_its_images_alone():
    space = space_of(FortyEight, check=False)
    data = SimpleNamespace(image_size=48, in_channels=1, n_classes=10)
    settings = make_settings(data="digits", seconds=60, max_ram=40_000, int8=True, space=space.identity)
    allowed = constraint_of(settings, space, data)  # type: ignore[arg-type]
    small, large = (space.read(f"width={width}") for width in (4, 512))
    assert allowed(small)
    assert not allowed(large)
    sizes = Sizes(48, 1, 10, count, lambda arch, scale, counts: True, smaller=(24, 12))
    assert sizes.sides(small) == (48,)
    assert sizes.sides(family("stages")().start()) == (48, 24, 12)


def test_architectures_that_say_their_side_are_asked_about_at_it_alone():
    space, data = family("tiny")(), SimpleNamespace(image_size=96, in_channels=3, n_classes=10)
    settings = make_settings(data="digits", seconds=60, max_ram=20_000, int8=True)
    allowed, limit = constraint_of(settings, space, data), further_limit(settings)  # type: ignore[arg-type]
    sizes = Sizes(96, 3, 10, count, lambda arch, scale, counts: True, smaller=smaller_sides(settings, 96))
    drawn = [sample(space, np.random.default_rng(seed)) for seed in range(20)]
    built = [limit(arch, sizes.scale(4, 1, sizes.sides(arch)[-1])) for arch in drawn]
    assert [allowed(arch) for arch in drawn] == built  # type: ignore[misc]
    assert {True, False} == set(built)


def test_an_own_network_without_images_is_refused_in_one_sentence():
    class Wordless(nn.Module):
        """Says nowhere what it reads."""

        def __init__(self, n_classes):
            super().__init__()
            self.last = nn.Linear(choose("width", [4, 8]), n_classes)

    space = space_of(Wordless, check=False)
    settings = make_settings(data="digits", seconds=60, max_ram=40_000, space=space.identity)
    with pytest.raises(SettingError, match=r"Wordless: what a network's input is stands nowhere; say it: space_of\(..., example="):
        constraint_of(settings, space, load("digits"))
