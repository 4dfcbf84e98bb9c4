"""The Celery side of a node: one task, one control command. Decode, call, done.

How an attempt ends is what Flower shows::

    a slot begins to render    STARTED   an order that waits for its slot is RECEIVED
    node.carry_out returns     SUCCESS   the coordinator has the frame
    ... raises AttemptFailed   FAILURE   with kind and reason in one line
    ... raises AttemptDropped  REVOKED   cancelled, or no longer ours

Celery sends no event for a task that raises ``Ignore``; :class:`OrderRequest` sends the revoke. It also leaves the
traceback out of failure events: it names files of this PC and helps nobody in a task list.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from celery import Celery, signals
from celery.exceptions import Ignore
from celery.worker.control import Panel, control_command
from celery.worker.request import Request

from sheepfold.contract.broker_messages import PING_COMMAND
from sheepfold.contract.celery_app import attempt_of
from sheepfold.contract.orders import CANCEL_COMMAND, RENDER_TASK
from sheepfold.contract.signing import SignedMessage

from .errors import AttemptDropped, AttemptFailed, FrameFailed


class OrderTaker(Protocol):
    """What the task needs of the node."""

    def expect(self, lease_id: str, attempt: int) -> None: ...
    def begin(self, lease_id: str, attempt: int) -> None: ...
    def carry_out(self, signed: SignedMessage, on_slot: Callable[[], None]) -> None: ...
    def cancel(self, signed: SignedMessage) -> bool: ...


class FrameDropped(Ignore):
    """What Celery sees of an attempt nobody wants any more."""


class OrderRequest(Request):
    """Celery's request for one order, with the events Flower needs."""

    #: When a slot began to render it (monotonic seconds).
    _slot_since: float | None = None

    def has_its_slot(self) -> None:
        """The render begins: only now is the task started, and only from now on does its time count."""
        self._slot_since = time.monotonic()
        super().send_event("task-started")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Celery calls this for every way to end but success."""
        if isinstance(getattr(exc_info.exception, "exc", exc_info.exception), FrameDropped):
            self.send_event("task-revoked", terminated=False, signum=None, expired=False)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def send_event(self, type: str, **fields: Any) -> Any:  # noqa: A002 (Celery's name)
        """Celery calls this for every event of the request; ours differ as the module says."""
        if type == "task-started":
            return None  # a thread has it; it is started when a slot has it
        if "traceback" in fields:
            fields["traceback"] = None
        if "runtime" in fields and self._slot_since is not None:
            fields["runtime"] = time.monotonic() - self._slot_since
        return super().send_event(type, **fields)


def install(app: Celery, node: OrderTaker) -> None:
    """Gives the app its task and the worker its control command."""
    #: Celery's requests for orders that were received and have no thread yet.
    requests: dict[str, OrderRequest] = {}

    @app.task(name=RENDER_TASK, bind=True, Request=OrderRequest, throws=(FrameFailed,), ignore_result=True)
    def render(self: Any, text: str, signature: str) -> str:
        with contextlib.suppress(ValueError):
            node.begin(*attempt_of(self.request.id))
        request = requests.pop(self.request.id, None)
        try:
            signed = SignedMessage(text=text, signature=signature)
            node.carry_out(signed, request.has_its_slot if request else lambda: None)
        except AttemptFailed as failed:
            raise FrameFailed(str(failed)) from None
        except AttemptDropped as dropped:
            raise FrameDropped(str(dropped)) from None
        return "delivered"

    _leave_commands(PING_COMMAND)

    @control_command(name=CANCEL_COMMAND, args=[("text", str), ("signature", str)])
    def cancel_lease(state: Any, text: str, signature: str) -> dict[str, bool]:
        return {"cancelled": node.cancel(SignedMessage(text=text, signature=signature))}

    @signals.task_received.connect(weak=False)
    def received(request: OrderRequest, **_: Any) -> None:
        requests[request.id] = request
        with contextlib.suppress(ValueError):
            node.expect(*attempt_of(request.id))


def _leave_commands(*names: str) -> None:
    """Takes every other control command from Celery: who has a password of Redis could stop workers with them."""
    for name in Panel.data.keys() - set(names):
        del Panel.data[name]
