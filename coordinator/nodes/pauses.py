"""PCs in trouble of their own: paused for a while, tried again with growing waits, and told to the operator once.

A full disk, a folder that cannot be written, a missing library: such a failure is never the frame's and costs it no
attempt. Its PC gets nothing until its pause is over; each pause that follows without a picture in between is longer.
A PC that knows its trouble says so in its presence record (:attr:`~sheepfold.contract.presence.Presence.trouble`) for
as long as it lasts: it gets nothing meanwhile, and is asked again as soon as it says that it is mended.

**A PC that answers and takes nothing**: its presence record is fresh and tells of a free slot, and orders stay in its
queue. It gets no more, and what waits there goes to others. The orders that were left in its queue are the probe: once
it has taken them, which the start-fence turns away, it gets orders again.

**A frame that is the trouble itself** is found out: where a PC failed it, then made pictures of other frames, and fails
it again, the failure is the frame's after all.

Only in memory: after a restart every PC is tried again, which costs one frame a few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.leases.lease import Lease
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.failure_causes import REMEDIES
from sheepfold.contract.presence import Presence

log = logging.getLogger(__name__)

#: The first pause; trouble that passes by itself is over by then.
FIRST_PAUSE_S = 5.0
#: The longest: a PC that was mended is tried again within five minutes, also where its worker cannot tell.
PAUSE_CAP_S = 300.0
#: What is told of a PC that answers and takes nothing.
TAKES_NOTHING = (
    "takes no orders: its worker answers and has a free slot, and orders stay in its queue: look at its log, or start "
    "it anew; it gets orders again once it has taken these"
)
#: PCs named in one line.
TOLD_AT_ONCE = 3


class Waits(Protocol):
    """Seconds, each longer than the one before (:class:`sheepfold.backoff.Backoff`)."""

    def next(self) -> float: ...


@dataclass(kw_only=True)
class _Pause:
    name: str
    waits: Waits
    kind: FailureKind
    reason: str
    #: The clock's seconds.
    until: float = 0.0
    #: It said in its record that it is in trouble: what it says next counts.
    has_said_so: bool = False


@dataclass
class _Troubled:
    """A lease that failed through a PC's own trouble."""

    #: The clock's seconds of the first time.
    since: float
    #: PCs that failed it and have not made a picture of another frame since, and those that have.
    suspects: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)


