"""What can go wrong in the lab, split by whose fault it is.

::

    LabError
    ├── BadInput              a person or client gave us something unusable
    │   ├── BadFrameRange     ... a frame range nobody can read
    │   ├── BadScene          ... a .blend that cannot be packed, lacks files, or cannot be rendered as it is
    │   │   └── UnreadableScene   ... one that is damaged, or no .blend at all
    │   ├── BadProjectZip     ... a project zip that is broken or hostile
    │   └── BadForm           ... a body that is no form, or too large
    ├── UnknownProject        no project with this number
    ├── NotNow                the project's state does not allow it
    ├── NotAllowed            login or password is missing, wrong, or not the owner's
    ├── NoBlender             the demo scene needs a Blender and there is none
    ├── NoAnswerFromBlender   Blender was not able to open the packed scene
    ├── ServerRefused         the server we submit to says no
    ├── StoreTooNew           the database was written by a later sheepfold
    └── RunFailed             `sheepfold lab` did not reach its end

``lab.demo_run.run.SignalReceived`` is none of them: it carries a signal out of a run and must pass every
``except Exception``.
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class LabError(SheepfoldError):
    """Something went wrong in the lab server or its commands."""


class BadInput(LabError):
    """What was given cannot be used."""

    exit_code = ExitCode.WRONG_SETTING


class BadFrameRange(BadInput):
    """The frames cannot be read. ``part`` is the piece that is wrong."""

    def __init__(self, part: str, reason: str) -> None:
        self.part = part[:40]
        super().__init__(f"frames {self.part!r}: {reason}")


class BadScene(BadInput):
    """The scene cannot be packed or rendered. ``missing`` lists the files it asks for that are not there."""

    def __init__(self, reason: str, missing: tuple[str, ...] = ()) -> None:
        self.missing = missing
        super().__init__(reason)


class UnreadableScene(BadScene):
    """The file is damaged, or no .blend."""


class BadProjectZip(BadInput):
    """The project's zip is broken, hostile or does not hold its scene."""


class BadForm(BadInput):
    """The body of a request is no form, is cut off, or is larger than allowed."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        self.too_large = too_large
        super().__init__(reason)


class UnknownProject(LabError):
    """There is no project of this number."""

    def __init__(self, project_id: object) -> None:
        self.project_id = str(project_id)[:20]
        super().__init__(f"there is no project {self.project_id}")


class NotNow(LabError):
    """The project's state does not allow this."""

    def __init__(self, state: str, step: str) -> None:
        self.state, self.step = state, step
        super().__init__(f"a project that is {state} cannot {step}")


class NoBlender(LabError):
    """No Blender was found, or the one that was found failed."""

    exit_code = ExitCode.WRONG_SETTING


class NoAnswerFromBlender(LabError):
    """Blender gave no answer about the packed scene."""


class ServerRefused(LabError):
    """The server did not take it. ``http_status`` is 0 where it did not answer at all."""

    exit_code = ExitCode.REFUSED

    def __init__(self, reason: str, http_status: int = 0) -> None:
        self.http_status = http_status
        super().__init__(reason)


class NotAllowed(LabError):
    """Login and password are missing, wrong, or not the owner's."""


class StoreTooNew(LabError):
    """The database was written by a later version of sheepfold."""

    def __init__(self, found: int, known: int) -> None:
        self.found, self.known = found, known
        super().__init__(f"the server's database has schema {found}; this sheepfold knows {known} and older")


class RunFailed(LabError):
    """The lab run ended without all its pictures."""
