"""Status codes, one enum per exchange of the specification. A code nobody knows survives as a plain number.

Each exchange reads its code with :func:`status_of`, which gives the enum's member where there is one and the bare
``int`` where there is not, so that "unknown error 742" can still be told to a person and sent on unchanged.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

S = TypeVar("S", bound=IntEnum)


class SignInStatus(IntEnum):
    """Answers to session creation; all but 0 are refusals."""

    OK = 0
    NO_VERSION = 100
    CLIENT_TOO_OLD = 101
    AUTHENTICATION_FAILED = 102
    WEB_SESSION_EXPIRED = 103
    MISSING_PARAMETER = 104


class JobStatus(IntEnum):
    """Answers to a job request. 204 and those from 206 on come from later generations than the specification."""

    OK = 0
    NO_JOB = 200
    NO_RENDERING_RIGHT = 201
    SESSION_DEAD = 202
    SESSION_DISABLED = 203
    INTERNAL_ERROR = 204
    NO_RENDERER = 205
    MAINTENANCE = 206
    OVERLOADED = 207
    #: Since 2022-04: the client's hardware cannot denoise.
    CANNOT_DENOISE = 208


class ValidationStatus(IntEnum):
    """Answers to an uploaded frame. 306 and 308 come from 2020."""

    OK = 0
    MISSING_PARAMETER = 300
    BROKEN_FRAME = 301
    NOT_AN_IMAGE = 302
    UPLOAD_FAILED = 303
    SESSION_DEAD = 304
    IMAGE_TOO_LARGE = 306
    WRONG_DIMENSION = 308


class BeatStatus(IntEnum):
    """Answers to a heartbeat: 400 ends the frame it was about."""

    OK = 0
    STOP = 400


class ErrorStatus(IntEnum):
    """Answers to an error report: the specification names only that it arrived."""

    OK = 0


class ErrorType(IntEnum):
    """What went wrong, as error reports number it since 2016; observed in clients of 2020 to 2024."""

    WRONG_CONFIGURATION = 1
    AUTHENTICATION = 2
    TOO_OLD = 3
    SESSION_DISABLED = 4
    NO_RENDERER = 5
    MISSING_RENDERER = 6
    MISSING_SCENE = 7
    NO_OUTPUT = 8
    DOWNLOAD = 9
    CANNOT_MAKE_FOLDER = 10
    NETWORK = 11
    CRASHED = 12
    OUT_OF_VIDEO_MEMORY = 13
    KILLED = 14
    MISSING_LIBRARIES = 15
    CANNOT_EXECUTE = 16
    OS_NOT_SUPPORTED = 17
    CPU_NOT_SUPPORTED = 18
    GPU_NOT_SUPPORTED = 19
    KILLED_BY_USER = 20
    OUT_OF_MEMORY = 21
    KILLED_BY_SERVER = 22
    OVER_TIME = 23
    PYTHON = 24
    VALIDATION = 25
    IMAGE_SIZE = 26
    ENGINE_NOT_AVAILABLE = 27
    HEADLESS = 28
    DENOISING = 29
    UNKNOWN = 99


class ProjectStatus(IntEnum):
    """Answers of a server of ours to a word about a project (:class:`~sheepfold.protocol.messages.ProjectStep`)."""

    OK = 0
    #: The account may not manage projects.
    NOT_ALLOWED = 403
    UNKNOWN_PROJECT = 404
    #: The project is in a state that does not allow it, for example done.
    NOT_NOW = 409


_EXPLAINED: dict[IntEnum, str] = {
    SignInStatus.NO_VERSION: "the server says that no client version was given",
    SignInStatus.CLIENT_TOO_OLD: "the server says that this client is too old",
    SignInStatus.AUTHENTICATION_FAILED: "the server does not accept login and password",
    SignInStatus.WEB_SESSION_EXPIRED: "the server says that the web session has expired",
    SignInStatus.MISSING_PARAMETER: "the server says that a parameter of the sign-in is missing",
    JobStatus.NO_JOB: "the server has no job for us",
    JobStatus.NO_RENDERING_RIGHT: "the account has no right to render",
    JobStatus.SESSION_DEAD: "the session is dead",
    JobStatus.SESSION_DISABLED: "the server has disabled the session, usually because of broken frames",
    JobStatus.INTERNAL_ERROR: "the server met an error of its own",
    JobStatus.NO_RENDERER: "the server has no renderer for this hardware",
    JobStatus.MAINTENANCE: "the server is under maintenance",
    JobStatus.OVERLOADED: "the server is overloaded",
    JobStatus.CANNOT_DENOISE: "the server has disabled the session, because its hardware cannot denoise",
    ValidationStatus.MISSING_PARAMETER: "the server says that a parameter of the upload is missing",
    ValidationStatus.BROKEN_FRAME: "the server says that the frame is broken",
    ValidationStatus.NOT_AN_IMAGE: "the server says that the file is not an image",
    ValidationStatus.UPLOAD_FAILED: "the server could not store the upload",
    ValidationStatus.SESSION_DEAD: "the session is dead or disabled",
    ValidationStatus.IMAGE_TOO_LARGE: "the server says that the file is too large",
    ValidationStatus.WRONG_DIMENSION: "the server says that the picture has another size than the scene",
    BeatStatus.STOP: "the server no longer wants this frame",
    ProjectStatus.NOT_ALLOWED: "this account may not manage the server's projects",
    ProjectStatus.UNKNOWN_PROJECT: "the server has no such project",
    ProjectStatus.NOT_NOW: "the project's state at the server does not allow it",
}


def status_of(kind: type[S], code: int) -> S | int:
    """The member of ``kind`` with this code, or the code itself where the specification names none."""
    try:
        return kind(code)
    except ValueError:
        return code


def explain(status: int) -> str:
    """One line for a person: what this status means, with its number.

    A bare number (a code no specification names) reads ``unknown error 742``.
    """
    if isinstance(status, IntEnum) and status in _EXPLAINED:
        return f"{_EXPLAINED[status]} (status {int(status)})"
    return f"unknown error {int(status)}" if status else "no error (status 0)"
