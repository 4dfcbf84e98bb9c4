"""Projects: a packed scene and the frames wanted of it. Their frames live in ``frames.py``.

A project's life is ``PROJECT_STEPS``; a step that is not in it raises :class:`~lab.errors.NotNow` and changes
nothing. A project finishes by itself when its last frame is accepted or given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from lab.errors import NotNow, UnknownProject
from lab.project_rules import Compute
from sheepfold.protocol.messages import ComputeMethod

from .database import Store, frames, projects


class ProjectState(StrEnum):
    """Where a project stands, as the database keeps it; people are shown :func:`state_in_words`."""

    ACTIVE = "active"
    #: Grants nothing; heartbeats get 400; late pictures are taken.
    PAUSED = "paused"
    CANCELLED = "cancelled"
    #: Every frame is accepted or given up.
    DONE = "done"


def state_in_words(state: ProjectState, accepted: int, failed: int) -> str:
    """The state as people and programs are told it: a project that is done may have failed, or some of its frames."""
    if state is not ProjectState.DONE or not failed:
        return state.value
    return f"done with {failed} failed" if accepted else "failed"


class ProjectStep(StrEnum):
    """What a person, or the last frame, does to a project."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    FINISH = "finish"
    #: Render the frames that were given up once more.
    RETRY = "retry"


P, S = ProjectState, ProjectStep

PROJECT_STEPS: dict[tuple[ProjectState, ProjectStep], ProjectState] = {
    (P.ACTIVE, S.PAUSE): P.PAUSED,
    (P.PAUSED, S.RESUME): P.ACTIVE,
    (P.ACTIVE, S.CANCEL): P.CANCELLED,
    (P.PAUSED, S.CANCEL): P.CANCELLED,
    (P.CANCELLED, S.RESUME): P.ACTIVE,
    (P.ACTIVE, S.FINISH): P.DONE,
    # Late pictures still arrive while a project rests; its last one finishes it.
    (P.PAUSED, S.FINISH): P.DONE,
    (P.CANCELLED, S.FINISH): P.DONE,
    (P.ACTIVE, S.RETRY): P.ACTIVE,
    (P.DONE, S.RETRY): P.ACTIVE,
}


#: What a client that offers this may be given.
SUITS: dict[ComputeMethod, tuple[Compute, ...]] = {
    ComputeMethod.CPU_OR_GPU: (Compute.CPU, Compute.GPU, Compute.EITHER),
    ComputeMethod.CPU_ONLY: (Compute.CPU, Compute.EITHER),
    ComputeMethod.GPU_ONLY: (Compute.GPU, Compute.EITHER),
}


