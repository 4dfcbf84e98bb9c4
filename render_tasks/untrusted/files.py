"""Opens and takes what a renderer left on the disk.

A frame runs somebody's Python as the worker's user, so whatever lies in a renderer's folder is hostile: a link in place
of a picture, a pipe that nobody writes, a second name of a file of the PC's owner. Everything of the worker that reads
or moves such things does so through this file (and deletes them through :mod:`render_tasks.untrusted.removal`):

* each folder on the way is opened by the descriptor of the one above it, and no link is followed;
* what is opened is a regular file with one name and of bounded size, and no open waits for a writer.

Windows opens nothing by descriptor: there each step of the path is looked at before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from render_tasks.errors import UnsafeFile

from .removal import BY_DESCRIPTOR, FOLDER, NO_FOLLOW, is_folder, remove

#: Without O_NONBLOCK the open of a pipe waits for somebody who writes.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | NO_FOLLOW
#: No honest picture, log or part of an archive has more bytes.
MOST_BYTES = 1024**4
#: A folder with more names is not looked through any further.
MOST_NAMES = 10_000
#: What the system says of a link, a pipe or a file where something else is wanted.
_NOT_PLAIN = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV})


def open_file(folder: Path, *names: str, most_bytes: int = MOST_BYTES) -> BinaryIO:
    """The regular file ``names`` below ``folder``, which is one of ours, for reading.

    Raises UnsafeFile where it is a link, a pipe or the like, has a second name or is larger than ``most_bytes``, and
    OSError where it is not there or cannot be read.
    """
    with _opened_folder(folder, *names[:-1]) as parent:
        descriptor = parent.open(names[-1], _READ)
    try:
        _check_is_plain(os.fstat(descriptor), names[-1], most_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_start(folder: Path, *names: str, most_bytes: int) -> bytes:
    """At most so many bytes from the beginning of such a file; raises as :func:`open_file` does."""
    with open_file(folder, *names) as file:
        return file.read(most_bytes)


def names_in(folder: Path, *below: str) -> list[str]:
    """Names in a folder that is no link, sorted; at most :data:`MOST_NAMES`. Raises UnsafeFile and OSError."""
    with _opened_folder(folder, *below) as parent:
        return sorted(name for name, _ in zip(parent.names(), range(MOST_NAMES), strict=False))


def take_file(folder: Path, *names: str, to: Path, most_bytes: int = MOST_BYTES) -> None:
    """Moves such a file to ``to``, a new name in a folder of ours; raises as :func:`open_file` does.

    What stands at ``to`` is the file that was looked at, whatever was put in its place meanwhile.
    """
    with open_file(folder, *names, most_bytes=most_bytes) as file:
        with _opened_folder(folder, *names[:-1]) as parent, contextlib.suppress(OSError):
            parent.move(names[-1], to)
        taken = os.lstat(to) if os.path.lexists(to) else None
        if taken is None or not os.path.samestat(taken, os.fstat(file.fileno())):
            # On another disk, or somebody exchanged it between the two steps.
            remove(to)
            with to.open("xb") as copy:
                shutil.copyfileobj(file, copy, 1024 * 1024)


class _Folder:
    """An open folder; on Windows its path."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self.descriptor = path, descriptor

    def open(self, name: str, flags: int) -> int:
        if name in ("", ".", "..") or "/" in name or (os.name == "nt" and "\\" in name):
            raise UnsafeFile(f"{name[:100]!r} is no name of a file")
        try:
            if self.descriptor is None:
                _check_is_no_link(self._path / name)
                return os.open(self._path / name, flags)
            return os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            raise _told_apart(error, name) from None

    def names(self) -> Generator[str]:
        with os.scandir(self._path if self.descriptor is None else self.descriptor) as entries:
            for entry in entries:
                yield entry.name

    def move(self, name: str, to: Path) -> None:
        if self.descriptor is None:
            os.rename(self._path / name, to)  # noqa: PTH104 (os.rename takes a descriptor, Path.rename does not)
        else:
            os.rename(name, to, src_dir_fd=self.descriptor)


@contextlib.contextmanager
def _opened_folder(folder: Path, *below: str) -> Generator[_Folder]:
    if not BY_DESCRIPTOR:
        for count in range(len(below) + 1):
            _check_is_no_link(folder.joinpath(*below[:count]))
        yield _Folder(folder.joinpath(*below), None)
        return
    try:
        opened = _Folder(folder, os.open(folder, FOLDER))
    except OSError as error:
        raise _told_apart(error, folder.name) from None
    try:
        for name in below:
            inner = opened.open(name, FOLDER)
            _close(opened)
            opened.descriptor = inner
        yield opened
    finally:
        _close(opened)


def _close(folder: _Folder) -> None:
    if folder.descriptor is not None:
        os.close(folder.descriptor)
        folder.descriptor = None


def _told_apart(error: OSError, name: str) -> OSError:
    """What the system says of a link or a pipe, in words; everything else stays what it is."""
    if isinstance(error, FileNotFoundError | PermissionError | UnsafeFile):
        return error
    if error.errno in _NOT_PLAIN:
        return UnsafeFile(f"{name[:100]!r} is a link, a pipe or the like")
    return error


def _check_is_plain(about: os.stat_result, name: str, most_bytes: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise UnsafeFile(f"{name[:100]!r} is a folder, a pipe or the like")
    if about.st_nlink > 1:
        raise UnsafeFile(f"{name[:100]!r} is a second name of another file")
    if about.st_size > most_bytes:
        raise UnsafeFile(f"{name[:100]!r} has {about.st_size} bytes, and at most {most_bytes} are read")


def _check_is_no_link(path: Path) -> None:
    about = os.lstat(path)
    if not stat.S_ISREG(about.st_mode) and not is_folder(path):
        raise UnsafeFile(f"{path.name[:100]!r} is a link, a pipe or the like")
