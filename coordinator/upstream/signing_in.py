"""How a session signs in at the server, stays signed in, and logs out.

A sign-in waits after an answer that is neither yes nor a final no, and after a sign-in that led to nothing: a session
that dies is replaced at once, one that dies before the server gave any sign of life is replaced ever more slowly.

Only one thread signs in at a time; the others wait for it and go on with what it got. A thread that finds the session
dead can only say so of the session it used: each remembers the generation it was given by
:meth:`SignIn.ensure_signed_in`, and a claim about an older one is passed over.

A server may give a public key, which signs in as the password does. It is kept with the session and used at the next
sign-in; where the server no longer takes it (102), the password is tried, once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.session_messages import Hardware, SignInAnswer
from sheepfold.protocol.status import SignInStatus, explain
from sheepfold.units import duration_text

from .client import ServerClient
from .client_identity import ClientIdentity
from .errors import ServerSilent, UnknownGeneration
from .reactions import ON_SIGN_IN_ANSWER, Reaction
from .session_state import SessionState, SessionStatus
from .session_waits import LOGGED_FROM_S, SessionWaits

logger = logging.getLogger(__name__)

#: Name of the exchange in :attr:`~coordinator.upstream.session_state.SessionStatus.refusals`.
SIGN_IN = "sign-in"


@dataclass(frozen=True, kw_only=True)
class DescribedMachine:
    """The machine that the server is told of."""

    hardware: Hardware
    hostname: str = ""
    #: The node that it is; empty: none, but the coordinator's own machine.
    node_id: str = ""
    gpus: tuple[str, ...] = ()


def _remember_nothing(_text: str) -> None:
    """Sessions end with the process."""


def _recall_nothing() -> str | None:
    """There is nothing to recall."""


def _return_nothing(_session_key: str, _offer: UnreadableOffer) -> None:
    """The server finds out by itself."""


def _measure_nothing(_client: ServerClient, _targets: tuple[str, ...]) -> None:
    """The line's speed stays unknown."""


@dataclass(frozen=True, kw_only=True)
class SessionServices:
    """What a session calls outside the protocol; the defaults do nothing."""

    #: Keeps the server session across a restart, for ``recall``; the text is a secret. Empty: there is none any more.
    remember: Callable[[str], None] = _remember_nothing
    recall: Callable[[], str | None] = _recall_nothing
    #: Gives a frame back whose offer cannot be read.
    return_offer: Callable[[str, UnreadableOffer], None] = _return_nothing
    #: Begins a speed test, and does not wait for it.
    measure: Callable[[ServerClient, tuple[str, ...]], None] = _measure_nothing
    #: Seconds; never jumps.
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)


