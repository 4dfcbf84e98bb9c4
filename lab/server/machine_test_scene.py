"""The archive that every test frame renders: the demo scene, built by Blender the first time it is wanted."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.demo_scene import build_scene
from lab.server.store.database import Store
from lab.submit.packing import pack_scene
from sheepfold.atomic_files import rename_durably
from sheepfold.digests import file_md5

FRAME = "0001"
_SCENE = "sheep.blend"


@dataclass(frozen=True, kw_only=True)
class MachineTestScene:
    """Kept in the server's folder: all test frames are of the same bytes."""

    path: Path
    md5: str
    #: Path of the .blend inside it.
    scene: str


def prepare_machine_test(store: Store) -> MachineTestScene:
    """The scene of test frames; raises :class:`~lab.errors.NoBlender` where it has to be built and cannot."""
    path = store.folder / "test-frame.zip"
    if not path.is_file():
        with tempfile.TemporaryDirectory(prefix="sheepfold-test-frame-") as folder:
            packed = pack_scene(build_scene(Path(folder) / _SCENE), Path(folder) / "scene.zip")
            arriving = store.incoming()
            shutil.move(packed.path, arriving)
            rename_durably(arriving, path)
    return MachineTestScene(path=path, md5=file_md5(path), scene=_SCENE)
