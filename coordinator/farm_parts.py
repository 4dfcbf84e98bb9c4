"""The coordinator's parts that know leases and nodes; :mod:`coordinator.build` wires the rest to them.

Building them touches no disk, network or thread.
"""

from __future__ import annotations

import functools
import random

from coordinator.archives.launchers import LauncherArchives
from coordinator.broker.farm_lock import FarmLock
from coordinator.broker.node_queues import NodeQueues
from coordinator.broker.redis_users import RedisUsers
from coordinator.broker.worker_address import WorkerAddress
from coordinator.certificates.farm_authority import farm_authority
from coordinator.delivery.claims import Claims
from coordinator.delivery.validation import FrameValidator
from coordinator.jobs.blocks import JobBlocks
from coordinator.jobs.control import JobControl
from coordinator.jobs.scene_faults import SceneFaults
from coordinator.nodes.admission import NodeAdmission
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.order_signing import OrderSigner
from coordinator.nodes.pauses import FIRST_PAUSE_S, PAUSE_CAP_S, NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.nodes.reconciler import Reconciler
from coordinator.nodes.registry import NodeRegistry, connect
from coordinator.nodes.revocation import NodeRevocation
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.asking import FrameRequester, RequestServices, StuckFrames
from coordinator.scheduling.backpressure import InFlightGauge
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.requirements import RequirementsBuilder
from coordinator.scheduling.usable_nodes import UsableNodes
from coordinator.upstream.session_pool import SessionFactory, SessionPool
from sheepfold.backoff import Backoff, SharedClock, steady_clock
from sheepfold.config import is_loopback
from sheepfold.contract.celery_app import make_app
from sheepfold.limited.picture_inspector import PictureInspector
from sheepfold.serving.tls_or_plain import TlsRules

from .lease_events import LeaseEvents, LeaseEventServices
from .settings import CoordinatorSettings
from .state_folder import StateFolder


class FarmParts:
    """Read by the composition root alone: whatever it builds is handed the parts it needs, never all of them."""

    def __init__(self, settings: CoordinatorSettings, redis_url: str) -> None:
        self._settings, self.clock, self.wakeups = settings, steady_clock(), Wakeups()
        self.state = StateFolder(settings, self.clock)
        self.authority = farm_authority(settings)
        self.tls = TlsRules(context=self.authority.server_context, plain_everywhere=settings.is_plain_everywhere())
        self.index = NodeIndex(look_ahead=settings.look_ahead)
        self.state.ledger.watch(self.index.on_lease_change)
        redis = connect(redis_url)
        self.farm_lock, self.registry = FarmLock(redis, self.state.farm_id), NodeRegistry(redis)
        self.present = PresentNodes()
        redis_clock = SharedClock(self.registry.redis_time)
        self.signer = OrderSigner(self.state.texts, self.state.farm_id, redis_clock.now)
        self.queues = NodeQueues(make_app(redis_url), self.present, self.signer)
        self.sessions = self._sessions()
        self._build_causes_of_failures()
        self.requirements = self._requirements()
        self.inspector = PictureInspector()
        self.events = self._lease_events()
        self.claims = self.events.claims
        self.reconciler = Reconciler(
            self.registry,
            self.present,
            self.state.ledger,
            self.claims,
            self.queues.cancel,
            self.events,
            clock=self.clock,
        )
        credentials = NodeCredentials(self.state.texts)
        self.users = RedisUsers(
            redis,
            _worker_address(settings, redis_url),
            self.state.texts,
            credentials,
            self.registry,
            may_share=settings.shared_redis_login or is_loopback(settings.host),
        )
        self.admission = NodeAdmission(
            credentials, self.registry, self.signer, self.users, settings.public_url, self.reconciler.joined
        )
        self.revocation = NodeRevocation(credentials, self.registry, self.present, self.users.end, self.events.revoked)
        self.jobs = self._job_control()
        self.gauge, self.stuck = InFlightGauge(), StuckFrames()
        self.requester = self._requester()

    def _sessions(self) -> SessionPool:
        state = self.state
        factory = SessionFactory(self._settings, state.texts, state.reports, self.wakeups, state.farm_id)
        return SessionPool(self._settings.sessions, factory.create)

    def _build_causes_of_failures(self) -> None:
        """What finds out whether a failure is the node's, the scene's or nobody's."""
        self.quarantine, self.pauses = NodeQuarantine(self.state.texts), NodePauses(_pause_waits)
        self.scene_faults = SceneFaults(self.present)
        self.blocks = JobBlocks(self.state.texts, self._settings.server_url)
        self.usable = UsableNodes(self.present, self.quarantine, self.pauses, self.index, self.sessions, self.wakeups)

    def _requirements(self) -> RequirementsBuilder:
        return RequirementsBuilder(
            self.state.ledger,
            self.state.counters,
            self.index,
            self._settings.job_tags,
            self.sessions.described_node,
            is_launcher=LauncherArchives(self.state.archives.path_of).is_launcher,
            tried=self.scene_faults.tried,
        )

    def _lease_events(self) -> LeaseEvents:
        ledger, quarantine = self.state.ledger, self.quarantine
        services = LeaseEventServices(
            ledger=ledger,
            spool=self.state.spool,
            reports=self.state.reports,
            failure_logs=self.state.failure_logs,
            quarantine=quarantine,
            pauses=self.pauses,
            scene_faults=self.scene_faults,
            blocks=self.blocks,
            nodes=self.index,
            present=self.present,
            requirements=self.requirements,
            canceller=self.queues,
            sessions=self.sessions,
            wakeups=self.wakeups,
        )
        make_claims = functools.partial(
            Claims,
            ledger,
            self.state.spool,
            FrameValidator(self.inspector.inspect, quarantine.ended, quarantine.is_trusted, ledger.pictures_of_job),
            attempts=self._settings.attempts,
            is_frames_fault=self.pauses.is_frames_fault,
        )
        return LeaseEvents(services, make_claims)

    def _job_control(self) -> JobControl:
        return JobControl(
            self.state.ledger,
            self.blocks,
            self.sessions,
            self.events.cancel_all,
            self.events.give_back,
            give_up=self.claims.give_up,
            on_unblocked=self.scene_faults.forget,
        )

    def _requester(self) -> FrameRequester:
        services = RequestServices(
            ledger=self.state.ledger,
            counters=self.state.counters,
            nodes=self.index,
            gauge=self.gauge,
            archives=self.state.archives,
            blocked=self.jobs,
            stuck=self.stuck,
            wakeups=self.wakeups,
        )
        return FrameRequester(services)


def _worker_address(settings: CoordinatorSettings, redis_url: str) -> WorkerAddress:
    given = settings.worker_redis_url
    return WorkerAddress(redis_url, given.get_secret_value() if given else None, settings.public_url)


def _pause_waits() -> Backoff:
    return Backoff(FIRST_PAUSE_S, PAUSE_CAP_S, random.Random())