class SignIn:
    """The sign-in of one session. Thread-safe: its threads share it.

    ``machine`` may be replaced at any time: the next sign-in tells of it, and a session that has not got a frame yet
    begins anew for it.
    """

    def __init__(
        self,
        key: str,
        machine: DescribedMachine,
        client: ServerClient,
        identity: ClientIdentity,
        services: SessionServices,
        waits: SessionWaits,
        status: SessionStatus,
    ) -> None:
        self._key = key
        self.machine = machine
        self.client = client
        self._identity = identity
        self._services = services
        self._waits = waits
        self._status = status
        #: What the last sign-in told; ``None``: that was before a restart.
        self._told: Hardware | None = None
        self._had_frame = False
        #: The clock's time before which nobody signs in.
        self.not_before = -math.inf
        #: DISABLED, and not even uploads get through any more.
        self._gone = False
        #: Logged out by us; a thread that comes late must not sign in again.
        self.is_logged_out = False
        self._remembered = ""
        #: Counts sign-ins; each thread keeps the one it works with.
        self._generation = 0
        self._of_thread = threading.local()
        self._signing_in = threading.Lock()
        self._take_up_remembered()

    def ensure_signed_in(self) -> bool:
        """True when exchanges may be tried; signs in where that is due. False: not now, or DISABLED and past use.

        Raises :class:`~coordinator.upstream.errors.FatalRefusal`.
        """
        if self._has_session():
            return True
        if self.is_logged_out:
            return False
        with self._signing_in:
            # Another thread may have been faster.
            if self._has_session():
                return True
            if self._status.state is SessionState.DISABLED or self._services.clock() < self.not_before:
                return False
            return self._sign_in() and self._has_session()

    @property
    def described_node(self) -> str:
        """Id of the PC that the server takes us for; empty where that is none of ours."""
        return self.machine.node_id if self._told in (None, self.machine.hardware) else ""

    @property
    def is_over(self) -> bool:
        """Disabled, and the server does not even take uploads any more."""
        return self._status.state is SessionState.DISABLED and self._gone

    def session_died(self) -> None:
        """The server said so (304 or the like): the next exchange signs in first.

        Counts only for the session that the calling thread got from its last :meth:`ensure_signed_in`.
        """
        with self._status.lock:
            if getattr(self._of_thread, "generation", self._generation) != self._generation:
                return
            if self._status.state is SessionState.DISABLED:
                self._gone = True
            elif self._status.state is SessionState.SIGNED_IN:
                self._status.state = SessionState.SIGNED_OUT
                self._status.notice = "the session died; signing in again"
                logger.warning("%s: %s", self._key, self._status.notice)

    def log_out(self) -> None:
        """Ends the session at the server, as far as it listens, for good: nothing signs in again after this."""
        with self._status.lock:
            if self._status.state is SessionState.SIGNED_IN:
                self._status.state = SessionState.SIGNED_OUT
            self._gone = self._status.state is SessionState.DISABLED
            self.is_logged_out = True
        try:
            self.client.log_out()
        except ServerSilent as error:
            logger.warning("%s: could not log out, the server ends the session by itself: %s", self._key, error)
        self.save()

    def is_alive(self) -> None:
        """The server gave a sign of life: when this session dies, the next one may follow at once."""
        with self._status.lock:
            self._waits.sign_in.reset()
            self.not_before = -math.inf

    def got_frame(self) -> None:
        """From now on the session stays, whatever machine it describes."""
        self._had_frame = True

    def end_if_outdated(self) -> None:
        """A session that describes another machine, and has got no frame yet, ends; the next one is told."""
        with self._status.lock:
            is_outdated = self._told not in (None, self.machine.hardware) and not self._had_frame
            if not is_outdated or self._status.state is not SessionState.SIGNED_IN:
                return
            self._status.state, self.not_before = SessionState.SIGNED_OUT, -math.inf
        logger.info("%s: begins anew, to tell of %s", self._key, self.machine.hostname)
        with contextlib.suppress(ServerSilent):
            self.client.log_out()

    def save(self) -> None:
        """Servers change cookies as they like; only a change is written down. A public key outlives its session."""
        frozen = self.client.freeze()
        login = self._identity.credentials.login
        text = json.dumps({"login": login, "client": frozen}) if frozen else ""
        with self._status.lock:
            if text != self._remembered:
                self._services.remember(text)
                self._remembered = text

    def _has_session(self) -> bool:
        with self._status.lock:
            self._status.check(SIGN_IN)
            self._of_thread.generation = self._generation
            if self._status.state is SessionState.DISABLED:
                return not self._gone
            return self._status.state is SessionState.SIGNED_IN

    def _sign_in(self) -> bool:
        try:
            answer = self._request()
        except ServerSilent as error:
            self._sign_in_later(str(error))
            return False
        except UnknownGeneration as error:
            raise self._status.refuse(SIGN_IN, str(error)) from None
        reaction = ON_SIGN_IN_ANSWER.get(answer.status, Reaction.RETRY)
        if reaction is Reaction.GIVE_UP:
            raise self._status.refuse(SIGN_IN, self._identity.refusal(answer.status))
        if reaction is Reaction.RETRY:
            self._sign_in_later(f"not signed in: {explain(answer.status)}")
            return False
        self._signed_in(answer)
        return True

    def _request(self) -> SignInAnswer:
        """The server's answer to its public key, or to the password."""
        machine, key = self.machine, self.client.public_key
        self._told = machine.hardware
        answer = self.client.sign_in(self._identity.request(machine.hardware, machine.hostname, key))
        if key is None or answer.status != SignInStatus.AUTHENTICATION_FAILED:
            return answer
        logger.warning("%s: the server no longer takes its public key; signing in with the password", self._key)
        self.client.public_key = None
        self.save()
        return self.client.sign_in(self._identity.request(machine.hardware, machine.hostname, None))

    def _signed_in(self, answer: SignInAnswer) -> None:
        with self._status.lock:
            self._status.state, self._status.notice = SessionState.SIGNED_IN, "signed in"
            self._generation += 1
            self._had_frame = False
            # Lifted by the first sign of life: only a session that dies at once makes the next one wait.
            self.not_before = self._services.clock() + self._waits.sign_in.next()
        logger.info("%s: signed in", self._key)
        self.save()
        if answer.speed_test_targets:
            self._services.measure(self.client, answer.speed_test_targets)

    def _sign_in_later(self, notice: str) -> None:
        with self._status.lock:
            wait_s = self._waits.after_failed_sign_in()
            is_news = notice != self._status.notice or wait_s >= LOGGED_FROM_S
            self._status.notice, self.not_before = notice, self._services.clock() + wait_s
        level = logging.WARNING if is_news else logging.DEBUG
        logger.log(level, "%s: %s; next try in %s", self._key, notice, duration_text(wait_s))

    def _take_up_remembered(self) -> None:
        try:
            kept = json.loads(self._services.recall() or "{}")
            if kept.get("login") == self._identity.credentials.login:
                self.client.thaw(kept["client"])
        except (ValueError, KeyError, AttributeError):
            logger.warning("%s: the remembered session cannot be read; signing in again", self._key)
        if self.client.endpoints is not None:
            self._status.state = SessionState.SIGNED_IN
            self._status.notice = "goes on with the session from before the restart"
