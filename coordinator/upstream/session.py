"""One session of the account at the server: signing in, asking for frames, and what each refusal makes of it.

::

                    sign-in 0                      203, 208
    SIGNED_OUT ─────────────────▶ SIGNED_IN ─────────────────▶ DISABLED
        ▲                             │                           for good
        └──── 202, 304, log-out ──────┘

Two waits run beside the states. *Signing in* waits after an answer that is neither yes nor a final no, and after a
sign-in that led to nothing: a session that dies is replaced at once, one that dies before the server gave any sign of
life is replaced ever more slowly. *Asking* waits after every answer that is not a frame. Both grow and are jittered, so
that a hundred farms don't come back in the same second. A server of ours says how soon it may be asked again, and is:
no longer than that stays a new project unseen. Everywhere else a wait ends early when a person says so
(:meth:`FarmSession.ask_now`), when a frame of ours came to its end, and, once a minute at most, when a PC joins.

Threads share a session: some ask, some upload, several beat. Only one of them signs in at a time; the others wait for
it and go on with what it got. A thread that finds the session dead can only say so of the session it used: each
remembers the generation it was given by :meth:`FarmSession.ensure_signed_in`, and a claim about an older one is
passed over.

DISABLED is the server's word that it wants nothing more of us: broken frames (203), or a PC that can't do what it wants
(208). Signing in again would hide that from it and cost the account, so the session only finishes its uploads, as far
as the server lets it, until the farm logs it out.

A server may give a public key, which signs in as the password does. It is kept with the session and used at the next
sign-in; where the server no longer takes it (102), the password is tried, once.

Final noes raise :class:`FatalRefusal`, in every thread that asks again: sign-in 100, 101, 102 and 104, a server of a
generation that nobody here speaks, job request 201.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from sheepfold.backoff import JITTER, Backoff
from sheepfold.protocol.messages import ComputeMethod, JobAnswer, JobRequest, UnreadableOffer
from sheepfold.protocol.session_messages import Hardware, SignInAnswer
from sheepfold.protocol.status import JobStatus, SignInStatus, explain
from sheepfold.units import duration_text

from .client import ServerClient, ServerSilent, UnknownGeneration
from .client_identity import ClientIdentity
from .reactions import ADVICE, ON_JOB_ANSWER, ON_SIGN_IN_ANSWER, Reaction

logger = logging.getLogger(__name__)

#: What the original client waits after "no job"; a setting changes it.
NO_JOB_WAIT_S = 900.0
#: An idle farm still asks twice an hour ...
NO_JOB_CAP_S = 1800.0
#: ... and one that starts with short waits (a lab) never waits much longer than it began.
NO_JOB_CAP_TIMES = 16
#: First wait when the server is down; a setting changes it.
RETRY_WAIT_S = 5.0
#: A server that was down for hours is found again within ten minutes.
RETRY_CAP_S = 600.0
#: Renderers for a new platform appear with a release, not within minutes.
NO_RENDERER_WAIT_S = 3600.0
#: Maintenance and overload: "wait 10 to 30 minutes".
LATER_WAIT_S = (600.0, 1800.0)
#: PCs that join end a wait for jobs this often at most (seconds): a hundred of them switched on together ask once.
JOINED_EVERY_S = 60.0
#: Waits that are shorter than this and follow each other for the same reason are not worth a line of the log each.
LOGGED_FROM_S = 60.0


class FatalRefusal(Exception):
    """The server said no in a way that waiting can't mend; the text is one line for the operator."""


class SessionState(StrEnum):
    """Where a session stands."""

    SIGNED_OUT = "signed out"
    SIGNED_IN = "signed in"
    #: The server wants no more frames from it (203).
    DISABLED = "disabled"


def _remember_nothing(_text: str) -> None:
    """Sessions end with the process."""


def _recall_nothing() -> str | None:
    """There is nothing to recall."""


def _return_nothing(_session_key: str, _offer: UnreadableOffer) -> None:
    """The server finds out by itself."""


def _measure_nothing(_client: ServerClient, _targets: tuple[str, ...]) -> None:
    """The line's speed stays unknown."""


