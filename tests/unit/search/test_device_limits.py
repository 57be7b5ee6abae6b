"""RAM and flash in the settings of a search: which space, which sides, what is refused."""

import pytest

from archduel.commands.search.race import further_limit, smaller_sides
from archduel.commands.search.result import gain
from archduel.commands.search.settings import Settings, make_settings
from archduel.core import Scale
from archduel.errors import SettingError
from archduel.spaces.family import family


def test_the_usual_space_under_limits_is_that_of_small_networks():
    assert make_settings(data="digits", seconds=60, max_ram=64_000).space == "tiny"
    assert make_settings(data="digits", seconds=60, max_flash=64_000).space == "tiny"
    assert make_settings(data="digits", seconds=60).space == "stages"
    assert make_settings(data="digits", seconds=60, max_ram=64_000, space="resnet").space == "resnet"
    assert make_settings(data="digits", evaluations=4, max_ram=64_000).space == "nasbench201"


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
