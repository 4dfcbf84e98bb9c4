"""What follows when something happens to a lease: who is told, which leases come back, what is deleted.

The claims, the heartbeats, the uploads and the operator report here; every reaction of the farm stands in this file.
Each is called in the thread in which it happened, after the ledger has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.delivery.claim_listener import ClaimListener
from coordinator.delivery.claims import Claims
from coordinator.delivery.failure_logs import FailureLogs
from coordinator.delivery.spool import Spool
from coordinator.jobs.blocks import BlockedBy, JobBlocks
from coordinator.jobs.scene_faults import SceneFaults
from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Transition
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.requirements import RequirementsBuilder
from coordinator.upstream.uploads.error_reports import ReportBox
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Presence

log = logging.getLogger(__name__)

_UNDELIVERED = (LeaseState.GRANTED, LeaseState.ORDERED, LeaseState.RENDERING)


class NodeCanceller(Protocol):
    """Ends attempts on nodes, without waiting (:class:`coordinator.broker.node_queues.NodeQueues`)."""

    def cancel(self, node_id: str | None, lease_id: str, attempt: int, /) -> None: ...


class WaitingSession(Protocol):
    """A session that may wait before it asks again (:class:`coordinator.upstream.session.FarmSession`)."""

    def job_may_be_there(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LeaseEventServices:
    """Whom the events of leases concern."""

    ledger: Ledger
    spool: Spool
    reports: ReportBox
    failure_logs: FailureLogs
    quarantine: NodeQuarantine
    pauses: NodePauses
    scene_faults: SceneFaults
    blocks: JobBlocks
    nodes: NodeIndex
    present: PresentNodes
    requirements: RequirementsBuilder
    canceller: NodeCanceller
    #: By session key.
    sessions: Mapping[str, WaitingSession]
    wakeups: Wakeups


class LeaseEvents:
    """Reacts to events of leases. Thread-safe."""

    def __init__(self, services: LeaseEventServices, make_claims: Callable[[ClaimListener], Claims]) -> None:
        """``make_claims`` makes the claims that report here."""
        self._services = services
        self._ledger, self._quarantine, self._pauses = services.ledger, services.quarantine, services.pauses
        #: What nodes claim; reactions take leases back through it.
        self.claims = make_claims(self)

    # What claims report (coordinator.delivery.claim_listener.ClaimListener)

    def delivered(self, lease: Lease) -> None:
        """A picture is ready to upload: its PC did well, others that failed the frame did not."""
        for node_id in self._quarantine.succeeded(lease):
            self._take_all_from(node_id, LeaseState.ORDERED, LeaseState.RENDERING)
        self._pauses.succeeded(lease)
        self._services.scene_faults.rendered(lease)
        self._services.wakeups.wake_all()

    def failed(self, lease: Lease, report: FailureReport) -> None:
        """An attempt failed; should another PC succeed, that is a strike."""
        name = self._services.present.name_of(lease.node_id)
        self._services.failure_logs.put(lease, report, name)
        if lease.node_id is not None:
            self._quarantine.failed(lease, lease.node_id, name, report.kind, report.reason)

    def node_failed(self, lease: Lease, report: FailureReport) -> None:
        """The PC is paused; what waits there goes to others before it fails there too."""
        node_id, name = lease.node_id or "", self._services.present.name_of(lease.node_id)
        self._services.failure_logs.put(lease, report, name)
        if not self._pauses.failed(lease, node_id, name, report):
            return
        self._services.nodes.remove(node_id)
        for other in self._ledger.leases(LeaseState.ORDERED):
            if other.node_id == node_id and other.id != lease.id:
                self._cancel_on_node(other)
                self.claims.take_back(other, f"its PC is paused: {report.kind.value}")

    def scene_failed(self, lease: Lease, report: FailureReport) -> None:
        """An attempt failed through the scene; where nobody could do better, the whole job is put on hold."""
        able = self._services.nodes.able(self._services.requirements.of(lease), lease.session_key)
        if self._services.scene_faults.failed(lease, report, able):
            self._hold_job(lease, report)

    def held_back(self, lease: Lease, reason: str) -> None:
        """Its PC made a broken picture, should another one's be better."""
        name = self._services.present.name_of(lease.node_id)
        self._quarantine.failed(lease, lease.node_id or "", name, FailureKind.BAD_PICTURE, reason)

    def overtaken(self, lease: Lease) -> None:
        """The picture that was held back goes to the server: nobody needs to render the frame again."""
        self._cancel_on_node(lease)

    def returned(self, _lease: Lease) -> None:
        """The lease wants a node again."""
        self._services.wakeups.placing.set()

    def gave_up(self, leases: Sequence[Lease], report: FailureReport) -> None:
        """The leases failed for good: the server is told."""
        self._services.reports.put_all(leases, report)
        for lease in leases:
            self._quarantine.ended(lease)
            self._pauses.ended(lease)
        self._services.wakeups.wake_all()

    # What a look at the LAN tells (coordinator.nodes.reconciler.StalledNodes)

    def stalled_nodes(self) -> Collection[str]:
        """Ids of the PCs that answer and take nothing."""
        return self._pauses.stalled()

    def node_takes_nothing(self, node: Presence, waiting: int) -> None:
        """So many orders stay in its queue: it gets no more, and all of them go to others."""
        self._pauses.takes_nothing(node.node_id, node.name, waiting)
        self._services.nodes.remove(node.node_id)
        held = {slot.lease_id for slot in node.busy}
        for lease in self._ledger.leases(LeaseState.ORDERED):
            if lease.node_id == node.node_id and lease.id not in held:
                self.claims.take_back(lease, f"{node.name} takes no orders")

    def node_takes_orders(self, node_id: str) -> None:
        """It has taken what lay in its queue."""
        self._pauses.takes_orders(node_id)

    # What the server, or the operator, decides

    def refused_as_broken(self, lease: Lease, reason: str) -> None:
        """The server refused a frame as broken, in these words.

        Where that quarantines the PC, what it made and the server has not seen is made again: this is the thread that
        uploads, so none of it is on its way.
        """
        name = self._services.present.name_of(lease.node_id)
        if self._quarantine.refused(lease, name, reason):
            self._take_all_from(lease.node_id or "", LeaseState.ORDERED, LeaseState.RENDERING, LeaseState.DELIVERED)

    def revoked(self, node_id: str) -> None:
        """An operator turned the PC out: what it has not delivered goes to others."""
        self._take_all_from(node_id, LeaseState.ORDERED, LeaseState.RENDERING, reason="its PC was revoked")

    def cancel(self, lease: Lease, reason: str) -> None:
        """Ends a lease without a report, and its renderer with it."""
        self.cancel_all([lease], reason)

    def cancel_all(self, leases: Sequence[Lease], reason: str) -> list[Lease]:
        """Ends leases and their renderers at once, without a report; those that had not ended yet."""
        steps = [Transition(lease_id=lease.id, event=LeaseEvent.CANCEL, reason=reason) for lease in leases]
        ended = [lease for lease in self._ledger.apply_many(steps) if isinstance(lease, Lease)]
        for lease in ended:
            log.warning("%s cancelled: %s", lease.label, reason)
            self._ended_unseen(lease)
        return ended

    def lose(self, lease: Lease, reason: str) -> None:
        """Ends a lease that the server no longer knows."""
        try:
            lease = self._ledger.apply(lease.id, LeaseEvent.LOSE, reason=reason)
        except LeaseError:
            return
        log.error("%s lost: %s", lease.label, reason)
        self._ended_unseen(lease)

    def give_back(self, leases: Sequence[Lease], reason: str) -> None:
        """Tells the server that these frames do not come, so that others may have them."""
        self._services.reports.put_all(leases, FailureReport(kind=FailureKind.CANCELLED, reason=reason))
        self._services.wakeups.uploading.set()

    def _hold_job(self, lease: Lease, report: FailureReport) -> None:
        """No frame of it is rendered any more, until somebody unblocks it: each goes back with the reason."""
        job = (lease.offer.job_id, lease.offer.revision)
        kind = report.kind.value
        self._services.blocks.block(job[0], lease.job_name, report.reason, BlockedBy.FARM, kind=kind)
        of_job = [
            other for other in self._ledger.leases(*_UNDELIVERED) if (other.offer.job_id, other.offer.revision) == job
        ]
        self.claims.give_up_all(of_job, report)
        for other in of_job:
            self._cancel_on_node(other)

    def _take_all_from(self, node_id: str, *states: LeaseState, reason: str = "its PC was quarantined") -> None:
        """The PC gets no more frames: its leases in these states go to others."""
        self._services.nodes.remove(node_id)
        for lease in self._ledger.leases(*states):
            if lease.node_id == node_id:
                self._cancel_on_node(lease)
                self.claims.take_back(lease, reason)
                if lease.delivery is not None:
                    self._services.spool.discard(lease.delivery.picture)

    def _ended_unseen(self, lease: Lease) -> None:
        """What is left of a lease that ended without an upload."""
        self.claims.forget(lease.id)
        self._cancel_on_node(lease)
        self._quarantine.ended(lease)
        self._pauses.ended(lease)
        if lease.delivery is not None:
            self._services.spool.discard(lease.delivery.picture)
        self.claims.held_back.discard(lease)
        if session := self._services.sessions.get(lease.session_key):
            session.job_may_be_there()
        self._services.wakeups.asking.set()

    def _cancel_on_node(self, lease: Lease) -> None:
        self._services.canceller.cancel(lease.node_id, lease.id, lease.attempt)