class NodePauses:
    """The PCs that get nothing for a while. Thread-safe."""

    def __init__(self, make_waits: Callable[[], Waits], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._make_waits, self._clock = make_waits, clock
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}
        self._troubled: dict[str, _Troubled] = {}
        #: Node id → the trouble it says it is in, as told to the operator.
        self._said: dict[str, str] = {}
        #: Node id → name of the PCs that take no orders.
        self._stalled: dict[str, str] = {}
        #: Node id → why it has no Blender, as told to the operator.
        self._without_blender: dict[str, str] = {}

    # What happens

    def failed(self, lease: Lease, node_id: str, name: str, report: FailureReport) -> bool:
        """An attempt failed through its PC's own trouble; true when a pause begins with it."""
        with self._lock:
            self._troubled.setdefault(lease.id, _Troubled(self._clock())).suspects.add(node_id)
            before = self._pauses.get(node_id)
            if before is not None and self._clock() < before.until:
                return False
            waits = before.waits if before else self._make_waits()
            wait_s = waits.next()
            self._pauses[node_id] = _Pause(
                name=name, waits=waits, kind=report.kind, reason=report.reason, until=self._clock() + wait_s
            )
        is_news = before is None or before.kind is not report.kind
        log.log(
            logging.WARNING if is_news else logging.INFO,
            "%s gets nothing for %.0f s, then it is tried again: %s",
            name or node_id,
            wait_s,
            _told(report.kind, report.reason),
        )
        return True

    def succeeded(self, lease: Lease) -> None:
        """A picture arrived from ``lease.node_id``: its trouble is over, and other frames it failed are suspect."""
        node_id = lease.node_id or ""
        with self._lock:
            pause = self._pauses.pop(node_id, None)
            for troubled in self._troubled.values():
                if node_id in troubled.suspects:
                    troubled.suspects.discard(node_id)
                    troubled.cleared.add(node_id)
            self._troubled.pop(lease.id, None)
        if pause is not None:
            log.info("%s renders again", pause.name or node_id)

    def ended(self, lease: Lease) -> None:
        """The lease ended without a picture."""
        with self._lock:
            self._troubled.pop(lease.id, None)

    def takes_nothing(self, node_id: str, name: str, waiting: int) -> None:
        """The PC says it has a free slot, and leaves so many orders in its queue."""
        with self._lock:
            is_news = node_id not in self._stalled
            self._stalled[node_id] = name
        if is_news:
            log.warning("%s answers and takes no orders, %d wait in its queue: they go to other PCs", name, waiting)

    def takes_orders(self, node_id: str) -> None:
        """Its queue is empty: it gets orders again."""
        with self._lock:
            name = self._stalled.pop(node_id, None)
        if name is not None:
            log.info("%s takes orders again", name)

    def stalled(self) -> frozenset[str]:
        """The ids of the PCs that take no orders."""
        with self._lock:
            return frozenset(self._stalled)

    def lift(self, name: str) -> bool:
        """Ends the pause of a PC, by name or id; false when none of that name is paused. What it says itself stays."""
        with self._lock:
            paused = [node_id for node_id, pause in self._pauses.items() if name in (pause.name, node_id)]
            stalled = [node_id for node_id, its_name in self._stalled.items() if name in (its_name, node_id)]
            for node_id in paused:
                del self._pauses[node_id]
            for node_id in stalled:
                del self._stalled[node_id]
        return bool(paused or stalled)

    def follow(self, present: Mapping[str, Presence]) -> None:
        """What the PCs say of themselves; the log tells each trouble once."""
        with self._lock:
            said = {node_id: node.trouble for node_id, node in present.items() if node.trouble}
            before, self._said = self._said, said
            self._stalled = {node_id: name for node_id, name in self._stalled.items() if node_id in present}
            for node_id in said.keys() & self._pauses.keys():
                self._pauses[node_id].has_said_so = True
            for node_id in before.keys() & present.keys() - said.keys():
                if node_id in self._pauses and self._pauses[node_id].has_said_so:
                    self._pauses[node_id].until = self._clock()
        for node_id in said.keys() - before.keys():
            log.warning("%s takes nothing: %s", present[node_id].name, said[node_id])
        for node_id in before.keys() & present.keys() - said.keys():
            log.info("%s takes frames again", present[node_id].name)
        self._follow_blenders(present)

    def _follow_blenders(self, present: Mapping[str, Presence]) -> None:
        without = {node_id: node.no_blender for node_id, node in present.items() if node.no_blender}
        for node_id in without.keys() - self._without_blender.keys():
            log.warning("%s gets only jobs that bring their own renderer: %s", present[node_id].name, without[node_id])
        self._without_blender = without

    # What is asked

    def is_frames_fault(self, lease: Lease, node_id: str) -> bool:
        """Whether a failure that looks like the PC's own trouble is the frame's: the PC made others in between."""
        with self._lock:
            troubled = self._troubled.get(lease.id)
            return troubled is not None and node_id in troubled.cleared

    def is_paused(self, node_id: str) -> bool:
        """Whether the PC gets nothing now."""
        with self._lock:
            pause = self._pauses.get(node_id)
            is_waiting = pause is not None and self._clock() < pause.until
            return is_waiting or node_id in self._said or node_id in self._stalled

    def reason(self, node_id: str) -> str:
        """Why it gets nothing, and what to do; empty for a PC that is not paused."""
        if not self.is_paused(node_id):
            return ""
        with self._lock:
            pause = self._pauses.get(node_id)
            if said := self._said.get(node_id):
                return said
            if node_id in self._stalled:
                return TAKES_NOTHING
            return _told(pause.kind, pause.reason) if pause else ""

    def summary(self, present: Mapping[str, Presence]) -> str:
        """What keeps the PCs from taking frames, in one line; empty where nothing is known to."""
        reasons = [
            f"{node.name}: {reason}"
            for node_id, node in sorted(present.items(), key=lambda item: item[1].name)
            if (reason := self.reason(node_id) or node.no_blender)
        ]
        more = f"; and {len(reasons) - TOLD_AT_ONCE} more" if len(reasons) > TOLD_AT_ONCE else ""
        return "; ".join(reasons[:TOLD_AT_ONCE]) + more

    def troubled_s(self, lease: Lease) -> float:
        """Seconds since the lease first failed through a PC's own trouble; 0 for one that never did."""
        with self._lock:
            troubled = self._troubled.get(lease.id)
            return self._clock() - troubled.since if troubled else 0.0


def _told(kind: FailureKind, reason: str) -> str:
    remedy = REMEDIES.get(kind)
    # A PC that names a setting in its reason has said what to do.
    return f"{kind.value}: {reason}" + (f": {remedy}" if remedy and "SHEEPFOLD_" not in reason else "")
