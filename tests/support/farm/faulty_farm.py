"""A running farm to break: faults at its server, processes that are killed, frames that do what a test tells them.

What it knows comes from both ends: the coordinator's ledger file (read only) and the server's own accounting.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
import requests

from tests.support.farm.render_processes import marked_processes
from tests.support.farm.running_farm import RunningFarm, wait_for
from tests.support.farm.scripted_renderer import (
    SCENE,
    Maker,
    Start,
    maker_of,
    pack_renderer,
    pack_scene,
    scene_text,
    starts_in,
)

#: The PCs of most farms here.
TWO_PCS = ("pc-01", "pc-02")
#: Bad moments are short, so that tests are.
QUICK = {
    # The scripted renderer writes its journal outside of its folder.
    "SHEEPFOLD_SANDBOX": "off",
    "SHEEPFOLD_RETRY_WAIT_S": "0.1",
    "SHEEPFOLD_NO_JOB_WAIT_S": "0.05",
    "SHEEPFOLD_HEARTBEAT_S": "0.5",
    "SHEEPFOLD_MAX_PERIOD_S": "12",
    "SHEEPFOLD_LEASE_GRACE_S": "0",
    "SHEEPFOLD_MAX_FRAME_ERRORS": "1",
    "SHEEPFOLD_MAX_BROKEN_FRAMES": "100",
}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project at the server."""

    id: int
    name: str
    #: Where its scene's journal and gates are.
    folder: Path

    def starts(self, frame: int | None = None) -> list[Start]:
        """Every render of it that began, or those of one frame."""
        return [start for start in starts_in(self.folder) if frame in (None, start.frame)]

    def open(self, frame: int | None = None) -> None:
        """Lets renders that wait at the gate go on."""
        (self.folder / ("open" if frame is None else f"open.{frame}")).touch()