class FarmSession:
    """One session of the account, shared by the farm's threads.

    ``remember`` and ``recall`` keep the server session across a restart; what they keep is a secret. ``return_offer``
    gives a frame back that was granted in words nobody here can follow. ``measure`` begins a speed test, and does not
    wait for it. ``hardware``, ``hostname``, ``node_id`` and ``gpus`` may be replaced at any time: the next sign-in
    tells them, and a session that has not got a frame yet begins anew for it.
    """

    def __init__(
        self,
        *,
        key: str,
        hardware: Hardware,
        client: ServerClient,
        identity: ClientIdentity,
        hostname: str = "",
        render_time_max_s: int | None = None,
        no_job_wait_s: float = NO_JOB_WAIT_S,
        retry_wait_s: float = RETRY_WAIT_S,
        remember: Callable[[str], None] = _remember_nothing,
        recall: Callable[[], str | None] = _recall_nothing,
        return_offer: Callable[[str, UnreadableOffer], None] = _return_nothing,
        measure: Callable[[ServerClient, tuple[str, ...]], None] = _measure_nothing,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.key, self.hardware, self.client = key, hardware, client
        #: Name, id and GPUs of the PC that :attr:`hardware` is of; no id: the coordinator's machine.
        self.hostname, self.node_id = hostname, ""
        self.gpus: tuple[str, ...] = ()
        #: What the last sign-in told; ``None``: that was before a restart.
        self._told: Hardware | None = None
        self._had_frame = False
        self.state = SessionState.SIGNED_OUT
        #: The last thing the server said, for a person.
        self.notice = "not signed in yet"
        self._identity, self._render_time_max_s = identity, render_time_max_s
        self._remember, self._recall = remember, recall
        self._return_offer, self._measure = return_offer, measure
        self._clock, self._rng = clock, rng or random.Random()
        self._no_job = Backoff(no_job_wait_s, min(NO_JOB_CAP_S, no_job_wait_s * NO_JOB_CAP_TIMES), self._rng)
        self._ask_retry = Backoff(retry_wait_s, RETRY_CAP_S, self._rng)
        self._unreadable = Backoff(retry_wait_s, RETRY_CAP_S, self._rng)
        self._sign_in_retry = Backoff(retry_wait_s, RETRY_CAP_S, self._rng)
        self._sign_in_at = self._ask_at = self._joined_at = -math.inf
        self._waits_for_jobs = False
        #: What a server of ours said with its last "no job", seconds; ``None`` at any other server.
        self._told_wait_s: int | None = None
        #: Frames that nobody here renders came: asked on more and more slowly, until one comes that somebody does.
        self._unwanted = Backoff(retry_wait_s, min(NO_JOB_CAP_S, no_job_wait_s * NO_JOB_CAP_TIMES), self._rng)
        #: The last question was answered with a frame: more may be asked side by side.
        self.is_flowing = False
        #: Counts the questions that were answered "no job"; when the wait after the last of them ends.
        self.no_job_answers, self.no_job_until = 0, -math.inf
        #: DISABLED, and not even uploads get through any more.
        self._gone = False
        #: Logged out by us; a straggler must not sign in again.
        self._left = False
        #: What was refused for good, by exchange.
        self._fatal: dict[str, str] = {}
        self._remembered = ""
        #: Counts sign-ins; each thread keeps the one it works with.
        self._generation = 0
        self._of_thread = threading.local()
        self._lock = threading.RLock()
        self._signing_in = threading.Lock()
        self._take_up_remembered()

    def __repr__(self) -> str:
        return f"FarmSession({self.key!r}, {self.state.value})"

    # Signing in

    def ensure_signed_in(self) -> bool:
        """True when exchanges may be tried; signs in where that is due. False: not now, or DISABLED and past use.

        Raises :class:`FatalRefusal`.
        """
        if self._has_session():
            return True
        if self._left:
            return False
        with self._signing_in:
            # Somebody else may have been faster.
            if self._has_session():
                return True
            if self.state is SessionState.DISABLED or self._clock() < self._sign_in_at:
                return False
            return self._sign_in() and self._has_session()

    @property
    def described_node(self) -> str:
        """Id of the PC that the server takes us for; empty where that is none of ours."""
        return self.node_id if self._told in (None, self.hardware) else ""

    @property
    def is_over(self) -> bool:
        """Disabled, and the server does not even take uploads any more."""
        return self.state is SessionState.DISABLED and self._gone

    def session_died(self) -> None:
        """The server said so (304 or the like): the next exchange signs in first.

        Counts only for the session that the calling thread got from its last :meth:`ensure_signed_in`.
        """
        with self._lock:
            if getattr(self._of_thread, "generation", self._generation) != self._generation:
                return
            if self.state is SessionState.DISABLED:
                self._gone = True
            elif self.state is SessionState.SIGNED_IN:
                self.state = SessionState.SIGNED_OUT
                self.notice = "the session died; signing in again"
                logger.warning("%s: %s", self.key, self.notice)

    def log_out(self) -> None:
        """Ends the session at the server, as far as it listens, for good: nothing signs in again after this."""
        with self._lock:
            if self.state is SessionState.SIGNED_IN:
                self.state = SessionState.SIGNED_OUT
            self._gone = self.state is SessionState.DISABLED
            self._left = True
        try:
            self.client.log_out()
        except ServerSilent as error:
            logger.warning("%s: not logged out: %s", self.key, error)
        self._keep_client()

    def _has_session(self) -> bool:
        with self._lock:
            if "sign-in" in self._fatal:
                raise FatalRefusal(self._fatal["sign-in"])
            self._of_thread.generation = self._generation
            if self.state is SessionState.DISABLED:
                return not self._gone
            return self.state is SessionState.SIGNED_IN

    def _sign_in(self) -> bool:
        try:
            answer = self._asked_to_sign_in()
        except ServerSilent as error:
            self._sign_in_later(str(error))
            return False
        except UnknownGeneration as error:
            raise self._refused("sign-in", str(error)) from None
        reaction = ON_SIGN_IN_ANSWER.get(answer.status, Reaction.RETRY)
        if reaction is Reaction.GIVE_UP:
            raise self._refused("sign-in", self._identity.refusal(answer.status))
        if reaction is Reaction.RETRY:
            self._sign_in_later(f"not signed in: {explain(answer.status)}")
            return False
        self._signed_in(answer)
        return True

    def _asked_to_sign_in(self) -> SignInAnswer:
        """The server's answer to its public key, or to the password."""
        key, self._told = self.client.public_key, self.hardware
        answer = self.client.sign_in(self._identity.request(self.hardware, self.hostname, key))
        if key is None or answer.status != SignInStatus.AUTHENTICATION_FAILED:
            return answer
        logger.warning("%s: the server no longer takes its public key; signing in with the password", self.key)
        self.client.public_key = None
        self._keep_client()
        return self.client.sign_in(self._identity.request(self.hardware, self.hostname, None))

    def _signed_in(self, answer: SignInAnswer) -> None:
        with self._lock:
            self.state, self.notice = SessionState.SIGNED_IN, "signed in"
            self._generation += 1
            self._had_frame = False
            # Lifted by the first sign of life: only a session that dies at once makes the next one wait.
            self._sign_in_at = self._clock() + self._sign_in_retry.next()
        logger.info("%s: signed in", self.key)
        self._keep_client()
        if answer.speed_test_targets:
            self._measure(self.client, answer.speed_test_targets)

    def _describe_anew(self) -> None:
        """A session that describes another machine, and nobody has worked with yet, ends; the next one is told."""
        with self._lock:
            is_stale = self._told not in (None, self.hardware) and not self._had_frame
            if not is_stale or self.state is not SessionState.SIGNED_IN:
                return
            self.state, self._sign_in_at = SessionState.SIGNED_OUT, -math.inf
        logger.info("%s: begins anew, to tell of %s", self.key, self.hostname)
        with contextlib.suppress(ServerSilent):
            self.client.log_out()

    def _sign_in_later(self, notice: str) -> None:
        with self._lock:
            wait_s = self._at_most_told(self._sign_in_retry.next())
            level = logging.WARNING if notice != self.notice or wait_s >= LOGGED_FROM_S else logging.DEBUG
            self.notice, self._sign_in_at = notice, self._clock() + wait_s
        logger.log(level, "%s: %s; next try in %s", self.key, notice, duration_text(wait_s))

    # Asking

    def waits_until(self) -> float:
        """The clock's time before which :meth:`ask` does nothing; infinite for a disabled session."""
        with self._lock:
            if self.state is SessionState.DISABLED:
                return math.inf
            return max(self._ask_at, self._sign_in_at) if self.state is SessionState.SIGNED_OUT else self._ask_at

    def job_may_be_there(self) -> None:
        """A frame of ours came to its end. Servers grant so many unvalidated frames a session: a wait for jobs is over.

        Such a wait was about our own frames, so it does not make the next one longer.
        """
        with self._lock:
            if self._waits_for_jobs:
                self._waits_for_jobs = False
                self._ask_at = self._clock()
                self._no_job.reset()

    def asks_in_s(self) -> float | None:
        """Seconds until the server may be asked again; ``None``: never, the session is disabled."""
        until = self.waits_until()
        return None if until == math.inf else max(0.0, until - self._clock())

    def ask_now(self) -> bool:
        """A person does not want to wait, whatever the wait is for; false where asking is of no use any more."""
        with self._lock:
            if self.state is SessionState.DISABLED or self._left or self._fatal:
                return False
            self._waits_for_jobs = False
            self._ask_at = self._sign_in_at = self._clock()
            for backoff in (self._no_job, self._ask_retry, self._sign_in_retry, self._unwanted, self._unreadable):
                backoff.reset()
            return True

    def pc_joined(self) -> None:
        """A wait for jobs is over, unless another PC ended one less than :data:`JOINED_EVERY_S` ago."""
        with self._lock:
            if self._waits_for_jobs and self._clock() >= self._joined_at + JOINED_EVERY_S:
                self._joined_at = self._clock()
                self.job_may_be_there()

    def frame_was_unwanted(self, notice: str) -> None:
        """The frame that just came is blocked here and goes back: the next one is asked for after a wait that grows.

        No frame that comes to its end shortens it: giving this one back is such an end.
        """
        self._wait(self._unwanted.next, notice)

    def frame_was_wanted(self) -> None:
        """The frame that just came is rendered here."""
        self._unwanted.reset()

    def ask(self, method: ComputeMethod, held: Sequence[str]) -> JobAnswer | None:
        """Asks for one frame; ``held`` are MD5 sums of archives we have.

        ``None``: not now (see :meth:`waits_until`). An answer without an offer still names archives to delete. Raises
        :class:`FatalRefusal`.
        """
        with self._lock:
            if "asking" in self._fatal:
                raise FatalRefusal(self._fatal["asking"])
        if self._clock() < self.waits_until():
            return None
        self._describe_anew()
        if not self.ensure_signed_in():
            return None
        request = self._question(method, held)
        answer = self._request(request)
        if answer is not None and answer.status == JobStatus.SESSION_DEAD:
            self.session_died()
            if not self.ensure_signed_in():
                return None
            answer = self._request(request)
        if answer is None:
            return None
        self._heed(answer)
        return answer if answer.offer or answer.delete_archives else None

    def _question(self, method: ComputeMethod, held: Sequence[str]) -> JobRequest:
        with_gpu = method is not ComputeMethod.CPU_ONLY and self.gpus
        return JobRequest(
            compute_method=method,
            held_archives=tuple(held),
            cpu_cores=self.hardware.cpu_cores,
            ram_max_kb=self.hardware.ram // 1024,
            render_time_max_s=self._render_time_max_s,
            gpu_model=self.gpus[0] if with_gpu else None,
            network_down=self.client.network_down,
            network_up=self.client.network_up,
        )

    def _request(self, request: JobRequest) -> JobAnswer | None:
        try:
            return self.client.request_job(request)
        except ServerSilent as error:
            self._wait(lambda: self._at_most_told(self._ask_retry.next()), str(error))
            return None

    def _heed(self, answer: JobAnswer) -> None:
        """Does what the answer's status asks for."""
        status = answer.status
        reaction = ON_JOB_ANSWER.get(status, Reaction.RETRY)
        if reaction in (Reaction.SIGN_IN_AGAIN, Reaction.RETRY):
            if reaction is Reaction.SIGN_IN_AGAIN:
                self.session_died()
            self._wait(self._ask_retry.next, explain(status))
            return
        self._sign_of_life()
        if answer.unreadable is not None:
            self._give_back(answer.unreadable)
        elif reaction is Reaction.GO_ON:
            self._no_job.reset()
            self._unreadable.reset()
            self._had_frame = True
            self.notice, self.is_flowing = "the server gave a frame", True
        elif reaction is Reaction.WAIT_FOR_JOBS:
            self._told_wait_s = answer.wait_s
            self._wait(lambda: self._at_most_told(self._no_job.next()), explain(status), for_jobs=True)
            with self._lock:
                self.no_job_answers, self.no_job_until = self.no_job_answers + 1, self._ask_at
        elif reaction is Reaction.WAIT_LONG:
            self._wait(lambda: NO_RENDERER_WAIT_S * self._rng.uniform(*JITTER), explain(status))
        elif reaction is Reaction.WAIT_LATER:
            self._wait(lambda: self._rng.uniform(*LATER_WAIT_S), explain(status))
        elif reaction is Reaction.DISABLE:
            self._disable(explain(status), ADVICE[status])
        else:
            raise self._refused("asking", explain(status))
        self._keep_client()

    def _give_back(self, offer: UnreadableOffer) -> None:
        """Frames that nobody here can follow must not stay in our name, and the next may be no better."""
        self._return_offer(self.key, offer)
        notice = (
            f"frame {offer.frame[:20]} of job {offer.job[:20]} was granted in words we cannot follow: {offer.reason}"
        )
        self._wait(self._unreadable.next, notice)

    def _at_most_told(self, wait_s: float) -> float:
        """The wait, but no longer than a server of ours wants us to wait."""
        told_s = self._told_wait_s
        return wait_s if told_s is None else min(wait_s, told_s * self._rng.uniform(*JITTER))

    def _sign_of_life(self) -> None:
        with self._lock:
            self._ask_retry.reset()
            self._sign_in_retry.reset()
            self._sign_in_at = -math.inf

    def _wait(self, next_wait_s: Callable[[], float], notice: str, *, for_jobs: bool = False) -> None:
        """Nothing is asked for a while. Questions that were under way together make one wait, not several."""
        with self._lock:
            if not self.is_flowing and self._clock() < self._ask_at:
                return
            wait_s = next_wait_s()
            is_news = notice != self.notice or wait_s >= LOGGED_FROM_S
            self.notice, self._waits_for_jobs, self.is_flowing = notice, for_jobs, False
            self._ask_at = self._clock() + wait_s
        level = logging.DEBUG if not is_news else logging.INFO if for_jobs else logging.WARNING
        logger.log(level, "%s: %s; asking again in %s", self.key, notice, duration_text(wait_s))

    def _disable(self, notice: str, advice: str) -> None:
        with self._lock:
            if self.state is SessionState.DISABLED:
                return
            self.state, self.notice = SessionState.DISABLED, notice
        logger.critical("%s: %s. It asks for nothing more; %s", self.key, notice, advice)

    def _refused(self, what: str, notice: str) -> FatalRefusal:
        with self._lock:
            self.notice = self._fatal[what] = notice
        return FatalRefusal(notice)

    # Across restarts

    def _take_up_remembered(self) -> None:
        try:
            kept = json.loads(self._recall() or "{}")
            if kept.get("login") == self._identity.credentials.login:
                self.client.thaw(kept["client"])
        except (ValueError, KeyError, AttributeError):
            logger.warning("%s: the remembered session cannot be read; signing in again", self.key)
        if self.client.endpoints is not None:
            self.state, self.notice = SessionState.SIGNED_IN, "goes on with the session from before the restart"

    def _keep_client(self) -> None:
        """Servers change cookies as they like; only a change is written down. A public key outlives its session."""
        frozen = self.client.freeze()
        self._keep(json.dumps({"login": self._identity.credentials.login, "client": frozen}) if frozen else "")

    def _keep(self, text: str) -> None:
        with self._lock:
            if text != self._remembered:
                self._remember(text)
                self._remembered = text
