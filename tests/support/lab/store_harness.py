"""A lab server's parts without HTTP, on a clock that only moves when told."""

from __future__ import annotations

from pathlib import Path

from lab.server.store.database import Store
from lab.server.store.frames import Frames
from lab.server.store.projects import NewProject, Project, Projects
from lab.server.store.web_sessions import Sessions, WebSession
from sheepfold.pictures import Picture
from sheepfold.protocol.messages import FrameUpload
from sheepfold.protocol.session_messages import Hardware

LEASE_S = 100.0
HARDWARE = Hardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="Test CPU", cpu_cores=4, ram=2**33
)


class StoreHarness:
    """Store, sessions, projects and frames of one server."""

    def __init__(self, folder: Path, *, max_unvalidated: int | None = None, now: float = 1_000_000.0) -> None:
        self.now = now
        self.store = Store(folder)
        self.sessions = Sessions(self.store, idle_s=1000, max_broken=3, clock=self.clock)
        self.projects = Projects(self.store, clock=self.clock)
        self.frames = Frames(
            self.store,
            self.projects,
            lease_s=LEASE_S,
            max_errors=3,
            max_unvalidated=max_unvalidated,
            seen_at=self.sessions.seen_at,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def session(self, login: str = "farm") -> WebSession:
        found = self.sessions.find(self.sessions.open(login, "1.0", HARDWARE))
        assert found is not None
        return found

    def project(self, frames: range | tuple[int, ...] = range(1, 4), **more: object) -> Project:
        values = {
            "name": "shot", "owner": "farm", "frames": tuple(frames), "archive_md5": "0" * 32, "archive_bytes": 1,
            "scene_path": "a.blend", **more,
        }  # fmt: skip
        return self.projects.add(NewProject(**values))  # type: ignore[arg-type]

    def upload(
        self,
        session: WebSession,
        job: int,
        frame: str,
        *,
        empty: bool = False,
        width: int = 8,
        confirmed: bool = False,
    ) -> object:
        path = self.store.incoming()
        path.write_bytes(b"picture")
        picture = Picture(
            width=width, height=8, channels=3, suffix="png", is_black=empty, is_transparent=False, is_empty=empty
        )
        upload = FrameUpload(job=str(job), frame=frame, render_time_s=3, revision="0", is_confirmed=confirmed)
        return self.frames.take(session, upload, picture, path)
