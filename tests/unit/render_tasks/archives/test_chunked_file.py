"""An archive in parts is read as if it were one file."""

from __future__ import annotations

import io
import os
import random
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from render_tasks.archives.chunked_file import ChunkedFile, open_parts
from render_tasks.archives.extraction import Limits, extract

WHOLE = random.Random(8).randbytes(100_000)


def write_parts(folder: Path, content: bytes, *cuts: int) -> list[Path]:
    """The content cut at these places, a file for each part."""
    paths = []
    for number, (start, end) in enumerate(pairwise((0, *cuts, len(content)))):
        path = folder / f"part-{number}"
        path.write_bytes(content[start:end])
        paths.append(path)
    return paths


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Five parts, one of a single byte and an empty one among them."""
    return write_parts(tmp_path, WHOLE, 30_000, 30_001, 30_001, 70_000)


def test_all_parts_are_read_one_after_the_other(parts: list[Path]) -> None:
    with open_parts(parts) as file:
        assert file.read() == WHOLE
        assert file.read() == b""


def test_any_place_is_read_as_in_one_file(parts: list[Path]) -> None:
    chance = random.Random(1)
    with open_parts(parts) as file:
        for _ in range(500):
            at, count = chance.randrange(len(WHOLE) + 100), chance.choice([0, 1, 7, 5_000, 60_000])
            assert file.seek(at) == at
            assert file.read(count) == WHOLE[at : at + count]
            assert file.tell() == min(at + count, max(at, len(WHOLE)))


@pytest.mark.parametrize("edge", [30_000, 30_001, 70_000])
def test_what_lies_across_two_parts_is_read_whole(parts: list[Path], edge: int) -> None:
    with open_parts(parts) as file:
        for before in range(4):
            file.seek(edge - before)
            assert file.read(before + 3) == WHOLE[edge - before : edge + 3]


def test_positions_count_from_the_start_from_here_and_from_the_end(parts: list[Path]) -> None:
    with ChunkedFile(parts) as file:
        assert file.seek(-10, os.SEEK_END) == 99_990
        assert file.seek(-90, os.SEEK_CUR) == 99_900
        assert file.read(1000) == WHOLE[99_900:]
        with pytest.raises(ValueError, match="before the file"):
            file.seek(-1)


def test_at_most_one_part_is_open(parts: list[Path]) -> None:
    def open_parts_of_this_process() -> list[str]:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.exists()]
        return [name for link in links if "part-" in (name := str(link.readlink()))]

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("what this process has open cannot be seen here")
    with ChunkedFile(parts) as file:
        for at in (0, 99_000, 30_000, 50_000):
            file.seek(at)
            assert file.read(1)
            assert len(open_parts_of_this_process()) == 1
    assert not open_parts_of_this_process()


def test_a_part_that_became_shorter_is_no_end_of_the_file(parts: list[Path]) -> None:
    with open_parts(parts) as file:
        os.truncate(parts[0], 100)
        with pytest.raises(OSError, match="part 0 of the archive has become shorter"):
            file.read()


def test_a_single_part_is_opened_as_it_is(tmp_path: Path) -> None:
    with open_parts(write_parts(tmp_path, WHOLE)) as file:
        assert isinstance(file.raw, io.FileIO)  # type: ignore[attr-defined]
        assert file.read() == WHOLE


def test_a_zip_is_unpacked_from_its_parts_wherever_it_is_cut(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scene.blend", b"BLENDER" * 500)
        archive.writestr("textures/wood.png", WHOLE[:3000])
    content = buffer.getvalue()
    for step in (1, 10, 100, 1000):
        folder = tmp_path / f"cut-{step}"
        (folder / "out").mkdir(parents=True)
        # Small parts at the end, where the table of contents is.
        cuts = range(len(content) - 20 * step, len(content), step) if step < 100 else range(step, 3000, step)
        with open_parts(write_parts(folder, content, *cuts)) as file:
            extract(file, folder / "out", Limits())
        assert (folder / "out/scene.blend").read_bytes() == b"BLENDER" * 500
        assert (folder / "out/textures/wood.png").read_bytes() == WHOLE[:3000]
