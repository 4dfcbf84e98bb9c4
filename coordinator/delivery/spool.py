"""The spool: pictures that arrived, kept until the server has answered for good.

::

    <lease id>.<attempt><suffix>    one picture, whole: 3f2a….1.png
    .incoming-*                     one that still arrives; removed at the next start

A picture has its name only once it is on disk, synced, with the MD5 its sender gave.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from sheepfold.atomic_files import IncomingFile, full_disk_is_typed, prepare_folder

from .errors import BadName, CutOff

#: What Blender writes and OpenImageIO reads.
PICTURE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".exr", ".tga", ".bmp", ".tif", ".tiff", ".webp", ".hdr", ".jp2", ".j2c", ".dpx", ".cin",
    ".rgb",
})  # fmt: skip
#: A 16k multilayer EXR stays below this.
MAX_PICTURE_BYTES = 2 * 1024 * 1024 * 1024

_LEASE_ID = re.compile(r"[0-9a-f]{1,64}")
_NAME = re.compile(r"[0-9a-f]{1,64}\.[0-9]{1,9}(\.[a-z0-9]{2,4})")


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A picture that lies in the spool."""

    #: Its file name there, as :attr:`coordinator.leases.lease.Delivery.picture` has it.
    name: str
    path: Path
    #: Lower-case hex.
    md5: str
    #: Bytes.
    size: int


class Incoming:
    """A picture that arrives piece by piece: written, then kept, and discarded in the end whatever happened."""

    def __init__(self, name: str, passing: IncomingFile) -> None:
        self._name, self._passing = name, passing

    def write(self, chunk: bytes) -> None:
        """Appends all of it; raises :class:`~sheepfold.errors.TooLarge` or :class:`~sheepfold.errors.DiskFull`."""
        self._passing.write(chunk)

    def keep(self, *, md5: str | None = None) -> Spooled:
        """The picture, on disk; raises :class:`CutOff` when it hasn't the MD5 given."""
        got, size = self._passing.md5, self._passing.size
        if md5 is not None and got != md5.lower():
            raise CutOff(md5, got)
        return Spooled(name=self._name, path=self._passing.commit(self._name), md5=got, size=size)

    def discard(self) -> None:
        """Leave nothing of one that was not kept."""
        self._passing.discard()


class Spool:
    """The folder of pictures. Thread-safe: every arrival has its own file."""

    def __init__(self, folder: Path, *, limit_bytes: int = MAX_PICTURE_BYTES) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def open(self) -> Spool:
        """Makes the folder, and removes what was still arriving when the last coordinator ended; returns itself."""
        prepare_folder(self._folder)
        return self

    def store(
        self, lease_id: str, attempt: int, suffix: str, chunks: Iterable[bytes], *, md5: str | None = None
    ) -> Spooled:
        """Take a whole picture; nothing is left of one that breaks off.

        Raises :class:`SpoolError`, :class:`~sheepfold.errors.TooLarge`, :class:`~sheepfold.errors.DiskFull`
        and whatever ``chunks`` raises.
        """
        with self.receive(lease_id, attempt, suffix) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.keep(md5=md5)

    @contextlib.contextmanager
    def receive(self, lease_id: str, attempt: int, suffix: str) -> Generator[Incoming]:
        """The same for a caller that is handed the pieces: write them, then keep; else nothing is left."""
        incoming = self.incoming(lease_id, attempt, suffix)
        try:
            yield incoming
        finally:
            incoming.discard()

    def incoming(self, lease_id: str, attempt: int, suffix: str) -> Incoming:
        """The same for one whose pieces come from elsewhere; its caller discards it."""
        name = spool_name(lease_id, attempt, suffix)
        with full_disk_is_typed(self._folder):
            return Incoming(name, IncomingFile(self._folder, limit_bytes=self._limit_bytes))

    def path(self, name: str) -> Path:
        """Where the picture lies, or would lie; raises :class:`BadName`."""
        found = _NAME.fullmatch(name)
        if not found or found[1] not in PICTURE_SUFFIXES:
            raise BadName(name)
        return self._folder / name

    def discard(self, name: str) -> None:
        """Remove a picture; one that is gone already is fine."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """File names of all pictures, sorted; whatever else lies in the folder is passed over."""
        return sorted(path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))


def spool_name(lease_id: str, attempt: int, suffix: str) -> str:
    """The file name of a picture; raises :class:`BadName` for anything that could lead elsewhere."""
    name = f"{lease_id}.{attempt}{suffix.lower()}"
    if not _LEASE_ID.fullmatch(lease_id) or attempt < 1 or suffix.lower() not in PICTURE_SUFFIXES:
        raise BadName(name)
    return name
