"""Frames and the leases on them: who renders what, and until when.

A frame's life::

    WAITING ──grant──▶ LEASED ──picture taken──▶ ACCEPTED
       ▲                 │
       ├──no sign of life┤   (:mod:`lab.server.store.lease_expiry`), or logged out, or its project rests
       ├──refused────────┤   no picture, wrong size, black where others are not (:mod:`lab.server.store.refusals`)
       └──error report───┴──too many, or the scene's fault──▶ FAILED ──retry──▶ WAITING

A lease belongs to the *account*: a new session of the same account goes on beating, and its beat makes the lease the
new session's. Whoever was ever granted a frame may bring it as long as it is not ACCEPTED, however late. A frame that
is here already is answered 0 and thrown away: the protocol has no idempotency key, so a client whose answer was lost
sends it again.

A report that says the failure is the scene's (:mod:`sheepfold.protocol.error_log`) gives its frame up at once. Where
:data:`HOPELESS_AFTER` frames of a project were given up like that and none was ever accepted, so are all the others:
nobody renders a film without a camera frame by frame.

A server that was down took no heartbeats, and its machine's clock may have been set meanwhile: when it starts, every
lease lives as long as if it had just been beaten for.

Every method is one transaction. Only the server's database thread calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from lab.errors import UnknownProject
from lab.frame_range import frame_number, frame_text
from sheepfold.atomic_files import rename_durably
from sheepfold.pictures import Picture
from sheepfold.protocol.error_log import is_scenes_fault, reason_in, write_error_log
from sheepfold.protocol.messages import ComputeMethod, FrameUpload
from sheepfold.protocol.status import BeatStatus, JobStatus

from . import frame_queries as sql
from . import refusals
from .database import Store
from .frame_views import FrameState, FrameViews, Granted, Verdict, Wanted
from .lease_expiry import LeaseExpiry
from .projects import Project, Projects, ProjectState
from .web_sessions import WebSession

#: Frames that fail through the scene before the others of their project are given up with them.
HOPELESS_AFTER = 3
#: Of an error report, the end is kept.
MAX_LOG_BYTES = 256 * 1024


class Frames:
    """All frames of all projects. What only looks at them is in :attr:`views`."""

    def __init__(
        self,
        store: Store,
        projects: Projects,
        *,
        lease_s: float,
        max_errors: int,
        max_unvalidated: int | None,
        seen_at: Callable[[str], float],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._projects = projects
        self._lease_s = lease_s
        self._expiry = LeaseExpiry(lease_s=lease_s, seen_at=seen_at)
        self._max_errors = max_errors
        self._max_unvalidated = max_unvalidated
        self._clock = clock
        self.views = FrameViews(store)
        with store.transaction() as db:
            db.execute(sql.BEGIN_ANEW, {"until": clock() + lease_s})

    def grant(self, session: WebSession, method: ComputeMethod) -> Granted | JobStatus:
        """The next frame for this session: oldest project first, frames ascending."""
        now = self._clock()
        with self._store.transaction() as db:
            self._expire(db, now)
            if self._max_unvalidated is not None:
                held = db.execute(sql.HELD_BY_SESSION, {"session": session.id}).scalar_one()
                if held >= self._max_unvalidated:
                    return JobStatus.NO_JOB
            row = db.execute(sql.NEXT, sql.METHODS[method]).first()
            if row is None:
                return JobStatus.NO_JOB
            key = {"project": row.project_id, "frame": row.number}
            lease = {"who": session.login, "session": session.id, "now": now, "until": now + self._lease_s}
            db.execute(sql.LEASE, key | lease)
            db.execute(sql.NOTE_GRANT, {"project_id": row.project_id, "number": row.number, "login": session.login})
        self._projects.touch(row.project_id)
        return Granted(project=self._projects.get(row.project_id), frame=frame_text(row.number))

    def beat(self, session: WebSession, job: str, frame: str) -> BeatStatus:
        """Extend a lease, or say that it is over."""
        now = self._clock()
        found = self._find(job, frame)
        if found is None or found[0].state is not ProjectState.ACTIVE:
            return BeatStatus.STOP
        with self._store.transaction() as db:
            self._expire(db, now)
            lease = {"who": session.login, "session": session.id, "until": now + self._lease_s}
            extended = db.execute(sql.EXTEND, {"project": found[0].id, "frame": found[1], **lease})
        return BeatStatus.OK if extended.rowcount else BeatStatus.STOP

    def beat_all(self, session: WebSession) -> None:
        """Extend every lease of a session: its client is alive and names no frame."""
        now = self._clock()
        with self._store.transaction() as db:
            self._expire(db, now)
            db.execute(sql.EXTEND_ALL, {"session": session.id, "until": now + self._lease_s})

    def take_over(self, former: WebSession, session: WebSession) -> None:
        """The client of an account signed in once more: what its former session holds is the new one's."""
        with self._store.transaction() as db:
            db.execute(sql.TAKE_OVER, {"former": former.id, "session": session.id})

    def wanted(self, session: WebSession, job: str, frame: str) -> Wanted:
        """Whether an upload of this frame is of any use; counts the ones that come again."""
        found = self._find(job, frame)
        if found is None:
            return Wanted.UNKNOWN
        with self._store.transaction() as db:
            row = self._row(db, found)
            if row is None or not self._was_granted(db, found, session.login):
                return Wanted.UNKNOWN
            if row.state != FrameState.ACCEPTED:
                return Wanted.TAKE
            db.execute(sql.COUNT_AGAIN, {"project": found[0].id, "frame": found[1]})
            return Wanted.HAVE

    def take(self, session: WebSession, upload: FrameUpload, picture: Picture, path: Path) -> Verdict:
        """Compare a picture with its project, and keep or refuse it. ``path`` is moved to its place, if kept.

        Raises ``OSError`` where it cannot be stored; then nothing has changed.
        """
        project, number = self._must_find(upload.job, upload.frame)
        with self._store.transaction() as db:
            row = self._row(db, (project, number))
            if row is None or row.state == FrameState.ACCEPTED:
                return Verdict.ACCEPTED
            broken = refusals.is_misshapen(picture, project.width, project.height)
            if not broken and picture.is_empty and not upload.is_confirmed:
                broken = refusals.is_odd(db, project.id, number)
                if broken:
                    refusals.note_refusal(db, project.id, number, session.id)
            if broken:
                db.execute(sql.COUNT_REFUSAL, {"project": project.id, "frame": number})
                db.execute(sql.END_LEASE, {"project": project.id, "frame": number, "who": session.login})
            else:
                project = self._keep(db, project, row, session, upload, picture, path)
        self._projects.committed(project)
        return Verdict.BROKEN if broken else Verdict.ACCEPTED

    def take_back_refusal(self, job: str, frame: str) -> str | None:
        """The frame was accepted black: the session that an earlier refusal counts against, told once."""
        project, number = self._must_find(job, frame)
        with self._store.transaction() as db:
            return refusals.take_back_refusal(db, project.id, number)

    def refuse(self, session: WebSession, job: str, frame: str) -> None:
        """What came is no picture: the frame waits for somebody else, or is given up."""
        project, number = self._must_find(job, frame)
        with self._store.transaction() as db:
            row = self._row(db, (project, number))
            if row is not None and row.state == FrameState.LEASED and row.login == session.login:
                project = self._count_error(db, project, row)
        self._projects.committed(project)

    def note_refusal(self, upload: FrameUpload, picture: Picture | None) -> str:
        """Writes down why a frame was refused, where its error reports are; ``None``: what came was no picture."""
        project, number = self._must_find(upload.job, upload.frame)
        why = refusals.why_refused(picture, project.width, project.height)
        self._write_log(project, number, why.encode())
        return why

    def fail(self, session: WebSession, job: str, frame: str, log: bytes) -> bool:
        """An error report; false where the frame is not this account's any more (the report is then only noted)."""
        found = self._find(job, frame)
        if found is None:
            return False
        project, number = found
        text = log.decode("utf-8", "replace")
        others: list[int] = []
        with self._store.transaction() as db:
            row = self._row(db, found)
            if row is None or row.state != FrameState.LEASED or row.login != session.login:
                return False
            project = self._count_error(db, project, row, at_once=is_scenes_fault(text))
            if is_scenes_fault(text) and self._is_hopeless(db, project):
                project, others = self._give_up_all(db, project)
        self._projects.committed(project)
        self._write_log(project, number, log)
        for other in others:
            self._write_log(project, other, write_error_log(reason_in(text), "", is_scenes_fault=True).encode())
        return True

    def release(self, session: WebSession) -> None:
        """Frees the frames that a session has leased, as it logs out: the next to ask gets them."""
        with self._store.transaction() as db:
            freed = db.execute(sql.RELEASE, {"session": session.id}).all()
        for project_id in {row.project_id for row in freed}:
            self._projects.touch(project_id)

    def expire(self) -> None:
        """End the leases nobody beats for, as every job request does; a page that shows leases wants it too."""
        with self._store.transaction() as db:
            self._expire(db, self._clock())

    def _find(self, job: str, frame: str) -> tuple[Project, int] | None:
        number = frame_number(frame)
        if number is None:
            return None
        try:
            return self._projects.get(job), number
        except UnknownProject:
            return None

    def _must_find(self, job: str, frame: str) -> tuple[Project, int]:
        found = self._find(job, frame)
        if found is None:
            raise UnknownProject(job)
        return found

    @staticmethod
    def _row(db: Connection, found: tuple[Project, int]) -> Row[Any] | None:
        return db.execute(sql.ONE, {"project": found[0].id, "frame": found[1]}).first()

    @staticmethod
    def _was_granted(db: Connection, found: tuple[Project, int], login: str) -> bool:
        key = {"project": found[0].id, "frame": found[1], "who": login}
        return db.execute(sql.GRANTED_TO, key).first() is not None

    def _expire(self, db: Connection, now: float) -> None:
        for project_id in self._expiry.end_overdue(db, now):
            self._projects.touch(project_id)

    def _keep(
        self,
        db: Connection,
        project: Project,
        row: Row[Any],
        session: WebSession,
        upload: FrameUpload,
        picture: Picture,
        path: Path,
    ) -> Project:
        values = {"project": project.id, "frame": row.number, "who": session.login, "now": self._clock()}
        values |= {"seconds": upload.render_time_s, "memory": upload.memory_used_kb, "threads": upload.cores}
        values |= {"ending": picture.suffix, "size": path.stat().st_size, "empty": picture.is_empty}
        db.execute(sql.ACCEPT, values)
        changed = self._projects.count_down(db, project) if row.state != FrameState.FAILED else project
        target = self.views.folder(project) / "frames" / f"{frame_text(row.number)}.{picture.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # Last, and inside the transaction: a move that fails rolls the row back, and two uploads of one frame that
        # arrive together cannot both be kept.
        rename_durably(path, target)
        return changed

    def _count_error(self, db: Connection, project: Project, row: Row[Any], *, at_once: bool = False) -> Project:
        given_up = at_once or row.errors + 1 >= self._max_errors
        state = FrameState.FAILED if given_up else FrameState.WAITING
        db.execute(sql.ERROR, {"project": project.id, "frame": row.number, "then": state})
        return self._projects.count_down(db, project) if given_up else project

    @staticmethod
    def _is_hopeless(db: Connection, project: Project) -> bool:
        counted = {row.state: row.times for row in db.execute(sql.STATES_OF, {"project": project.id})}
        return counted.get(FrameState.FAILED, 0) >= HOPELESS_AFTER and not counted.get(FrameState.ACCEPTED)

    def _give_up_all(self, db: Connection, project: Project) -> tuple[Project, list[int]]:
        """Every frame that is not done; their numbers, and the project after that."""
        numbers = [row.number for row in db.execute(sql.GIVE_UP_ALL, {"project": project.id}).all()]
        return (self._projects.count_down(db, project, len(numbers)) if numbers else project), numbers

    def _write_log(self, project: Project, number: int, log: bytes) -> None:
        path = self.views.folder(project) / "logs" / f"{frame_text(number)}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log[-MAX_LOG_BYTES:])
