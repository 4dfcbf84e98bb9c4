"""The composition root: builds the coordinator's parts, runs their loops, and takes them down in order.

Loops: *sweep* (who is on the LAN), *place* (orders for granted frames), *beat* (leases stay alive), and for each server
session *ask* (frames for free slots) and *upload* (frames and reports back). The depot serves HTTP beside them.
"""

from __future__ import annotations

import functools
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from kombu.exceptions import OperationalError

from render_tasks.celery_app import cancel_order, make_app, send_order
from render_tasks.contract import FailureKind, FailureReport, Presence
from render_tasks.hardware import detect

from . import __version__
from .account import Account
from .archives import ArchiveStore
from .claims import Claims, Events
from .depot import DepotParts, make_depot
from .dispatcher import Dispatcher
from .door import Door
from .heartbeat import Heartbeat
from .inspection import NotAPicture, inspect
from .leases import ACTIVE, Lease, LeaseError, LeaseEvent, LeaseState
from .ledger import Ledger
from .ledger_file import sqlite_url
from .loops import Loop
from .metrics import make_metrics
from .nodes import BrokerDown, Nodes, connect
from .protocol.messages import Credentials, Hardware
from .server_client import ServerClient
from .sessions import Backoff, FarmSession, FatalRefusal, SessionState
from .settings import CoordinatorSettings
from .spool import Spool
from .sweep import Sweeper
from .uploads import ReportBox, Uploads
from .web import WebServer

log = logging.getLogger(__name__)

EXIT_REFUSED = 3
#: Every command is gone this long after SIGTERM; the parts share it.
STOP_WITHIN_S = 9.0
#: After a refusal nothing new comes; pictures in the spool may take this long to reach the server.
FLUSH_AFTER_REFUSAL_S = 120.0
#: Loops look around this often even when nobody wakes them.
IDLE_S = 1.0
#: The longest wait between two tries to reach a server that is down.
RETRY_CAP_S = 600.0


