"""A .blend with everything it needs, as one zip: traced with blender-asset-tracer, and checked by Blender itself.

The same scene gives the same bytes every time (sorted names, fixed time stamps), so that its MD5 says whether it
changed, and nobody fetches it twice.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blender_asset_tracer import blendfile

from lab.archive_names import one_line
from lab.errors import BadScene, NoAnswerFromBlender
from lab.submit.dependencies.archive_plan import ArchivePlan
from lab.submit.dependencies.blender_files import not_held, wanted_files
from lab.submit.dependencies.references import Reference
from lab.submit.dependencies.trace import trace

#: Compressed already.
_STORED = {".jpg", ".jpeg", ".png", ".exr", ".webp", ".mp4", ".mov", ".mkv", ".zip", ".gz", ".vdb"}
_PIECE = 1024 * 1024
_NOT_CHECKED = (
    "Blender was not asked which files the scene wants ({}); one that only Blender finds would be left behind"
)


@dataclass(frozen=True, kw_only=True)
class PackedScene:
    """A scene ready to be submitted."""

    path: Path
    #: Path of the .blend inside the zip.
    scene: str
    #: Files that the picture needs and that are not there; left out.
    missing: tuple[str, ...]
    #: What a person should know, one line each; each missing file is among them.
    warnings: tuple[str, ...]


def pack_scene(blend: Path, target: Path, *, allow_missing: bool = False, blender: str | None = None) -> PackedScene:
    """Pack ``blend`` and all its textures, libraries, caches and fonts into the zip ``target``.

    ``blender`` is the program that is asked which files the scene wants; ``None``: nobody is asked.
    Raises :class:`BadScene`: no .blend, unreadable, a file that cannot be packed, or (unless ``allow_missing``) files
    missing that the picture needs, each of them named.
    """
    blend = _existing(blend)
    # Every missing file is told once, by us.
    logging.getLogger("blender_asset_tracer").setLevel(logging.CRITICAL)
    try:
        plan, absent, remarks = _plan(blend, blender)
        missing = tuple(sorted(path for path, used in absent.items() if used))
        if missing and not allow_missing:
            raise _lacks(blend, missing)
        with tempfile.TemporaryDirectory(prefix="sheepfold-pack-") as folder:
            _write_zip(target, plan.write_blends(Path(folder)))
    except BadScene:
        raise
    # The tracer walks a foreign binary format: on a damaged file nearly anything comes out of it.
    except Exception as error:
        raise BadScene(f"{one_line(blend.name)} cannot be packed: {_reason(error)}") from error
    finally:
        blendfile.close_all_cached()
    return PackedScene(path=target, scene=plan.scene, missing=missing, warnings=_warnings(absent, remarks))


def _lacks(blend: Path, missing: tuple[str, ...]) -> BadScene:
    names = f"{one_line(blend.name)} needs files that are not there: {', '.join(missing)}"
    return BadScene(f"{names}; --allow-missing renders without them", missing)


def _existing(blend: Path) -> Path:
    # As Blender sees it: a link's own folder is where its textures are looked for.
    blend = Path(os.path.normpath(blend.absolute()))
    shown = one_line(str(blend))
    if not blend.is_file():
        raise BadScene(f"{shown} is {'a folder' if blend.is_dir() else 'not there'}; it has to be a .blend file")
    try:
        os.fsencode(blend.parent).decode()
    except UnicodeDecodeError as error:
        raise BadScene(f"{shown} cannot be packed: byte {error.object[error.start]:#x} in its folder's name is no "
                       "UTF-8; move it to another folder") from None  # fmt: skip
    return blend


def _plan(blend: Path, blender: str | None) -> tuple[ArchivePlan, dict[str, bool], list[str]]:
    """What goes into the archive; which files are not there (→ whether the picture needs them); remarks."""
    plan = ArchivePlan(blend, trace(blend))
    if blender is None:
        return plan, _absent(plan, []), [_NOT_CHECKED.format("none on PATH or in SHEEPFOLD_BLENDER")]
    try:
        wanted, packed = wanted_files(blender, plan)
        lacking = not_held(plan, wanted, packed)
        found = [reference for reference in lacking if reference.files()]
        if found:
            plan = ArchivePlan(blend, [*plan.references, *found])
            wanted, packed = wanted_files(blender, plan)
            lacking = not_held(plan, wanted, packed)
    except NoAnswerFromBlender as error:
        return plan, _absent(plan, []), [_NOT_CHECKED.format(error)]
    left = sorted({one_line(str(path)) for reference in lacking for path in reference.files()})
    if left:
        raise BadScene(f"{one_line(blend.name)} wants files that cannot be packed so that Blender finds them: "
                       f"{', '.join(left)}")  # fmt: skip
    return plan, _absent(plan, lacking), []


def _absent(plan: ArchivePlan, lacking: list[Reference]) -> dict[str, bool]:
    """Every file that is not there, once, and whether the picture needs it: Blender knows better than the file."""
    by_blender: dict[Path, bool] = {}
    for reference in lacking:
        for path in reference.absent():
            by_blender[path] = by_blender.get(path, False) or reference.used
    by_file: dict[Path, bool] = {}
    for path, reference in plan.absent():
        by_file[path] = by_file.get(path, False) or reference.used
    needed = {path for path, used in by_blender.items() if used}
    return {
        one_line(str(path)): by_blender.get(path, by_file.get(path, True)) for path in sorted(needed | set(by_file))
    }


def _warnings(absent: Mapping[str, bool], remarks: list[str]) -> tuple[str, ...]:
    meaning = {True: "missing and left out", False: "missing, but no picture needs it"}
    return (*(f"{meaning[used]}: {path}" for path, used in absent.items()), *remarks)


def _reason(error: Exception) -> str:
    """In one line, with the file where the error names it."""
    return one_line(str(error)) or type(error).__name__


def _write_zip(target: Path, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            _add(archive, name, files[name])


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if source.suffix.lower() in _STORED else zipfile.ZIP_DEFLATED
    entry.file_size = source.stat().st_size  # tells zipfile whether it needs its 64-bit form
    with source.open("rb") as reading, archive.open(entry, "w") as writing:
        shutil.copyfileobj(reading, writing, _PIECE)
