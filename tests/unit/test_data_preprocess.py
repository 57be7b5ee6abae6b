"""Any mode and size of image becomes the right uint8 array."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archduel.data import Preprocessing, apply_preprocessing, open_image
from archduel.data import preprocess as module
from archduel.data.preprocess import turned
from archduel.errors import DataError


def preprocessing(size: int = 4, mode: str = "RGB", rule: str = "crop") -> Preprocessing:
    return Preprocessing(size, mode, rule, (), ())


def grey(values: list[list[int]], dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, dtype))


def test_a_image_of_that_size_is_returned_pixel_by_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    found = apply_preprocessing(Image.fromarray(pixels), preprocessing())
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("mode", "fill", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), (255, 255, 255)),  # transparent is white
        ("La", (0, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (200, 128, 128), (200, 200, 200)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 99, (99, 99, 99)),
        ("I;16B", 257 * 99, (99, 99, 99)),
        ("I", 257 * 99, (99, 99, 99)),
        ("F", 1.0, (255, 255, 255)),
        ("F", 99.0, (99, 99, 99)),
    ],
)
def test_every_mode_of_image_gets_its_colour(
    mode: str, fill: object, expected: tuple[int, int, int]
) -> None:
    found = apply_preprocessing(Image.new(mode, (9, 6), fill), preprocessing())  # type: ignore[arg-type]
    assert found.shape == (3, 4, 4)
    assert {tuple(colour) for colour in found.reshape(3, -1).T.tolist()} == {expected}


def test_palettes_and_their_transparent_colour() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    assert apply_preprocessing(image, preprocessing())[:, 0, 0].tolist() == [10, 20, 30]
    image.info["transparency"] = 1
    assert apply_preprocessing(image, preprocessing())[:, 0, 0].tolist() == [255, 255, 255]


def test_grey_images_keep_their_values_in_mode_l() -> None:
    values = [[0, 1, 2, 3], [50, 60, 70, 80], [252, 253, 254, 255], [9, 8, 7, 6]]
    found = apply_preprocessing(grey(values), preprocessing(mode="L"))
    np.testing.assert_array_equal(found[0], np.array(values))
    coloured = apply_preprocessing(grey(values).convert("RGB"), preprocessing(mode="L"))
    np.testing.assert_array_equal(found, coloured)


def test_floats_that_are_no_numbers_become_black_or_white() -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    found = apply_preprocessing(Image.fromarray(values), preprocessing(mode="L"))
    assert found[0, 0, 0] == 0
    assert found[0, 0, 1] == 255


def test_crop_takes_the_middle_and_letterbox_pads_with_black() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, :8], wide[:, 8:16], wide[:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(wide)
    cropped = apply_preprocessing(image, preprocessing(8))
    assert (cropped[1] == 255).all()
    assert not cropped[[0, 2]].any()
    boxed = apply_preprocessing(image, preprocessing(24, rule="letterbox"))
    assert not boxed[:, :8].any()
    assert not boxed[:, 16:].any()
    np.testing.assert_array_equal(boxed[:, 8:16], wide.transpose(2, 0, 1))
    tall = apply_preprocessing(image.transpose(Image.Transpose.ROTATE_90), preprocessing(8))
    assert (tall[1] == 255).all()


def test_letterbox_keeps_at_least_one_pixel_of_a_very_thin_image() -> None:
    found = apply_preprocessing(Image.new("RGB", (1000, 2), (255, 255, 255)), preprocessing(16, rule="letterbox"))
    assert (found == 255).any(axis=(0, 2)).sum() == 1


def test_rule_none_crops_a_image_of_another_size() -> None:
    image = Image.new("RGB", (20, 10), (5, 6, 7))
    np.testing.assert_array_equal(
        apply_preprocessing(image, preprocessing(rule="none")), apply_preprocessing(image, preprocessing(rule="crop"))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rotation_of_the_camera_is_undone(orientation: int) -> None:
    upright = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    turn = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: np.rot90, 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(turn(upright))).save(buffer, "PNG", exif=exif)
    found = apply_preprocessing(Image.open(buffer), preprocessing(mode="L"))
    np.testing.assert_array_equal(found[0], upright)


def _with_tags(kind: str, tags: bytes) -> Image.Image:
    """Returns an image of 20 x 10 px that was read from a file with these EXIF tags, its left half white."""
    pixels, buffer = Image.new("RGB", (20, 10)), io.BytesIO()
    pixels.paste((255, 255, 255), (0, 0, 10, 10))
    pixels.save(buffer, kind, exif=tags)
    return Image.open(buffer)


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")  # Pillow's, of what is damaged
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tags", [b"junkjunkjunkjunk", b"MM\0*\0\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03"])
def test_damaged_tags_do_not_keep_a_whole_image_from_being_read(kind: str, tags: bytes) -> None:
    with _with_tags(kind, b"Exif\0\0" + tags) as image:
        found = apply_preprocessing(image, preprocessing(10, rule="letterbox"))
    assert found[:, 4:6, 1:4].min() > 200
    assert found[:, 4:6, 6:9].max() < 50


def test_a_rotation_is_undone_beside_a_tag_that_cannot_be_written_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    exif[0x0110] = "camera"
    # the model becomes one fraction, of which Pillow has the value and no form to write it in
    tags = exif.tobytes().replace(b"\x01\x10\x00\x02\x00\x00\x00\x07", b"\x01\x10\x00\x05\x00\x00\x00\x01")
    with _with_tags("JPEG", tags) as image:
        found = apply_preprocessing(image, preprocessing(10, rule="letterbox"))
    assert found[:, 1:4, 4:6].min() > 200  # what was left is above
    assert found[:, 6:9, 4:6].max() < 50


def test_an_image_is_turned_once_however_often_it_is_looked_at() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with _with_tags("PNG", exif.tobytes()) as image:
        once = turned(image)
    assert once.size == (10, 20)
    assert turned(once).size == (10, 20)


def test_real_files_of_sixteen_bits_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 6), 257 * 40, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((6, 6), 257 * 40, np.uint16)).save(tmp_path / "deep.tiff")
    for name in ("deep.png", "deep.tiff"):
        with open_image(tmp_path / name) as image:
            assert (apply_preprocessing(image, preprocessing()) == 40).all()
    Image.new("CMYK", (6, 6), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    with open_image(tmp_path / "print.jpg") as image:
        assert image.mode == "CMYK"
        red, green, blue = apply_preprocessing(image, preprocessing())[:, 0, 0].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (40_000, 3_200)).save(tmp_path / "bomb.png")  # 128 megapixels in a few kB
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match="decompression bomb"):
        open_image(tmp_path / "bomb.png")


def test_postscript_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(tmp_path / "a.png")


def test_the_file_stands_alone() -> None:
    source = Path(module.__file__).read_text()
    assert "archduel" not in source
    scope: dict[str, object] = {}
    exec(compile(source, "image.py", "exec"), scope)
    apply = scope["apply_preprocessing"]
    image = Image.new("RGB", (9, 6), (5, 6, 7))
    np.testing.assert_array_equal(apply(image, preprocessing()), apply_preprocessing(image, preprocessing()))  # type: ignore[operator]
