"""Status codes, one enum per exchange of the specification. A code nobody knows survives as a plain number.

Each exchange reads its code with :func:`status_of`, which gives the enum's member where there is one and the bare
``int`` where there is not, so that "unknown error 742" can still be told to a person and sent on unchanged.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

S = TypeVar("S", bound=IntEnum)


class SignInStatus(IntEnum):
    """Answers to session creation."""

    OK = 0
    NO_VERSION = 100
    CLIENT_TOO_OLD = 101
    AUTHENTICATION_FAILED = 102
    WEB_SESSION_EXPIRED = 103
    MISSING_PARAMETER = 104


class JobStatus(IntEnum):
    """Answers to a job request. 206 and 207 come from later generations than the specification."""

    OK = 0
    NO_JOB = 200
    NO_RENDERING_RIGHT = 201
    SESSION_DEAD = 202
    SESSION_DISABLED = 203
    NO_RENDERER = 205
    MAINTENANCE = 206
    OVERLOADED = 207


class ValidationStatus(IntEnum):
    """Answers to an uploaded frame."""

    OK = 0
    MISSING_PARAMETER = 300
    BROKEN_FRAME = 301
    NOT_AN_IMAGE = 302
    UPLOAD_FAILED = 303
    SESSION_DEAD = 304


class BeatStatus(IntEnum):
    """Answers to a heartbeat."""

    OK = 0
    STOP = 400


class ErrorStatus(IntEnum):
    """Answers to an error report."""

    OK = 0


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
    JobStatus.NO_RENDERER: "the server has no renderer for this hardware",
    JobStatus.MAINTENANCE: "the server is under maintenance",
    JobStatus.OVERLOADED: "the server is overloaded",
    ValidationStatus.MISSING_PARAMETER: "the server says that a parameter of the upload is missing",
    ValidationStatus.BROKEN_FRAME: "the server says that the frame is broken",
    ValidationStatus.NOT_AN_IMAGE: "the server says that the file is not an image",
    ValidationStatus.UPLOAD_FAILED: "the server could not store the upload",
    ValidationStatus.SESSION_DEAD: "the session is dead or disabled",
    BeatStatus.STOP: "the server no longer wants this frame",
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
