"""Where a session stands; the way from state to state is drawn in :mod:`coordinator.upstream.session`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum

from .errors import FatalRefusal


class SessionState(StrEnum):
    """The texts are those of the status page."""

    SIGNED_OUT = "signed out"
    SIGNED_IN = "signed in"
    #: The server wants no more frames from it (203).
    DISABLED = "disabled"


@dataclass(kw_only=True)
class SessionStatus:
    """What the sign-in and the job requests of a session share; read and changed under :attr:`lock`."""

    state: SessionState = SessionState.SIGNED_OUT
    #: The last thing the server said, for a person.
    notice: str = "not signed in yet"
    #: Exchange (``sign-in`` or ``job request``) → why the server refuses it for good.
    refusals: dict[str, str] = field(default_factory=dict)
    #: Reentrant; no exchange with the server is made while it is held.
    lock: threading.RLock = field(default_factory=threading.RLock)

    def refuse(self, exchange: str, notice: str) -> FatalRefusal:
        """What to raise now that the server has refused this exchange for good."""
        with self.lock:
            self.notice = self.refusals[exchange] = notice
        return FatalRefusal(notice)

    def check(self, exchange: str) -> None:
        """Raises :class:`FatalRefusal` where the exchange was refused for good."""
        with self.lock:
            if exchange in self.refusals:
                raise FatalRefusal(self.refusals[exchange])
