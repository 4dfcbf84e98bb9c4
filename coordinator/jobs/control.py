"""A job is stopped for good: its leases end, its frames go back to the server, and offers of it are turned away.

The order makes it certain that no frame of the job starts once the operator has an answer:

1. the block is on disk; from then on no frame of the job is ordered, and one that is granted is turned away at once
2. every lease that was granted before the block ends, in one transaction; from then on the start-fence refuses it
3. a server of ours stops the project itself, and with it frees every frame
4. any other learns it frame by frame: each is reported with its job, so that none stays leased there
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.leases.lease import ACTIVE, Lease
from coordinator.leases.ledger import Ledger
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.session import FarmSession
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import ProjectAnswer, ProjectStep
from sheepfold.protocol.status import ProjectStatus, explain

from .blocks import BlockedBy, JobBlock, JobBlocks
from .errors import UnknownJob

log = logging.getLogger(__name__)

#: Jobs that ended are still known by name as long as they are among so many frames.
REMEMBERED_FRAMES = 500


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as a person names it."""

    number: str
    name: str

    def __str__(self) -> str:
        return f"{self.number} {self.name!r}"


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What became of a job that was cancelled."""

    job: Job
    #: ``None``: all of it.
    frame: str | None
    #: Leases that ended.
    frames: int
    #: What the server was told, for a person; empty where it can only be told frame by frame.
    at_server: str


#: Ends leases for a reason, in one transaction, and stops their renderers; the answer is those that had not ended yet.
EndLeases = Callable[[Sequence[Lease], str], list[Lease]]
#: Tells the server, as an error report with a reason, that these frames do not come.
GiveBack = Callable[[Sequence[Lease], str], None]
#: The frame has failed for good, with this report.
GiveUp = Callable[[Lease, FailureReport], None]


class JobControl:
    """Blocks and unblocks jobs, and turns away what is offered of blocked ones."""

    def __init__(
        self,
        ledger: Ledger,
        blocks: JobBlocks,
        sessions: Mapping[str, FarmSession],
        end_leases: EndLeases,
        give_back: GiveBack,
        *,
        give_up: GiveUp,
        on_unblocked: Callable[[str], None],
    ) -> None:
        """``on_unblocked`` is told the number of a job that gets another chance."""
        self._ledger, self._blocks, self._sessions = ledger, blocks, sessions
        self._end_leases, self._give_back = end_leases, give_back
        self._give_up, self._on_unblocked = give_up, on_unblocked

    def cancel(self, job: str, frame: str | None) -> list[Stopped]:
        """Blocks a job (its number or its name), or one frame of it. Raises :class:`UnknownJob`."""
        whole = job if frame is None else f"{job}:{frame}"
        # A name may hold a colon.
        for asked, of_it in ((whole, None), (job, frame)):
            if found := self._active_or_blocked(asked) or self._ended(asked):
                return [self._stop(job, of_it) for job in found]
        if frame is None and (answer := self._tell_server(job, "cancel")) is not None and answer.job:
            return [self._stop(Job(number=answer.job, name=answer.name), None, answer)]
        raise UnknownJob(job, self._known())

    def unblock(self, job: str, frame: str | None) -> list[JobBlock]:
        """Ends the blocks of a job or of one frame of it. Raises :class:`UnknownJob`."""
        whole = job if frame is None else f"{job}:{frame}"
        ended = self._blocks.unblock(whole) or self._blocks.unblock(job, frame)
        if not ended:
            blocked = [Job(number=block.job_id, name=block.name) for block in self._blocks.all()]
            raise UnknownJob(whole, blocked, "blocked are")
        for block in ended:
            self._on_unblocked(block.job_id)
            if block.at_server:
                self._tell_server(block.job_id, "resume")
        for session in self._sessions.values():
            session.ask_now()
        return ended

    def block_of(self, lease: Lease) -> JobBlock | None:
        """What keeps this frame from being rendered; ``None``: nothing does."""
        return self._blocks.of(lease.offer.job_id, lease.offer.frame)

    def turn_away(self, lease: Lease, block: JobBlock) -> None:
        """Gives a frame back that is blocked."""
        if block.kind:
            self._give_up(lease, FailureReport(kind=FailureKind(block.kind), reason=block.reason))
            return
        reason = f"{block.label} is blocked: {block.reason}"
        ended = self._end_leases([lease], reason)
        if block.by is BlockedBy.OPERATOR and block.frame is None and not block.at_server:
            # It did not answer when the job was cancelled, or is another one since.
            self._note_at_server(block, self._tell_server(block.job_id, "cancel"))
        self._give_back(ended, reason)

    def _stop(self, job: Job, frame: str | None, answer: ProjectAnswer | None = None) -> Stopped:
        reason = "cancelled by the operator"
        block = self._blocks.block(job.number, job.name, reason, BlockedBy.OPERATOR, frame=frame)
        leases = [lease for lease in self._ledger.leases(*ACTIVE) if _is_of(lease, job.number, frame)]
        ended = self._end_leases(leases, reason)
        if frame is None and answer is None:
            answer = self._tell_server(job.number, "cancel")
        self._note_at_server(block, answer)
        if answer is None or answer.status not in (ProjectStatus.OK, ProjectStatus.NOT_NOW):
            self._give_back(ended, reason)
        return Stopped(job=job, frame=frame, frames=len(ended), at_server=_in_words(answer))

    def _note_at_server(self, block: JobBlock, answer: ProjectAnswer | None) -> None:
        if answer is not None and answer.status == ProjectStatus.OK:
            self._blocks.block(block.job_id, block.name, block.reason, block.by, at_server=True)

    def _tell_server(self, job: str, step: str) -> ProjectAnswer | None:
        """A server of ours stops or resumes a project; ``None`` at any other, and where it does not answer."""
        for session in self._sessions.values():
            endpoints = session.client.endpoints
            if endpoints is None or not endpoints.project:
                continue
            try:
                answer = session.client.tell_project(ProjectStep(job=job, step=step))
            except ServerSilent as error:
                log.warning("the server cannot be told to %s job %s: %s", step, job, error)
                return None
            if answer.status != ProjectStatus.OK:
                log.warning("the server does not %s job %s: %s", step, job, explain(answer.status))
            return answer
        return None

    def _active_or_blocked(self, asked: str) -> list[Job]:
        blocked = [Job(number=block.job_id, name=block.name) for block in self._blocks.all()]
        return _chosen(asked, [*map(_job_of, self._ledger.leases(*ACTIVE)), *blocked])

    def _ended(self, asked: str) -> list[Job]:
        """Of jobs that ended, the one that was here last."""
        return _chosen(asked, [_job_of(lease) for lease in self._ledger.history(REMEMBERED_FRAMES)])[:1]

    def _known(self) -> list[Job]:
        leases = [*self._ledger.leases(*ACTIVE), *self._ledger.history(REMEMBERED_FRAMES)]
        return list(dict.fromkeys(map(_job_of, leases)))


def _job_of(lease: Lease) -> Job:
    return Job(number=lease.offer.job_id, name=lease.job_name)


def _chosen(asked: str, jobs: Sequence[Job]) -> list[Job]:
    """Each job of this number or name once; a number comes before a name that looks like it."""
    found = dict.fromkeys(job for job in jobs if asked in (job.number, job.name))
    return [job for job in found if job.number == asked] or list(found)


def _is_of(lease: Lease, number: str, frame: str | None) -> bool:
    return lease.offer.job_id == number and frame in (None, lease.offer.frame)


def _in_words(answer: ProjectAnswer | None) -> str:
    if answer is None:
        return ""
    return "its project is cancelled there too" if answer.status == ProjectStatus.OK else explain(answer.status)
