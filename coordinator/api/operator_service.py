"""What operators ask for: the status, a request to the server now, the release of a PC."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import msgspec

from coordinator.delivery.failure_logs import FailureLogs
from coordinator.jobs.blocks import JobBlocks
from coordinator.leases.lease import ACTIVE, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.operator.farm_figures import Pace, frame_counts
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.asking import FrameRequester
from coordinator.upstream.session_pool import SessionPool
from sheepfold import __version__
from sheepfold.contract.presence import Presence

#: Ended leases among which a frame is looked for, latest first.
HISTORY_SEARCHED = 5000


@dataclass(frozen=True, kw_only=True)
class FrameLog:
    """A failed attempt's log, for a person."""

    #: On the coordinator's machine; empty: there is none, as of a frame that was given up unrendered.
    path: str
    reason: str
    text: str


class IndexedNodes(Protocol):
    """Keeps the index to nodes that may get frames (:class:`coordinator.scheduling.usable_nodes.UsableNodes`)."""

    def update_index(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class OperatorServices:
    """What operators are told of, and what they change."""

    ledger: Ledger
    sessions: SessionPool
    quarantine: NodeQuarantine
    pauses: NodePauses
    requester: FrameRequester
    blocks: JobBlocks
    present: PresentNodes
    usable: IndexedNodes
    failure_logs: FailureLogs
    wakeups: Wakeups


class OperatorService:
    """Answers the LAN API's operator paths."""

    def __init__(self, services: OperatorServices) -> None:
        self._services = services
        self._ledger, self._sessions, self._present = services.ledger, services.sessions, services.present
        self._quarantine, self._pauses, self._requester = services.quarantine, services.pauses, services.requester
        self._pace = Pace()
        self._ledger.watch(self._pace.follow)

    def ask_now(self) -> list[dict[str, Any]]:
        """Asks the server for frames without waiting any longer; what that means for each session."""
        asked: list[dict[str, Any]] = []
        for session in self._sessions.status(self._present.nodes):
            is_asked = self._sessions[session["key"]].ask_now()
            has_free_slot = self._requester.wanted(session["key"]) > 0
            said = "asking now" if has_free_slot else "asking as soon as a slot is free: none is"
            asked.append({"name": session["name"], "asked": is_asked, "said": said if is_asked else session["notice"]})
        self._services.wakeups.asking.set()
        return asked

    def log(self, job: str, frame: str) -> FrameLog | None:
        """What the renderer said when the frame last failed; ``None``: no failure of such a frame is known."""
        from_ledger: FrameLog | None = None
        for lease in (*self._ledger.leases(*ACTIVE), *self._ledger.history(HISTORY_SEARCHED)):
            if job not in (lease.offer.job_id, lease.job_name) or not _same_frame(frame, lease.offer.frame):
                continue
            if path := self._services.failure_logs.last_of(lease):
                return FrameLog(path=str(path), reason=lease.reason, text=path.read_text("utf-8", "replace"))
            if lease.state is LeaseState.FAILED and from_ledger is None:
                from_ledger = FrameLog(path="", reason=lease.reason, text=f"{lease.reason}\n(no log of it is kept)")
        return from_ledger

    def release(self, name: str) -> bool:
        """Ends a PC's quarantine or pause and forgets its strikes; false when no PC of that name has either."""
        is_lifted = self._pauses.lift(name)
        released = self._quarantine.release(name) or is_lifted
        if released:
            self._services.usable.update_index()
        return released

    def status(self) -> dict[str, Any]:
        """What ``sheepfold status --json`` prints; of JSON's types alone."""
        counts = self._ledger.counts()
        nodes = sorted(self._present.nodes.values(), key=lambda node: node.name)
        remaining = self._requester.frames_remaining
        return {
            "version": __version__,
            "sessions": [self._session(session) for session in self._sessions.status(self._present.nodes)],
            "leases": {state.value: count for state, count in counts.items()},
            "frames": frame_counts(counts, nodes),
            "accepted": counts[LeaseState.ACCEPTED],
            "frames_remaining": remaining,
            "eta_s": self._pace.eta_s(remaining, time.time()),
            "nodes": [self._node(node) for node in nodes],
            "quarantined": sorted(self._quarantine.quarantined().values()),
            "blocked": [asdict(block) | {"label": block.label} for block in self._services.blocks.all()],
        }

    def _session(self, session: dict[str, Any]) -> dict[str, Any]:
        """When the server is asked next: so many seconds from now, and not before a slot is free."""
        return session | {
            "asked_in_s": self._sessions[session["key"]].asks_in_s(),
            "has_free_slot": self._requester.wanted(session["key"]) > 0,
        }

    def _node(self, node: Presence) -> dict[str, Any]:
        return {
            "name": node.name,
            "id": node.node_id,
            "slots": node.slots,
            "compute": node.compute.value,
            "accepting": node.accepting,
            "quarantined": self._quarantine.is_quarantined(node.node_id),
            "trouble": self._pauses.reason(node.node_id),
            "blender": node.blender,
            "no_blender": node.no_blender,
            "sandbox": node.sandbox,
            "sandbox_note": node.sandbox_note,
            "strikes": self._quarantine.strikes_of(node.node_id),
            "cpu": node.hardware.cpu_model_name,
            "cores": node.hardware.cpu_cores,
            "ram": node.hardware.ram,
            "busy": msgspec.to_builtins(node.busy),
        }


def _same_frame(asked: str, frame: str) -> bool:
    """``12`` means ``0012``."""
    return asked == frame or (asked.isdecimal() and frame.isdecimal() and int(asked) == int(frame))