class FaultyFarm(RunningFarm):
    """One farm; :meth:`begin` starts server, coordinator and PCs."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(folder, environment=QUICK | dict(environment or {}), **options)
        self._projects = 0
        self._web = requests.Session()
        self._web.trust_env = False
        self._web.auth = (self.login, self.password)

    def begin(self, *pcs: str, server: tuple[str, ...] = ()) -> None:
        """Server, coordinator and these PCs, all there."""
        renderer = pack_renderer(self.folder / "renderer.zip")
        self.start_server("--faults", "--renderer", f"linux/64bit={renderer}", *server)
        self.start_coordinator()
        for pc in pcs:
            self.start_worker(pc)
        self.wait_until_here(*pcs)

    # The server's side

    def submit(
        self,
        frames: str,
        *,
        seconds: float = 0,
        acts: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Project:
        """A new project whose frames do what ``acts`` says (:func:`scripted_renderer.scene_text`)."""
        self._projects += 1
        name = fields.pop("name", f"p{self._projects:03d}")
        scene_folder = self.folder / "scenes" / name
        scene_folder.mkdir(parents=True)
        archive = pack_scene(scene_text(scene_folder, seconds=seconds, acts=acts))
        taken = self.api(
            "POST",
            "/api/projects",
            files={"archive": ("project.zip", archive, "application/zip")},
            data={"name": name, "frames": frames, "scene": SCENE, **fields},
        )
        return Project(id=taken["id"], name=name, folder=scene_folder)

    def api(self, method: str, path: str, **more: Any) -> Any:
        """One call of the server's JSON side, as its owner."""
        answer = self._web.request(method, self.server_url + path, timeout=30, **more)
        answer.raise_for_status()
        return answer.json()

    def fault(self, exchange: str, action: str, count: int = 1) -> None:
        """What the next requests of an exchange get (lab/server/fault_injection.py)."""
        self.api("POST", "/api/faults", json={"exchange": exchange, "action": action, "count": count})

    def accounting(self) -> dict[str, Any]:
        """What the server counted."""
        return self.api("GET", "/api/accounting")

    def at_server(self, project: Project, frame: int | None = None) -> Any:
        """The project as the server sees it, or one frame of it."""
        shown = self.api("GET", f"/api/projects/{project.id}")
        return shown if frame is None else next(row for row in shown["list"] if int(row["frame"]) == frame)

    def error_log(self, project: Project, frame: int) -> str:
        """The last error report of a frame; empty where there is none."""
        answer = self._web.get(f"{self.server_url}/api/projects/{project.id}/frames/{frame:04d}/log", timeout=30)
        return answer.text if answer.ok else ""

    def picture(self, project: Project, frame: int) -> Path:
        """Where the server keeps the accepted picture."""
        return self.folder / "server" / "projects" / f"{project.id}-{project.name}" / "frames" / f"{frame:04d}.png"

    def maker(self, project: Project, frame: int) -> Maker | None:
        """Which render made the picture that the server keeps."""
        return maker_of(self.picture(project, frame))

    def wait_until_accepted(self, project: Project, frames: int, within_s: float = 20) -> None:
        """The server has that many pictures of it."""
        wait_for(
            f"{frames} frames of {project.name} are accepted",
            lambda: self.at_server(project)["accepted"] == frames,
            within_s,
        )

    # The coordinator's side

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """A query to the ledger file, read only."""
        path = self.folder / "coordinator" / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute(query, values)]

    def leases(self, project: Project, frame: int | None = None) -> list[dict[str, Any]]:
        """The project's leases, oldest first, or those of one frame."""
        rows = self.rows("SELECT * FROM leases WHERE job_id = ? ORDER BY granted_at", str(project.id))
        return [row for row in rows if frame in (None, int(row["frame"]))]

    def node(self, pc: str) -> dict[str, Any]:
        """A PC as the status shows it; empty while it is not there."""
        return next((node for node in self.status()["nodes"] if node["name"] == pc), {})

    def wait_until_here(self, *pcs: str) -> None:
        """The coordinator sees these PCs."""
        wait_for(f"{', '.join(pcs)} are here", lambda: all(self.node(pc) for pc in pcs), 30)

    def wait_until_started(self, project: Project, frame: int, times: int = 1, within_s: float = 20) -> Start:
        """The renderer began with a frame for the n-th time; that start."""

        def begun() -> bool:
            return len(project.starts(frame)) >= times

        wait_for(f"frame {frame} of {project.name} is being rendered ({times})", begun, within_s)
        return project.starts(frame)[times - 1]

    def wait_until_any_started(self, project: Project) -> Start:
        """Some frame of it is being rendered; the first start."""
        wait_for(f"a frame of {project.name} is being rendered", project.starts, 20)
        return project.starts()[0]

    def log_text(self, name: str) -> str:
        """What a process wrote so far."""
        return self.log_of(name).read_text(errors="replace")

    def redis(self) -> redis.Redis:
        """The farm's Redis."""
        return redis.Redis.from_url(self.redis_url())

    def active(self) -> int:
        """Leases that have not come to their end."""
        counts = self.status()["leases"]
        return sum(counts.get(state, 0) for state in ("granted", "ordered", "rendering", "delivered"))

    def kept_pictures(self, pc: str) -> int:
        """Pictures that a PC keeps until the coordinator has them."""
        return len(list((self.folder / pc / "outbox").glob("*/delivery.json")))

    def calm_down(self, *pcs: str) -> None:
        """Back to a farm where all is well and nothing is to do, whatever a test left behind."""
        self.api("DELETE", "/api/faults")
        projects = self.api("GET", "/api/projects")["projects"]
        over = [project["id"] for project in projects if project["state"] in ("active", "paused")]
        for project in over:
            self.api("POST", f"/api/projects/{project}/cancel")
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                del self.processes[name]
        if "coordinator" not in self.processes:
            self.start_coordinator()
        for pc in pcs:
            if pc not in self.processes:
                self.start_worker(pc)
        self.wait_until_here(*pcs)
        troubled = [node["name"] for node in self.status()["nodes"] if node["trouble"]]
        for pc in {*self.status()["quarantined"], *troubled}:
            self.post(f"/api/nodes/{pc}/release")
        for project in over:
            self.run("cancel", str(project))
        wait_for("no lease is left", lambda: self.active() == 0, 10)

    def post(self, path: str) -> Any:
        """One call of the coordinator's operator side."""
        headers = {"authorization": f"Bearer {self.password_of('operator')}"}
        answer = requests.post(self.coordinator_url + path, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    # Breaking it

    def kill(self, name: str) -> float:
        """kill -9; the time of it (monotonic)."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return time.monotonic()

    def kill_redis(self) -> float:
        """kill -9 of the coordinator's own Redis."""
        record = self.folder / "coordinator" / "redis" / "redis.json"
        server = psutil.Process(json.loads(record.read_text())["pid"])
        server.kill()
        with contextlib.suppress(psutil.TimeoutExpired):
            server.wait(1)  # it may be a zombie until its parent looks
        return time.monotonic()

    def answers(self) -> bool:
        """Whether the coordinator answers now."""
        try:
            return requests.get(self.coordinator_url + "/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def run_until_ready(self, name: str, **environment: str) -> float | None:
        """Starts a coordinator; when it answers (monotonic), or ``None`` if it ended before it did."""
        process = self.start(name, "coordinator", **environment)
        while process.poll() is None:
            if self.answers():
                return time.monotonic()
            time.sleep(0.05)
        del self.processes[name]
        return None

    def renderers_of(self, pc: str) -> list[int]:
        """Processes of renders on that PC of this farm, however far they got away from it."""
        scratch = f"{self.folder.resolve() / pc}/scratch/"
        return [pid for pid, environment in marked_processes() if scratch in environment]

    @contextlib.contextmanager
    def frozen(self, pc: str) -> Iterator[None]:
        """The worker process stands still inside the block; its renderer does not."""
        pid = self.processes[pc].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
