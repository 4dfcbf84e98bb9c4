"""What a person counts: frames by what happens to them now, how fast the farm is, and when it will be done. Pure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping

from coordinator.leases.lease import Lease, LeaseState
from sheepfold.contract.presence import Presence, Stage

#: The pace is that of the last frames, at most so many: a farm that has just doubled is soon believed.
PACE_FRAMES = 100
#: ... and of this long at most: what was accepted yesterday says nothing about today.
PACE_S = 3600.0
#: Fewer frames than these are chance.
LEAST_FRAMES = 3

#: Lease states that a person calls by the same name.
_ENDED = ("accepted", "refused", "failed", "cancelled", "lost")


def frame_counts(leases: Mapping[LeaseState, int], nodes: Iterable[Presence]) -> dict[str, int]:
    """Frames by what happens to them now.

    ``rendering`` is what a slot renders; a lease that passed its start-fence and waits at its PC for a slot, or for its
    archives, is ``ready``; ``waiting`` has no PC yet, ``uploading`` is on its way to the server.
    """
    at_pcs = leases[LeaseState.ORDERED] + leases[LeaseState.RENDERING]
    rendering = min(at_pcs, sum(_renders(node) for node in nodes))
    return {
        "waiting": leases[LeaseState.GRANTED],
        "ready": at_pcs - rendering,
        "rendering": rendering,
        "uploading": leases[LeaseState.DELIVERED],
        **{name: leases[LeaseState(name)] for name in _ENDED},
    }


def _renders(node: Presence) -> int:
    # The next frame may begin in a slot shortly before the last one is marked as on its way.
    return min(node.slots, sum(slot.stage is Stage.RENDERING for slot in node.busy))


class Pace:
    """How many frames a second the server accepts from this farm; counts along with the ledger. Thread-safe."""

    def __init__(self) -> None:
        #: Unix seconds of the last accepted frames, oldest first.
        self._accepted: deque[float] = deque(maxlen=PACE_FRAMES)
        self._lock = threading.Lock()

    def follow(self, before: Lease | None, after: Lease) -> None:
        """A step of a lease (:meth:`coordinator.leases.ledger.Ledger.watch`)."""
        if before is not None and after.state is LeaseState.ACCEPTED:
            with self._lock:
                self._accepted.append(after.changed_at)

    def eta_s(self, frames_left: int | None, now: float) -> float | None:
        """Seconds until so many more frames are accepted; ``None`` where nobody can know."""
        with self._lock:
            lately = [at for at in self._accepted if now - at <= PACE_S]
        if frames_left is None or len(lately) < LEAST_FRAMES:
            return None
        return frames_left * max(now - lately[0], 0.001) / len(lately)
