"""Whether this node can take frames at all, asked of the PC itself: space on its disk, folders it can write, a Blender.

A node that knows it is in trouble says so in its presence record and is given nothing, which is better than frames that
fail one by one. It looks again by itself and takes frames as soon as it is mended. A missing Blender is no such
trouble: archives that bring their own renderer are still rendered.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from render_tasks.blender.installed import LocalBlender
from sheepfold.atomic_files import is_disk_full

from .errors import CacheDiskFull

log = logging.getLogger(__name__)

#: As often as the presence record is written.
LOOK_EVERY_S = 5.0
#: A file system that is full may still take a few bytes into a block it has.
PROBE_BYTES = 64 * 1024


class NodeHealth:
    """Looks every :data:`LOOK_EVERY_S`, and at once when an attempt failed through the node's own trouble."""

    def __init__(
        self,
        blender: LocalBlender,
        folders: Sequence[Path],
        require_space: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        """``require_space`` raises :class:`CacheDiskFull` where so many more bytes do not fit."""
        self.blender, self._folders, self._require_space, self._on_change = blender, folders, require_space, on_change
        #: What keeps this node from taking anything, for a person; empty: nothing does.
        self.trouble = ""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Looks from now on, in a thread of its own."""
        threading.Thread(target=self._loop, name="health", daemon=True).start()

    def look_once(self) -> None:
        """Checks once; the log and the presence record tell of a change."""
        with self._lock:
            before = (self.trouble, self.blender.found)
            self.trouble = self._trouble()
            after = (self.trouble, self.blender.look())
        if after != before:
            _tell(before[0], self.trouble)
            if after[1] != before[1]:
                self.blender.tell()
            self._on_change()

    def _trouble(self) -> str:
        try:
            self._require_space(1)
            for folder in self._folders:
                _write_in(folder)
        except CacheDiskFull as full:
            return f"disk full: {full}"
        except OSError as error:
            if is_disk_full(error):
                return f"disk full: nothing more can be written in {self._folders[0].parent}: free some space there"
            said = os.strerror(error.errno or 0)
            return f"folder not usable: {error.filename}: {said}: let the worker read and write its work folder"
        return ""

    def _loop(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.look_once()


def _write_in(folder: Path) -> None:
    """Raises OSError where nothing can be written."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"\0" * PROBE_BYTES)
    finally:
        probe.unlink(missing_ok=True)


def _tell(before: str, now: str) -> None:
    if now and not before:
        log.warning("no frame is taken: %s; looked at again every %.0f s", now, LOOK_EVERY_S)
    elif before and not now:
        log.info("frames are taken again")
