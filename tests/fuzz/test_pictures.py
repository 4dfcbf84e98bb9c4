"""Pictures of strangers: a picture or :class:`NotAPicture`, and the child that looks at them serves the next one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.errors import NotAPicture
from sheepfold.limited.picture_inspector import PictureInspector
from tests.support.fuzzing import damaged, fuzzed
from tests.support.pictures import write_picture

WHITE = np.ones((60, 80, 3))
SUFFIXES = ("png", "jpg", "exr", "tga", "tif", "bmp", "hdr", "webp")


@pytest.fixture(scope="module")
def inspector() -> Iterator[PictureInspector]:
    made = PictureInspector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One of each format."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [write_picture(folder / f"whole.{suffix}", ["R", "G", "B"], WHITE) for suffix in SUFFIXES]
    return {path.suffix[1:]: path.read_bytes() for path in paths}


@fuzzed()
@given(data=st.data())
def test_a_picture_with_any_bytes_changed_is_a_picture_or_none(
    inspector: PictureInspector, pictures: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    written_as, named = data.draw(st.sampled_from(SUFFIXES)), data.draw(st.sampled_from(SUFFIXES))
    path = tmp_path / f"changed.{named}"
    path.write_bytes(data.draw(damaged(pictures[written_as]) | st.binary(max_size=300)))
    with contextlib.suppress(NotAPicture):
        assert inspector.inspect(path).width <= 100_000
    whole = tmp_path / f"whole.{written_as}"
    whole.write_bytes(pictures[written_as])
    assert inspector.inspect(whole).width == 80
