"""What a renderer leaves in its folder: the frame's picture, and a crash report.

The picture's name is ours: Blender is told the output path, pads the frame's number to four digits and adds a suffix of
its own. A file of another name is never taken, whatever it is and whenever it was written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from render_tasks.blender.render_job import PREFIX
from render_tasks.errors import AttemptFailed
from render_tasks.untrusted.files import names_in, open_file, read_start
from sheepfold.contract.api_messages import FailureKind, FailureReport

OUT, TEMPORARY = "out", "tmp"
#: A worker takes no larger picture: the coordinator's own limit is 2 GiB unless its operator raised it.
MOST_PICTURE_BYTES = 64 * 1024**3
#: Each suffix of Blender, in the order of choice where there are two: beside an EXR it may write a preview, a JPEG. The
#: last is a scene that was saved without extensions.
SUFFIXES = (
    ".exr", ".png", ".tif", ".tiff", ".webp", ".hdr", ".dpx", ".cin", ".jp2", ".j2c", ".tga", ".bmp", ".rgb",
    ".jpg", ".jpeg", "",
)  # fmt: skip
#: Seconds for a look at what a renderer left; on a busy disk it takes a hundredth of them.
LOOK_WITHIN_S = 30.0
_CRASH = ".crash.txt"
_CRASH_BYTES = 64 * 1024


def picture_names(frame: int) -> tuple[str, ...]:
    """The file names that Blender may give to this frame's picture, in the order of choice."""
    return tuple(f"{PREFIX}{frame:04d}{suffix}" for suffix in SUFFIXES)


def find_picture(folder: Path, frame: int, log_text: Callable[[], str]) -> Path | None:
    """The frame's picture in a renderer's folder; ``None``: there is none, or an empty file.

    Raises AttemptFailed, with the renderer's log, where something else lies in its place.
    """
    for name in picture_names(frame):
        try:
            with open_file(folder, OUT, name, most_bytes=MOST_PICTURE_BYTES) as file:
                if os.fstat(file.fileno()).st_size:
                    return folder / OUT / name
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = f"what the renderer left in place of a picture cannot be taken: {error.strerror or error}"
            raise AttemptFailed(FailureReport(kind=FailureKind.NO_OUTPUT, reason=reason, log=log_text())) from None
    return None


def crash_reports(folder: Path) -> list[str]:
    """Names of the reports that a Blender which crashed left in its folder."""
    try:
        return [name for name in names_in(folder, TEMPORARY) if name.endswith(_CRASH)]
    except OSError:
        return []


def read_crash_report(folder: Path, name: str) -> str:
    """The beginning of a report, or why it is not read, for a log."""
    try:
        said = read_start(folder, TEMPORARY, name, most_bytes=_CRASH_BYTES).decode("utf-8", "replace")
    except OSError as error:
        said = f"(not read: {error.strerror or error})"
    return f"\n# {name}\n{said}"
