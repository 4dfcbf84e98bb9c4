"""Finished frames that the coordinator does not have yet.

They survive a coordinator that is away and a worker that restarts.

On disk, below ``<work folder>/outbox``::

    <lease id>.<attempt>/
        delivery.json    a :class:`Parcel`
        frame_0340.png   the picture
    .new-*               being written; worthless once its process is gone

A frame appears here by one rename after it is on disk for good, and goes when the coordinator has answered: taken,
stale or rejected. Silence changes nothing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from render_tasks.errors import UnsafeFile
from render_tasks.untrusted.files import open_file, take_file
from render_tasks.untrusted.removal import remove
from sheepfold.atomic_files import rename_durably, sync
from sheepfold.contract.api_messages import FrameReport
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ContractError

log = logging.getLogger(__name__)

_NEW = ".new-"
_LABEL = "delivery.json"
#: A picture whose name and sum are not known yet.
_TAKEN = "picture"
_MOST_LABEL_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A frame that is to be delivered; its picture lies beside it in the outbox."""

    lease_id: str
    attempt: int
    job_name: str
    frame: str
    report: FrameReport

    @property
    def key(self) -> str:
        """Its folder, and how a join names it."""
        return f"{self.lease_id}.{self.attempt}"


class Outbox:
    """The folder of frames not yet delivered. One per worker; threads share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_NEW}*"):
            remove(left)

    def keep(self, picture: Path, describe: Callable[[Path], Parcel]) -> Parcel:
        """Takes a picture out of a renderer's folder; when this returns, it outlives a power cut.

        ``describe`` is given the file where nobody else writes any more. Raises UnsafeFile where the picture is no
        plain file, and OSError.
        """
        work = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
        try:
            taken = work / _TAKEN
            take_file(picture.parent.parent, picture.parent.name, picture.name, to=taken)
            parcel = describe(taken)
            taken.rename(work / parcel.report.name)
            (work / _LABEL).write_text(to_json(parcel), "utf-8")
            for path in (work / parcel.report.name, work / _LABEL):
                sync(path)
            rename_durably(work, self._folder / parcel.key)
        except BaseException:
            remove(work)
            raise
        return parcel

    def picture(self, parcel: Parcel) -> Path:
        """Where the parcel's picture lies while it is kept."""
        return self._folder / parcel.key / parcel.report.name

    def discard(self, parcel: Parcel) -> None:
        """Deletes a frame: the coordinator has given its definite answer."""
        remove(self._folder / parcel.key)

    def parcels(self) -> list[Parcel]:
        """All frames not yet delivered, oldest first; what cannot be read is deleted."""
        found: list[Parcel] = []
        folders = [path for path in self._folder.iterdir() if not path.name.startswith(_NEW)]
        for folder in sorted(folders, key=lambda path: path.lstat().st_mtime):
            try:
                found.append(_parcel_in(folder))
            except (OSError, ContractError) as error:
                log.warning("%s in the outbox is no finished frame and is deleted: %s", folder.name, error)
                remove(folder)
        return found


def _parcel_in(folder: Path) -> Parcel:
    """Raises UnsafeFile, OSError and MalformedContract."""
    with open_file(folder, _LABEL, most_bytes=_MOST_LABEL_BYTES) as file:
        parcel = from_json(Parcel, file.read())
    if parcel.key != folder.name or parcel.report.name == _LABEL:
        raise UnsafeFile("its delivery.json is of another frame")
    open_file(folder, parcel.report.name).close()
    return parcel
