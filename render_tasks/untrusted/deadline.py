"""A step after a render: it ends in time, or its slot is free without it.

A disk that hangs, or a file system that a frame mounted, can keep a call waiting for ever. The step runs in a thread of
its own; whoever waits for it goes on at the deadline, or at once when the attempt is cancelled, and the thread is left
behind.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind

log = logging.getLogger(__name__)

T = TypeVar("T")


def within(seconds: float, step: Callable[[], T], cancel_token: CancelToken, *, doing: str) -> T:
    """What ``step`` gives or raises.

    Raises AttemptFailed when it is not done in time, in words made of ``doing`` (``taking the picture``), and
    AttemptDropped when ``cancel_token`` is set first.
    """
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None] | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((step(), None))
        except BaseException as error:
            ended.put((None, error))

    threading.Thread(target=run, name="after render", daemon=True).start()
    cancel_token.add_callback(lambda: ended.put(None))
    try:
        outcome = ended.get(timeout=seconds)
    except queue.Empty:
        log.error("%s has not ended after %.0f s and is left behind", doing, seconds)
        reason = f"{doing} took longer than {seconds:g} seconds: the disk of this PC hangs, or the frame left a trap"
        raise AttemptFailed.because(FailureKind.NO_OUTPUT, reason) from None
    if outcome is None:
        raise AttemptDropped(cancel_token.reason)
    if outcome[1] is not None:
        raise outcome[1]
    return cast("T", outcome[0])
