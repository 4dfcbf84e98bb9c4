"""``sheepfold worker``: join the farm, take orders, deliver, leave.

The process is one Celery worker on the threads pool. Around it: the guard, the presence record, and a watch on where
Redis is: a coordinator that brings its own Redis may come back with it on another port. The worker then finishes what
it is working on (deliveries go over HTTP) and starts itself anew in the same process.

Exit code 0: stopped; 1: Celery ended by itself. What else ends it is an error, with an exit code of its own.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning

from render_tasks.archives.sharing import ArchiveSharing
from render_tasks.blender.installed import LocalBlender, ask_version_in
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.orders.node import Node
from render_tasks.orders.opening import MessageOpener
from render_tasks.orders.outbox import Outbox
from render_tasks.orders.services import NodeIdentity, NodeServices
from sheepfold import __version__
from sheepfold.backoff import Backoff, SharedClock
from sheepfold.contract.api_messages import CONTRACT_VERSION, JoinAnswer, JoinRequest
from sheepfold.contract.celery_app import make_app
from sheepfold.contract.orders import celery_name_of
from sheepfold.contract.presence import Compute
from sheepfold.errors import ExitCode
from sheepfold.hardware import detect
from sheepfold.logs import log_to_stderr
from sheepfold.serving.file_limit import raise_file_limit

from .broker.guarded_transport import install_guard
from .broker.redis_time import redis_time
from .broker.refusals import Refusals
from .errors import CoordinatorUnreachable, CopiedMembership
from .membership import Membership
from .node_health import NodeHealth
from .presence import PresenceWriter
from .settings import WorkerSettings, cores_of_a_slot
from .startup.hardening import choose_sandbox, environment_with_token, hide_token, refuse_unsafe, tell_protection
from .startup.joining import client_of, join_farm
from .startup.pinned_farm import PinnedFarm
from .startup.rejoining import Rejoining
from .tasks import install
from .work_dir import WorkDir, unusable_is_typed

log = logging.getLogger(__name__)

#: Waits between two joins while the coordinator is not up.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
#: Celery tells each task's arrival and end; the node tells both itself, in a farm's words.
NOISY = ("celery.worker.strategy", "celery.app.trace")
#: Orders at a time for each slot: one renders, three are ready (the coordinator's look-ahead grows to so many where
#: frames are short), one is on its way to the coordinator. An order that waits costs a thread that sleeps.
ORDERS_PER_SLOT = 5
#: A worker that was told to stop is gone after this, whatever hangs; the promise is ten seconds.
GONE_AFTER_S = 8.5


def worker(join: str | None = None) -> int:
    """Runs until stopped; the exit code. ``join``: the line of an invitation, instead of the setting.

    Raises pydantic's ValidationError for a wrong setting, RunsAsRoot, NoSandbox, WorkDirUnusable, and TokenRefused,
    CoordinatorRefused or FarmChanged where coordinator and worker do not belong together.
    """
    settings = WorkerSettings(**({"join": join} if join else {}))  # type: ignore[call-arg]
    hide_token()
    log_to_stderr(quiet=NOISY)
    refuse_unsafe(settings)
    raise_file_limit()
    with unusable_is_typed(settings.work_dir):
        folder = WorkDir(settings.work_dir)
        membership = join_farm(settings, folder)
    return WorkerProcess(settings, folder, choose_sandbox(settings), membership).run()


class WorkerProcess:
    """The process, from settings to exit code."""

    def __init__(self, settings: WorkerSettings, folder: WorkDir, sandbox: Sandbox, member: Membership | None) -> None:
        self._settings, self._folder, self._sandbox = settings, folder, sandbox
        self._member, self._coordinator = member, client_of(member, settings, folder)
        self._outbox = Outbox(folder.outbox)
        self._blender = LocalBlender(ask=functools.partial(ask_version_in, sandbox))
        self._guard, self._refusals = OrphanGuard(), Refusals()
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._moved = False
        self._presence: PresenceWriter | None = None
        self._pinned = PinnedFarm(folder.path)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stopping.set())
        self._blender.look()
        self._hardware = detect(self._blender.gpus() if self._settings.compute is not Compute.CPU else ())
        joined = self._join_until_admitted()
        if joined is None:
            return ExitCode.DONE
        with unusable_is_typed(self._folder.path):
            self._take_identity(joined.node_id)
        self._blender.tell()
        tell_protection(self._sandbox)
        log.info("joined as %s, %d slot(s), node %s", joined.name, self._settings.slots, self._folder.node_id)
        code = self._work(joined)
        self._guard.stop()
        return self._start_anew() if self._moved else code

    def _join_until_admitted(self) -> JoinAnswer | None:
        """The coordinator's answer, ``None`` when stopped while waiting. Raises CoordinatorError and ContractError."""
        waits = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        while not self._stopping.is_set():
            try:
                joined = self._coordinator.join(self._join_request(fresh=True))
                with unusable_is_typed(self._folder.path):
                    self._farm = self._pinned.accept(joined)
                return joined
            except CoordinatorUnreachable as silent:
                log.warning("%s; asking again", silent)
            self._stopping.wait(waits.next())
        return None

    def _take_identity(self, node_id: str) -> None:
        """The node that the coordinator says we are; empty: the one we said. Raises OSError."""
        if node_id and node_id != self._folder.node_id:
            if self._member is not None:
                raise CopiedMembership(self._folder.path)
            log.warning("%s has another worker's node id: this is a node of its own from now on", self._folder.path)
            self._folder.take_identity(node_id)

    def _join_request(self, *, fresh: bool = False) -> JoinRequest:
        return JoinRequest(
            contract_version=CONTRACT_VERSION,
            node_id=self._folder.node_id,
            secret=self._folder.node_secret,
            wanted_name=self._settings.node_name,
            hardware=self._hardware,
            slots=self._settings.slots,
            compute=self._settings.compute,
            version=__version__,
            kept=tuple(parcel.key for parcel in self._outbox.parcels()),
            fresh=fresh,
            installation=self._folder.installation,
            blender=self._blender.found.version,
        )

    def _work(self, joined: JoinAnswer) -> int:
        """Takes orders until told to stop; the exit code."""
        if not self._guard.start():
            log.warning("no orphan guard on this system: a renderer may outlive a worker that is killed")
        self._rejoining = Rejoining(joined, lambda: self._coordinator.join(self._join_request()), self._pinned.accept)
        self._node = node = self._make_node(joined)
        ask_again = self._ask_again_soon
        presence = PresenceWriter(joined.redis_url, self._folder.node_id, node.presence, ask_again, on_rival=ask_again)
        self._presence = presence
        self._health.look_once()
        install_guard(self._refusals)
        app = make_app(joined.redis_url)
        install(app, node)
        self._health.start()
        presence.start()
        threading.Thread(target=node.deliver_leftovers, name="leftovers", daemon=True).start()
        try:
            return self._run_celery(app, joined)
        finally:
            presence.stop()
            log.info("left the farm")

    def _make_node(self, joined: JoinAnswer) -> Node:
        settings, scratch = self._settings, self._folder.scratch
        warm = WarmBlenders(scratch, slots=settings.slots, on_change=self._on_change) if settings.warm else None
        sharing = ArchiveSharing(self._coordinator, self._folder.node_id, joined.archive_key, settings)
        cache = sharing.open(self._folder.archives, on_evict=warm.release if warm else lambda _: None)
        folders = (scratch, self._folder.outbox, self._folder.archives)
        self._health = NodeHealth(self._blender, folders, cache.require_space, self._on_change)
        identity = NodeIdentity(
            node_id=self._folder.node_id,
            name=joined.name,
            hardware=self._hardware,
            slots=settings.slots,
            compute=settings.compute,
            cores=cores_of_a_slot(settings.cores, settings.slots, self._hardware.cpu_cores, os.cpu_count() or 1),
            memory_limit_kb=int(settings.memory_gb * 1024**2) if settings.memory_gb else None,
            tags=settings.tags,
            installation=self._folder.installation,
            version=__version__,
        )
        services = NodeServices(
            coordinator=self._coordinator,
            cache=cache,
            archive_url=sharing.url,
            outbox=self._outbox,
            guard=self._guard,
            scratch=scratch,
            sandbox=self._sandbox,
            warm=warm,
            health=self._health,
        )
        clock = SharedClock(redis_time(joined.redis_url))
        opener = MessageOpener(self._farm, self._folder.node_id, clock, self._refusals)
        return Node(identity, services, opener, on_change=self._on_change, on_forgery=self._ask_again_soon)

    def _on_change(self) -> None:
        """The presence record has changed: it is written again soon."""
        if self._presence:
            self._presence.wake()

    def _run_celery(self, app: Any, joined: JoinAnswer) -> int:
        # Celery finds its logging set up already and leaves it alone.
        signals.setup_logging.connect(_logging_is_set_up, weak=False)
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        warnings.filterwarnings("ignore", category=SecurityWarning)
        celery_worker = app.Worker(
            hostname=celery_name_of(joined.name),
            queues=[joined.queue],
            pool="threads",
            concurrency=self._settings.slots * ORDERS_PER_SLOT,
            task_events=True,
            without_gossip=True,
            without_mingle=True,
            quiet=True,
            loglevel="INFO",
        )
        celery_worker.start()
        return ExitCode.DONE if self._stopping.is_set() else celery_worker.exitcode or ExitCode.FAILED

    # Stopping, and starting anew.

    def _on_ready(self, **_: Any) -> None:
        if self._stopping.is_set():  # told to stop before Celery listened to signals
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_shutting_down(self, **_: Any) -> None:
        """Inside a signal handler: nothing here may wait."""
        self._stopping.set()
        if not self._leaving.is_set():
            self._leaving.set()
            threading.Thread(target=self._leave, name="leaving", daemon=True).start()

    def _leave(self) -> None:
        deadline = time.monotonic() + GONE_AFTER_S
        self._node.leave()
        time.sleep(max(0.0, deadline - time.monotonic()))
        log.error("not ended after %.0f s: ending at once; frames not yet delivered are kept", GONE_AFTER_S)
        self._guard.stop()
        if self._moved:
            self._start_anew()
        logging.shutdown()
        os._exit(ExitCode.DONE)

    def _ask_again_soon(self) -> None:
        """Redis is silent, a signature is wrong, or another worker has our identity: joins again, in a thread."""
        threading.Thread(target=self._ask_again, name="rejoin", daemon=True).start()

    def _ask_again(self) -> None:
        if self._moved or self._stopping.is_set():
            return
        has_moved = self._rejoining.has_moved()
        self._node.trouble = self._rejoining.trouble
        self._on_change()
        if not has_moved:
            return
        self._moved = True
        log.warning(
            "the coordinator names another Redis, or another identity: the worker restarts once its renders are done"
        )
        self._node.accepting = False
        while not self._node.wait_until_idle(1) and not self._stopping.is_set():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    def _start_anew(self) -> int:
        argv = [sys.executable, *sys.orig_argv[1:]]
        logging.shutdown()
        self._folder.close()
        if os.name == "posix":
            os.execve(sys.executable, argv, environment_with_token(self._settings.token))  # noqa: S606
        return subprocess.call(argv)  # Windows' exec would give the shell its prompt back


def _logging_is_set_up(**_: object) -> None:
    """Told to Celery, which then leaves the logging alone."""
