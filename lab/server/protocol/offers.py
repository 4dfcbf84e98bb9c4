"""A job offer, written so that clients of every generation find what they look for.

What a generation does not know it passes over: there is one answer and no switch. Only the number of pieces depends on
who asks (``pieces.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request

from lab.project_rules import Compute
from lab.server.chunks import whole
from lab.server.machine_test_scene import FRAME, MachineTestScene
from lab.server.store.frame_views import Granted
from sheepfold.protocol.messages import ComputeMethod, JobOffer, RendererOffer

from .endpoints import ENDPOINTS, REVISION
from .render_script import COMMAND_LINE, UPDATE_METHOD, script_for

_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def address_of_request(request: Request) -> str:
    """The root URL by which a client reached us; the socket's own where its ``Host`` is no host."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("127.0.0.1", None)
        host = f"[{name}]" if ":" in name else name
        host += f":{port}" if port else ""
    return f"{request.url.scheme}://{host}"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be rendered, of a project or to test a machine."""

    job: str
    frame: str
    archive_md5: str
    #: Path of the .blend inside the archive.
    scene_path: str
    name: str
    extras: str
    use_gpu: bool
    #: Uploaded before anything else is asked for.
    is_test: bool


def work_of_project(granted: Granted, method: ComputeMethod) -> Work:
    """With the GPU where the project wants it, or leaves the choice and the client has one to use."""
    project = granted.project
    gpu = project.compute is Compute.GPU or (project.compute is Compute.EITHER and method != ComputeMethod.CPU_ONLY)
    return Work(
        job=str(project.id),
        frame=granted.frame,
        archive_md5=project.archive_md5,
        scene_path=project.scene_path,
        name=project.name,
        extras=project.extras,
        use_gpu=gpu,
        is_test=project.test_frame,
    )


def work_of_test_frame(job: str, scene: MachineTestScene, method: ComputeMethod) -> Work:
    """A test frame: with the GPU where the client would use it."""
    return Work(
        job=job,
        frame=FRAME,
        archive_md5=scene.md5,
        scene_path=scene.scene,
        name="test frame",
        extras="",
        use_gpu=method != ComputeMethod.CPU_ONLY,
        is_test=True,
    )


def offer_of(work: Work, renderer_md5: str, address: str) -> JobOffer:
    """The offer, with its archive in one piece; ``address`` is the root URL by which the client reaches us."""
    query = urlencode({"job": work.job, "frame": work.frame, "revision": REVISION, "extras": work.extras})
    return JobOffer(
        job_id=work.job,
        frame=work.frame,
        path=work.scene_path,
        use_gpu=work.use_gpu,
        archive_md5=work.archive_md5,
        revision=REVISION,
        renderer=RendererOffer(md5=renderer_md5, command_line=COMMAND_LINE, update_method=UPDATE_METHOD),
        script=script_for(use_gpu=work.use_gpu),
        extras=work.extras,
        synchronous_upload=work.is_test,
        name=work.name,
        chunks=whole(work.archive_md5),
        password="",
        validation_url=f"{address}{ENDPOINTS.validate_job}?{query}",
    )
