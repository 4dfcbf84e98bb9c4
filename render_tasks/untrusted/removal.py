"""Deletes what a renderer left, and gets it out of the way where it cannot be deleted.

A tree is deleted without recursion, two descriptors at a time, however deep it is: each folder that is found is moved
up beside the first ones before it is looked into. Folders are made writable where they are ours, no link is followed,
and nothing here raises RecursionError. Windows opens nothing by descriptor and deletes as Python does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

log = logging.getLogger(__name__)

BY_DESCRIPTOR = {
    os.open,
    os.rename,
    os.unlink,
    os.rmdir,
    os.stat,
} <= os.supports_dir_fd and os.scandir in os.supports_fd
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | NO_FOLLOW
#: So many names of a folder are held in memory at a time.
_NAMES_AT_ONCE = 10_000
_ASIDE = ".rubbish-"


def remove(path: Path) -> bool:
    """Deletes a file, a link, or a folder with all that is in it, however deep; whether nothing is left."""
    with contextlib.suppress(OSError):
        if not is_folder(path):
            path.unlink()
        elif BY_DESCRIPTOR:
            _remove_tree(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def set_aside(path: Path, why: str) -> None:
    """Renames what lies in the way, and says once where it lies now. Raises OSError."""
    aside = path.with_name(f"{path.name}{_ASIDE}{secrets.token_hex(4)}")
    path.rename(aside)
    log.warning("%s %s: it lies in %s now, which may be deleted", path, why, aside)


def empty_folder(path: Path) -> None:
    """Makes ``path`` an empty folder; what was there and cannot be removed is set aside. Raises OSError.

    A disk that is mounted there stays, emptied as far as it can be.
    """
    if not remove(path) and not os.path.ismount(path):
        set_aside(path, "cannot be removed")
    path.mkdir(parents=True, exist_ok=True)


def real_folder(path: Path) -> None:
    """Makes ``path`` a folder we can use, with what is in it; anything else there is set aside. Raises OSError."""
    if os.path.lexists(path) and not is_folder(path):
        set_aside(path, "is no folder")
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        path.chmod(0o700)


def bytes_in(path: Path) -> int:
    """Bytes of a file, or of everything in a folder that can be looked at; no link is followed, no depth hurts."""
    if not is_folder(path):
        return os.lstat(path).st_size
    total, folders = 0, [str(path)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def is_folder(path: Path) -> bool:
    """Whether it is a folder itself, and no link or junction to one."""
    try:
        about = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and not getattr(about, "st_reparse_tag", 0)


def is_plain(path: Path) -> bool:
    """Whether it is a file itself, which we may read and write: no link, no pipe, no folder."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and os.access(path, os.R_OK | os.W_OK)
    except OSError:
        return False


def _remove_tree(root: Path) -> None:
    """Every folder found below ``root`` is moved up beside the first ones before it is looked into."""
    with _opened_parent(root) as parent:
        _make_usable(parent, root.name)
        top = os.open(root.name, FOLDER, dir_fd=parent)
        try:
            _empty(top, top)
            stuck: set[str] = set()
            while folders := [name for name in _folders_in(top) if name not in stuck]:
                for name in folders:
                    if not _remove_folder(top, name):
                        stuck.add(name)
        finally:
            os.close(top)
        os.rmdir(root.name, dir_fd=parent)


@contextlib.contextmanager
def _opened_parent(path: Path) -> Generator[int]:
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield parent
    finally:
        os.close(parent)


def _remove_folder(top: int, name: str) -> bool:
    """Deletes a folder right below ``top``, after its own folders were moved there."""
    try:
        _make_usable(top, name)
        folder = os.open(name, FOLDER, dir_fd=top)
        try:
            _empty(folder, top)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    return True


def _empty(folder: int, top: int) -> None:
    """Deletes the files of an open folder, and moves its folders to ``top``."""
    while True:
        with os.scandir(folder) as entries:
            some = [entry for entry, _ in zip(entries, range(_NAMES_AT_ONCE), strict=False)]
        done = 0
        for entry in some:
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=folder)
                    done += 1
                elif folder != top:
                    _make_usable(folder, entry.name)
                    os.rename(entry.name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
                    done += 1
        if not done:
            return


def _folders_in(top: int) -> list[str]:
    with os.scandir(top) as entries:
        return [entry.name for entry, _ in zip(entries, range(_NAMES_AT_ONCE), strict=False)]


def _make_usable(parent: int, name: str) -> None:
    """Lets us read and change a folder of ours, whatever mode it was given; a link is left alone."""
    if stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode) & 0o700 == 0o700:
        return
    if not hasattr(os, "O_PATH"):
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    # Linux changes no mode without following, but for what is open; O_PATH opens what cannot be read.
    folder = os.open(name, os.O_PATH | FOLDER, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{folder}", 0o700)  # noqa: PTH101 (the link in /proc is followed on purpose)
    finally:
        os.close(folder)
