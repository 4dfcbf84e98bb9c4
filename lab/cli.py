"""The lab's commands: `sheepfold server`, `sheepfold submit` and `sheepfold lab`.

Errors go to :func:`sheepfold.cli.main`, which knows their exit codes. Heavy imports wait until a command runs.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sheepfold.config import refuse_published
from sheepfold.logs import log_to_stderr
from sheepfold.serving.file_limit import raise_file_limit

log = logging.getLogger("lab")


def server(
    renderer: Annotated[
        list[str] | None, typer.Option(help="A renderer archive: linux/64bit=/path/blender.zip. Repeatable.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Create the demo project, if it is not there yet.")] = False,
    faults: Annotated[bool, typer.Option("--faults", help="Take scripted faults; for tests.")] = False,
    fault_rate: Annotated[float, typer.Option(min=0, max=1, help="This share of all answers fails.")] = 0.0,
    fault_seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 0,
    max_unvalidated: Annotated[
        int | None, typer.Option(min=1, help="Frames a session may hold without having uploaded them; default: any.")
    ] = None,
    test_frames: Annotated[
        int | None, typer.Option(min=0, max=19, help="Test frames each new session renders first; default: none.")
    ] = None,
) -> None:
    """Run a project server of the render protocol."""
    from lab.server.app import Server, build, open_listener
    from lab.server.services import LabServices

    from .errors import BadInput
    from .settings import ServerSettings, parse_renderers

    log_to_stderr()
    try:
        # Only what was given on the command line comes before environment and file.
        given = {"renderers": parse_renderers(renderer)} if renderer else {}
        given |= {"faults": True} if faults else {}
        given |= {"fault_rate": fault_rate, "fault_seed": fault_seed} if fault_rate else {}
        numbers = {"max_unvalidated": max_unvalidated, "test_frames": test_frames}
        given |= {name: number for name, number in numbers.items() if number is not None}
        settings = ServerSettings(**given)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except ValueError as error:
        if type(error) is ValueError:  # not pydantic's, which names the variable itself
            raise BadInput(f"--renderer {error}") from None
        raise
    for caution in settings.cautions():
        log.warning("%s", caution)
    refuse_published(settings.server_host, {"SHEEPFOLD_PASSWORD": settings.password})
    raise_file_limit()
    listener = open_listener(settings.server_host, settings.server_port)
    services = LabServices(settings)
    if demo:
        from lab.server.demo_project import create_demo

        create_demo(services)
    running = Server(build(services), on_start=lambda url: log.info("the lab server is at %s", url))
    running.run(sockets=[listener])


def submit(
    scene: Annotated[Path, typer.Argument(help="A .blend file; textures and libraries are packed with it.")],
    frames: Annotated[str, typer.Option(help="For example 1-100,120 or 1-100x5; default: the scene's own.")] = "",
    name: Annotated[str, typer.Option(help="What people call the project; default: the file's name.")] = "",
    url: Annotated[str, typer.Option(help="Root of the server; default: SHEEPFOLD_SERVER_URL.")] = "",
    compute: Annotated[str, typer.Option(help="cpu, gpu or either.")] = "cpu",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Submit even if files are missing.")] = False,
) -> None:
    """Pack a scene and give it to a lab server."""
    from lab.archive_names import project_name
    from lab.submit.client import LabClient
    from lab.submit.dependencies.blender_files import installed_blender
    from lab.submit.packing import pack_scene
    from lab.submit.prepared_scene import prepare_scene

    from .settings import AccountSettings

    settings = AccountSettings(**({"server_url": url} if url else {}))  # pyright: ignore[reportArgumentType, reportCallIssue]
    prepared = prepare_scene(scene, frames, compute)
    for note in prepared.notes:
        print(f"warning: {note}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="sheepfold-submit-") as folder:
        archive = Path(folder) / "project.zip"
        packed = pack_scene(scene, archive, allow_missing=allow_missing, blender=installed_blender())
        for warning in packed.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        fields = prepared.fields(name or project_name(scene.stem), packed.scene, packed.warnings)
        taken = LabClient(settings.server_url, settings.login, settings.secret()).submit(packed.path, fields)
    range_text = f" ({prepared.frames}, the scene's own)" if prepared.frames_are_its_own else ""
    print(f"project {taken.id} {taken.name!r}: {taken.frames} frames{range_text}, {settings.server_url}")


def lab(
    blend: Annotated[Path | None, typer.Option(help="A scene of one's own; default: the demo scene.")] = None,
    frames: Annotated[str, typer.Option(help="For example 1-24; default: the scene's own.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up until Ctrl+C.")] = False,
    folder: Annotated[Path, typer.Option("--dir", help="Each run gets a new folder in here.")] = Path("lab-run"),
    stall_s: Annotated[int, typer.Option(min=10, help="Give up when no frame gets on for so many seconds.")] = 300,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Render even if files are missing.")] = False,
) -> None:
    """Run server, coordinator and workers on this computer and render a scene through all of them."""
    from lab.demo_run.run import LabRun, run_lab

    log_to_stderr(logging.WARNING)
    run = LabRun(
        blend=blend,
        frames=frames,
        workers=workers,
        keep=keep,
        folder=folder,
        stall_s=stall_s,
        allow_missing=allow_missing,
    )
    raise typer.Exit(run_lab(run))
