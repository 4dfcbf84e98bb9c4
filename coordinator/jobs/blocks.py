"""Jobs, and single frames of a job, that this farm does not render until somebody unblocks them.

An operator blocks a job by cancelling it; the farm itself blocks one that cannot succeed anywhere. A block outlives a
restart of the coordinator, and says who set it and why. What to do with the frames of a blocked job is decided
elsewhere; this is only the list, and asking it costs no I/O.

Kept in the ledger under ``job-blocks:<root URL of the server>``, because a number means a job only at its own server::

    [{"job_id": …, "frame": … or null, "name": …, "reason": …, "by": "operator" or "farm", "kind": …, "since": …,
      "at_server": …}]
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from coordinator.leases.key_value import KeyValueStore

log = logging.getLogger(__name__)


class BlockedBy(StrEnum):
    """Who set a block; operators may end either kind."""

    OPERATOR = "operator"
    #: The job is on hold: it cannot succeed on any PC here.
    FARM = "farm"


@dataclass(frozen=True, kw_only=True)
class JobBlock:
    """One job, or one frame of it, that is not rendered."""

    job_id: str
    #: What people call the job.
    name: str
    #: One line for a person.
    reason: str
    by: BlockedBy
    #: Unix seconds.
    since: float
    #: ``None``: every frame of the job.
    frame: str | None = None
    #: Of a block that the farm set: the kind of failure (:class:`sheepfold.contract.api_messages.FailureKind`).
    kind: str = ""
    #: The server itself was told to stop the job, and is to be told when the block ends.
    at_server: bool = False

    @property
    def label(self) -> str:
        """``job 101 · demo``, or ``frame 0012 of job 101 · demo``."""
        job = f"job {self.job_id} · {self.name}"
        return job if self.frame is None else f"frame {self.frame} of {job}"


class JobBlocks:
    """The blocks of one server's jobs. Thread-safe.

    A new block of the same job and frame replaces the old one; but the farm never replaces an operator's.
    """

    def __init__(self, store: KeyValueStore, server_url: str, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._store, self._key, self._wall_clock = store, f"job-blocks:{server_url}", wall_clock
        self._lock = threading.Lock()
        #: Replaced as a whole, so that any thread may look into it without the lock.
        self._blocks: dict[tuple[str, str | None], JobBlock] = {}

    def load(self) -> JobBlocks:
        """Takes up the blocks from before a restart, before anything else is asked of it; returns itself."""
        self._blocks = _read(self._store.get(self._key))
        return self

    def block(
        self,
        job_id: str,
        name: str,
        reason: str,
        by: BlockedBy,
        *,
        frame: str | None = None,
        kind: str = "",
        at_server: bool = False,
    ) -> JobBlock:
        """The block that holds from now on, on disk."""
        with self._lock:
            before = self._blocks.get((job_id, frame))
            if before is not None and before.by is BlockedBy.OPERATOR and by is BlockedBy.FARM:
                return before
            block = JobBlock(
                job_id=job_id,
                name=name,
                reason=reason,
                by=by,
                since=self._wall_clock(),
                frame=frame,
                kind=kind,
                at_server=at_server,
            )
            self._keep({**self._blocks, (job_id, frame): block})
        log.warning("%s is blocked by the %s: %s", block.label, by.value, reason)
        return block

    def of(self, job_id: str, frame: str) -> JobBlock | None:
        """The block that keeps this frame from being rendered."""
        return self._blocks.get((job_id, None)) or self._blocks.get((job_id, frame))

    def is_blocked(self, job_id: str, frame: str) -> bool:
        """Whether this frame must not be rendered."""
        return self.of(job_id, frame) is not None

    def unblock(self, job: str, frame: str | None = None) -> list[JobBlock]:
        """Ends the blocks of a job, given by number or name, with those of its single frames; or that of one frame.

        The answer is what ended.
        """
        with self._lock:
            ended = [
                block
                for block in self._blocks.values()
                if job in (block.job_id, block.name) and frame in (None, block.frame)
            ]
            if ended:
                self._keep({key: block for key, block in self._blocks.items() if block not in ended})
        for block in ended:
            log.info("%s is unblocked", block.label)
        return ended

    def all(self) -> list[JobBlock]:
        """Blocks of jobs and of frames, the oldest first."""
        return sorted(self._blocks.values(), key=lambda block: block.since)

    def _keep(self, blocks: dict[tuple[str, str | None], JobBlock]) -> None:
        self._store.put(self._key, json.dumps([asdict(block) for block in blocks.values()]))
        self._blocks = blocks


def _read(text: str | None) -> dict[tuple[str, str | None], JobBlock]:
    try:
        blocks = [JobBlock(**(block | {"by": BlockedBy(block["by"])})) for block in json.loads(text or "[]")]
    except (ValueError, KeyError, TypeError):
        log.error("the list of blocked jobs cannot be read: nothing is blocked; cancel again what must not be rendered")
        return {}
    return {(block.job_id, block.frame): block for block in blocks}
