"""What each answer of the server makes of a session, a frame or a report: the status tables."""

from __future__ import annotations

from enum import Enum, auto

from sheepfold.protocol.status import JobStatus, SignInStatus, ValidationStatus


class Reaction(Enum):
    """What an answer makes of the session."""

    GO_ON = auto()
    #: Wait as for "no job", longer each time.
    WAIT_FOR_JOBS = auto()
    #: Wait an hour.
    WAIT_LONG = auto()
    #: Wait 10 to 30 minutes.
    WAIT_LATER = auto()
    #: Sign in again and ask again at once, but once.
    SIGN_IN_AGAIN = auto()
    DISABLE = auto()
    GIVE_UP = auto()
    #: Wait as for a server that is down.
    RETRY = auto()


#: Answers to a job request. A status that is not here is an unknown error: RETRY.
ON_JOB_ANSWER: dict[int, Reaction] = {
    JobStatus.OK: Reaction.GO_ON,
    JobStatus.NO_JOB: Reaction.WAIT_FOR_JOBS,
    JobStatus.NO_RENDERING_RIGHT: Reaction.GIVE_UP,
    JobStatus.SESSION_DEAD: Reaction.SIGN_IN_AGAIN,
    JobStatus.SESSION_DISABLED: Reaction.DISABLE,
    JobStatus.INTERNAL_ERROR: Reaction.RETRY,
    JobStatus.NO_RENDERER: Reaction.WAIT_LONG,
    JobStatus.MAINTENANCE: Reaction.WAIT_LATER,
    JobStatus.OVERLOADED: Reaction.WAIT_LATER,
    JobStatus.CANNOT_DENOISE: Reaction.DISABLE,
}
#: What the operator does about a disabled session.
ADVICE: dict[int, str] = {
    JobStatus.SESSION_DISABLED: "find the PC that breaks frames first",
    JobStatus.CANNOT_DENOISE: "its PC needs another driver or Blender before it may ask again",
}

#: Answers to a sign-in; each try has fresh cookies, which is what 103 asks for. Not here: RETRY.
ON_SIGN_IN_ANSWER: dict[int, Reaction] = {
    SignInStatus.OK: Reaction.GO_ON,
    SignInStatus.NO_VERSION: Reaction.GIVE_UP,
    SignInStatus.CLIENT_TOO_OLD: Reaction.GIVE_UP,
    SignInStatus.AUTHENTICATION_FAILED: Reaction.GIVE_UP,
    SignInStatus.WEB_SESSION_EXPIRED: Reaction.RETRY,
    SignInStatus.MISSING_PARAMETER: Reaction.GIVE_UP,
}

#: Answers that refuse the frame for good.
REFUSALS = frozenset(
    {
        ValidationStatus.MISSING_PARAMETER,
        ValidationStatus.BROKEN_FRAME,
        ValidationStatus.NOT_AN_IMAGE,
        ValidationStatus.IMAGE_TOO_LARGE,
        ValidationStatus.WRONG_DIMENSION,
    }
)
#: Those that are the fault of the PC that rendered it. A size in bytes or pixels comes from the scene, and is the same
#: wherever it is rendered; a PC that makes other pictures than the other PCs is found by our own validation.
BROKEN = frozenset({ValidationStatus.BROKEN_FRAME, ValidationStatus.NOT_AN_IMAGE})
#: The session is no more. No code of its own is specified for error reports; servers answer with those of the others.
DEAD = frozenset({ValidationStatus.SESSION_DEAD, JobStatus.SESSION_DEAD})
#: A server that answers "session dead" to this many fresh sessions, or an unknown code this often, means no.
DEFINITE_AFTER = 5
#: With the usual waits a quarter of an hour: the server stores other frames and not this one.
GIVEN_UP_ALONE = 8
#: With the usual waits three hours: longer than a server's disk stays full.
GIVEN_UP_AFTER = 24
#: With the usual waits half an hour, where the frame keeps its session from asking.
GIVEN_UP_SYNCHRONOUS = 10
