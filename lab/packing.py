"""A .blend with everything it needs, as one zip: traced and packed with blender-asset-tracer.

The same scene gives the same bytes every time (sorted names, fixed time stamps), so that its MD5 says whether it
changed, and nobody fetches it twice.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blender_asset_tracer import blendfile
from blender_asset_tracer.pack import Packer, transfer

from .errors import BadScene

#: Compressed already.
_STORED = {".jpg", ".jpeg", ".png", ".exr", ".webp", ".mp4", ".mov", ".mkv", ".zip", ".gz", ".vdb"}
#: Notes of the packer; they would change with every path.
_LEFT_OUT = {"pack-info.txt"}
_PIECE = 1024 * 1024
# Of Blender's DNA_scene_types.h: what makes a picture another size than the scene says.
_R_BORDER, _R_CROP, _R_MULTIVIEW = 1 << 9, 1 << 12, 1 << 25


@dataclass(frozen=True, kw_only=True)
class PackedScene:
    """A scene ready to be submitted."""

    path: Path
    #: Path of the .blend inside the zip.
    scene: str
    #: Files the scene asks for that are not there; left out.
    missing: tuple[str, ...]
    #: Pixels of a render, where the file says so plainly.
    size: tuple[int, int] | None


def pack_scene(blend: Path, target: Path, *, allow_missing: bool = False) -> PackedScene:
    """Pack ``blend`` and all its textures, libraries, caches and fonts into the zip ``target``.

    Raises :class:`BadScene`: no .blend, unreadable, or (unless ``allow_missing``) files missing, each of them named.
    """
    blend = blend.resolve()
    if blend.suffix != ".blend" or not blend.is_file():
        raise BadScene(f"{blend} is no .blend file")
    # Every missing file is told once, by us.
    logging.getLogger("blender_asset_tracer").setLevel(logging.CRITICAL)
    try:
        with _ZipPacker(blend, blend.parent, str(target)) as packer:
            packer.strategise()
            missing = tuple(sorted(str(path) for path in packer.missing_files))
            if missing and not allow_missing:
                raise BadScene(f"{blend.name} needs files that are not there: {', '.join(missing)}", missing)
            packer.execute()
            scene = packer.output_path.relative_to(target.absolute()).as_posix()
        return PackedScene(path=target, scene=scene, missing=missing, size=_size_of(blend))
    except BadScene:
        raise
    # The tracer walks a foreign binary format: on a damaged file nearly anything comes out of it.
    except Exception as error:
        raise BadScene(f"{blend.name} cannot be packed: {error or type(error).__name__}") from error
    finally:
        blendfile.close_all_cached()


class _ZipPacker(Packer):
    def _create_file_transferer(self) -> transfer.FileTransferer:
        return _ZipWriter(Path(str(self._target_path)))


class _ZipWriter(transfer.FileTransferer):
    """Collects what is to be packed, and writes it in the order of its names."""

    def __init__(self, target: Path) -> None:
        super().__init__()
        self._target = target

    def run(self) -> None:
        files = {target: (source, action) for source, target, action in self.iter_queue()}
        try:
            with zipfile.ZipFile(self._target, "w") as archive:
                for target in sorted(files):
                    name = target.relative_to(self._target).as_posix()
                    if name not in _LEFT_OUT:
                        _add(archive, name, files[target][0])
        except (OSError, ValueError) as error:
            self.error_set(str(error))


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if source.suffix.lower() in _STORED else zipfile.ZIP_DEFLATED
    entry.file_size = source.stat().st_size  # tells zipfile whether it needs its 64-bit form
    with source.open("rb") as reading, archive.open(entry, "w") as writing:
        shutil.copyfileobj(reading, writing, _PIECE)


def _size_of(blend: Path) -> tuple[int, int] | None:
    """The size of a render of the active scene; ``None`` where border, crop or stereo change it, or nothing is sure."""
    try:
        file: Any = blendfile.open_cached(blend)
        globals_ = next(iter(file.find_blocks_from_code(b"GLOB")))
        scene = globals_.get_pointer(b"curscene")
        flags, more_flags = scene.get((b"r", b"mode")), scene.get((b"r", b"scemode"))
        width, height, percent = (scene.get((b"r", name)) for name in (b"xsch", b"ysch", b"size"))
    except Exception:  # a figure that is nice to have, from a foreign binary format
        return None
    if (flags & _R_BORDER and flags & _R_CROP) or more_flags & _R_MULTIVIEW or not 0 < percent <= 1000:
        return None
    return width * percent // 100, height * percent // 100
