"""Frames as others see them: states, answers, rows, counts, and where their pictures lie. Nothing here changes one.

Every method that reads the store is one transaction. Only the server's database thread calls them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select

from lab.frame_range import frame_number, frame_text

from . import frame_queries as sql
from .database import Store, frames, grants
from .projects import Project


class FrameState(StrEnum):
    """Where a frame stands; ``frames.py`` has the steps from one state to the next."""

    WAITING = "waiting"
    LEASED = "leased"
    ACCEPTED = "accepted"
    FAILED = "failed"


class Wanted(Enum):
    """What an upload's frame is to us."""

    TAKE = auto()
    #: It is here already.
    HAVE = auto()
    #: No such frame, or it was never this account's.
    UNKNOWN = auto()


class Verdict(Enum):
    """Whether an uploaded picture became the frame's."""

    ACCEPTED = auto()
    BROKEN = auto()


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A frame somebody may render now."""

    project: Project
    frame: str


class FrameViews:
    """All frames of all projects, to look at."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self, project: Project) -> list[Row[Any]]:
        """Every frame of a project, ascending."""
        with self._store.transaction() as db:
            return list(db.execute(select(frames).where(frames.c.project_id == project.id).order_by(frames.c.number)))

    def row(self, project: Project, frame: str) -> Row[Any] | None:
        """``None`` where the project has no such frame, or the text is no frame number."""
        number = frame_number(frame)
        if number is None:
            return None
        with self._store.transaction() as db:
            return db.execute(sql.ONE, {"project": project.id, "frame": number}).first()

    def leased(self) -> list[Row[Any]]:
        """What is being rendered now, the longest first."""
        with self._store.transaction() as db:
            return list(db.execute(sql.LEASED))

    def counts(self) -> dict[int, dict[str, int]]:
        """Frames by state of every project."""
        counted: dict[int, dict[str, int]] = {}
        with self._store.transaction() as db:
            for row in db.execute(sql.COUNTS):
                counted.setdefault(row.project_id, {})[row.state] = row.times
        return counted

    def totals(self) -> dict[str, int]:
        """Counts over all projects: grants, accepted, again, refusals, errors, expiries."""
        with self._store.transaction() as db:
            sums = db.execute(sql.TOTALS).mappings().one()
            granted = db.execute(select(func.coalesce(func.sum(grants.c.times), 0))).scalar_one()
        return {"grants": int(granted), **{key: int(value or 0) for key, value in sums.items()}}

    def picture(self, project: Project, row: Row[Any]) -> Path:
        """Where the picture of an accepted frame lies; ``row`` must be of one."""
        return self.folder(project) / "frames" / f"{frame_text(row.number)}.{row.suffix}"

    def folder(self, project: Project) -> Path:
        """Where the project's pictures and logs are."""
        return self._store.project_folder(project.id, project.name)
