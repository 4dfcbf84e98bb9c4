"""What the coordinator does again and again, each in a thread of its own.

*farm-lock* keeps other coordinators out, *redis-users* makes the nodes' users again that Redis forgot, *reconcile*
looks who is on the LAN, *place* orders granted frames, *heartbeat* keeps leases alive at the server, *tidy* removes
archives nobody needs, *certificates* renews the coordinator's. Asking and uploading have loops of their own
(:mod:`coordinator.upstream.session_workers`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.archives.store import ArchiveStore
from coordinator.broker.errors import FarmLocked
from coordinator.broker.farm_lock import FarmLock
from coordinator.broker.redis_users import RedisUsers
from coordinator.certificates.farm_authority import FarmAuthority
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.reconciler import Reconciler
from coordinator.runtime.periodic import PeriodicThread
from coordinator.runtime.stop_request import StopRequest
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.placing import FramePlacer
from coordinator.scheduling.usable_nodes import UsableNodes
from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.heartbeat import Heartbeat
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_workers import IDLE_S, SessionLoops

log = logging.getLogger(__name__)

#: Redis is looked at again when nodes are reconciled; orders wait a little longer than that.
BROKER_PAUSE_S = 5.0
#: Archives the server no longer wants go once no lease needs them.
TIDY_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class LoopServices:
    """What the loops do their work with."""

    farm_lock: FarmLock
    users: RedisUsers
    reconciler: Reconciler
    present: PresentNodes
    pauses: NodePauses
    usable: UsableNodes
    sessions: SessionPool
    session_loops: SessionLoops
    placer: FramePlacer
    heartbeat: Heartbeat
    archives: ArchiveStore
    authority: FarmAuthority
    wakeups: Wakeups


class FarmLoops:
    """The loops; an error that waiting cannot mend goes to ``stop``."""

    def __init__(self, services: LoopServices, stop: StopRequest) -> None:
        self._services = services
        placing, fail = services.wakeups.placing, stop.fail
        self._farm_lock = PeriodicThread("farm-lock", services.farm_lock.renew_once, fatal=FarmLocked, on_fatal=fail)
        self._all = (
            self._farm_lock,
            PeriodicThread("redis-users", self.look_at_users_once, fatal=FatalRefusal, on_fatal=fail),
            PeriodicThread("reconcile", self.reconcile_once, fatal=FatalRefusal, on_fatal=fail),
            PeriodicThread("place", self.place_once, fatal=FatalRefusal, on_fatal=fail, wake=placing),
            PeriodicThread("tidy", self.tidy_once, fatal=FatalRefusal, on_fatal=fail),
            PeriodicThread("certificates", services.authority.renew_once, fatal=FatalRefusal, on_fatal=fail),
            PeriodicThread("heartbeat", self.beat_once, fatal=FatalRefusal, on_fatal=fail),
        )

    def start(self) -> None:
        """Starts every thread; each does its first round at once."""
        for loop in self._all:
            loop.start()

    def stop(self) -> None:
        """Asks every loop to end; waits for none."""
        for loop in self._all:
            loop.stop()

    def join_farm_lock(self, timeout_s: float) -> bool:
        """Waits for a renewal that is under way: it would take the farm again after its release."""
        return self._farm_lock.join(timeout_s)

    def look_at_users_once(self) -> float:
        """Makes the users that Redis forgot, ends those nobody needs; returns seconds to wait."""
        return self._services.users.look_once(self._services.present.nodes.keys())

    def reconcile_once(self) -> float:
        """Finds who came and went, and what that means for leases, sessions and the node index; seconds to wait."""
        services, known = self._services, self._services.present.nodes.keys()
        has_news = services.reconciler.sweep_once()
        present = services.present.nodes
        services.pauses.follow(present)
        if has_news:
            services.sessions.assign(present)
            for node_id in present.keys() - known:
                services.sessions[services.sessions.session_key(present[node_id])].node_joined()
            services.session_loops.open_new()
        if has_news or services.usable.is_index_outdated():
            services.usable.update_index()
        return IDLE_S

    def place_once(self) -> float:
        """Orders what can be ordered; nothing while Redis is away."""
        if self._services.reconciler.broker_down:
            return IDLE_S
        try:
            self._services.placer.place_once()
        except BrokerUnreachable as error:
            log.warning("orders wait: %s", error)
            # The lease that just came back woke us; Redis did not come back with it.
            self._services.wakeups.placing.clear()
            return BROKER_PAUSE_S
        return IDLE_S

    def tidy_once(self) -> float:
        """Removes archives that are over the quota or unwanted at the server; returns seconds to wait."""
        self._services.archives.tidy()
        return TIDY_EVERY_S

    def beat_once(self) -> float:
        """Sends the heartbeats that are due; a lease that is granted meanwhile waits for at most :data:`IDLE_S`."""
        return min(self._services.heartbeat.beat_once(), IDLE_S)
