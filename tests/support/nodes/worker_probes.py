"""What a test sees of a worker from outside: its record, its processes, its Celery events."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import psutil

from sheepfold.contract.celery_app import make_app, task_id_of
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.presence import Stage
from tests.support.nodes.worker_harness import WorkerHarness, wait_for


class CeleryEvents:
    """What Flower would see of the tasks."""

    def __init__(self, redis_url: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._app = make_app(redis_url)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _listen(self) -> None:
        with self._app.connection() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self.seen.append})
            with receiver.consumer_context() as (own_connection, _, _):
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        own_connection.drain_events(timeout=0.2)
                    self._ready.set()  # the first drain subscribes

    def of(self, order: RenderOrder) -> list[str]:
        task = task_id_of(order.lease_id, order.attempt)
        return [event["type"] for event in self.seen if event.get("uuid") == task]

    def last(self, order: RenderOrder, type_: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            task = task_id_of(order.lease_id, order.attempt)
            return next((event for event in self.seen if event.get("uuid") == task and event["type"] == type_), None)

        return wait_for(found, 15, f"{type_} of frame {order.frame}")

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def daemon_of(node: WorkerHarness) -> int:
    """The pid of the child that frame 900's renderer let loose."""
    path = node.work_dir / "scratch" / "daemon.pid"
    pid = int(wait_for(lambda: path.exists() and path.read_text(), 15, "a daemonised child"))
    path.unlink()
    return pid


def stages(node: WorkerHarness) -> dict[str, Stage]:
    """What the node says it does with each lease."""
    record = node.presence()
    return {busy.lease_id: busy.stage for busy in record.busy} if record else {}


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def renderers_of(node: WorkerHarness) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(node.work_dir) in word for word in process.cmdline()):
                found.append(process)
    return found


def rendering(node: WorkerHarness, order: RenderOrder) -> bool:
    record = node.presence()
    return record is not None and any(
        busy.lease_id == order.lease_id and busy.stage is Stage.RENDERING for busy in record.busy
    )