@dataclass(frozen=True, kw_only=True)
class NewProject:
    """A project as somebody submits it, its archive stored already."""

    name: str
    owner: str
    frames: Sequence[int]
    archive_md5: str
    archive_bytes: int
    #: Path of the .blend inside the archive.
    scene_path: str
    compute: Compute = Compute.CPU
    #: Pixels of every frame, where it is known.
    width: int | None = None
    height: int | None = None
    #: A frame that measures a machine: its upload is not queued behind others.
    test_frame: bool = False
    extras: str = ""
    #: What comes out otherwise than the scene says, one line each.
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project as it stands in the database."""

    id: int
    name: str
    owner: str
    state: ProjectState
    archive_md5: str
    archive_bytes: int
    scene_path: str
    compute: Compute
    width: int | None
    height: int | None
    test_frame: bool
    extras: str
    created_at: float
    #: Frames neither accepted nor failed.
    remaining: int
    notes: str


class Projects:
    """The projects of a server, all of them in memory and written through.

    ``changes`` counts every visible change of a project or its frames since the server started; the page asks it.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        with store.transaction() as db:
            rows = db.execute(select(projects).order_by(projects.c.id)).mappings().all()
        self._projects = {row["id"]: _project(dict(row)) for row in rows}
        self.changes: dict[int, int] = {}

    def add(self, new: NewProject) -> Project:
        """A new project with all its frames waiting."""
        values = {key: value for key, value in vars(new).items() if key != "frames"}
        values |= {"state": P.ACTIVE, "created_at": self._clock(), "remaining": len(new.frames)}
        with self._store.transaction() as db:
            row = db.execute(insert(projects).values(values).returning(*projects.c)).mappings().one()
            waiting = [{"project_id": row["id"], "number": number, "state": "waiting"} for number in new.frames]
            db.execute(insert(frames), waiting)
        project = _project(dict(row))
        self._remember(project)
        return project

    def get(self, project_id: int | str) -> Project:
        """A project by its number, as a number or as plain digits; raises :class:`UnknownProject`."""
        plain = isinstance(project_id, int) or (project_id.isascii() and project_id.isdigit() and len(project_id) < 10)
        project = self._projects.get(int(project_id)) if plain else None
        if project is None:
            raise UnknownProject(project_id)
        return project

    def all(self) -> list[Project]:
        """Projects in every state, the newest first."""
        return sorted(self._projects.values(), key=lambda project: -project.id)

    def named(self, name: str) -> Project | None:
        """The oldest project of this name."""
        return next((project for project in self._projects.values() if project.name == name), None)

    def latest_named(self, name: str) -> Project | None:
        """The newest project of this name, one that still wants frames before one that does not."""
        named = [project for project in self.all() if project.name == name]
        return next((project for project in named if project.state in (P.ACTIVE, P.PAUSED)), next(iter(named), None))

    def step(self, project_id: int | str, step: ProjectStep) -> Project:
        """Pause, resume, cancel or retry; leases of a project that rests end at once. Raises :class:`NotNow`."""
        project = self.get(project_id)
        after = PROJECT_STEPS.get((project.state, step))
        if after is None or step is ProjectStep.FINISH:
            raise NotNow(project.state, step)
        with self._store.transaction() as db:
            remaining = project.remaining
            if step in (S.PAUSE, S.CANCEL):
                db.execute(_END_LEASES.where(frames.c.project_id == project.id))
            if step is S.RETRY:
                remaining += db.execute(_WAIT_AGAIN.where(frames.c.project_id == project.id)).rowcount
                after = after if remaining else project.state
            changed = replace(project, state=after, remaining=remaining)
            self.write(db, changed)
        self._remember(changed)
        return changed

    def count_down(self, db: Connection, project: Project, by: int = 1) -> Project:
        """So many frames less to go, inside somebody's transaction; call :meth:`committed` after it."""
        remaining = project.remaining - by
        state = PROJECT_STEPS[project.state, S.FINISH] if remaining == 0 else project.state
        changed = replace(project, remaining=remaining, state=state)
        self.write(db, changed)
        return changed

    def write(self, db: Connection, project: Project) -> None:
        """State and remaining frames, inside somebody's transaction."""
        db.execute(_WRITE, {"this": project.id, "state": project.state, "remaining": project.remaining})

    def committed(self, project: Project) -> None:
        """A transaction that changed this project or one of its frames is through."""
        self._remember(project)

    def touch(self, project_id: int) -> None:
        """One of the project's frames changed."""
        self.changes[project_id] = self.changes.get(project_id, 0) + 1

    def active(self) -> list[Project]:
        """The projects that are being rendered."""
        return [project for project in self._projects.values() if project.state is P.ACTIVE]

    def no_longer_needed(self, held: Sequence[str]) -> tuple[str, ...]:
        """Those of ``held`` that are archives of ours, but of no project that still wants frames."""
        if not held:
            return ()
        needed: dict[str, bool] = {}
        for project in self._projects.values():
            wants = project.state in (P.ACTIVE, P.PAUSED)
            needed[project.archive_md5] = needed.get(project.archive_md5, False) or wants
        return tuple(md5 for md5 in held if needed.get(md5) is False)

    def _remember(self, project: Project) -> None:
        self._projects[project.id] = project
        self.touch(project.id)


_WRITE = (
    update(projects)
    .where(projects.c.id == bindparam("this"))
    .values(state=bindparam("state"), remaining=bindparam("remaining"))
)
_END_LEASES = update(frames).where(frames.c.state == "leased").values(state="waiting", session_id=None, expires_at=None)
_WAIT_AGAIN = update(frames).where(frames.c.state == "failed").values(state="waiting", errors=0)


def _project(row: dict[str, Any]) -> Project:
    values: dict[str, Any] = {**row, "state": ProjectState(row["state"]), "compute": Compute(row["compute"])}
    return Project(**values)
