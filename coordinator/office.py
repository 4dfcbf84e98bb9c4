"""What operators ask for: the status, the end of a job, a fresh start for a PC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from render_tasks.contract import Presence

from . import __version__
from .account import Account
from .conduct import Conduct
from .dispatcher import Dispatcher
from .leases import ACTIVE, Lease, LeaseState
from .ledger import Ledger


class Office:
    """Answers the depot's operator paths."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        account: Account,
        conduct: Conduct,
        dispatcher: Dispatcher,
        present: Callable[[], dict[str, Presence]],
        cancel_lease: Callable[[Lease, str], None],
        on_forgiven: Callable[[], None],
    ) -> None:
        self._ledger, self._account, self._conduct, self._dispatcher = ledger, account, conduct, dispatcher
        self._present, self._cancel_lease, self._on_forgiven = present, cancel_lease, on_forgiven

    def cancel(self, job: str, frame: str | None) -> int:
        """Ends the leases of a job (its id or its name), or those of one frame; returns how many."""
        chosen = [
            lease
            for lease in self._ledger.leases(*ACTIVE)
            if job in (lease.offer.job_id, lease.job_name) and frame in (None, lease.offer.frame)
        ]
        for lease in chosen:
            self._cancel_lease(lease, "cancelled by the operator")
        return len(chosen)

    def forgive(self, name: str) -> bool:
        """Gives a PC a fresh start; false when nobody of that name has a mark."""
        forgiven = self._conduct.forgive(name)
        if forgiven:
            self._on_forgiven()
        return forgiven

    def status(self) -> dict[str, Any]:
        """What ``sheepfold status --json`` prints."""
        counts = self._ledger.counts()
        nodes = sorted(self._present().values(), key=lambda node: node.name)
        return {
            "version": __version__,
            "sessions": self._account.status(self._present()),
            "leases": {state.value: count for state, count in counts.items()},
            "accepted": counts[LeaseState.ACCEPTED],
            "frames_remaining": self._dispatcher.frames_remaining,
            "nodes": [self._node(node) for node in nodes],
            "set_aside": sorted(self._conduct.set_aside().values()),
        }

    def _node(self, node: Presence) -> dict[str, Any]:
        return {
            "name": node.name,
            "id": node.node_id,
            "slots": node.slots,
            "compute": node.compute.value,
            "accepting": node.accepting,
            "set_aside": self._conduct.is_set_aside(node.node_id),
            "marks": self._conduct.marks_of(node.node_id),
            "cpu": node.hardware.cpu_model_name,
            "cores": node.hardware.cpu_cores,
            "ram": node.hardware.ram,
            "busy": msgspec.to_builtins(node.busy),
        }
