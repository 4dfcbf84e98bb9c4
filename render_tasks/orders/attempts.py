"""The attempts a node is working on, and the orders that wait for a thread."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from render_tasks.blender.output.progress import Progress
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped
from sheepfold.contract.presence import SlotState, Stage


@dataclass(kw_only=True)
class Attempt:
    """One attempt under way. Its own thread writes stage and progress; others read them and cancel it."""

    lease_id: str
    attempt: int
    job_name: str
    frame: str
    #: Monotonic seconds.
    came_at: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.FETCHING
    progress: Progress = field(default_factory=Progress)
    cancel_token: CancelToken = field(default_factory=CancelToken)
    #: Called when its renderer begins.
    on_slot: Callable[[], None] = lambda: None
    #: The word by which the coordinator tells a repeated request from a repeated order.
    claim: str = field(default_factory=lambda: secrets.token_hex(8))
    _has_begun: bool = field(default=False, init=False, repr=False)

    @property
    def key(self) -> tuple[str, int]:
        """Lease and attempt number, by which orders and cancels name it."""
        return self.lease_id, self.attempt

    @property
    def label(self) -> str:
        """Frame and job, for the log."""
        return f"frame {self.frame} · {self.job_name}"

    def note(self, progress: Progress) -> None:
        """Progress of the renderer; the first call says that it begins."""
        self.progress = progress
        if not self._has_begun:
            self._has_begun = True
            self.on_slot()

    def state(self) -> SlotState:
        """As it stands in the presence record."""
        return SlotState(
            lease_id=self.lease_id,
            attempt=self.attempt,
            job_name=self.job_name,
            frame=self.frame,
            stage=self.stage,
            progress=self.progress.fraction,
            remaining_s=self.progress.remaining_s,
            memory_kb=self.progress.memory_kb or None,
        )


class ActiveAttempts:
    """The attempts by lease and number; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, int], Attempt] = {}
        self._expected: set[tuple[str, int]] = set()
        self._idle = threading.Event()
        self._idle.set()

    def all(self) -> list[Attempt]:
        """Every attempt under way, oldest first."""
        with self._lock:
            return list(self._attempts.values())

    def get(self, lease_id: str, attempt: int) -> Attempt | None:
        """The attempt, ``None`` where it is not under way."""
        with self._lock:
            return self._attempts.get((lease_id, attempt))

    def expect(self, lease_id: str, attempt: int) -> None:
        """An order arrived and waits for a thread."""
        with self._lock:
            self._expected.add((lease_id, attempt))

    def begin(self, lease_id: str, attempt: int) -> None:
        """An expected order has its thread."""
        with self._lock:
            self._expected.discard((lease_id, attempt))

    def take_expected(self) -> list[tuple[str, int]]:
        """The orders still waiting; they are expected no longer."""
        with self._lock:
            orders = sorted(self._expected)
            self._expected.clear()
            return orders

    @contextmanager
    def holding(self, attempt: Attempt) -> Generator[None]:
        """For as long as an attempt lasts. Raises AttemptDropped when it is under way already."""
        with self._lock:
            if attempt.key in self._attempts:
                raise AttemptDropped("this attempt is already under way")
            self._attempts[attempt.key] = attempt
            self._idle.clear()
        try:
            yield
        finally:
            with self._lock:
                del self._attempts[attempt.key]
                if not self._attempts:
                    self._idle.set()

    def wait_until_idle(self, seconds: float | None = None) -> bool:
        """Whether no attempt is under way; waits at most so many seconds, ``None``: as long as it takes."""
        return self._idle.wait(seconds)
