"""What a lease asks of a node: by its offer, by what its job's frames took so far, and by what its operator says.

The protocol says nothing of memory and tags. Memory is learned: the most that a frame of the job took. Tags are the
operator's words, on both sides (``TAGS`` of a worker, ``JOB_TAGS`` of the coordinator).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from coordinator.leases.counters import LeaseCounters
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from sheepfold.contract.orders import ArchiveRef, is_test_job

from .matching import Requirements
from .node_index import NodeIndex

#: A PC that lost this many orders of one lease does not get it again while there is another.
ORDERS_LOST = 3


@dataclass(frozen=True, kw_only=True)
class Archives:
    """What a node fetches before it renders a lease, as the coordinator holds it."""

    #: In order.
    scene: tuple[ArchiveRef, ...]
    renderer: ArchiveRef


class RequirementsBuilder:
    """Makes the requirements of one lease at a time."""

    def __init__(
        self,
        ledger: Ledger,
        counters: LeaseCounters,
        node_index: NodeIndex,
        job_tags: Mapping[str, Sequence[str]] | None = None,
        described_node: Callable[[str], str] = lambda _session_key: "",
        *,
        is_launcher: Callable[[str], bool] = lambda _md5: False,
        tried: Callable[[Lease], tuple[str, ...]] = lambda _lease: (),
    ) -> None:
        """What requirements are made of.

        ``described_node``: of a session's key, the id of the PC that its server takes it for; ``is_launcher``:
        whether a renderer archive that is here starts the PC's own Blender; ``tried``: PCs known to fail a lease's job.
        """
        self._ledger, self._counters, self._node_index, self._job_tags = ledger, counters, node_index, job_tags or {}
        self._described_node, self._is_launcher, self._tried = described_node, is_launcher, tried

    def of(self, lease: Lease) -> Requirements:
        """What a node must have to be given this lease, as things stand now."""
        offer = lease.offer
        need = Requirements(
            use_gpu=offer.use_gpu,
            scene_key=lease.scene_key,
            renderer_md5=offer.renderer.md5,
            min_ram=self._counters.peak_kb(offer.job_id, offer.revision) * 1024,
            tags=self._tags_of(lease),
            needs_local_blender=self._is_launcher(offer.renderer.md5),
            alone=lease.is_suspect,
            tried=(*lease.tried_nodes, *_wants_another_than(lease), *self._losers(lease), *self._tried(lease)),
            # It measures the machine that the session describes; on any other its time would be wrong.
            only_node=self._described_node(lease.session_key) if is_test_job(offer.job_id) else None,
        )
        if need.min_ram and not self._node_index.can_anybody(need, lease.session_key):
            # It was rendered somewhere, so it can be; a PC that swaps is better than none.
            need = replace(need, min_ram=0)
        return need

    def _tags_of(self, lease: Lease) -> frozenset[str]:
        """What the operator wants of PCs that render this job, by its name or number."""
        names = (lease.job_name, lease.offer.job_id)
        return frozenset(
            tag
            for pattern, tags in self._job_tags.items()
            if any(fnmatchcase(name, pattern) for name in names)
            for tag in tags
        )

    def _losers(self, lease: Lease) -> list[str]:
        """PCs whose orders for this lease were lost again and again."""
        if lease.attempt - lease.failures <= ORDERS_LOST:
            return []
        lost = Counter(attempt.node_id for attempt in self._ledger.attempts(lease.id) if attempt.node_id)
        return [node_id for node_id, times in lost.items() if times >= ORDERS_LOST]


def _wants_another_than(lease: Lease) -> list[str]:
    """A second opinion comes from another PC, if there is one."""
    return [lease.held_back.node_id] if lease.held_back else []


class RequirementsCache:
    """What is the same for all frames of a job, looked up once for each look at hundreds of them."""

    def __init__(
        self,
        archives_of: Callable[[Lease], Archives | None],
        need_of: Callable[[Lease], Requirements],
    ) -> None:
        self._archives_of, self._need_of = archives_of, need_of
        #: Scene's key and renderer's MD5 → both, once they are here.
        self._archives: dict[tuple[str, str], Archives] = {}
        self._needs: dict[tuple[str, str, str, bool], Requirements] = {}

    def archives_of(self, lease: Lease) -> Archives | None:
        """The lease's archives; ``None`` while one of them is on its way."""
        both = (lease.scene_key, lease.offer.renderer.md5)
        if both not in self._archives:
            # One that still waits for a download asks for itself: how that ends is told to each who waited.
            found = self._archives_of(lease)
            if found is None:
                return None
            self._archives[both] = found
        return self._archives[both]

    def need_of(self, lease: Lease) -> Requirements:
        if lease.attempt > 1:  # it has been somewhere
            return self._need_of(lease)
        offer = lease.offer
        job = (lease.session_key, offer.job_id, offer.revision, offer.use_gpu)
        if job not in self._needs:
            self._needs[job] = self._need_of(lease)
        return self._needs[job]
