"""Files of clients, read in limited children: the server itself decodes and unpacks nothing that was sent to it."""

from __future__ import annotations

from pathlib import Path

from lab.errors import BadProjectZip
from sheepfold.atomic_files import sync
from sheepfold.errors import NotAPicture
from sheepfold.limited.errors import TaskRefused
from sheepfold.limited.picture_inspector import PictureInspector, limited_processes
from sheepfold.limited.pool import LimitedProcesses
from sheepfold.pictures import Picture

#: A zip of 16 GB is read from a slow disk within this (seconds).
LARGE_ZIP_WITHIN_S = 3600.0


class UntrustedFiles:
    """Thread-safe. Each method may raise :class:`~sheepfold.limited.errors.ChildUnavailable`."""

    def __init__(self) -> None:
        self._pictures = limited_processes("lab.server.pictures")
        self._inspector = PictureInspector(self._pictures)
        self._zips = LimitedProcesses(
            "lab.server.api.project_zip", count=1, deadline_s=60.0, large_deadline_s=LARGE_ZIP_WITHIN_S
        )

    def inspect(self, path: Path) -> Picture:
        """What is on the picture, which is on the disk afterwards; raises :class:`~sheepfold.errors.NotAPicture`."""
        picture = self._inspector.inspect(path)
        sync(path)
        return picture

    def make_thumbnail(self, picture: Path, thumb: Path) -> None:
        """A small JPEG of a picture, in the colours of a screen; raises :class:`~sheepfold.errors.NotAPicture`."""
        try:
            self._pictures.call("thumbnail", str(picture.resolve()), str(thumb.resolve()))
        except TaskRefused as error:
            raise NotAPicture(error.reason) from None

    def check_project_zip(self, path: Path, scene_path: str) -> None:
        """Every entry's name, kind and checksum; raises :class:`~lab.errors.BadProjectZip`."""
        try:
            self._zips.call("check", str(path.resolve()), scene_path)
        except TaskRefused as error:
            known = error.kind == BadProjectZip.__name__
            raise BadProjectZip(
                error.reason if known else f"the project archive cannot be read: {error.reason}"
            ) from None

    def close(self) -> None:
        """Ends the children that are idle; those at work end with this process."""
        self._pictures.close()
        self._zips.close()
