"""What is a picture and what is none, with files of every format frames come in."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest

from sheepfold.errors import NotAPicture
from sheepfold.pictures import MAX_CHANNELS, MAX_PIXELS, inspect

WIDTH, HEIGHT = 160, 90
#: File name → channels, sample type, attributes; every way in which the formats of the specification are written.
WRITTEN: dict[str, tuple[int, str, dict[str, Any]]] = {
    "rgb.png": (3, "uint8", {}),
    "rgba16.png": (4, "uint16", {}),
    "baseline.jpg": (3, "uint8", {}),
    "progressive.jpg": (3, "uint8", {"jpeg:progressive": 1}),
    "half.exr": (4, "half", {}),
    "plain.exr": (4, "float", {"compression": "none"}),
    "tiled.exr": (4, "half", {"tiled": 32}),
    "plain.tga": (4, "uint8", {}),
    "packed.tga": (3, "uint8", {"compression": "rle"}),
    "rgb.bmp": (3, "uint8", {}),
    "lzw.tif": (3, "uint16", {"compression": "lzw"}),
    "rgb.hdr": (3, "float", {}),
}


def gradient(channels: int) -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(1).random((HEIGHT, WIDTH)) / 4
    return np.stack([columns / WIDTH, rows / HEIGHT, noise, np.ones_like(noise)], axis=-1)[:, :, :channels]


def write(path: Path, pixels: np.ndarray, kind: str = "uint8", **attributes: Any) -> Path:
    height, width, channels = pixels.shape
    spec = oiio.ImageSpec(width, height, channels, kind)
    spec.tile_width = spec.tile_height = attributes.pop("tiled", 0)
    if names := attributes.pop("names", None):
        spec.channelnames = names
    for name, value in attributes.items():
        spec.attribute(name, value)
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec), writer.geterror()
    assert writer.write_image(np.ascontiguousarray(pixels, dtype="float32")), writer.geterror()
    writer.close()
    return path


def write_sample(folder: Path, name: str) -> Path:
    channels, kind, attributes = WRITTEN[name]
    return write(folder / name, gradient(channels), kind, **attributes)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_frames_come_in_is_recognised(name: str, tmp_path: Path) -> None:
    picture = inspect(write_sample(tmp_path, name))
    assert (picture.width, picture.height, picture.channels) == (WIDTH, HEIGHT, WRITTEN[name][0])
    assert not picture.is_black
    assert not picture.is_transparent
    assert picture.not_finite == 0


# The last hundredth of a TGA is its optional footer, without which it is a whole TGA of the older kind.
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_breaks_off_is_refused_in_every_format(name: str, kept: float, tmp_path: Path) -> None:
    path = write_sample(tmp_path, name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(NotAPicture):
        inspect(path)


@pytest.mark.parametrize("missing", [1, 4, 12])
@pytest.mark.parametrize("name", [name for name in WRITTEN if not name.endswith(".tga")])
def test_even_a_few_missing_bytes_are_noticed(name: str, missing: int, tmp_path: Path) -> None:
    path = write_sample(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(NotAPicture):
        inspect(path)


@pytest.mark.parametrize("content", [b"", b"<html>502 Bad Gateway</html>", b"PNG", b"\x89PNG\r\n\x1a\n", bytes(4096)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".exr", ".tga", ".bmp"])
def test_what_is_no_picture_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"frame{suffix}"
    path.write_bytes(content)
    with pytest.raises(NotAPicture):
        inspect(path)


def test_random_bytes_are_refused_under_every_suffix(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".exr", ".tga", ".bmp", ".tif", ".hdr"):
        path = tmp_path / f"frame{suffix}"
        path.write_bytes(np.random.default_rng(7).bytes(5000))
        with pytest.raises(NotAPicture):
            inspect(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAPicture):
        inspect(tmp_path / "none.png")


def a_png_that_claims(width: int, height: int, packed: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (30_000, 30_000), (40_000, 2), (2_000_000_000, 1)])
def test_a_small_file_cannot_ask_for_a_huge_picture(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(a_png_that_claims(width, height, zlib.compress(bytes(1_000_000), 9)))
    with pytest.raises(NotAPicture):
        inspect(path)


def test_more_pixels_than_any_frame_has_are_refused_from_the_header_alone(tmp_path: Path) -> None:
    side = 32_000
    assert side * side > MAX_PIXELS
    spec = oiio.ImageSpec(side, side, 1, "half")
    spec.attribute("compression", "zip")
    path = tmp_path / "huge.exr"
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec)
    assert writer.write_scanline(0, 0, np.zeros((side, 1), "float32"))
    writer.close()
    with pytest.raises(NotAPicture):
        inspect(path)


def test_a_flat_frame_packs_very_small_and_is_still_a_picture(tmp_path: Path) -> None:
    picture = inspect(write(tmp_path / "flat.png", np.full((2160, 3840, 3), 0.5)))
    assert (picture.width, picture.height) == (3840, 2160)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_black_frame_is_black_in_every_format(name: str, tmp_path: Path) -> None:
    channels, kind, attributes = WRITTEN[name]
    pixels = np.zeros((HEIGHT, WIDTH, channels))
    pixels[:, :, 3:] = 1
    picture = inspect(write(tmp_path / name, pixels, kind, **attributes))
    assert picture.is_black
    assert not picture.is_transparent


def test_dithering_leaves_a_black_frame_black_and_one_bright_pixel_does_not(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH, 3)) / 255
    assert inspect(write(tmp_path / "dithered.png", pixels)).is_black
    pixels[HEIGHT // 2, WIDTH // 2] = 0.5
    assert not inspect(write(tmp_path / "star.png", pixels)).is_black


@pytest.mark.parametrize("name", ["a.png", "a.exr", "a.tga"])
def test_a_frame_with_an_empty_alpha_channel_is_transparent(name: str, tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 4))
    picture = inspect(write(tmp_path / name, pixels, "half" if name.endswith("exr") else "uint8"))
    assert picture.is_transparent
    pixels[0, 0, 3] = 1
    assert not inspect(write(tmp_path / name, pixels, "half" if name.endswith("exr") else "uint8")).is_transparent


def test_samples_that_are_no_number_are_counted_and_are_no_light(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3))
    pixels[5, 5] = (np.nan, np.inf, 0)
    picture = inspect(write(tmp_path / "nan.exr", pixels, "float"))
    assert (picture.not_finite, picture.is_black) == (2, True)


def test_a_multilayer_exr_is_judged_by_its_combined_pass(tmp_path: Path) -> None:
    names = ["Layer.Combined.R", "Layer.Combined.G", "Layer.Combined.B", "Layer.Combined.A", "Layer.Depth.Z"]
    pixels = np.zeros((HEIGHT, WIDTH, 5))
    pixels[:, :, 3:] = 1
    assert inspect(write(tmp_path / "layers.exr", pixels, "half", names=names)).is_black
    pixels[0, 0, 0] = 1
    assert not inspect(write(tmp_path / "layers.exr", pixels, "half", names=names)).is_black


def test_a_picture_under_a_wrong_suffix_is_told_by_its_content(tmp_path: Path) -> None:
    path = write_sample(tmp_path, "baseline.jpg").rename(tmp_path / "frame.png")
    assert inspect(path).suffix == "jpg"


def test_threads_may_inspect_at_the_same_time(tmp_path: Path) -> None:
    good, bad = write_sample(tmp_path, "rgb.png"), tmp_path / "bad.jpg"
    bad.write_bytes(write_sample(tmp_path, "baseline.jpg").read_bytes()[:-500])

    def look(path: Path) -> bool:
        try:
            return inspect(path).width == WIDTH
        except NotAPicture:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, [good, bad] * 80)) == [True, False] * 80


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kB on Linux only")
def test_memory_stays_small_however_large_the_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "large.png", np.zeros((4000, 6000, 4)))
    code = (
        "import resource, sys; from pathlib import Path; from sheepfold.pictures import inspect\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; inspect(Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 72 * 1024, "kB more than before, for a picture of 96 MB"


def test_a_film_frame_with_all_its_passes_is_read_although_it_decodes_to_gigabytes(tmp_path: Path) -> None:
    """4096 x 2160 with 100 channels of 32 bits are 3.4 GB; only its first rows are written here, so it breaks off."""
    spec = oiio.ImageSpec(4096, 2160, 100, "float")
    spec.channelnames = [f"L.Pass{number:02d}.X" for number in range(100)]
    path = tmp_path / "layers.exr"
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec)
    assert writer.write_scanlines(0, 16, 0, np.ones((16, 4096, 100), "float32"))
    writer.close()
    with pytest.raises(NotAPicture) as refused:
        inspect(path)
    assert "exceeds" not in refused.value.reason
    assert "decodes" not in refused.value.reason


def test_a_format_that_is_held_whole_may_not_decode_to_gigabytes(tmp_path: Path) -> None:
    spec = oiio.ImageSpec(16_000, 12_000, 4, "float")
    path = tmp_path / "large.tif"
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec)
    writer.close()
    with pytest.raises(NotAPicture, match=r"decodes to|claims a"):
        inspect(path)


def test_a_film_frame_with_hundreds_of_channels_is_a_picture(tmp_path: Path) -> None:
    names = [f"ViewLayer.Combined.{channel}" for channel in "RGBA"]
    names += [f"ViewLayer.Crypto{number:03d}.R" for number in range(496)]
    picture = inspect(write(tmp_path / "a.exr", np.ones((6, 8, 500)), "half", names=names))
    assert (picture.width, picture.height, picture.suffix, picture.is_empty) == (8, 6, "exr", False)
    names = [f"c{number:04d}" for number in range(MAX_CHANNELS + 1)]
    with pytest.raises(NotAPicture):
        inspect(write(tmp_path / "b.exr", np.ones((2, 2, MAX_CHANNELS + 1)), "half", names=names))
