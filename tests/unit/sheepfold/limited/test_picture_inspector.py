"""Pictures in a limited child: the same answers as in process, and bombs that hurt nobody."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import psutil
import pytest

from sheepfold.errors import NotAPicture
from sheepfold.limited.child import MEMORY_BYTES
from sheepfold.limited.picture_inspector import PictureInspector
from sheepfold.pictures import inspect
from tests.support.pictures import write_picture

WHITE = np.ones((60, 80, 3))
RGB = ["R", "G", "B"]


@pytest.fixture(scope="module")
def inspector() -> Iterator[PictureInspector]:
    inspector = PictureInspector()
    yield inspector
    inspector.close()


@pytest.mark.parametrize("suffix", ["png", "jpg", "exr", "tga", "tif", "bmp", "hdr", "webp"])
def test_a_child_says_what_the_process_itself_would_say(
    inspector: PictureInspector, tmp_path: Path, suffix: str
) -> None:
    path = write_picture(tmp_path / f"a.{suffix}", RGB, WHITE)
    assert inspector.inspect(path) == inspect(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(NotAPicture) as refused:
        inspector.inspect(path)
    with pytest.raises(NotAPicture) as refused_here:
        inspect(path)
    assert refused.value.reason == refused_here.value.reason


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(path: Path, side: int = 16_384) -> Path:
    """A megabyte that decodes to one gigabyte: a real picture, whole and black."""
    packer, rows = zlib.compressobj(9), bytes(side * 4 + 1)
    packed = b"".join(packer.compress(rows) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def exr_bomb(path: Path) -> Path:
    """One tile of 8,192 x 8,192: nothing of it can be decoded without all of it."""
    spec = oiio.ImageSpec(8_192, 8_192, 4, "float")
    spec.tile_width = spec.tile_height = 8_192
    spec.attribute("compression", "zip")
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec), writer.geterror()
    writer.close()
    with path.open("ab") as file:  # so that its size is no surprise
        file.write(bytes(5_000_000))
    return path


def test_tiles_that_no_memory_holds_are_refused_by_the_header(inspector: PictureInspector, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(NotAPicture, match=r"has pieces of 1\.0 GB"):
        inspector.inspect(exr_bomb(tmp_path / "bomb.exr"))
    assert time.monotonic() - began < 20


def interlaced_png(path: Path, side: int = 8_000) -> Path:
    """Interlaced: OpenImageIO holds all of its 256 MB."""
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 1)
    packed = zlib.compress(bytes(side * side * 4 + side * 16), 1)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def test_what_needs_more_memory_than_a_child_has_is_no_picture(inspector: PictureInspector, tmp_path: Path) -> None:
    with pytest.raises(NotAPicture):
        inspector.inspect(interlaced_png(tmp_path / "a.png", 9_000))
    assert inspector.inspect(write_picture(tmp_path / "b.png", RGB, WHITE)).width == 80


def test_an_error_of_the_decoder_that_is_no_text_is_no_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def undecodable(*_arguments: object) -> None:
        b"\xe9".decode()

    path = write_picture(tmp_path / "a.png", RGB, WHITE)
    monkeypatch.setattr(oiio.ImageInput, "open", undecodable)
    with pytest.raises(NotAPicture, match="UnicodeDecodeError"):
        inspect(path)


def test_a_bomb_costs_neither_memory_nor_the_frames_of_others(inspector: PictureInspector, tmp_path: Path) -> None:
    """A gigabyte is decoded beside small pictures: nobody waits for it, and no process swells."""
    small = write_picture(tmp_path / "small.png", RGB, WHITE)
    bomb = png_bomb(tmp_path / "bomb.png")
    inspector.inspect(small)
    before, highest, done = psutil.Process().memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                try:
                    highest[0] = max(highest[0], child.memory_info().rss)
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(inspector.inspect, bomb)
        longest, looked = 0.0, 0
        while not under_way.done():
            began = time.monotonic()
            inspector.inspect(small)
            longest, looked = max(longest, time.monotonic() - began), looked + 1
        done.set()
        watcher.join()
        assert under_way.result().is_black
    print(f"{looked} small pictures meanwhile, the slowest {longest * 1000:.0f} ms; child {highest[0] / 1e6:.0f} MB")
    assert highest[0] <= MEMORY_BYTES
    assert psutil.Process().memory_info().rss - before < 32 * 1024 * 1024
    assert looked > 20
    assert longest < 2.0


def per_second(look: object, path: Path, count: int = 200) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, [path] * count))  # pyright: ignore[reportArgumentType]
    return count / (time.monotonic() - began)


def test_a_child_looks_at_as_many_pictures_a_second(inspector: PictureInspector, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", RGB, np.random.default_rng(1).random((256, 256, 3)))
    per_second(inspector.inspect, path, 50)
    ratios = []
    for _ in range(4):
        here = per_second(inspect, path)
        ratios.append(per_second(inspector.inspect, path) / here)
    print(f"{here:.0f} pictures/s in process; children against it: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert max(ratios) > 0.5
