"""One session of the account at the server: signing in, asking for frames, and what each refusal makes of it.

::

                    sign-in 0                      203, 208
    SIGNED_OUT ─────────────────▶ SIGNED_IN ─────────────────▶ DISABLED
        ▲                             │                           for good
        └──── 202, 304, log-out ──────┘

Two waits run beside the states (:mod:`coordinator.upstream.session_waits`). *Signing in* waits as
:mod:`coordinator.upstream.signing_in` says. *Asking* waits after every answer that is not a frame. Both grow and are
jittered, so that a hundred farms don't come back in the same second. A server of ours says how soon it may be asked
again, and is: no longer than that stays a new project unseen. Everywhere else a wait ends early when a person says so
(:meth:`FarmSession.ask_now`), when a frame of ours came to its end, and, once a minute at most, when a node joins.

Threads share a session: some ask, some upload, several beat.

DISABLED is the server's word that it wants nothing more of us: broken frames (203), or a PC that can't do what it wants
(208). Signing in again would hide that from it and cost the account, so the session only finishes its uploads, as far
as the server lets it, until the farm logs it out.

Final noes raise :class:`~coordinator.upstream.errors.FatalRefusal`, in every thread that asks again: sign-in
100, 101, 102 and 104, a server whose dialect we do not know, job request 201.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sheepfold.protocol.messages import ComputeMethod, JobAnswer, JobRequest, UnreadableOffer
from sheepfold.protocol.status import JobStatus, explain
from sheepfold.units import duration_text

from .client import ServerClient
from .client_identity import ClientIdentity
from .errors import ServerSilent
from .reactions import ADVICE, ON_JOB_ANSWER, Reaction
from .session_state import SessionState, SessionStatus
from .session_waits import JOINED_EVERY_S, LOGGED_FROM_S, NO_JOB_WAIT_S, RETRY_WAIT_S, SessionWaits
from .signing_in import DescribedMachine, SessionServices, SignIn

logger = logging.getLogger(__name__)

#: Name of the exchange in :attr:`~coordinator.upstream.session_state.SessionStatus.refusals`.
JOB_REQUEST = "job request"
_NO_SERVICES = SessionServices()


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What the operator says about sessions; seconds."""

    #: The longest that a frame may render; ``None``: any time.
    render_time_max_s: int | None = None
    #: First wait after "no job".
    no_job_wait_s: float = NO_JOB_WAIT_S
    #: First wait while the server is down.
    retry_wait_s: float = RETRY_WAIT_S


_USUAL = SessionSettings()


