"""Why the coordinator does not have an archive that it needs.

::

    ArchiveUnavailable      the server's fault: asking again does not help
    ├── BadMd5              it is named by something that is no MD5: it would become a path
    └── ArchiveMismatch     what comes is another archive than the one that was named
    ManifestUnderWay        nobody's fault: it is here, and its pieces are still being summed

That the server no longer has it is :class:`coordinator.upstream.errors.ArchiveGone`.
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class ArchiveUnavailable(SheepfoldError):
    """An archive of the server cannot be had."""


class BadMd5(ArchiveUnavailable):
    """An archive's name is not an MD5."""

    def __init__(self, name: str) -> None:
        self.name = name[:40]
        super().__init__(f"{self.name!r} is not an MD5")


class ArchiveMismatch(ArchiveUnavailable):
    """What the server sends is not the archive it named, however often it is asked."""

    def __init__(self, md5: str, got: str, tries: int) -> None:
        self.md5, self.got, self.tries = md5, got, tries
        super().__init__(f"archive {md5} arrived {tries} times with another MD5, last {got}")


class ManifestUnderWay(SheepfoldError):
    """The archive is being read once more; ask again in a moment."""
