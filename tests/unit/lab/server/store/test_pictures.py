"""Multilayer and multi-part pictures: read whole, judged by what a person sees of them."""

import numpy as np
import OpenImageIO as oiio
import pytest

from lab.errors import NotAPicture
from lab.server.store.pictures import MAX_CHANNELS, inspect, make_thumbnail

COMBINED = [f"ViewLayer.Combined.{channel}" for channel in "RGBA"]
DEPTH = ["ViewLayer.Depth.Z"]


def write(path, channels, pixels, *more):
    """An OpenEXR; ``more`` are further parts of it."""
    parts = [pixels, *more]
    specs = []
    for number, part in enumerate(parts):
        spec = oiio.ImageSpec(part.shape[1], part.shape[0], part.shape[2], "float")
        spec.channelnames = channels
        if more:
            spec.attribute("oiio:subimagename", f"part{number}")
        specs.append(spec)
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), tuple(specs)) if more else writer.open(str(path), specs[0])
    for number, part in enumerate(parts):
        assert number == 0 or writer.open(str(path), specs[number], "AppendSubimage")
        assert writer.write_image(part.astype("float32"))
    writer.close()
    return path


def test_a_multilayer_frame_is_judged_by_its_combined_pass(tmp_path):
    pixels = np.zeros((6, 8, 5))
    pixels[..., 4] = 1e10  # a depth without end shows nothing
    assert inspect(write(tmp_path / "a.exr", COMBINED + DEPTH, pixels)).is_empty
    pixels[..., 0] = pixels[..., 3] = 0.5
    assert not inspect(write(tmp_path / "b.exr", COMBINED + DEPTH, pixels)).is_empty
    pixels[..., 3] = 0
    assert inspect(write(tmp_path / "c.exr", COMBINED + DEPTH, pixels)).is_empty


def test_not_a_number_shows_nothing(tmp_path):
    pixels = np.full((6, 8, 3), np.nan)
    assert inspect(write(tmp_path / "a.exr", ["R", "G", "B"], pixels)).is_empty


def test_all_parts_of_a_picture_count(tmp_path):
    black, white = np.zeros((6, 8, 3)), np.ones((6, 8, 3))
    assert not inspect(write(tmp_path / "a.exr", ["R", "G", "B"], black, white)).is_empty
    assert inspect(write(tmp_path / "b.exr", ["R", "G", "B"], black, black)).is_empty


def test_a_film_frame_with_hundreds_of_channels_is_a_picture(tmp_path):
    names = COMBINED + [f"ViewLayer.Crypto{number:03d}.R" for number in range(496)]
    picture = inspect(write(tmp_path / "a.exr", names, np.ones((6, 8, 500))))
    assert (picture.width, picture.height, picture.suffix, picture.is_empty) == (8, 6, "exr", False)
    names = [f"c{number:04d}" for number in range(MAX_CHANNELS + 1)]
    with pytest.raises(NotAPicture):
        inspect(write(tmp_path / "b.exr", names, np.ones((2, 2, MAX_CHANNELS + 1))))


def test_the_thumbnail_of_a_multilayer_frame_shows_its_combined_pass(tmp_path):
    pixels = np.zeros((60, 80, 5))
    pixels[..., 0] = pixels[..., 3] = 1.0
    pixels[..., 4] = 5.0
    make_thumbnail(write(tmp_path / "a.exr", DEPTH + COMBINED, np.roll(pixels, 1, axis=2)), tmp_path / "a.jpg")
    red, green, blue = oiio.ImageBuf(str(tmp_path / "a.jpg")).getpixel(40, 30)
    assert red > 0.9
    assert max(green, blue) < 0.1


def test_a_picture_that_breaks_off_is_none(tmp_path):
    whole = write(tmp_path / "a.exr", COMBINED, np.random.default_rng(1).random((64, 64, 4))).read_bytes()
    (tmp_path / "b.exr").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotAPicture):
        inspect(tmp_path / "b.exr")


@pytest.mark.parametrize(("name", "suffix"), [("a.j2c", "j2c"), ("a.jp2", "jp2")])
def test_a_jpeg_2000_is_called_what_it_is(tmp_path, name, suffix):
    image = oiio.ImageBuf(oiio.ImageSpec(64, 64, 3, "uint8"))
    oiio.ImageBufAlgo.fill(image, (0.2, 0.4, 0.6))
    assert image.write(str(tmp_path / name))
    assert inspect(tmp_path / name).suffix == suffix
