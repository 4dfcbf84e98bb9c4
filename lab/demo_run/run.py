"""`sheepfold lab`: server, coordinator and workers on this computer, and one scene rendered through all of them."""

from __future__ import annotations

import functools
import os
import secrets
import shlex
import signal
import socket
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import requests

from lab.archive_names import project_name
from lab.demo_scene import FRAMES as DEMO_FRAMES
from lab.demo_scene import NAME as DEMO
from lab.errors import BadInput, RunFailed, ServerRefused
from lab.frame_range import parse_frames
from lab.submit.client import LabClient
from lab.submit.dependencies.blender_files import local_blender, version_of
from lab.submit.packing import pack_scene
from lab.submit.prepared_scene import PreparedScene, prepare_scene
from lab.submit.scene.notes import note_on_version

from .farm_environment import LOGIN, FarmEnvironment
from .farm_watch import FarmWatch, coordinator_status
from .frame_display import FrameDisplay, say
from .processes import Processes
from .run_result import explained, tell_result

POLL_S = 0.5
#: Blender builds the demo scene before the server answers.
SERVER_LIMIT_S = 240
COORDINATOR_LIMIT_S = 60


@dataclass(frozen=True, kw_only=True)
class LabRun:
    """The options of ``sheepfold lab``, as somebody typed them."""

    #: ``None``: the demo scene.
    blend: Path | None
    #: Empty: the scene's own.
    frames: str
    workers: int
    keep: bool
    #: Each run makes a new folder in here.
    folder: Path
    #: Seconds without a changed frame or a renderer's progress, after which the run has failed.
    stall_s: float
    #: Files that the picture needs may be missing.
    allow_missing: bool = False


