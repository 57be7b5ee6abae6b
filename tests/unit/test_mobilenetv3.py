"""MobileNetV3: encodings, both text forms, the 120 numbers, counts against published networks, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Arch, Scale, TextSpace, decisions, sample
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.family import build, count
from archduel.spaces.mobilenetv3.space import MobileNetV3, check_spec, divisible, layout, spec_of, squeezed

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "mobilenetv3.json").read_text())
SPACE = MobileNetV3()
PUBLISHED = Scale(channels=16, image_size=224, n_classes=1000)


def full(depth: int, kernel: int, ratio: int, resolution: int | None = None) -> Any:
    return check_spec([depth] * 5, [kernel] * 20, [ratio] * 20, resolution)


@pytest.mark.parametrize("network", GOLDEN["networks"], ids=["smallest", "largest"])
@pytest.mark.parametrize("resolution", [192, 208, 224, 240])
def test_counts_of_extreme_networks(network: dict[str, Any], resolution: int) -> None:
    space = MobileNetV3(resolutions=[192, 208, 224, 240])
    arch = space.from_spec(full(network["d"], network["k"], network["e"], resolution))
    assert count(arch, PUBLISHED) == (network["params"], network["macs"][str(resolution)])


def test_counts_of_the_ctnas_network() -> None:
    arch = SPACE.read(GOLDEN["ctnas"]["text"])
    found = count(arch, PUBLISHED)
    assert found == (GOLDEN["ctnas"]["params"], GOLDEN["ctnas"]["macs"])
    assert found.macs - 1280 * 1000 == GOLDEN["ctnas"]["macs_without_classifier"]
    assert SPACE.write(arch, "ctnas") == GOLDEN["ctnas"]["text"]


def test_the_published_row_in_ofas_form() -> None:
    arch = SPACE.read(GOLDEN["dynas"]["text"])
    assert count(arch, PUBLISHED) == (GOLDEN["dynas"]["params"], GOLDEN["dynas"]["macs"])
    with_resolution = MobileNetV3(resolutions=[160, 224]).read(GOLDEN["dynas"]["text"])
    assert spec_of(with_resolution).resolution == 224
    assert count(with_resolution, Scale(16, image_size=160, n_classes=1000)) == count(arch, PUBLISHED)


@pytest.mark.parametrize(
    ("channels", "expected"), [(16, 16), (19.2, 24), (33.6, 32), (7, 8), (18, 24), (72 / 4, 24)]
)
def test_divisible(channels: float, expected: int) -> None:
    assert divisible(channels) == expected


def test_squeeze_widths_are_the_published_ones() -> None:
    published = {
        72: 24,
        96: 24,
        144: 40,
        120: 32,
        160: 40,
        240: 64,
        320: 80,
        480: 120,
        336: 88,
        672: 168,
        960: 240,
    }
    assert {width: squeezed(width) for width in published} == published


def test_absent_blocks_have_one_encoding() -> None:
    zeros = [3, 3, 0, 0] * 5
    texts = [
        f"2,2,2,2,2:{','.join(map(str, ks))}:{','.join(['4'] * 20)}"
        for ks in ([3] * 20, zeros, [3, 3, 7, 5] * 5)
    ]
    archs = [SPACE.read(text) for text in texts]
    assert len(set(archs)) == 1
    assert len({SPACE.fingerprint(arch) for arch in archs}) == 1
    assert json.loads(SPACE.write(archs[0]))["ks"] == zeros


def test_the_120_numbers_by_hand() -> None:
    spec = check_spec([2, 2, 3, 2, 4], [3, 5, 7, 3] * 5, [6, 4, 3, 3] * 5)
    row = SPACE.features([SPACE.from_spec(spec)])[0]
    kernels, ratios = row[:60].reshape(20, 3), row[60:].reshape(20, 3)
    assert kernels[:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert ratios[8:12].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert kernels[16:].sum(axis=1).tolist() == [1, 1, 1, 1]
    assert SPACE.features([]).shape == (0, 120)
    wide = MobileNetV3(resolutions=[224])
    assert wide.features([wide.from_spec(spec._replace(resolution=224))])[0, 120] == 1


def test_size_counts_the_different_networks() -> None:
    assert SPACE.size == 7371**5
    assert MobileNetV3(resolutions=[192, 224]).size == 2 * 7371**5


def test_draws_are_uniform_over_networks_or_over_depths() -> None:
    rng = np.random.default_rng(0)
    for space, share in ((SPACE, 6561 / 7371), (MobileNetV3(uniform_depths=True), 1 / 3)):
        depths = [depth for _ in range(300) for depth in spec_of(sample(space, rng)).depths]
        assert abs(np.mean(np.array(depths) == 4) - share) < 4 * (share * (1 - share) / len(depths)) ** 0.5


def test_decisions_have_fixed_places() -> None:
    assert isinstance(SPACE, TextSpace)
    shallow, deep = SPACE.from_spec(full(2, 3, 3)), SPACE.from_spec(full(4, 7, 6))
    for arch in (shallow, deep):
        names = [decision.name for decision in decisions(SPACE, arch.choices)]
        assert len(names) == 45
        assert names[:4] == ["unit1/depth", "unit1/block1/ratio", "unit1/block1/kernel", "unit1/block2/ratio"]


INVALID = {
    "2,2,2,2": "has 1 parts",
    "2,2,2,2:3:3": "4 depths in [2, 2, 2, 2], expected 5",
    "2,2,2,5,2:" + ",".join("3" * 20) + ":" + ",".join("3" * 20): "depth of unit 4 is 5",
    "2,2,2,2,2:" + ",".join("3" * 19) + ":" + ",".join("3" * 20): "19 kernels in",
    "2,2,2,2,2:" + ",".join("3933" * 5) + ":" + ",".join("3" * 20): "kernel of unit 1, block 2 is 9",
    "2,2,2,2,2:" + ",".join("3" * 20) + ":" + ",".join("3333" + "35" * 8): "ratio of unit 2, block 2 is 5",
    "2,2,2,x,2:3:3": "'x' in '2,2,2,x,2' is not a number",
    '{"ks": [3': "is not JSON",
    '{"ks": [], "e": []}': "'d' is missing",
    '{"d": [2,2,2,2,2], "ks": 3, "e": []}': "kernels are 3, expected a list",
    '{"d": [2,2,2,2,2.5], "ks": [], "e": []}': "expected a list of integers",
    '{"d": [2,2,2,2,2], "ks": [], "e": [], "wid": 1}': "'wid' is 1",
    '{"d": [2,2,2,2,2], "ks": [], "e": [], "r": "224"}': "resolution is '224'",
}


@pytest.mark.parametrize("text", INVALID)
def test_errors_show_the_offending_part(text: str) -> None:
    with pytest.raises(InvalidArchError, match="mobilenetv3") as error:
        SPACE.read(text)
    assert INVALID[text] in str(error.value)


def test_a_missing_or_foreign_resolution_is_refused() -> None:
    space = MobileNetV3(resolutions=[192])
    for resolution in (None, 224):
        with pytest.raises(InvalidArchError, match=rf"resolution is {resolution}, expected one of \[192\]"):
            space.from_spec(full(2, 3, 3, resolution))
    with pytest.raises(SettingError, match="250"):
        MobileNetV3(resolutions=[250])
    with pytest.raises(InvalidArchError):
        SPACE.validate(space.from_spec(full(2, 3, 3, 192)))  # one choice too many
    with pytest.raises(InvalidArchError):
        SPACE.validate(Arch("mobilenetv3", (0,) * 45))  # blocks that may not be absent
    with pytest.raises(ValueError, match="form 'xml'"):
        SPACE.write(SPACE.from_spec(full(2, 3, 3)), "xml")


@pytest.mark.parametrize(
    ("size", "halvings"), [(4, 0), (8, 1), (28, 3), (32, 3), (64, 4), (96, 4), (128, 5), (224, 5)]
)
def test_small_images_are_halved_fewer_times(size: int, halvings: int) -> None:
    plan = layout(SPACE.from_spec(full(2, 3, 3)), Scale(16, image_size=size))
    assert (plan.stem_stride == 2) + sum(block.stride == 2 for block in plan.blocks) == halvings


@pytest.mark.parametrize("size", [6, 32, 72])
def test_networks_compute_what_was_counted(size: int) -> None:
    import torch

    arch = SPACE.draw(np.random.default_rng(size))
    scale = Scale(channels=12, image_size=size, in_channels=1, n_classes=3)
    network = build(arch, scale, generator=torch.Generator().manual_seed(0)).eval()
    macs = []

    def note(module: Any, _: Any, output: Any) -> None:
        macs.append(output[0].numel() // output.shape[1] * module.weight.numel())

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(note)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, size, size)).shape == (1, 3)
    assert (sum(p.numel() for p in network.parameters()), sum(macs)) == count(arch, scale)


def test_a_network_with_its_own_resolution_takes_any_image() -> None:
    import torch

    space = MobileNetV3(resolutions=[96])
    arch, scale = space.from_spec(full(2, 3, 3, 96)), Scale(8, image_size=32)
    network = build(arch, scale, generator=torch.Generator().manual_seed(0)).eval()
    assert network.resolution == 96
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    larger = torch.nn.functional.interpolate(
        images, (96, 96), mode="bilinear", align_corners=False, antialias=True
    )
    assert torch.equal(network(images), network(larger))


def test_the_auxiliary_head_returns_a_second_answer() -> None:
    import torch

    arch = SPACE.from_spec(full(2, 5, 4))
    network = build(arch, Scale(8, image_size=20, n_classes=4), auxiliary=True).train()
    logits, extra = network(torch.zeros(2, 3, 20, 20))
    assert logits.shape == extra.shape == (2, 4)
    assert network.eval()(torch.zeros(2, 3, 20, 20)).shape == (2, 4)
