"""Pictures without a suffix are told by their first bytes, as Blender and its libraries write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from render_tasks.blender.output.image_format import HEAD_BYTES, suffix_of


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".exr", ".tif", ".webp", ".hdr", ".dpx", ".bmp", ".jp2", ".j2c", ".tga", ".rgb"]
)
def test_every_format_that_blender_writes_gets_its_suffix(tmp_path: Path, suffix: str) -> None:
    picture = oiio.ImageBuf(oiio.ImageSpec(8, 8, 3, oiio.UINT8))
    picture.set_pixels(oiio.ROI.All, np.full((8, 8, 3), 0.5, np.float32))
    path = tmp_path / f"picture{suffix}"
    if not picture.write(str(path)):
        pytest.skip(f"this OpenImageIO writes no {suffix}")
    assert suffix_of(path.read_bytes()[:HEAD_BYTES]) == suffix
