"""The composition root: builds a coordinator and wires its parts. Nothing here touches disk, network or threads."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Mapping

from coordinator.access.roles import Role
from coordinator.api.app import ApiServices, create_api
from coordinator.api.metrics import make_metrics
from coordinator.api.operator_service import OperatorService, OperatorServices
from coordinator.archives.downloads import Downloads
from coordinator.archives.listener import ArchiveListener
from coordinator.archives.manifests import ManifestCache
from coordinator.archives.peers import PeerTable
from coordinator.archives.tracker import ArchiveTracker
from coordinator.certificates.node_certificates import node_certificates
from coordinator.runtime.http_server import UvicornThread
from coordinator.runtime.stop_request import StopRequest
from coordinator.scheduling.lease_archives import LeaseArchives
from coordinator.scheduling.order_writer import OrderWriter
from coordinator.scheduling.placing import FramePlacer, PlacementServices
from coordinator.upstream.heartbeat import Heartbeat
from coordinator.upstream.session_waits import RETRY_CAP_S
from coordinator.upstream.session_workers import SessionLoops
from coordinator.upstream.uploads.session_uploads import SessionUploads
from coordinator.upstream.uploads.upload_services import UploadServices
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import archive_key

from .app import AppServices, CoordinatorApp
from .farm_parts import FarmParts
from .loops import FarmLoops, LoopServices
from .settings import CoordinatorSettings
from .shutdown import GracefulShutdown


def build_coordinator(
    settings: CoordinatorSettings, redis_url: str, farm_token: str, passwords: Mapping[Role, str]
) -> CoordinatorApp:
    """A coordinator that has done nothing yet; :meth:`CoordinatorApp.run` opens what it stands on."""
    parts, stop = FarmParts(settings, redis_url), StopRequest()
    state, sessions = parts.state, parts.sessions
    backoff = functools.partial(_backoff, settings.retry_wait_s)
    placer = _placer(parts, Downloads(state.archives, backoff, time.monotonic), settings.render_limit_s)
    beats_s, remaining_s = settings.heartbeat_s, parts.present.remaining_s
    heartbeat = Heartbeat(state.ledger, sessions, parts.events.cancel, at_most_every_s=beats_s, remaining_s=remaining_s)
    uploads = functools.partial(SessionUploads, services=_upload_services(parts, backoff))
    session_loops = SessionLoops(sessions, state.ledger, parts.requester, uploads, parts.events, parts.wakeups, stop)
    archives = ArchiveListener(state.archives, archive_key(farm_token), settings, parts.admission)
    manifests = ManifestCache(state.archives)
    api = ApiServices(
        farm_token=farm_token,
        passwords=passwords,
        tokens_from_elsewhere=settings.is_plain_everywhere(),
        certificates=node_certificates(settings, parts.authority, parts.admission),
        pressure=parts.gauge,
        claims=parts.claims,
        nodes=parts.admission,
        archives=ArchiveTracker(state.archives.path_of, manifests, PeerTable(parts.index.nodes), archives.url_for),
        flower=parts.users,
        revocation=parts.revocation,
        operator=_operator(parts),
        jobs=parts.jobs,
        metrics=make_metrics(state.ledger, parts.present, heartbeat, archives.bytes_moved),
    )
    services = AppServices(
        state=state,
        authority=parts.authority,
        farm_lock=parts.farm_lock,
        users=parts.users,
        quarantine=parts.quarantine,
        blocks=parts.blocks,
        claims=parts.claims,
        sessions=sessions,
        session_loops=session_loops,
        heartbeat=heartbeat,
        placer=placer,
        manifests=manifests,
        inspector=parts.inspector,
        archives=archives,
        api=UvicornThread(create_api(api), settings.host, settings.port, tls=parts.tls),
        loops=_loops(parts, session_loops, placer, heartbeat, stop),
        shutdown=GracefulShutdown(state.ledger, parts.claims, sessions, session_loops, parts.queues, parts.wakeups),
        stop=stop,
    )
    return CoordinatorApp(services)


def _placer(parts: FarmParts, downloads: Downloads, render_limit_s: int | None) -> FramePlacer:
    services = PlacementServices(
        ledger=parts.state.ledger,
        nodes=parts.index,
        present=parts.present,
        requirements=parts.requirements,
        archives=LeaseArchives(downloads, parts.sessions, parts.state.counters, parts.wakeups),
        orders=OrderWriter(parts.queues, parts.signer, render_limit_s=render_limit_s),
        returns=parts.claims,
        troubles=parts.pauses,
        blocked=parts.jobs,
        stuck=parts.stuck,
        clock=parts.clock,
    )
    return FramePlacer(services)


def _upload_services(parts: FarmParts, backoff: Callable[[], Backoff]) -> UploadServices:
    return UploadServices(
        ledger=parts.state.ledger,
        counters=parts.state.counters,
        spool=parts.state.spool,
        reports=parts.state.reports,
        backoff=backoff,
        give_up=parts.claims.give_up,
        on_broken=parts.events.refused_as_broken,
    )


def _operator(parts: FarmParts) -> OperatorService:
    services = OperatorServices(
        ledger=parts.state.ledger,
        sessions=parts.sessions,
        quarantine=parts.quarantine,
        pauses=parts.pauses,
        requester=parts.requester,
        blocks=parts.blocks,
        present=parts.present,
        usable=parts.usable,
        failure_logs=parts.state.failure_logs,
        wakeups=parts.wakeups,
    )
    return OperatorService(services)


def _loops(
    parts: FarmParts, session_loops: SessionLoops, placer: FramePlacer, heartbeat: Heartbeat, stop: StopRequest
) -> FarmLoops:
    services = LoopServices(
        farm_lock=parts.farm_lock,
        users=parts.users,
        reconciler=parts.reconciler,
        present=parts.present,
        pauses=parts.pauses,
        usable=parts.usable,
        sessions=parts.sessions,
        session_loops=session_loops,
        placer=placer,
        heartbeat=heartbeat,
        archives=parts.state.archives,
        authority=parts.authority,
        wakeups=parts.wakeups,
    )
    return FarmLoops(services, stop)


def _backoff(first_wait_s: float) -> Backoff:
    return Backoff(first_wait_s, RETRY_CAP_S, random.Random())
