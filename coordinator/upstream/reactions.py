"""What each answer of the server makes of a session: the status tables of the sign-in and of the job request."""

from __future__ import annotations

from enum import Enum, auto

from ..protocol.status import JobStatus, SignInStatus


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
