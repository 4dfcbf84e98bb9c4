"""Who is told of what became of a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coordinator.leases.lease import Lease
from sheepfold.contract.api_messages import FailureReport


class ClaimListener(Protocol):
    """What else is done about a claim (:class:`coordinator.lease_events.LeaseEvents`), once the ledger has it."""

    def delivered(self, lease: Lease, /) -> None:
        """A picture is ready to upload."""

    def failed(self, lease: Lease, report: FailureReport, /) -> None:
        """An attempt failed, neither through nobody's fault nor its PC's own trouble; the lease names its node."""

    def held_back(self, lease: Lease, reason: str, /) -> None:
        """A picture is held back for a second opinion, for this reason; the lease still names its node."""

    def overtaken(self, lease: Lease, /) -> None:
        """What was held back is delivered; the lease, as it was, names the node that was to render it again, if any."""

    def returned(self, lease: Lease, /) -> None:
        """The lease is GRANTED again and wants a node."""

    def gave_up(self, leases: Sequence[Lease], report: FailureReport, /) -> None:
        """The leases failed for good; the report goes to the server, for each of them."""

    def node_failed(self, lease: Lease, report: FailureReport, /) -> None:
        """An attempt failed through its PC's own trouble; told before the lease goes back: it names its node."""

    def scene_failed(self, lease: Lease, report: FailureReport, /) -> None:
        """An attempt failed through the scene; told before the lease goes back or is given up."""