class FarmSession:
    """One session of the account, shared by the farm's threads."""

    def __init__(
        self,
        *,
        key: str,
        machine: DescribedMachine,
        client: ServerClient,
        identity: ClientIdentity,
        settings: SessionSettings = _USUAL,
        services: SessionServices = _NO_SERVICES,
    ) -> None:
        self.key = key
        self.client = client
        self._settings = settings
        self._services = services
        self._clock = services.clock
        self._status = SessionStatus()
        self._lock = self._status.lock
        self._waits = SessionWaits(settings.no_job_wait_s, settings.retry_wait_s, services.rng)
        self._sign_in = SignIn(key, machine, client, identity, services, self._waits, self._status)
        self._ask_at = self._joined_at = -math.inf
        self._waits_for_jobs = False
        #: The last job request was answered with a frame: more may be sent side by side.
        self.is_flowing = False
        #: Counts the job requests that were answered "no job"; when the wait after the last of them ends.
        self.no_job_answers = 0
        self.no_job_until = -math.inf

    def __repr__(self) -> str:
        return f"FarmSession({self.key!r}, {self.state.value})"

    @property
    def state(self) -> SessionState:
        """As of now: other threads may change it."""
        return self._status.state

    @property
    def notice(self) -> str:
        """The last thing the server said, for a person."""
        return self._status.notice

    # Signing in

    @property
    def machine(self) -> DescribedMachine:
        """What the next sign-in tells of."""
        return self._sign_in.machine

    def describe(self, machine: DescribedMachine) -> None:
        """Tells of another machine from the next sign-in on; a session that has got no frame yet begins anew for it."""
        self._sign_in.machine = machine

    @property
    def described_node(self) -> str:
        """Id of the PC that the server takes us for; empty where that is none of ours."""
        return self._sign_in.described_node

    @property
    def is_over(self) -> bool:
        """Disabled, and the server does not even take uploads any more."""
        return self._sign_in.is_over

    def ensure_signed_in(self) -> bool:
        """Signs in where needed; see :meth:`coordinator.upstream.signing_in.SignIn.ensure_signed_in`."""
        return self._sign_in.ensure_signed_in()

    def session_died(self) -> None:
        """The next use signs in anew; see :meth:`coordinator.upstream.signing_in.SignIn.session_died`."""
        self._sign_in.session_died()

    def log_out(self) -> None:
        """Ends the session at the server, as far as it listens, for good: nothing signs in again after this."""
        self._sign_in.log_out()

    # Asking

    def waits_until(self) -> float:
        """The clock's time before which :meth:`request_job` does nothing; infinite for a disabled session."""
        with self._lock:
            if self._status.state is SessionState.DISABLED:
                return math.inf
            is_signed_out = self._status.state is SessionState.SIGNED_OUT
            return max(self._ask_at, self._sign_in.not_before) if is_signed_out else self._ask_at

    def job_may_be_there(self) -> None:
        """A frame of ours came to its end. Servers grant so many unvalidated frames a session: a wait for jobs is over.

        Such a wait was about our own frames, so it does not make the next one longer.
        """
        with self._lock:
            if self._waits_for_jobs:
                self._waits_for_jobs = False
                self._ask_at = self._clock()
                self._waits.no_job.reset()

    def asks_in_s(self) -> float | None:
        """Seconds until the server may be asked again; ``None``: never, the session is disabled."""
        until = self.waits_until()
        return None if until == math.inf else max(0.0, until - self._clock())

    def ask_now(self) -> bool:
        """A person does not want to wait, whatever the wait is for; false where asking is of no use any more."""
        with self._lock:
            if self._status.state is SessionState.DISABLED or self._sign_in.is_logged_out or self._status.refusals:
                return False
            self._waits_for_jobs = False
            self._ask_at = self._sign_in.not_before = self._clock()
            self._waits.reset()
            return True

    def node_joined(self) -> None:
        """A wait for jobs is over, unless another node ended it less than :data:`JOINED_EVERY_S` ago."""
        with self._lock:
            if self._waits_for_jobs and self._clock() >= self._joined_at + JOINED_EVERY_S:
                self._joined_at = self._clock()
                self.job_may_be_there()

    def frame_was_unwanted(self, notice: str) -> None:
        """The frame that just came is blocked here and goes back: the next one is asked for after a wait that grows.

        No frame that comes to its end shortens it: giving this one back is such an end.
        """
        self._wait(self._waits.blocked.next, notice)

    def frame_was_wanted(self) -> None:
        """The frame that just came is rendered here."""
        self._waits.blocked.reset()

    def request_job(self, method: ComputeMethod, held: Sequence[str]) -> JobAnswer | None:
        """Asks for one frame; ``held`` are MD5 sums of archives we have.

        ``None``: not now (see :meth:`waits_until`). An answer without an offer still names archives to delete. Raises
        :class:`~coordinator.upstream.errors.FatalRefusal`.
        """
        self._status.check(JOB_REQUEST)
        if self._clock() < self.waits_until():
            return None
        self._sign_in.end_if_outdated()
        if not self.ensure_signed_in():
            return None
        request = self._job_request(method, held)
        answer = self._request(request)
        if answer is not None and answer.status == JobStatus.SESSION_DEAD:
            self.session_died()
            if not self.ensure_signed_in():
                return None
            answer = self._request(request)
        if answer is None:
            return None
        self._react_to(answer)
        return answer if answer.offer or answer.delete_archives else None

    def _job_request(self, method: ComputeMethod, held: Sequence[str]) -> JobRequest:
        with_gpu = method is not ComputeMethod.CPU_ONLY and self.machine.gpus
        return JobRequest(
            compute_method=method,
            held_archives=tuple(held),
            cpu_cores=self.machine.hardware.cpu_cores,
            ram_max_kb=self.machine.hardware.ram // 1024,
            render_time_max_s=self._settings.render_time_max_s,
            gpu_model=self.machine.gpus[0] if with_gpu else None,
            network_down=self.client.network_down,
            network_up=self.client.network_up,
        )

    def _request(self, request: JobRequest) -> JobAnswer | None:
        try:
            return self.client.request_job(request)
        except ServerSilent as error:
            self._wait(self._waits.after_silence, str(error))
            return None

    def _react_to(self, answer: JobAnswer) -> None:
        """Does what the answer's status asks for."""
        status = answer.status
        reaction = ON_JOB_ANSWER.get(status, Reaction.RETRY)
        if reaction in (Reaction.SIGN_IN_AGAIN, Reaction.RETRY):
            if reaction is Reaction.SIGN_IN_AGAIN:
                self.session_died()
            self._wait(self._waits.retry.next, explain(status))
            return
        with self._lock:
            self._waits.retry.reset()
        self._sign_in.is_alive()
        if answer.unreadable is not None:
            self._give_back(answer.unreadable)
        elif reaction is Reaction.GO_ON:
            self._waits.no_job.reset()
            self._waits.unreadable.reset()
            self._sign_in.got_frame()
            self._status.notice, self.is_flowing = "the server gave a frame", True
        elif reaction is Reaction.WAIT_FOR_JOBS:
            self._waits.server_wait_s = answer.wait_s
            self._wait(self._waits.after_no_job, explain(status), for_jobs=True)
            with self._lock:
                self.no_job_answers, self.no_job_until = self.no_job_answers + 1, self._ask_at
        elif reaction is Reaction.WAIT_LONG:
            self._wait(self._waits.after_no_renderer, explain(status))
        elif reaction is Reaction.WAIT_LATER:
            self._wait(self._waits.after_overload, explain(status))
        elif reaction is Reaction.DISABLE:
            self._disable(explain(status), ADVICE[status])
        else:
            raise self._status.refuse(JOB_REQUEST, explain(status))
        self._sign_in.save()

    def _give_back(self, offer: UnreadableOffer) -> None:
        """Gives back a frame whose offer we cannot read, and waits: the next may be no better."""
        self._services.return_offer(self.key, offer)
        frame = f"frame {offer.frame[:20]} of job {offer.job[:20]}"
        self._wait(self._waits.unreadable.next, f"{frame} was granted in words we cannot follow: {offer.reason}")

    def _wait(self, next_wait_s: Callable[[], float], notice: str, *, for_jobs: bool = False) -> None:
        """Nothing is asked for a while. Requests that were under way together make one wait, not several."""
        with self._lock:
            if not self.is_flowing and self._clock() < self._ask_at:
                return
            wait_s = next_wait_s()
            is_news = notice != self._status.notice or wait_s >= LOGGED_FROM_S
            self._status.notice, self._waits_for_jobs, self.is_flowing = notice, for_jobs, False
            self._ask_at = self._clock() + wait_s
        level = logging.DEBUG if not is_news else logging.INFO if for_jobs else logging.WARNING
        logger.log(level, "%s: %s; asking again in %s", self.key, notice, duration_text(wait_s))

    def _disable(self, notice: str, advice: str) -> None:
        with self._lock:
            if self._status.state is SessionState.DISABLED:
                return
            self._status.state, self._status.notice = SessionState.DISABLED, notice
        logger.critical("%s: %s. It asks for nothing more; %s", self.key, notice, advice)
