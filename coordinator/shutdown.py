"""How a coordinator leaves: nothing more is asked for, what is ready goes up, the rest is given back, then the log-out.

A server forgets who renders what with our session, so no frame may be left with it in our name. All of it takes less
than ten seconds after a signal. After a refusal that waiting can't mend nobody is in a hurry, until a signal comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol

from coordinator.delivery.claims import Claims
from coordinator.leases.lease import Lease, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.runtime.stop_request import StopRequest
from coordinator.runtime.wakeups import Wakeups
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_workers import SessionLoops
from sheepfold.contract.api_messages import FailureKind, FailureReport

#: Every command is gone ten seconds after a signal; one is left for closing.
STOP_WITHIN_S = 9.0
#: Of that, for questions to the server that are under way,
ASKING_ENDS_S = 1.0
#: and for the log-out and what follows it.
LAST_STEPS_S = 3.0
LOG_OUT_S = 2.0
#: After a refusal nothing new comes; pictures in the spool may take this long to reach the server.
FLUSH_AFTER_REFUSAL_S = 120.0
LOOK_EVERY_S = 0.05


class NodeCanceller(Protocol):
    """Ends attempts on nodes, without waiting (:class:`coordinator.broker.node_queues.NodeQueues`)."""

    def cancel(self, node_id: str | None, lease_id: str, attempt: int, /) -> None: ...


class GracefulShutdown:
    """The last acts of a farm, in their order."""

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        sessions: SessionPool,
        session_loops: SessionLoops,
        canceller: NodeCanceller,
        wakeups: Wakeups,
    ) -> None:
        self._ledger, self._claims, self._sessions = ledger, claims, sessions
        self._session_loops, self._canceller, self._wakeups = session_loops, canceller, wakeups

    def send_what_is_ready(self, stop: StopRequest) -> None:
        """Ends the asking, gives unfinished frames back, and lets the uploads go on while there is time.

        There is more of it after an error, until ``stop`` is asked for as well, be it now or later.
        """
        deadline = time.monotonic() + STOP_WITHIN_S - LAST_STEPS_S
        self._session_loops.stop_asking()
        self._session_loops.join_asking(ASKING_ENDS_S)
        self._give_back_unfinished()
        hurried = stop.was_asked or stop.error is None
        if not hurried:
            deadline += FLUSH_AFTER_REFUSAL_S
        while time.monotonic() < deadline and self._session_loops.can_send_more():
            if stop.was_asked and not hurried:
                hurried, deadline = True, time.monotonic() + STOP_WITHIN_S - LAST_STEPS_S
            self._wakeups.uploading.set()
            time.sleep(LOOK_EVERY_S)
        self._session_loops.stop()

    def log_out_all(self) -> None:
        """Gives back what was granted at the last moment, cuts what still waits for the server, and logs out."""
        self._give_back_unfinished()
        sessions = list(self._sessions.values())
        for session in sessions:
            session.client.abort()
        threads = [threading.Thread(target=session.log_out, daemon=True) for session in sessions]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + LOG_OUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _give_back_unfinished(self) -> None:
        report = FailureReport(kind=FailureKind.NODE_LEAVING, reason="the farm was stopped by its operator")
        unfinished = self._ledger.leases(LeaseState.GRANTED, LeaseState.ORDERED, LeaseState.RENDERING)
        self._claims.give_up_all(unfinished, report)
        # Beside us: a Redis that hangs must not use up our time. What it misses, the start-fence or the delivery
        # turns away.
        threading.Thread(target=self._cancel_all_on_nodes, args=(unfinished,), daemon=True).start()

    def _cancel_all_on_nodes(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._canceller.cancel(lease.node_id, lease.id, lease.attempt)
