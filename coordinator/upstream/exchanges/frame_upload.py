"""What an uploaded frame is called, what it is, and where it goes. Pure."""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePath
from urllib.parse import urlencode

from sheepfold.protocol import writing
from sheepfold.protocol.messages import FrameUpload

#: Types of pictures that not every system's table knows.
PICTURE_TYPES = {".exr": "image/x-exr", ".hdr": "image/vnd.radiance"}
#: Job and frame come from the server; in a file's name they are letters, digits and dashes.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9-]", re.ASCII)
NAME_PART_CHARS = 60


def name_of(upload: FrameUpload, picture: PurePath) -> str:
    """What the picture is called at the server: as every known client calls it, ``<job>_<frame>.<suffix>``."""
    job, frame = (_NOT_IN_A_NAME.sub("_", text)[:NAME_PART_CHARS] for text in (upload.job, upload.frame))
    return f"{job}_{frame}{picture.suffix}"


def content_type_of(picture: PurePath) -> str:
    """The MIME type that the suffix stands for; ``application/octet-stream`` for one nobody knows."""
    known = PICTURE_TYPES.get(picture.suffix.lower()) or mimetypes.guess_type(picture.name)[0]
    return known or "application/octet-stream"


def with_figures(url: str, upload: FrameUpload) -> str:
    """An offer's own address with the frame's figures in its query; what stands there already stays as it is."""
    url = url.partition("#")[0]
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode(writing.write_frame_figures(upload))}"
