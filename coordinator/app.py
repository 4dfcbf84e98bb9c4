"""The running coordinator: opens what it stands on, serves until it is told to stop, and leaves in order.

Its parts are built and wired by :func:`coordinator.build.build_coordinator`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.archives.listener import ArchiveListener
from coordinator.archives.manifests import ManifestCache
from coordinator.broker.errors import FarmLocked
from coordinator.broker.farm_lock import FarmLock
from coordinator.broker.redis_users import RedisUsers
from coordinator.certificates.farm_authority import FarmAuthority
from coordinator.delivery.claims import Claims
from coordinator.jobs.blocks import JobBlocks
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.http_server import UvicornThread
from coordinator.runtime.memory_tuning import infrequent_gc
from coordinator.runtime.stop_request import StopRequest
from coordinator.scheduling.placing import FramePlacer
from coordinator.upstream.heartbeat import Heartbeat
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_workers import SessionLoops
from sheepfold.errors import ExitCode
from sheepfold.hardware import detect
from sheepfold.limited.picture_inspector import PictureInspector

from .loops import FarmLoops
from .shutdown import GracefulShutdown
from .state_folder import StateFolder

log = logging.getLogger(__name__)

#: The last renewal of the farm lock, when it is under way (seconds).
LOOP_ENDS_S = 0.5


@dataclass(frozen=True, kw_only=True)
class AppServices:
    """What a coordinator opens, runs and closes."""

    state: StateFolder
    authority: FarmAuthority
    farm_lock: FarmLock
    users: RedisUsers
    quarantine: NodeQuarantine
    blocks: JobBlocks
    claims: Claims
    sessions: SessionPool
    session_loops: SessionLoops
    heartbeat: Heartbeat
    placer: FramePlacer
    manifests: ManifestCache
    inspector: PictureInspector
    archives: ArchiveListener
    api: UvicornThread
    loops: FarmLoops
    shutdown: GracefulShutdown
    stop: StopRequest


class CoordinatorApp:
    """A coordinator. It has touched no disk, socket or thread before :meth:`run`, which is called once."""

    def __init__(self, services: AppServices) -> None:
        self._services = services

    def run(self) -> int:
        """Runs until :meth:`stop` or a refusal; returns the exit code.

        Raises AuthorityUnusable, LedgerError, FarmLocked, BrokerUnreachable, NoUserForEachNode or AddressInUse where it
        cannot begin; nothing is open then.
        """
        services = self._services
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        services.archives.start()
        services.api.start()
        log.info("the LAN API listens on %s, archives on port %d", services.api.address, services.archives.port)
        log.info("PCs know this farm by its fingerprint, %s", services.authority.fingerprint)
        services.loops.start()
        services.session_loops.start()
        with infrequent_gc():
            services.stop.wait()
        return self._leave_to_follower() if isinstance(services.stop.error, FarmLocked) else self._shut_down()

    def stop(self) -> None:
        """A person wants the end; returns at once, from any thread or signal handler."""
        self._services.stop.ask()

    def _open(self) -> None:
        services = self._services
        services.state.open_ledger()
        services.authority.open()
        services.farm_lock.take()
        services.users.open()
        services.state.open_folders()
        services.quarantine.load()
        services.blocks.load()
        services.claims.load()
        services.sessions.open(detect(), services.state.session_keys())
        services.archives.bind()
        services.api.bind()

    def _shut_down(self) -> int:
        services, refusal = self._services, self._services.stop.error
        log.info("stopping%s", ": pictures that are ready are uploaded first" if refusal else "")
        services.loops.stop()
        services.shutdown.send_what_is_ready(services.stop)
        services.heartbeat.close()
        services.placer.close()
        services.shutdown.log_out_all()
        services.loops.join_farm_lock(LOOP_ENDS_S)
        services.farm_lock.release()
        self._close()
        if refusal:
            log.critical("%s", refusal)
        return ExitCode.REFUSED if refusal else ExitCode.DONE

    def _leave_to_follower(self) -> int:
        """Another coordinator took the farm while Redis was out of our reach: the account's session is its now."""
        services = self._services
        services.loops.stop()
        services.session_loops.stop()
        self._close()
        log.critical("another coordinator runs this farm now, so this one has ended: %s", services.stop.error)
        return ExitCode.FAILED

    def _close(self) -> None:
        """Closing what was never opened, or twice, is fine."""
        services = self._services
        services.placer.close()
        services.heartbeat.close()
        services.api.stop()
        services.archives.stop()
        services.manifests.close()
        services.inspector.close()
        services.state.close()
