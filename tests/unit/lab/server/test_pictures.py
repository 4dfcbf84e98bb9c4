"""What the server makes of uploaded pictures, and that the coordinator makes the same of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from coordinator.delivery.errors import BrokenPicture
from coordinator.delivery.validation import FrameValidator
from coordinator.leases.lease import Lease
from lab.server.pictures import make_thumbnail
from sheepfold.errors import NotAPicture
from sheepfold.pictures import BLACK_UP_TO, LINEAR_TO_SCREEN, inspect
from tests.support.coordinator.builders import offer
from tests.support.pictures import write_picture, write_rows

COMBINED = [f"ViewLayer.Combined.{channel}" for channel in "RGBA"]
DEPTH = ["ViewLayer.Depth.Z"]
LAYERS = COMBINED + DEPTH
RGB, RGBA = ["R", "G", "B"], ["R", "G", "B", "A"]
BLACK, WHITE = np.zeros((60, 80, 3)), np.ones((60, 80, 3))
CLEAR = np.dstack([WHITE, np.zeros((60, 80))])
OPAQUE_BLACK = np.dstack([BLACK, np.ones((60, 80))])
DITHER = np.random.default_rng(1).integers(0, 2, (60, 80, 3)) * BLACK_UP_TO
STAR = DITHER.copy()
STAR[30, 40] = 3 * BLACK_UP_TO


def emptiness_on_both_sides(path: Path) -> tuple[bool, bool] | None:
    """Whether the picture shows nothing, to the coordinator and to the server; ``None``: to neither it is one."""
    lease = Lease(id="a", session_key="s", offer=offer("0007"))
    try:
        coordinator = FrameValidator(inspect, lambda _lease: None).validate(lease, path).is_empty
    except BrokenPicture:
        coordinator = None
    try:
        server = inspect(path).is_empty
    except NotAPicture:
        server = None
    if coordinator is None and server is None:
        return None
    assert coordinator is not None
    assert server is not None
    return coordinator, server


@pytest.mark.parametrize(
    ("name", "channels", "parts", "is_empty"),
    [
        ("dither.png", RGB, [DITHER], True),
        ("star.png", RGB, [STAR], False),
        ("dither.tif", RGB, [DITHER], True),
        ("dither.exr", RGB, [DITHER * 0.999 / LINEAR_TO_SCREEN], True),
        ("star.exr", RGB, [STAR / LINEAR_TO_SCREEN], False),
        ("clear.png", RGBA, [CLEAR], True),
        ("clear.exr", RGBA, [CLEAR], True),
        ("nan.exr", RGB, [WHITE * np.nan], True),
        ("negative.exr", RGB, [-WHITE], False),
        ("stereo_black.exr", RGB, [BLACK, BLACK], True),
        ("stereo_half.exr", RGB, [BLACK, WHITE], False),
        ("black_and_clear.exr", RGBA, [OPAQUE_BLACK, CLEAR], True),
        ("endless_depth.exr", LAYERS, [np.dstack([OPAQUE_BLACK, np.full((60, 80), 1e10)])], True),
        (
            "two_views.exr",
            ["Combined.left.R", "Combined.right.R", "Depth.left.Z"],
            [np.dstack([BLACK[:, :, :2], np.full((60, 80), 1e10)])],
            True,
        ),
    ],
)
def test_coordinator_and_server_agree_which_pictures_show_nothing(
    tmp_path: Path, name: str, channels: list[str], parts: list[np.ndarray], is_empty: bool
) -> None:
    path = write_picture(tmp_path / name, channels, *parts)
    assert emptiness_on_both_sides(path) == (is_empty, is_empty)


def test_of_parts_those_with_the_combined_pass_count(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.exr", COMBINED, OPAQUE_BLACK, np.ones((60, 80, 1)), other_channels=DEPTH)
    assert emptiness_on_both_sides(path) == (True, True)


def test_a_picture_of_16k_is_one_to_both_and_larger_ones_to_neither(tmp_path: Path) -> None:
    assert emptiness_on_both_sides(write_rows(tmp_path / "legal.png", 16_384, 16_384, light_at=16_383)) == (
        False,
        False,
    )
    larger = tmp_path / "larger.exr"
    writer = oiio.ImageOutput.create(str(larger))
    assert writer.open(str(larger), oiio.ImageSpec(16_385, 16_384, 1, "half"))
    writer.close()
    with pytest.raises(NotAPicture, match="larger than any frame"):
        inspect(larger)
    assert emptiness_on_both_sides(larger) is None


def test_a_picture_that_breaks_off_is_one_to_neither(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", RGB, WHITE)
    path.write_bytes(path.read_bytes()[:-4])
    assert emptiness_on_both_sides(path) is None


@pytest.mark.parametrize(("name", "suffix"), [("a.j2c", "j2c"), ("a.jp2", "jp2"), ("a.exr", "exr"), ("a.jpg", "jpg")])
def test_an_upload_is_called_what_it_is(tmp_path: Path, name: str, suffix: str) -> None:
    assert inspect(write_picture(tmp_path / name, RGB, WHITE)).suffix == suffix


def test_the_thumbnail_of_a_multilayer_frame_shows_its_combined_pass(tmp_path: Path) -> None:
    pixels = np.zeros((600, 800, 5))
    pixels[..., 1] = pixels[..., 4] = 1.0
    pixels[..., 0] = 5.0
    make_thumbnail(write_picture(tmp_path / "a.exr", DEPTH + COMBINED, pixels), tmp_path / "a.jpg")
    thumb = oiio.ImageBuf(str(tmp_path / "a.jpg"))
    red, green, blue = thumb.getpixel(40, 30)
    assert (thumb.spec().width, thumb.spec().height) == (192, 144)
    assert red > 0.9
    assert max(green, blue) < 0.1


def test_a_thumbnail_keeps_the_picture_where_it_is_and_its_colours_as_on_a_screen(tmp_path: Path) -> None:
    pixels = np.zeros((600, 800, 3))
    pixels[300:, 400:] = 0.2140
    for name, expected in (("a.exr", 0.5), ("a.png", 0.2140)):
        make_thumbnail(write_picture(tmp_path / name, RGB, pixels), tmp_path / "a.jpg")
        thumb = oiio.ImageBuf(str(tmp_path / "a.jpg"))
        assert thumb.getpixel(150, 110)[0] == pytest.approx(expected, abs=0.02)
        assert max(*thumb.getpixel(40, 110), *thumb.getpixel(150, 30)) < 0.05


def test_a_grey_picture_smaller_than_a_thumbnail_keeps_its_size(tmp_path: Path) -> None:
    make_thumbnail(write_picture(tmp_path / "a.png", ["Y"], np.full((3, 5, 1), 0.5)), tmp_path / "a.jpg")
    assert oiio.ImageBuf(str(tmp_path / "a.jpg")).spec().width == 5


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kB on Linux only")
def test_a_large_picture_is_looked_at_and_made_small_in_parts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.png", 16_384, 8_192, light_at=0)
    code = (
        "import resource, sys; from pathlib import Path; from lab.server.pictures import *\n"
        "from sheepfold.pictures import inspect\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; path = Path(sys.argv[1])\n"
        "inspect(path); make_thumbnail(path, path.with_suffix('.jpg'))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 * 1024, "kB more than before, for a picture of 128 MB, 512 MB as numbers"
