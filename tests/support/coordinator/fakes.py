"""PCs on a LAN and a server session, as the coordinator's core rooms see them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from coordinator.leases.lease import Lease
from coordinator.upstream.session_pool import hardware_for_server
from coordinator.upstream.session_state import SessionState
from coordinator.upstream.signing_in import DescribedMachine
from sheepfold.contract.presence import Compute, NodeHardware, Presence, SlotState, Stage
from sheepfold.protocol.messages import (
    ArchiveRequest,
    ComputeMethod,
    ErrorAnswer,
    ErrorReport,
    JobAnswer,
    ProjectAnswer,
    ProjectStep,
)
from sheepfold.protocol.session_messages import Endpoints
from sheepfold.protocol.status import ProjectStatus

KEY = "farm:linux/64bit"
#: A node's secret, as a join names it.
NODE_SECRET = "5" * 64
HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="85", cpu_model_name="Xeon", cpu_cores=8, ram=16 * 1024**3
)
ENDPOINTS = Endpoints(validate_job="v", request_job="r", download_archive="d", error="e", keepmealive="k", logout="l")
SCENE, RENDERER = b"the scene" * 100, b"the renderer" * 100


def md5_of(data: bytes) -> str:
    """As a server names an archive."""
    return hashlib.md5(data).hexdigest()


def node(node_id: str = "n1", *, hardware: dict[str, Any] | None = None, **changes: Any) -> Presence:
    """A PC with one slot; its name is its id."""
    values: dict[str, Any] = {
        "node_id": node_id,
        "name": node_id,
        "hardware": replace(HARDWARE, **hardware or {}),
        "slots": 1,
        "compute": Compute.CPU,
    }
    return Presence(**values | changes)


def slot(lease: Lease, stage: Stage = Stage.RENDERING, *, attempt: int | None = None, **changes: Any) -> SlotState:
    """What a node says of a lease it holds."""
    return SlotState(
        lease_id=lease.id,
        attempt=attempt or lease.attempt,
        job_name=lease.job_name,
        frame=lease.offer.frame,
        stage=stage,
        **changes,
    )


@dataclass
class FakeSession:
    """A server session that gives what ``answers`` holds, and archives as ``archives`` says."""

    key: str = KEY
    machine: DescribedMachine = field(default_factory=lambda: DescribedMachine(hardware=hardware_for_server(HARDWARE)))
    state: SessionState = SessionState.SIGNED_IN
    notice: str = "signed in"
    endpoints: Endpoints | None = ENDPOINTS
    signed_in: bool = True
    #: Monotonic seconds before which it does not ask.
    rests_until: float = 0.0
    is_flowing: bool = False
    no_job_answers: int = 0
    no_job_until: float = 0.0
    #: One after the other; none left is "not now".
    answers: list[JobAnswer] = field(default_factory=list)
    asked: list[tuple[ComputeMethod, tuple[str, ...]]] = field(default_factory=list)
    #: Request type, or the chunk's id → what comes, one after the other, the last one again and again.
    archives: dict[str, list[bytes | Exception]] = field(default_factory=lambda: {"job": [SCENE], "binary": [RENDERER]})
    downloads: list[ArchiveRequest] = field(default_factory=list)
    reports: list[tuple[ErrorReport, str]] = field(default_factory=list)
    #: Called in the download's thread before anything arrives.
    during_download: Callable[[ArchiveRequest, Callable[[], bool]], object] = lambda _request, _cancelled: None
    logged_out: int = 0
    died: int = 0
    #: What it was told about frames that came: ``None`` for one that is wanted, else why it goes back.
    judged: list[str | None] = field(default_factory=list)
    asked_now: int = 0
    #: What a server of ours was told about projects, and what it answers; an exception is raised.
    steps: list[ProjectStep] = field(default_factory=list)
    step_answer: ProjectAnswer | Exception = field(default_factory=lambda: ProjectAnswer(status=ProjectStatus.OK))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def client(self) -> FakeSession:
        return self

    @property
    def described_node(self) -> str:
        return self.machine.node_id

    def describe(self, machine: DescribedMachine) -> None:
        self.machine = machine

    def ensure_signed_in(self) -> bool:
        return self.signed_in

    def waits_until(self) -> float:
        return self.rests_until

    def request_job(self, method: ComputeMethod, held: list[str]) -> JobAnswer | None:
        self.asked.append((method, tuple(held)))
        return self.answers.pop(0) if self.answers else None

    def asks_in_s(self) -> float | None:
        return 0.0 if self.state is not SessionState.DISABLED else None

    def ask_now(self) -> bool:
        self.asked_now += 1
        return self.state is not SessionState.DISABLED

    def frame_was_wanted(self) -> None:
        self.judged.append(None)

    def frame_was_unwanted(self, notice: str) -> None:
        self.judged.append(notice)

    def tell_project(self, step: ProjectStep) -> ProjectAnswer:
        self.steps.append(step)
        if isinstance(self.step_answer, Exception):
            raise self.step_answer
        return self.step_answer

    def download(
        self, request: ArchiveRequest, target: BinaryIO, *, limit_bytes: int, cancelled: Callable[[], bool]
    ) -> None:
        with self.lock:
            self.downloads.append(request)
            kind = self.archives[request.chunk or request.type]
            what = kind.pop(0) if len(kind) > 1 else kind[0]
        self.during_download(request, cancelled)
        if isinstance(what, Exception):
            raise what
        assert len(what) <= limit_bytes
        target.write(what)

    @property
    def is_over(self) -> bool:
        return self.state is SessionState.DISABLED and (self.died > 0 or self.logged_out > 0)

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer:
        self.reports.append((report, log))
        return ErrorAnswer(status=0)

    def session_died(self) -> None:
        self.died += 1

    def log_out(self) -> None:
        self.logged_out += 1
        self.endpoints = None


class OpenAdmission:
    """Believes every node that names itself."""

    def is_node(self, _node_id: str, _secret: str) -> bool:
        return True
