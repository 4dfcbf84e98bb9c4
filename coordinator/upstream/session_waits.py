"""How long a session waits, and for what. Every wait is jittered; those that repeat grow."""

from __future__ import annotations

import random

from sheepfold.backoff import JITTER, Backoff

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


class SessionWaits:
    """The waits of one session, in seconds. Not thread-safe: the session's lock guards them."""

    def __init__(self, no_job_wait_s: float, retry_wait_s: float, rng: random.Random) -> None:
        no_job_cap_s = min(NO_JOB_CAP_S, no_job_wait_s * NO_JOB_CAP_TIMES)
        self._rng = rng
        self.no_job = Backoff(no_job_wait_s, no_job_cap_s, rng)
        #: Between sign-ins.
        self.sign_in = Backoff(retry_wait_s, RETRY_CAP_S, rng)
        #: After a job request that came to nothing.
        self.retry = Backoff(retry_wait_s, RETRY_CAP_S, rng)
        #: After an offer that cannot be read.
        self.unreadable = Backoff(retry_wait_s, RETRY_CAP_S, rng)
        #: After a frame that is blocked here: ever more slowly, until one comes that is not.
        self.blocked = Backoff(retry_wait_s, no_job_cap_s, rng)
        #: What a server of ours said with its last "no job"; ``None`` at any other server.
        self.server_wait_s: int | None = None

    def after_no_job(self) -> float:
        """At most what the server itself said."""
        return self._at_most_told(self.no_job.next())

    def after_silence(self) -> float:
        """Before the next job request to a server that gave no usable answer."""
        return self._at_most_told(self.retry.next())

    def after_failed_sign_in(self) -> float:
        """Before the next try, where the server said neither yes nor a final no."""
        return self._at_most_told(self.sign_in.next())

    def after_no_renderer(self) -> float:
        """There is no Blender for this platform yet."""
        return NO_RENDERER_WAIT_S * self._rng.uniform(*JITTER)

    def after_overload(self) -> float:
        """When the server said that it is in maintenance (206) or has too many clients (207)."""
        return self._rng.uniform(*LATER_WAIT_S)

    def reset(self) -> None:
        """Every wait is the first of its kind again."""
        for backoff in (self.no_job, self.retry, self.sign_in, self.blocked, self.unreadable):
            backoff.reset()

    def _at_most_told(self, wait_s: float) -> float:
        told_s = self.server_wait_s
        return wait_s if told_s is None else min(wait_s, told_s * self._rng.uniform(*JITTER))