class SignalReceived(BaseException):
    """SIGTERM or Ctrl+C. Not an ``Exception``: nothing that catches errors on the way may swallow it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def run_lab(run: LabRun) -> int:
    """Render, show, and leave nothing running; the answer is the exit code.

    Raises :class:`RunFailed` when a frame is missing, a process died or nothing happens any more, and what
    ``pack_scene`` and ``local_blender`` raise.
    """
    if run.blend is None and run.frames and parse_frames(run.frames) != tuple(DEMO_FRAMES):
        raise BadInput("--frames goes with --blend; the demo scene has frames 1-12")
    scene = _looked_at(run) if run.blend else None
    farm = _new_farm(run)
    processes = Processes(farm.folder, (farm.password, farm.farm_token))
    done = False
    try:
        with _raising_on_signals():
            client = LabClient(farm.server_url, LOGIN, farm.password)
            project_id = _start(run, scene, farm, processes, client)
            _follow(client, project_id, processes, _watch(run, farm))
            tell_result(client, client.project(project_id))
            done = True
            if run.keep:
                _keep(farm, processes)
    except SignalReceived as received:
        return 0 if done else 128 + received.number
    finally:
        # A second Ctrl+C must not leave anything behind; this takes ten seconds at most.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        processes.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0


def _new_farm(run: LabRun) -> FarmEnvironment:
    blender = local_blender()
    folder = run.folder.resolve() / datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    folder.mkdir(parents=True, mode=0o700)
    ports = _free_ports(2)
    return FarmEnvironment(
        folder=folder,
        server_url=f"http://127.0.0.1:{ports[0]}",
        coordinator_url=f"http://127.0.0.1:{ports[1]}",
        password=secrets.token_urlsafe(18),
        farm_token=secrets.token_urlsafe(24),
        blender=blender,
    )


def _start(
    run: LabRun, scene: PreparedScene | None, farm: FarmEnvironment, processes: Processes, client: LabClient
) -> int:
    """Bring everything up; the answer is the number of the project to follow."""
    say(f"logs and state: {farm.folder}")
    processes.start("server", ["server"] if run.blend else ["server", "--demo"], farm.server())
    processes.wait_for("the lab server", lambda: _is_healthy(farm.server_url), limit_s=SERVER_LIMIT_S)
    processes.start("coordinator", ["coordinator"], farm.coordinator())
    processes.wait_for("the coordinator", lambda: _listens(farm.coordinator_url), limit_s=COORDINATOR_LIMIT_S)
    # Workers that share a PC share its cores.
    cores = max(1, (os.cpu_count() or 1) // run.workers) if run.workers > 1 else None
    for number in range(1, run.workers + 1):
        name = f"worker-{number:02d}"
        processes.start(name, ["worker"], farm.worker(name, cores))
    say(f"lab server {farm.server_url}   coordinator {farm.coordinator_url}   workers {run.workers}")
    if scene is not None:
        return _submit(scene, run, farm, client)
    return next(int(project["id"]) for project in client.projects() if project["name"] == DEMO)


def _looked_at(run: LabRun) -> PreparedScene:
    """The scene, with everything about it that a person should know said; nothing has been started yet."""
    assert run.blend is not None
    scene = prepare_scene(run.blend, run.frames)
    if older := note_on_version(scene.facts, version_of(local_blender())):
        scene = replace(scene, notes=(older, *scene.notes))
    say(f"scene {scene.facts.name!r}, frames {scene.frames}{' (its own)' if scene.frames_are_its_own else ''}")
    for note in scene.notes:
        say(f"warning: {note}")
    return scene


def _submit(scene: PreparedScene, run: LabRun, farm: FarmEnvironment, client: LabClient) -> int:
    with tempfile.TemporaryDirectory(prefix="sheepfold-lab-") as folder:
        archive = Path(folder) / "project.zip"
        packed = pack_scene(scene.blend, archive, allow_missing=run.allow_missing, blender=farm.blender)
        for warning in packed.warnings:
            say(f"warning: {warning}")
        fields = scene.fields(project_name(scene.blend.stem), packed.scene, packed.warnings)
        return client.submit(packed.path, fields).id


def _watch(run: LabRun, farm: FarmEnvironment) -> FarmWatch:
    read = functools.partial(coordinator_status, farm.coordinator_url, farm.viewer_password_file)
    return FarmWatch(read, say, workers=run.workers, stall_s=run.stall_s)


def _follow(client: LabClient, project_id: int, processes: Processes, watch: FarmWatch) -> None:
    """Show the frames until the project is done. Raises :class:`RunFailed` when it cannot get there any more."""
    project: dict[str, Any] | None = None
    with FrameDisplay() as display:
        while True:
            processes.check()
            project = _asked(client, project_id) or project
            if project is not None:
                display.show(project)
                if project["state"] != "active":
                    return
            watch.look(project)
            if verdict := watch.verdict():
                raise RunFailed("\n".join([f"{verdict}:", *explained(client, project, watch.lines())]))
            time.sleep(POLL_S)


def _asked(client: LabClient, project_id: int) -> dict[str, Any] | None:
    try:
        return client.project(project_id)
    except ServerRefused as error:
        if error.http_status:
            raise
        return None  # it does not answer right now; if it died, the check of the processes says so


def _keep(farm: FarmEnvironment, processes: Processes) -> NoReturn:
    path = farm.folder / "lab.env"
    path.touch(mode=0o600)
    known = farm.account() | farm.operator()
    path.write_text("".join(f"export {key}={shlex.quote(value)}\n" for key, value in known.items()))
    say(f"lab server:  {farm.server_url}")
    say(f"coordinator: {farm.coordinator_url} (viewer, password in {farm.viewer_password_file})")
    say(f"its status:  . {shlex.quote(str(path))} && sheepfold status")
    say(f"more frames: . {shlex.quote(str(path))} && sheepfold submit my.blend --frames 1-24 --name shot7")
    say("Ctrl+C stops everything.")
    while True:
        processes.check()
        time.sleep(POLL_S)


@contextmanager
def _raising_on_signals() -> Generator[None]:
    def raise_signal(number: int, _frame: object) -> NoReturn:
        raise SignalReceived(number)

    former = {number: signal.signal(number, raise_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _is_healthy(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=2, proxies={"http": ""}).ok
    except requests.RequestException:
        return False


def _listens(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in taken]
    for listener in taken:
        listener.close()
    return ports
