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
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sheepfold.atomic_files import rename_durably, sync
from sheepfold.contract.api_messages import FrameReport
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ContractError

log = logging.getLogger(__name__)

_NEW = ".new-"
_LABEL = "delivery.json"


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
            shutil.rmtree(left, ignore_errors=True)

    def keep(self, parcel: Parcel, picture: Path) -> None:
        """Moves a picture in; when this returns, it outlives a power cut. Raises OSError when the disk is full."""
        work = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
        try:
            picture.replace(work / parcel.report.name)
            (work / _LABEL).write_text(to_json(parcel), "utf-8")
            for path in (work / parcel.report.name, work / _LABEL):
                sync(path)
            rename_durably(work, self._folder / parcel.key)
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def picture(self, parcel: Parcel) -> Path:
        """Where the parcel's picture lies while it is kept."""
        return self._folder / parcel.key / parcel.report.name

    def discard(self, parcel: Parcel) -> None:
        """Deletes a frame: the coordinator has given its definite answer."""
        shutil.rmtree(self._folder / parcel.key, ignore_errors=True)

    def parcels(self) -> list[Parcel]:
        """All frames not yet delivered, oldest first; what cannot be read is deleted."""
        found: list[Parcel] = []
        folders = [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(_NEW)]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime):
            try:
                found.append(from_json(Parcel, (folder / _LABEL).read_text("utf-8")))
            except (OSError, ContractError) as error:
                log.warning("%s in the outbox is no finished frame and is deleted: %s", folder.name, error)
                shutil.rmtree(folder, ignore_errors=True)
        return found
