"""Test frames: what a new session renders first, so that the server learns how fast its machine is.

Off unless ``SHEEPFOLD_TEST_FRAMES`` says how many. They are jobs 1 to 19, which no project's number ever is, each one
frame of the demo scene, uploaded before anything else is asked for. A session gets its own and no other's; the picture
is checked and thrown away, and what stays is the time. A session that brings no picture three times is disabled.
"""

from __future__ import annotations

from lab.server.store.web_sessions import Sessions, WebSession

from .machine_test_scene import FRAME, MachineTestScene

#: Jobs under 20 measure one machine; clients of this protocol know them by that.
FIRST_PROJECT_JOB = 20


class MachineTests:
    """The test frames of all sessions. Only the database thread calls."""

    def __init__(self, sessions: Sessions, scene: MachineTestScene) -> None:
        self._sessions = sessions
        self.scene = scene

    def next_job(self, session: WebSession) -> str | None:
        """The job this session has to render now; ``None`` when all are done."""
        return str(session.tests_done + 1) if session.tests_done < session.tests_wanted else None

    def is_due(self, session: WebSession, job: str, frame: str) -> bool:
        """Whether this is the test frame that the session has to render now."""
        return frame == FRAME and job == self.next_job(session)

    def is_done(self, session: WebSession, job: str, frame: str) -> bool:
        """Whether the session brought it already: its answer got lost, and it sends it again."""
        return frame == FRAME and job.isascii() and job.isdigit() and 0 < int(job) <= session.tests_done

    def passed(self, session: WebSession, render_s: int) -> None:
        """Notes a good picture and what the client says it took; the next test frame is due."""
        self._sessions.note_test_frame(session, render_s)

    def failed(self, session: WebSession) -> None:
        """Counts as a broken frame of the session; too many disable it."""
        self._sessions.note_broken_frame(session)


def is_test_job(job: str) -> bool:
    """Whether this number is a test frame's and no project's."""
    return job.isascii() and job.isdigit() and len(job) < 3 and 0 < int(job) < FIRST_PROJECT_JOB
