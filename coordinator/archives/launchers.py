"""Which renderer archives start the PC's own Blender; each archive is looked into once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sheepfold.archives.launchers import is_launcher_archive

#: More renderers than any server hands out at a time.
REMEMBERED = 1000


class LauncherArchives:
    """Answers from memory once an archive is here. Thread-safe."""

    def __init__(self, path_of: Callable[[str], Path | None]) -> None:
        self._path_of = path_of
        self._lock = threading.Lock()
        #: MD5 → whether it is one; what an archive of this MD5 holds never changes.
        self._known: dict[str, bool] = {}

    def is_launcher(self, md5: str) -> bool:
        """Whether the archive starts the PC's own Blender; false while it is not here."""
        known = self._known.get(md5)
        if known is not None:
            return known
        path = self._path_of(md5)
        if path is None:
            return False
        with self._lock:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[md5] = found = is_launcher_archive(path)
        return found
