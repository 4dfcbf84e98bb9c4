"""Invitations: one-time codes, each of which lets one PC have a certificate.

A code is bound to the first key that uses it, so that a PC whose answer was lost may ask again, and nobody else. They
are kept in memory alone: a restart of the coordinator ends them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import GuessBrake

from .errors import BadInvitation, TooManyInvitations

#: Long enough to walk to the PC (seconds).
VALID_S = 900.0
#: More than anybody hands out at once.
MOST_OPEN = 100
#: Bytes of chance in a code.
_CODE_BYTES = 20


@dataclass(kw_only=True)
class _Open:
    ends_at: float
    #: Sum of the key that used it, hex; empty: nobody yet.
    used_by: str = ""


class Invitations:
    """Open codes. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._brake = GuessBrake(clock)
        #: SHA-256 of a code → what is known of it: what is looked up is never the code itself.
        self._open: dict[str, _Open] = {}

    def issue(self) -> str:
        """Another code, good for :data:`VALID_S`. Raises TooManyInvitations."""
        code = secrets.token_hex(_CODE_BYTES)
        with self._lock:
            self._forget_old()
            if sum(1 for invitation in self._open.values() if not invitation.used_by) >= MOST_OPEN:
                raise TooManyInvitations(MOST_OPEN, round(VALID_S / 60))
            self._open[_hash(code)] = _Open(ends_at=self._clock() + VALID_S)
        return code

    def redeem(self, code: str, key_sum: bytes, address: str) -> None:
        """The code is used by whoever has the key of this sum, from now on by nobody else.

        ``address``: whose guesses are slowed down. Raises BadInvitation and TooManyGuesses.
        """
        if wait_s := self._brake.wait_s(address):
            raise TooManyGuesses("an invitation's code", wait_s)
        with self._lock:
            self._forget_old()
            invitation, user = self._open.get(_hash(code)), key_sum.hex()
            is_good = invitation is not None and (
                not invitation.used_by or hmac.compare_digest(invitation.used_by, user)
            )
            if invitation is not None and is_good:
                invitation.used_by = user
        if not is_good:
            self._brake.wrong(address)
            raise BadInvitation

    def _forget_old(self) -> None:
        now = self._clock()
        self._open = {code: invitation for code, invitation in self._open.items() if invitation.ends_at > now}


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
