"""Small inverted-residual networks: closed-form costs against built networks, resolutions, words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measured_counts import measured

from archduel.core import Scale, decisions, sample
from archduel.errors import InvalidArchError
from archduel.race.sizes import Bounds, Sizes, fitting_scale
from archduel.spaces import footprint
from archduel.spaces.family import build, count, seen_scale
from archduel.spaces.limits import DeviceLimit
from archduel.spaces.tiny.space import Tiny, form_of, layout


@pytest.mark.parametrize("size", [8, 32, 45, 96])
def test_costs_in_closed_form_are_those_of_the_built_network(size: int) -> None:
    space, rng = Tiny(), np.random.default_rng(size)
    for _ in range(8):
        arch = sample(space, rng)
        scale = Scale(int(rng.choice([4, 8, 12])), 1, size, 3, 7)
        assert count(arch, scale) == measured(build(arch, scale), size), space.write(arch)


def test_the_start_by_hand() -> None:
    """Stem of 8, then 12, 18 and 36 channels, two blocks each, expansion 4."""
    arch = Tiny(side=32).start()
    assert Tiny().write(arch).startswith("32-full")
    params = 9 * 3 * 8 + 2 * 8
    for c_in, c_out in ((8, 12), (12, 12), (12, 18), (18, 18), (18, 36), (36, 36)):
        hidden = 4 * c_in
        params += c_in * hidden + 9 * hidden + hidden * c_out + 4 * hidden + 2 * c_out
    assert count(arch, Scale(8, 1, 32, 3, 10)).params == params + 37 * 10


def test_resolutions_above_the_images_are_not_offered() -> None:
    assert [Tiny.__name__, Tiny(side=32).decision(()).options] == ["Tiny", (0, 1, 2)]  # type: ignore[union-attr]
    assert Tiny(side=9).decision(()).options == (0,)  # type: ignore[union-attr]
    assert Tiny().at_scale(Scale(image_size=64)).side == 64
    arch = Tiny().read("24-halved-3-4-2-1.5-5-2-1-1-3-6-3-2")
    assert seen_scale(arch, Scale(image_size=32)).image_size == 24
    assert seen_scale(arch, Scale(image_size=8)).image_size == 8
    assert layout(arch, Scale(8, 1, 32)).stages[0][0].side == 12


def test_a_network_that_is_shown_larger_images_makes_them_smaller() -> None:
    arch, generator = Tiny().read("16-full-3-4-2-1.5-5-2-1-1-3-6-3-2"), torch.Generator().manual_seed(0)
    large, small = Scale(8, 1, 32, 3, 4), Scale(8, 1, 16, 3, 4)
    network = build(arch, large, generator=generator).eval()
    direct = build(arch, small, generator=torch.Generator().manual_seed(0)).eval()
    x = torch.rand(2, 3, 32, 32)
    shrunk = torch.nn.functional.interpolate(x, size=(16, 16), mode="bilinear")
    assert torch.allclose(network(x), direct(shrunk), atol=1e-5)


def test_words_are_read_back_and_wrong_ones_are_shown() -> None:
    space, rng = Tiny(), np.random.default_rng(0)
    for _ in range(30):
        arch = sample(space, rng)
        assert space.read(space.write(arch)) == arch
        assert len(list(decisions(space, arch.choices))) == 14
    with pytest.raises(InvalidArchError, match="stage2/kernel '7'"):
        space.read("32-full-3-4-2-1.5-7-4-2-1.5-3-4-2-2")
    assert form_of(space.start()).resolution == 48


def test_a_race_builds_it_within_a_device() -> None:
    limit, rng = DeviceLimit(max_ram=16_384, max_flash=65_536, int8=True), np.random.default_rng(0)
    sizes = Sizes(32, 3, 10, count, Bounds().and_also(limit), (1,), (4, 6, 8, 12, 16, 24, 32), (16,))
    archs = [sample(Tiny(side=32), rng) for _ in range(5)]
    fitted = [(arch, fitting_scale(arch, 1e8, sizes, rng)) for arch in archs]
    assert any(found for _, found in fitted)
    for arch, found in fitted:
        if found is not None:
            need = footprint(arch, found[0], int8=True)
            assert found[0].image_size == form_of(arch).resolution  # not the race's smaller side: the architecture says it
            assert need.ram <= 16_384
            assert need.flash <= 65_536
