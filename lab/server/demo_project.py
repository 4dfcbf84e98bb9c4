"""The demo scene as a project of this server."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab.demo_scene import FRAMES, NAME, build_scene
from lab.server.store.projects import NewProject, Project
from lab.submit.packing import pack_scene
from lab.submit.scene.facts import read_scene
from lab.submit.scene.notes import picture_size
from sheepfold.digests import file_md5

from .services import LabServices


def create_demo(services: LabServices) -> Project:
    """The demo project, made unless there is one; raises :class:`~lab.errors.NoBlender`."""
    there = services.projects.named(NAME)
    if there is not None:
        return there
    with tempfile.TemporaryDirectory(prefix="sheepfold-demo-") as folder:
        blend = build_scene(Path(folder) / "sheep.blend")
        width, height = picture_size(read_scene(blend))
        packed = pack_scene(blend, Path(folder) / "project.zip")
        md5, size = file_md5(packed.path), packed.path.stat().st_size
        shutil.move(packed.path, services.store.archive(md5))
    return services.projects.add(
        NewProject(
            name=NAME,
            owner=services.settings.login,
            frames=FRAMES,
            archive_md5=md5,
            archive_bytes=size,
            scene_path=packed.scene,
            width=width,
            height=height,
        )
    )
