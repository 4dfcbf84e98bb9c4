"""The composition root: builds the coordinator's parts, runs their loops, and takes them down in order.

Loops: *tenure* (the farm lock), *sweep* (who is on the LAN), *place* (orders for granted frames), *beat* (leases
stay alive), *tidy* (archives nobody needs), and two that look after the server sessions
(:mod:`coordinator.upstream.session_workers`). The LAN API is served beside them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import random
import signal
import threading
import time
import uuid

from coordinator.api.app import ApiServices, create_api
from coordinator.api.metrics import make_metrics
from coordinator.api.operator_service import OperatorService
from coordinator.archives.downloads import Downloads
from coordinator.archives.launchers import LauncherArchives
from coordinator.archives.listener import ArchiveListener
from coordinator.archives.manifests import ManifestCache
from coordinator.archives.peers import PeerTable
from coordinator.archives.store import ArchiveStore
from coordinator.archives.tracker import ArchiveTracker
from coordinator.broker.farm_lock import FarmLock, FarmLocked
from coordinator.broker.node_queues import NodeQueues
from coordinator.delivery.claim_listener import ClaimListener
from coordinator.delivery.claims import Claims
from coordinator.delivery.failure_logs import FailureLogs
from coordinator.delivery.spool import Spool
from coordinator.delivery.validation import FrameValidator
from coordinator.jobs.blocks import JobBlocks
from coordinator.jobs.control import JobControl
from coordinator.jobs.scene_faults import SceneFaults
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import ACTIVE, Lease
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_database import LedgerDatabase, sqlite_url
from coordinator.nodes.admission import NodeAdmission
from coordinator.nodes.pauses import FIRST_PAUSE_S, PAUSE_CAP_S, NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.nodes.reconciler import Reconciler
from coordinator.nodes.registry import BrokerUnreachable, NodeRegistry, connect
from coordinator.runtime.http_server import UvicornThread
from coordinator.runtime.memory_tuning import infrequent_gc
from coordinator.runtime.periodic import PeriodicThread
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.asking import FrameRequester, RequestServices
from coordinator.scheduling.backpressure import InFlightGauge
from coordinator.scheduling.lease_archives import LeaseArchives
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.order_writer import OrderWriter
from coordinator.scheduling.placing import FramePlacer, PlacementServices
from coordinator.scheduling.requirements import RequirementsBuilder
from coordinator.scheduling.stuck_frames import StuckFrames
from coordinator.upstream.client import ServerClient
from coordinator.upstream.client_identity import ClientIdentity
from coordinator.upstream.exchanges.speed_test import SpeedTests
from coordinator.upstream.heartbeat import Heartbeat
from coordinator.upstream.session import FarmSession, SessionSettings
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_state import FatalRefusal
from coordinator.upstream.session_waits import RETRY_CAP_S
from coordinator.upstream.session_workers import IDLE_S, SessionLoops
from coordinator.upstream.signing_in import DescribedMachine, SessionServices
from coordinator.upstream.uploads.error_reports import ReportBox
from coordinator.upstream.uploads.frame_uploads import Uploads
from coordinator.upstream.uploads.upload_services import UploadServices
from sheepfold.backoff import Backoff, steady_clock
from sheepfold.contract.celery_app import make_app
from sheepfold.contract.presence import Presence
from sheepfold.hardware import detect
from sheepfold.pictures import inspect
from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.session_messages import Credentials, Hardware

from .lease_events import LeaseEvents, LeaseEventServices
from .settings import CoordinatorSettings
from .shutdown import GracefulShutdown

log = logging.getLogger(__name__)

EXIT_FOLLOWED = 1
EXIT_REFUSED = 3
#: The last renewal of the farm lock, when it is under way (seconds).
LOOP_ENDS_S = 0.5
#: Redis is looked at again by the sweep; orders wait a little longer than that.
BROKER_PAUSE_S = 5.0
#: Archives the server no longer wants go once no lease needs them.
TIDY_EVERY_S = 60.0


class CoordinatorApp:
    """A running coordinator. Raises what its parts raise when they cannot begin."""

    def __init__(self, settings: CoordinatorSettings, redis_url: str, farm_token: str) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        #: Somebody sent a signal; a refusal stops us without one.
        self._asked = threading.Event()
        self._ended_by: Exception | None = None
        self._loops: list[PeriodicThread] = []
        self._open_stores(redis_url)
        self._build_lan_side(redis_url)
        self._build_server_side()
        self._build_archive_side(farm_token)
        self._api_server = UvicornThread(
            create_api(self._api_services(farm_token)), settings.host, settings.port
        ).bind()

    def _open_stores(self, redis_url: str) -> None:
        settings, state = self._settings, self._settings.state_dir
        self._clock = steady_clock()
        self._database = LedgerDatabase(sqlite_url(state / "ledger.sqlite")).open()
        self._ledger = Ledger(self._database, clock=self._clock).load()
        self._store = KeyValueStore(self._database)
        self._counters, self._node_index, self._gauge = (
            LeaseCounters(),
            NodeIndex(look_ahead=settings.look_ahead),
            InFlightGauge(),
        )
        self._ledger.watch(self._counters.follow)
        self._ledger.watch(self._node_index.on_lease_change)
        redis = connect(redis_url)
        self._farm_lock = FarmLock(redis, functools.partial(_farm_id, self._store))
        self._farm_lock.take()
        self._nodes = NodeRegistry(redis)
        self._present_nodes, self._wakeups = PresentNodes(), Wakeups()
        self._queues = NodeQueues(make_app(redis_url), self._present_nodes)
        self._spool = Spool(state / "spool", limit_bytes=settings.max_picture).open()
        self._discard_orphans()
        self._reports = ReportBox(state / "reports").open()
        self._failure_logs = FailureLogs(state / "logs").open()
        self._archives = ArchiveStore(
            state / "archives",
            quota_bytes=settings.archive_quota,
            pinned=self._counters.needed_archives,
        ).open()
        self._speed_tests = SpeedTests()
        keys = {lease.session_key for lease in self._ledger.leases(*ACTIVE)} | self._reports.session_keys()
        self._sessions = SessionPool(settings.sessions, self._make_session).open(detect(), keys)

    def _discard_orphans(self) -> None:
        """Pictures that were stored and not entered: their nodes still have them and deliver again."""
        active = self._ledger.leases()
        wanted = {lease.delivery.picture for lease in active if lease.delivery}
        wanted |= {lease.held_back.delivery.picture for lease in active if lease.held_back}
        for name in self._spool.names():
            if name not in wanted:
                self._spool.discard(name)

    def _build_lan_side(self, redis_url: str) -> None:
        self._quarantine = NodeQuarantine(self._store).load()
        self._pauses = NodePauses(_pause_waits)
        self._scene_faults = SceneFaults(self._present_nodes)
        self._requirements = RequirementsBuilder(
            self._ledger,
            self._counters,
            self._node_index,
            self._settings.job_tags,
            self._sessions.described_node,
            is_launcher=LauncherArchives(self._archives.path_of).is_launcher,
            tried=self._scene_faults.tried,
        )
        self._blocks = JobBlocks(self._store, self._settings.server_url).load()
        self._events = LeaseEvents(
            LeaseEventServices(
                ledger=self._ledger,
                spool=self._spool,
                reports=self._reports,
                failure_logs=self._failure_logs,
                quarantine=self._quarantine,
                pauses=self._pauses,
                scene_faults=self._scene_faults,
                blocks=self._blocks,
                nodes=self._node_index,
                present=self._present_nodes,
                requirements=self._requirements,
                canceller=self._queues,
                sessions=self._sessions,
                wakeups=self._wakeups,
            ),
            self._make_claims,
        )
        self._claims = self._events.claims
        self._reconciler = Reconciler(
            self._nodes, self._present_nodes, self._ledger, self._claims, self._queues.cancel, clock=self._clock
        )
        self._admission = NodeAdmission(
            self._store, self._nodes, redis_url, self._settings.public_url, self._reconciler.joined
        )
        self._jobs = JobControl(
            self._ledger,
            self._blocks,
            self._sessions,
            self._events.cancel_all,
            self._events.give_back,
            give_up=self._claims.give_up,
            on_unblocked=self._scene_faults.forget,
        )
        self._build_scheduling()

    def _make_claims(self, listener: ClaimListener) -> Claims:
        validator = FrameValidator(
            inspect, self._quarantine.ended, self._quarantine.is_trusted, self._ledger.pictures_of_job
        )
        return Claims(
            self._ledger,
            self._spool,
            validator,
            listener,
            attempts=self._settings.attempts,
            is_frames_fault=self._pauses.is_frames_fault,
        ).load()

    def _build_scheduling(self) -> None:
        stuck = StuckFrames()
        self._requester = FrameRequester(
            RequestServices(
                ledger=self._ledger,
                counters=self._counters,
                nodes=self._node_index,
                gauge=self._gauge,
                archives=self._archives,
                blocked=self._jobs,
                stuck=stuck,
                wakeups=self._wakeups,
            )
        )
        downloads = Downloads(self._archives, self._backoff, time.monotonic)
        self._placer = FramePlacer(
            PlacementServices(
                ledger=self._ledger,
                nodes=self._node_index,
                present=self._present_nodes,
                requirements=self._requirements,
                archives=LeaseArchives(downloads, self._sessions, self._counters, self._wakeups),
                orders=OrderWriter(self._queues, self._admission, render_limit_s=self._settings.render_limit_s),
                returns=self._claims,
                troubles=self._pauses,
                blocked=self._jobs,
                stuck=stuck,
                clock=self._clock,
            )
        )

    def _build_server_side(self) -> None:
        self._heartbeat = Heartbeat(
            self._ledger,
            self._sessions,
            self._events.cancel,
            at_most_every_s=self._settings.heartbeat_s,
            remaining_s=self._remaining_s,
        )
        self._session_loops = SessionLoops(
            self._sessions,
            self._ledger,
            self._requester,
            self._make_uploads,
            self._events.lose,
            self._wakeups,
            self._end,
        )
        self._operator = OperatorService(
            ledger=self._ledger,
            sessions=self._sessions,
            quarantine=self._quarantine,
            pauses=self._pauses,
            requester=self._requester,
            blocks=self._blocks,
            present=self._present,
            wake_asking=self._session_loops.wake_asking,
            on_released=self._update_node_index,
            failure_logs=self._failure_logs,
        )

    def _build_archive_side(self, farm_token: str) -> None:
        store = self._archives
        self._manifests = ManifestCache(store)
        self._archive_server = ArchiveListener(store, farm_token, self._settings, self._admission)
        self._archive_server.bind()
        self._tracker = ArchiveTracker(
            store.path_of, self._manifests, PeerTable(self._node_index.nodes), self._archive_server.url_for
        )

    def _api_services(self, farm_token: str) -> ApiServices:
        return ApiServices(
            farm_token=farm_token,
            pressure=self._gauge,
            claims=self._claims,
            join=self._admission.join,
            archives=self._tracker,
            status=self._operator.status,
            jobs=self._jobs,
            ask_now=self._operator.ask_now,
            release=self._operator.release,
            log=self._operator.log,
            redis_url=self._admission.redis_url_for,
            metrics=make_metrics(self._ledger, self._present, self._heartbeat, self._archive_server.bytes_moved),
        )

    def _make_session(self, key: str, hardware: Hardware) -> FarmSession:
        settings = self._settings
        kept = f"session:{key}"
        return FarmSession(
            key=key,
            machine=DescribedMachine(hardware=hardware, hostname=platform.node()),
            client=ServerClient(
                settings.server_url, config_path=settings.config_path, dialect=settings.sign_in_dialect()
            ),
            identity=self._identity_of(key),
            settings=SessionSettings(
                render_time_max_s=settings.render_limit_s,
                no_job_wait_s=settings.no_job_wait_s,
                retry_wait_s=settings.retry_wait_s,
            ),
            services=SessionServices(
                remember=functools.partial(self._store.put_secret, kept),
                recall=functools.partial(self._store.get_secret, kept),
                return_offer=self._return_offer,
                measure=self._measure,
            ),
        )

    def _identity_of(self, key: str) -> ClientIdentity:
        settings = self._settings
        assert settings.password is not None  # the settings' validator saw to it
        # Another one for each farm and session, the same one after a restart.
        hardware_id = hashlib.sha256(f"{_farm_id(self._store)}/{key}".encode()).hexdigest()[:32]
        return ClientIdentity(
            credentials=Credentials(login=settings.login, password=settings.password.get_secret_value()),
            dialect=settings.sign_in_dialect(),
            version=settings.client_version or "",
            extras=settings.extras,
            hardware_id=hardware_id,
        )

    def _return_offer(self, session_key: str, offer: UnreadableOffer) -> None:
        self._reports.put_unreadable(session_key, offer)
        self._session_loops.wake_uploading()

    def _measure(self, client: ServerClient, targets: tuple[str, ...]) -> None:
        """Beside everything else: nobody waits for a speed test."""
        threading.Thread(target=self._speed_tests.run_for, args=(client, targets), daemon=True).start()

    def _make_uploads(self, session: FarmSession) -> Uploads:
        services = UploadServices(
            ledger=self._ledger,
            counters=self._counters,
            spool=self._spool,
            reports=self._reports,
            backoff=self._backoff,
            give_up=self._claims.give_up,
            on_broken=self._events.refused_as_broken,
        )
        return Uploads(session, services)

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.retry_wait_s, RETRY_CAP_S, random.Random())

    # Running

    def run(self) -> int:
        """Runs until SIGTERM, Ctrl+C or a refusal; returns the exit code."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._asked_to_stop)
        self._archive_server.start()
        self._api_server.start()
        host = self._settings.host
        log.info(
            "the LAN API listens on %s:%d, archives on port %d", host, self._settings.port, self._archive_server.port
        )
        self._loops = [
            PeriodicThread("tenure", self._farm_lock.renew_once, fatal=FarmLocked, on_fatal=self._end),
            PeriodicThread("sweep", self._sweep_once, fatal=FatalRefusal, on_fatal=self._end),
            PeriodicThread(
                "place", self._place_once, fatal=FatalRefusal, on_fatal=self._end, wake=self._wakeups.placing
            ),
            PeriodicThread("tidy", self._tidy_once, fatal=FatalRefusal, on_fatal=self._end),
            PeriodicThread("beat", self._beat_once, fatal=FatalRefusal, on_fatal=self._end),
        ]
        for loop in self._loops:
            loop.start()
        self._session_loops.start()
        with infrequent_gc():
            self._stopping.wait()
        return self._leave_to_follower() if isinstance(self._ended_by, FarmLocked) else self._stop()

    def _sweep_once(self) -> float:
        known = self._present().keys()
        has_news = self._reconciler.sweep_once()
        self._pauses.follow(self._present())
        if has_news:
            self._sessions.assign(self._present())
            for node_id in self._present().keys() - known:
                self._sessions[self._sessions.session_key(self._present()[node_id])].node_joined()
            self._session_loops.open_new()
        if has_news or self._usable().keys() != self._node_index.nodes().keys():
            self._update_node_index()
        return IDLE_S

    def _usable(self) -> dict[str, Presence]:
        """Who may get frames: everybody on the LAN who is neither quarantined nor in trouble."""
        return {
            node_id: node
            for node_id, node in self._present().items()
            if not self._quarantine.is_quarantined(node_id) and not self._pauses.is_paused(node_id)
        }

    def _update_node_index(self) -> None:
        """Whom frames go to from now on."""
        usable = self._usable()
        for node_id in self._node_index.nodes().keys() - usable.keys():
            self._node_index.remove(node_id)
        for node in usable.values():
            self._node_index.upsert(node, self._sessions.session_key(node))
        self._wakeups.placing.set()
        self._session_loops.wake_asking()

    def _place_once(self) -> float:
        if self._reconciler.broker_down:
            return IDLE_S
        try:
            self._placer.place_once()
        except BrokerUnreachable as error:
            log.warning("orders wait: %s", error)
            # The lease that just came back woke us; Redis did not come back with it.
            self._wakeups.placing.clear()
            return BROKER_PAUSE_S
        return IDLE_S

    def _tidy_once(self) -> float:
        self._archives.tidy()
        return TIDY_EVERY_S

    def _beat_once(self) -> float:
        return min(self._heartbeat.beat_once(), IDLE_S)

    # Stopping

    def _asked_to_stop(self, *_: object) -> None:
        self._asked.set()
        self._stopping.set()

    def _end(self, error: Exception) -> None:
        self._ended_by = self._ended_by or error
        self._stopping.set()

    def _stop(self) -> int:
        refused = self._ended_by is not None
        log.info("stopping%s", ": pictures that are ready are uploaded first" if refused else "")
        for loop in self._loops:
            loop.stop()
        leaving = GracefulShutdown(self._ledger, self._claims, self._sessions, self._session_loops, self._queues.cancel)
        leaving.send_what_is_ready(self._asked, refused=refused)
        self._heartbeat.close()
        self._placer.close()
        leaving.log_out_all()
        # A renewal under way would take the farm again.
        self._loops[0].join(LOOP_ENDS_S)
        self._farm_lock.release()
        self._close()
        if refused:
            log.critical("%s", self._ended_by)
        return EXIT_REFUSED if refused else 0

    def _leave_to_follower(self) -> int:
        """Another coordinator took the farm while Redis was out of our reach: the account's session is its now."""
        for loop in self._loops:
            loop.stop()
        self._session_loops.stop()
        self._close()
        log.critical("this coordinator was followed by another one: %s", self._ended_by)
        return EXIT_FOLLOWED

    def _close(self) -> None:
        self._placer.close()
        self._heartbeat.close()
        self._api_server.stop()
        self._archive_server.stop()
        self._manifests.close()
        self._database.close()

    # What the parts tell each other

    def _remaining_s(self, lease: Lease) -> float | None:
        """What the node of a lease says of the time it still needs."""
        node = self._present().get(lease.node_id or "")
        slots = node.busy if node else ()
        return next((slot.remaining_s for slot in slots if slot.lease_id == lease.id), None)

    def _present(self) -> dict[str, Presence]:
        return dict(self._present_nodes.nodes)


def _pause_waits() -> Backoff:
    return Backoff(FIRST_PAUSE_S, PAUSE_CAP_S, random.Random())


def _farm_id(store: KeyValueStore) -> str:
    """Who we are to other coordinators, for as long as the ledger lives."""
    farm_id = store.get("farm-id") or uuid.uuid4().hex
    store.put("farm-id", farm_id)
    return farm_id
