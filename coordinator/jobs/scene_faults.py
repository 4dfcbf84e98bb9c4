"""Jobs whose scene no PC can render: no camera, an engine that is not there, a file that Blender cannot read.

Such a failure is definite, but one PC may be wrong about it. So one more look decides: by another PC where one is
there, or else by the same PC, at the same frame or another one of the job. Then the whole job is put on hold, with the
reason, and none of its other frames is rendered. What depends on the PC's Blender is looked at by one of another
version first, where there is one. A job of which a frame was rendered is never put on hold: its other frames stand or
fail by themselves.

Only in memory: after a restart, two more looks settle it again.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from coordinator.leases.lease import Lease
from coordinator.leases.recent_jobs import RecentJobs
from coordinator.nodes.present_nodes import PresentNodes
from sheepfold.contract.api_messages import FailureKind, FailureReport

log = logging.getLogger(__name__)

#: Failures that settle it, where nobody else could tell better.
LOOKS = 2
#: Jobs remembered; a farm works on a few at a time.
MAX_JOBS = 1000
#: Another Blender may have the engine, or read the file.
OF_ITS_BLENDER = frozenset({FailureKind.NO_ENGINE, FailureKind.SCENE_UNREADABLE})


@dataclass
class _Job:
    """What is known of one revision of a job."""

    #: PCs that failed it through the scene, one entry a time.
    looks: list[str] = field(default_factory=list)
    #: Versions of Blender that failed it, where that may matter.
    blenders: set[str] = field(default_factory=set)
    was_rendered: bool = False
    is_held: bool = False


class SceneFaults:
    """Decides when a job is hopeless. Thread-safe."""

    def __init__(self, present: PresentNodes) -> None:
        self._present = present
        self._lock = threading.Lock()
        self._jobs = RecentJobs(_Job, MAX_JOBS)

    def failed(self, lease: Lease, report: FailureReport, able: set[str]) -> bool:
        """An attempt failed through the scene; true, once for each job, when the job is to be put on hold.

        The lease is as it was before, with its node. ``able``: ids of the PCs that could take it and get frames now.
        """
        node_id = lease.node_id or ""
        node = self._present.nodes.get(node_id)
        with self._lock:
            job = self._jobs.record_of(lease)
            job.looks.append(node_id)
            if report.kind in OF_ITS_BLENDER and node is not None and node.blender:
                job.blenders.add(node.blender)
            if job.was_rendered or len(job.looks) < LOOKS:
                return False
        if len(set(job.looks)) >= LOOKS and not job.blenders:
            is_settled = True
        else:
            is_settled = not able - {*job.looks, *self.tried(lease)}
        if not is_settled:
            return False
        with self._lock:
            already, job.is_held = job.is_held, True
        if not already:
            log.error("job %s · %s is on hold: %s", lease.offer.job_id, lease.job_name, report.reason)
        return not already

    def rendered(self, lease: Lease) -> None:
        """A picture of its job arrived: what fails from now on is no reason to put the job on hold."""
        with self._lock:
            self._jobs.record_of(lease).was_rendered = True

    def forget(self, job_id: str) -> None:
        """Every revision of the job begins again with no failures, and may be put on hold again."""
        with self._lock:
            self._jobs.forget(job_id)

    def tried(self, lease: Lease) -> tuple[str, ...]:
        """PCs whose Blender is known to fail the job: they get its frames only when there is no other."""
        job = self._jobs.known(lease)
        if job is None or not job.blenders:
            return ()
        return tuple(node_id for node_id, node in self._present.nodes.items() if node.blender in job.blenders)