class Farm:
    """A running coordinator."""

    def __init__(self, settings: CoordinatorSettings, redis_url: str, farm_token: str) -> None:
        state = settings.state_dir
        self._settings = settings
        self._stopping = threading.Event()
        self._fatal: Exception | None = None
        self.ledger = Ledger(sqlite_url(state / "ledger.sqlite"))
        self.spool = Spool(state / "spool", limit_bytes=settings.max_picture)
        self.reports = ReportBox(state / "reports")
        self.archives = ArchiveStore(state / "archives", quota_bytes=settings.archive_quota, pinned=self._pinned)
        self.nodes = Nodes(connect(redis_url))
        self._app = make_app(redis_url)
        own = detect()
        self.account = Account(settings.sessions, own, self._make_session)
        for lease in self.ledger.leases(*ACTIVE):
            self.account.reopen(lease.session_key, own)
        for key in self.reports.session_keys():
            self.account.reopen(key, own)
        events = Events(delivered=self._on_delivered, returned=self._on_returned, gave_up=self._on_gave_up)
        self.claims = Claims(
            self.ledger, self.spool, inspect, events, attempts=settings.attempts, not_a_picture=NotAPicture
        )
        self.sweeper = Sweeper(self.nodes, self.ledger, self.claims, self._cancel_on_node)
        door = Door(self.ledger, self.nodes, redis_url, settings.public_url, self.sweeper.joined)
        self.dispatcher = Dispatcher(
            ledger=self.ledger,
            account=self.account,
            archives=self.archives,
            claims=self.claims,
            present=self._present,
            send_order=self._send_order,
            order_key=door.order_key,
            backoff=self._backoff,
            look_ahead=settings.look_ahead,
            render_limit_s=settings.render_limit_s,
        )
        self.heartbeat = Heartbeat(self.ledger, self.account, self.cancel_lease, at_most_every_s=settings.heartbeat_s)
        self._uploads: dict[str, Uploads] = {}
        self._ask_loops: dict[str, Loop] = {}
        self._upload_loops: dict[str, Loop] = {}
        self._loops: list[Loop] = []
        self._web = WebServer(
            make_depot(
                DepotParts(
                    farm_token=farm_token,
                    claims=self.claims,
                    join=door.join,
                    archive_path=self.archives.path_of,
                    status=self.status,
                    cancel=self.cancel_job,
                    redis_url=door.redis_url_for,
                    metrics=make_metrics(self.ledger, self._present, self.heartbeat),
                )
            ),
            settings.host,
            settings.port,
        )

    # Running

    def run(self) -> int:
        """Runs until SIGTERM, Ctrl+C or a refusal; returns the exit code."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stopping.set())
        self._web.start()
        log.info("the depot listens on %s:%d", self._settings.host, self._settings.port)
        self._loop("sweep", self._sweep_once)
        self._loop("place", self._place_once, wake=self.dispatcher.wake_placing)
        self._loop("beat", self._beat_once)
        self._open_session_loops()
        self._stopping.wait()
        return self._stop()

    def _stop(self) -> int:
        refused = self._fatal is not None
        log.info("stopping%s", ": pictures that are ready are uploaded first" if refused else "")
        deadline = time.monotonic() + (FLUSH_AFTER_REFUSAL_S if refused else 0) + STOP_WITHIN_S
        for loop in [*self._loops, *self._ask_loops.values()]:
            loop.stop()
        self._give_back_unfinished()
        # Three seconds are kept for logging out and closing.
        while time.monotonic() < deadline - 3 and not all(uploads.idle() for uploads in self._uploads.values()):
            for loop in self._upload_loops.values():
                loop.wake()
            time.sleep(0.05)
        for loop in self._upload_loops.values():
            loop.stop()
        self._log_out(deadline - 1)
        self._web.stop()
        self.dispatcher.close()
        self.heartbeat.close()
        self.ledger.close()
        if self._fatal is not None:
            log.critical("%s", self._fatal)
            return EXIT_REFUSED
        return 0

    def _give_back_unfinished(self) -> None:
        """Frames without a picture go back to the server: with our session it forgets who renders them."""
        report = FailureReport(kind=FailureKind.NODE_LEAVING, reason="the farm was stopped by its operator")
        for lease in self.ledger.leases(LeaseState.GRANTED, LeaseState.ORDERED, LeaseState.RENDERING):
            self._cancel_on_node(lease)
            self.claims.give_up(lease, report)

    def _log_out(self, deadline: float) -> None:
        threads = [threading.Thread(target=session.log_out, daemon=True) for session in self.account.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _refused(self, error: Exception) -> None:
        self._fatal = self._fatal or error
        self._stopping.set()

    def _loop(self, name: str, once: Callable[[], float], wake: threading.Event | None = None) -> Loop:
        loop = Loop(name, once, fatal=FatalRefusal, on_fatal=self._refused, wake=wake).start()
        self._loops.append(loop)
        return loop

    # One turn of each loop

    def _sweep_once(self) -> float:
        changed = self.sweeper.sweep_once()
        self.account.groups(self.sweeper.present)
        self._open_session_loops()
        if changed:
            self.dispatcher.wake_placing.set()
            self._wake_asking()
        return IDLE_S

    def _place_once(self) -> float:
        try:
            self.dispatcher.place_once()
        except BrokerDown as error:
            log.warning("orders wait: %s", error)
        return IDLE_S

    def _beat_once(self) -> float:
        return min(self.heartbeat.beat_once(), IDLE_S)

    def _ask_once(self, session: FarmSession) -> float:
        if not self._stopping.is_set() and session.ensure_signed_in():
            nodes = self.account.groups(self.sweeper.present).get(session.key, [])
            if self.dispatcher.ask_once(session, nodes):
                return 0
        return IDLE_S

    def _upload_once(self, uploads: Uploads, key: str) -> float:
        if not uploads.flush_once():
            self._leave_if_disabled(key)
            return IDLE_S
        self._ask_loops[key].wake()
        return 0

    def _leave_if_disabled(self, key: str) -> None:
        """A disabled session is logged out once its last frame has been told to the server."""
        session = self.account[key]
        if session.state is SessionState.DISABLED and session.client.endpoints is not None:
            busy = any(lease.session_key == key for lease in self.ledger.leases(*ACTIVE))
            if not busy and self._uploads[key].idle():
                session.log_out()

    # Parts and what they tell each other

    def _make_session(self, key: str, hardware: Hardware) -> FarmSession:
        settings = self._settings
        assert settings.password is not None  # the settings' validator saw to it
        kept = f"session:{key}"
        return FarmSession(
            key=key,
            hardware=hardware,
            client=ServerClient(settings.server_url, config_path=settings.config_path, ram_unit=settings.ram_unit),
            credentials=Credentials(login=settings.login, password=settings.password.get_secret_value()),
            version=settings.client_version,
            no_job_wait_s=settings.no_job_wait_s,
            retry_wait_s=settings.retry_wait_s,
            remember=functools.partial(self.ledger.keep, kept),
            recall=functools.partial(self.ledger.kept, kept),
        )

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.retry_wait_s, RETRY_CAP_S, random.Random())

    def _open_session_loops(self) -> None:
        for key, session in self.account.items():
            if key not in self._ask_loops:
                uploads = Uploads(session, self.ledger, self.spool, self.reports, self._backoff())
                self._uploads[key] = uploads
                ask, upload = (
                    functools.partial(self._ask_once, session),
                    functools.partial(self._upload_once, uploads, key),
                )
                refused = {"fatal": FatalRefusal, "on_fatal": self._refused}
                self._ask_loops[key] = Loop(f"ask {key}", ask, **refused).start()
                self._upload_loops[key] = Loop(f"upload {key}", upload, **refused).start()

    def _wake_asking(self) -> None:
        for loop in list(self._ask_loops.values()):
            loop.wake()

    def _present(self) -> dict[str, Presence]:
        return self.sweeper.present

    def _pinned(self) -> set[str]:
        return self.dispatcher.needed_archives()

    def _send_order(self, *order: Any) -> None:
        try:
            send_order(self._app, *order)
        except OperationalError as error:
            raise BrokerDown(f"Redis does not take orders: {error}") from None

    def _cancel_on_node(self, lease: Lease) -> None:
        node = self.sweeper.present.get(lease.node_id or "")
        if node is not None:
            try:
                cancel_order(self._app, node.name, lease.id, lease.attempt)
            except OperationalError as error:  # the sweep tells the node again
                log.warning("%s could not be told to stop: %s", node.name, error)

    def _on_delivered(self, lease: Lease) -> None:
        self._wake_asking()
        if (loop := self._upload_loops.get(lease.session_key)) is not None:
            loop.wake()

    def _on_returned(self, lease: Lease) -> None:
        self.dispatcher.wake_placing.set()

    def _on_gave_up(self, lease: Lease, report: FailureReport) -> None:
        self.reports.put(lease, report)
        self._on_delivered(lease)

    # What operators ask for

    def cancel_lease(self, lease: Lease, reason: str) -> None:
        """Ends a lease without a report, and its renderer with it."""
        try:
            self.ledger.apply(lease.id, LeaseEvent.CANCEL, reason=reason)
        except LeaseError:
            return
        log.warning("%s cancelled: %s", lease.label, reason)
        self._cancel_on_node(lease)
        if lease.delivery is not None:
            self.spool.discard(lease.delivery.picture)
        self._wake_asking()

    def cancel_job(self, job: str, frame: str | None) -> int:
        """Ends a job's leases, or those of one frame; returns how many."""
        chosen = [
            lease
            for lease in self.ledger.leases(*ACTIVE)
            if job in (lease.offer.job_id, lease.job_name) and frame in (None, lease.offer.frame)
        ]
        for lease in chosen:
            self.cancel_lease(lease, "cancelled by the operator")
        return len(chosen)

    def status(self) -> dict[str, Any]:
        """What ``sheepfold status --json`` prints."""
        counts = self.ledger.counts()
        return {
            "version": __version__,
            "sessions": self.account.status(),
            "leases": {state.value: count for state, count in counts.items()},
            "accepted": counts[LeaseState.ACCEPTED],
            "frames_remaining": self.dispatcher.frames_remaining,
            "nodes": [_node_status(node) for node in sorted(self._present().values(), key=lambda node: node.name)],
        }


def _node_status(node: Presence) -> dict[str, Any]:
    return {
        "name": node.name,
        "id": node.node_id,
        "address": node.address,
        "slots": node.slots,
        "compute": node.compute.value,
        "accepting": node.accepting,
        "cpu": node.hardware.cpu_model_name,
        "cores": node.hardware.cpu_cores,
        "ram": node.hardware.ram,
        "busy": [
            {
                "lease": slot.lease_id,
                "attempt": slot.attempt,
                "job_name": slot.job_name,
                "frame": slot.frame,
                "stage": slot.stage.value,
                "progress": slot.progress,
                "remaining_s": slot.remaining_s,
                "memory_kb": slot.memory_kb,
            }
            for slot in node.busy
        ],
    }
