"""Parts of a farm for tests; pictures are bytes that begin with ``PNG``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.leases.lease import Lease, LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_database import LedgerDatabase, sqlite_url
from sheepfold.contract.api_messages import FailureKind, FailureReport, FrameReport
from sheepfold.errors import NotAPicture
from sheepfold.pictures import Picture
from sheepfold.protocol.messages import JobOffer, RendererOffer


@dataclass(kw_only=True)
class Listener:
    """Tells each claim to a callback of the test's own; those that a test does not give are told nothing."""

    delivered: Callable[[Lease], object] = lambda _lease: None
    failed: Callable[[Lease, FailureReport], object] = lambda _lease, _report: None
    held_back: Callable[[Lease, str], object] = lambda _lease, _reason: None
    overtaken: Callable[[Lease], object] = lambda _lease: None
    returned: Callable[[Lease], object] = lambda _lease: None
    gave_up: Callable[[Sequence[Lease], FailureReport], object] = lambda _leases, _report: None
    node_failed: Callable[[Lease, FailureReport], object] = lambda _lease, _report: None
    scene_failed: Callable[[Lease, FailureReport], object] = lambda _lease, _report: None


@dataclass
class ClaimRecord:
    """What the claims told the rest of the farm."""

    delivered: list[Lease] = field(default_factory=list)
    failed: list[tuple[str | None, FailureKind]] = field(default_factory=list)
    held_back: list[tuple[str | None, str]] = field(default_factory=list)
    overtaken: list[Lease] = field(default_factory=list)
    absolved: list[Lease] = field(default_factory=list)
    returned: list[Lease] = field(default_factory=list)
    gave_up: list[tuple[Lease, FailureReport]] = field(default_factory=list)

    def give_up(self, leases: Sequence[Lease], report: FailureReport) -> None:
        """These leases failed for good."""
        self.gave_up += [(lease, report) for lease in leases]

    def listener(self, **others: Callable[..., object]) -> Listener:
        """Notes here what it is told; ``others`` are told instead of the record."""
        return Listener(
            **{
                "delivered": self.delivered.append,
                "failed": lambda lease, failure: self.failed.append((lease.node_id, failure.kind)),
                "held_back": lambda lease, doubt: self.held_back.append((lease.node_id, doubt)),
                "overtaken": self.overtaken.append,
                "returned": self.returned.append,
                "gave_up": self.give_up,
            }
            | others
        )


def open_ledger(path: Path, clock: Callable[[], float] = time.time) -> Ledger:
    """The ledger in this file; ``ledger.database.close()`` closes it."""
    return Ledger(LedgerDatabase(sqlite_url(path)).open(), clock=clock).load()


def offer(frame: str = "0012", **changes: object) -> JobOffer:
    """A frame of the demo."""
    values: dict = {
        "job_id": "77",
        "frame": frame,
        "path": "demo.blend",
        "use_gpu": False,
        "archive_md5": "a" * 32,
        "revision": "3",
        "renderer": RendererOffer(md5="b" * 32, command_line=".e -b .c -o .o -f .f"),
        "script": "import bpy\n",
        "extras": "opaque",
        "name": "demo",
    }
    return JobOffer(**values | changes)


def report(data: bytes = b"PNG data", **changes: object) -> FrameReport:
    """What a node says of its picture."""
    values: dict = {
        "name": "0012.png",
        "md5": hashlib.md5(data).hexdigest(),
        "render_s": 1.2,
        "memory_kb": 5000,
        "cores": 2,
    }
    return FrameReport(**values | changes)


def rendering(ledger: Ledger, frame: str = "0012", node: str = "n1", **changes: object) -> Lease:
    """A lease that a node has started."""
    lease = ledger.grant(offer(frame, **changes), "farm:linux/64bit")
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node)
    return ledger.apply(lease.id, LeaseEvent.START)


def look(path: Path) -> Picture:
    """A picture is bytes that begin with ``PNG``; one that says so is black."""
    content = path.read_bytes()
    if not content.startswith(b"PNG"):
        raise NotAPicture("this is no picture")
    is_black = b"black" in content
    return Picture(
        width=8, height=8, channels=4, suffix="png", is_black=is_black, is_transparent=False, is_empty=is_black
    )
