"""What this node has of archives on its disk, and what is evicted first when space is needed.

::

    <key>/           a renderer or a scene unpacked to its last file; its time stamp says when it was last used
    <md5>.zip        an archive as it came, or a part of one, for other nodes and for scenes that share the part; its
                     time stamp says when it was last used
    .fetch-*         an archive on its way here; worthless once its process is gone
    .gone-*          an archive on its way out

What is unpacked from one archive has that archive's MD5 for its key. Everything counts against the quota. Archives go
first: renders don't need them, and whoever misses one asks another node. Then go the unpacked ones that were not used
for the longest time. Never goes what somebody is :meth:`~CacheDir.using`, nor the parts it has yet to be unpacked from.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path

from render_tasks.errors import CacheDiskFull
from render_tasks.untrusted.removal import bytes_in, is_folder, is_plain, remove
from sheepfold.contract.orders import MD5_NAME
from sheepfold.units import bytes_text

log = logging.getLogger(__name__)

#: Left free for the system and the renders themselves.
SPARE_BYTES = 256 * 1024**2
ZIP = ".zip"
_FETCHING, _GOING = ".fetch-", ".gone-"


class CacheDir:
    """One folder of archives; threads share it, processes do not."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        free_bytes: Callable[[Path], int],
        on_evict: Callable[[Path], None],
    ) -> None:
        self.folder, self._quota, self._free_bytes, self._on_evict = folder, quota_bytes, free_bytes, on_evict
        self._lock = threading.Lock()
        self._in_use: Counter[str] = Counter()
        #: Key → the parts it is unpacked from, by their names on the disk.
        self._parts_of: dict[str, frozenset[str]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.name.startswith((_FETCHING, _GOING)) or (_is_named_as_ours(left) and not _is_ours(left)):
                remove(left)
        found = [path for path in folder.iterdir() if _is_named_as_ours(path) and _is_ours(path)]
        #: Name on the disk → bytes.
        self._sizes = {path.name: bytes_in(path) for path in found}

    def unpacked(self) -> tuple[str, ...]:
        """Keys of the renderers and scenes that are unpacked, sorted."""
        with self._lock:
            return tuple(sorted(name for name in self._sizes if not name.endswith(ZIP)))

    def zipped(self) -> tuple[str, ...]:
        """MD5 sums of the archives and parts that are kept as they came."""
        with self._lock:
            return tuple(sorted(name.removesuffix(ZIP) for name in self._sizes if name.endswith(ZIP)))

    def zip_of(self, md5: str) -> tuple[Path, int] | None:
        """An archive as it came, and its bytes; it counts as used."""
        path = self.folder / f"{md5}{ZIP}"
        with self._lock:
            size = self._sizes.get(path.name)
        if size is None:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return path, size

    @contextlib.contextmanager
    def using(self, wanted: Mapping[str, Collection[str]]) -> Generator[None]:
        """Keeps things, present or still to come, from being evicted: key → MD5 sums of the parts it is made of."""
        parts = {key: frozenset(f"{md5}{ZIP}" for md5 in md5s) for key, md5s in wanted.items()}
        with self._lock:
            self._in_use.update(parts.keys())
            self._parts_of.update(parts)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.subtract(parts.keys())
                for key in parts:
                    if not self._in_use[key]:
                        del self._in_use[key], self._parts_of[key]
            self.free_space(0)

    @contextlib.contextmanager
    def place(self) -> Generator[Path]:
        """A temporary folder for an archive that is being fetched; it goes with the block."""
        path = Path(tempfile.mkdtemp(prefix=_FETCHING, dir=self.folder))
        try:
            yield path
        finally:
            remove(path)

    def put(self, key: str, content: Path, archive: Path | None) -> None:
        """Something is here, unpacked in ``content``; its archive is kept where that costs only other archives."""
        size = bytes_in(content)
        with self._lock:
            content.rename(self.folder / key)
            self._sizes[key] = size
        if archive is not None:
            self._put_zip(key, archive)

    def put_part(self, md5: str, part: Path) -> Path:
        """A part of a scene is here, as it came; says where it lies now."""
        size, path = part.stat().st_size, self.folder / f"{md5}{ZIP}"
        with self._lock:
            part.replace(path)
            self._sizes[path.name] = size
        return path

    def drop(self, md5: str) -> None:
        """Removes an archive that was found damaged on the disk."""
        with self._lock:
            self._sizes.pop(f"{md5}{ZIP}", None)
            remove(self.folder / f"{md5}{ZIP}")

    def _put_zip(self, md5: str, archive: Path) -> None:
        size = archive.stat().st_size
        self._evict(self._zips_oldest_first(), lambda: self._fits(size))
        with self._lock, contextlib.suppress(OSError):  # Windows: somebody just reads it
            if self._fits(size):
                archive.rename(self.folder / f"{md5}{ZIP}")
                self._sizes[f"{md5}{ZIP}"] = size

    def require_space(self, wanted_bytes: int) -> None:
        """Frees space for an archive, or with 1 for the renders alone; raises CacheDiskFull where the disk lacks it."""
        self.free_space(wanted_bytes)
        free = self._free_bytes(self.folder)
        if free < wanted_bytes + SPARE_BYTES:
            raise CacheDiskFull(_too_little_space(self.folder, wanted_bytes, free))

    def free_space(self, wanted_bytes: int) -> None:
        """Evicts what nobody uses until quota and disk have that much space."""

        def enough() -> bool:
            return self._fits(wanted_bytes) and not (
                wanted_bytes and self._free_bytes(self.folder) < wanted_bytes + SPARE_BYTES
            )

        self._evict([*self._zips_oldest_first(), *self._oldest_first(self.unpacked())], enough)

    def _evict(self, names: list[str], enough: Callable[[], bool]) -> None:
        for name in names:
            going = self.folder / f"{_GOING}{name}"
            with self._lock:
                if enough():
                    return
                if self._is_needed(name) or name not in self._sizes:
                    continue
                self._on_evict(self.folder / name)
                try:
                    (self.folder / name).rename(going)
                except OSError as error:  # Windows: somebody just reads it
                    log.info("archive %s cannot be removed yet: %s", name, error)
                    continue
                del self._sizes[name]
            log.info("archive %s is evicted", name)
            remove(going)

    def _is_needed(self, name: str) -> bool:
        if self._in_use[name] > 0:
            return True
        return any(name in parts for key, parts in self._parts_of.items() if key not in self._sizes)

    def _fits(self, wanted_bytes: int) -> bool:
        return sum(self._sizes.values()) + wanted_bytes <= self._quota

    def _zips_oldest_first(self) -> list[str]:
        return self._oldest_first([f"{md5}{ZIP}" for md5 in self.zipped()])

    def _oldest_first(self, names: list[str] | tuple[str, ...]) -> list[str]:
        return sorted(names, key=lambda name: _last_used(self.folder / name))


def _is_named_as_ours(path: Path) -> bool:
    return MD5_NAME.fullmatch(path.name.removesuffix(ZIP)) is not None


def _is_ours(path: Path) -> bool:
    """Whether it is what its name says: a folder, or an archive as a plain file; no link, no pipe."""
    return is_plain(path) if path.name.endswith(ZIP) else is_folder(path)


def _too_little_space(folder: Path, wanted_bytes: int, free_bytes: int) -> str:
    needed = f"{bytes_text(SPARE_BYTES)} to spare for renders"
    if wanted_bytes > 1:
        needed = f"{bytes_text(wanted_bytes)} for an archive and {needed}"
    free = bytes_text(free_bytes)
    return f"{needed} are needed, {free} are free in {folder}: free some there, or give SHEEPFOLD_WORK_DIR another disk"


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
