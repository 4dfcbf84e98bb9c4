"""Repeats calls to a coordinator that does not answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

from sheepfold.backoff import Backoff

from .cancellation import CancelToken
from .errors import AttemptDropped, CoordinatorFailed, CoordinatorUnreachable, TokenRefused

log = logging.getLogger(__name__)

T = TypeVar("T")

#: First and longest wait for a silent coordinator; they grow between and are jittered.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0
#: Half a minute of waits lies between the first and the last: a coordinator that was restarted meanwhile has answered.
FAILURES_AT_MOST = 10


def retry_while_unreachable(call: Callable[[], T], cancel_token: CancelToken, give_up_after_s: float = math.inf) -> T:
    """Repeats a call while the coordinator is silent, with growing, jittered waits, until it answers or is not wanted.

    A refused token is waited out too: whoever changes it restarts one side after the other. A coordinator that fails
    over the call itself, and not for want of disk or Redis, is asked :data:`FAILURES_AT_MOST` times: it fails over the
    same thing again.
    Raises AttemptDropped, the call's own errors, CoordinatorFailed, or CoordinatorUnreachable after
    ``give_up_after_s`` seconds of waiting.
    """
    waited_s, failures, waits = 0.0, 0, Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
    while True:
        if cancel_token.is_cancelled():
            raise AttemptDropped(cancel_token.reason)
        try:
            return call()
        except (CoordinatorUnreachable, TokenRefused) as error:
            failures += isinstance(error, CoordinatorFailed)
            if waited_s >= give_up_after_s or failures >= FAILURES_AT_MOST:
                raise
            log.log(logging.ERROR if isinstance(error, TokenRefused) else logging.INFO, "%s", error)
        pause_s = waits.next()
        cancel_token.wait(pause_s)
        waited_s += pause_s
