"""A project's zip, as an untrusted client sent it: is it whole, harmless, and does it hold its scene?"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import Path

from lab.archive_names import first_unprintable
from lab.errors import BadProjectZip
from sheepfold.archives.zips import trouble_with_method, trouble_with_path, trouble_with_table
from sheepfold.errors import LargeFile

MAX_ENTRIES = 100_000
MAX_NAME = 1000
#: No scene compresses like this; a zip bomb does.
MAX_RATIO = 200
#: A larger zip takes seconds to read.
LARGE_BYTES = 64 * 1024 * 1024
#: Below this no ratio hurts.
HARMLESS_BYTES = 256 * 1024 * 1024
_DRIVE = re.compile(r"[A-Za-z]:")


def check_project_zip(path: Path, scene_path: str) -> None:
    """Every entry's name, kind and checksum; raises :class:`BadProjectZip`. Takes as long as reading it all."""
    try:
        with path.open("rb") as file:
            trouble = trouble_with_table(file, entries=MAX_ENTRIES)
        if trouble:
            raise BadProjectZip(f"the project archive is no usable zip: {trouble}")
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive.infolist(), scene_path, path.stat().st_size)
            damaged = archive.testzip()
    # zipfile's own readers raise nearly anything on hostile input.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise BadProjectZip(f"the project archive is no usable zip: {str(error)[:200]}") from None
    except (OSError, ArithmeticError, LookupError, ImportError, zlib.error) as error:
        raise BadProjectZip(f"the project archive cannot be read: {str(error)[:200]}") from None
    if damaged is not None:
        raise BadProjectZip(f"the project archive is damaged at {damaged[:100]!r}")


def _check_entries(entries: list[zipfile.ZipInfo], scene_path: str, size: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise BadProjectZip(f"the project archive has more than {MAX_ENTRIES} files")
    total = sum(entry.file_size for entry in entries)
    if total > HARMLESS_BYTES and total > size * MAX_RATIO:
        raise BadProjectZip(f"the project archive would unpack to {total} bytes, which no scene does")
    names: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.filename in names:
            raise BadProjectZip(f"the project archive holds {entry.filename[:100]!r} twice")
        names.add(entry.filename)
    if scene_path not in names:
        raise BadProjectZip(f"the project archive does not hold the scene {scene_path[:100]!r}")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    shown = repr(name[:100])
    trouble = trouble_with(name.rstrip("/"))
    if trouble:
        raise BadProjectZip(f"the project archive holds {shown}, which {trouble}")
    mode = entry.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise BadProjectZip(f"the project archive holds {shown}, which is a link or a device")
    if entry.flag_bits & 0x1:
        raise BadProjectZip(f"the project archive holds {shown}, which is encrypted")
    if trouble := trouble_with_method(entry.compress_type) or trouble_with_path(name.rstrip("/")):
        raise BadProjectZip(f"the project archive is not taken: {trouble}")


def trouble_with(path: str) -> str | None:
    """Why a path is not one inside an archive, on any operating system, for a person; ``None``: it is one.

    Names that Windows alone cannot keep are not refused: the PCs of a farm may all run something else.
    """
    if not path:
        return "has no name"
    if len(path) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    if path.startswith(("/", "\\")) or _DRIVE.match(path) or ".." in path.replace("\\", "/").split("/"):
        return "leaves its folder"
    if "\\" in path:
        return "holds a backslash, which is a folder on Windows"
    character = first_unprintable(path)
    return f"holds {character}" if character else None


def _check_task(path: str, scene_path: str, *, is_large: bool) -> None:
    if not is_large and Path(path).stat().st_size > LARGE_BYTES:
        raise LargeFile
    check_project_zip(Path(path), scene_path)


#: What a child does with zips (:mod:`sheepfold.limited.child`).
TASKS = {"check": _check_task}
