"""A project arrives at the server: the form is read, the zip checked, and both become a project."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from lab.archive_names import first_unprintable
from lab.errors import BadInput
from lab.frame_range import parse_frames
from lab.project_rules import MAX_NOTE, MAX_NOTES, Compute
from lab.server.api.project_zip import trouble_with
from lab.server.forms import read_form
from lab.server.services import LabServices
from lab.server.store.projects import NewProject, Project
from sheepfold.atomic_files import rename_durably
from sheepfold.digests import file_md5

MAX_NAME = 100
MAX_SIDE = 65_536


async def receive_project(request: Request, services: LabServices) -> Project:
    """The project of a multipart request; raises :class:`BadInput` with a line for a person."""
    path = services.store.incoming()
    try:
        form = await read_form(request, to=path, limit=services.settings.max_project_bytes)
        if form.file is None:
            raise BadInput("the form holds no project archive (a file part called archive)")
        scene = form.fields.get("scene", "")
        name, frames = _name(form.fields), parse_frames(form.fields.get("frames", ""))
        compute, width, height = _compute(form.fields), _side(form.fields, "width"), _side(form.fields, "height")
        notes = _notes(form.fields)
        _check_scene(scene)
        await services.threads.run_in_image_thread(services.untrusted.check_project_zip, path, scene)
        md5 = await services.threads.run_in_image_thread(file_md5, path)
        size = path.stat().st_size
        await services.threads.run_in_image_thread(rename_durably, path, services.store.archive(md5))
    finally:
        path.unlink(missing_ok=True)
    new = NewProject(
        name=name,
        owner=services.settings.login,
        frames=frames,
        archive_md5=md5,
        archive_bytes=size,
        scene_path=scene,
        compute=compute,
        width=width,
        height=height,
        test_frame=form.fields.get("test_frame") == "1",
        notes=notes,
    )
    # Before the first client asks: reading a large archive takes seconds.
    await services.chunks.of(md5, size)
    return await services.threads.run_in_db_thread(services.projects.add, new)


def _name(fields: Mapping[str, str]) -> str:
    name = fields.get("name", "").strip()
    if not 0 < len(name) <= MAX_NAME:
        raise BadInput(f"name is 1 to {MAX_NAME} characters; this one has {len(name)}")
    character = first_unprintable(name)
    if character:
        raise BadInput(f"name {name!r} holds {character}; it is 1 to {MAX_NAME} printable characters")
    return name


def _check_scene(path: str) -> None:
    trouble = trouble_with(path)
    if not trouble and not path.lower().endswith(".blend"):
        trouble = "does not end with .blend"
    if trouble:
        raise BadInput(f"scene is the path of a .blend inside the archive; {path[:100]!r} {trouble}")


def _compute(fields: Mapping[str, str]) -> Compute:
    try:
        return Compute(fields.get("compute") or "cpu")
    except ValueError:
        raise BadInput("compute is cpu, gpu or either") from None


def _notes(fields: Mapping[str, str]) -> str:
    notes = [line.strip() for line in fields.get("notes", "").splitlines() if line.strip()]
    if len(notes) > MAX_NOTES or not all(len(line) <= MAX_NOTE and line.isprintable() for line in notes):
        raise BadInput(f"notes are at most {MAX_NOTES} printable lines of {MAX_NOTE} characters")
    return "\n".join(notes)


def _side(fields: Mapping[str, str], which: str) -> int | None:
    text = fields.get(which, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) <= MAX_SIDE):
        raise BadInput(f"{which} is a number of pixels")
    return int(text)
