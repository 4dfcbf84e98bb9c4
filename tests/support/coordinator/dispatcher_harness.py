"""What asks for frames and places them: a real ledger and archive store; server and broker are the test's own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from coordinator.archives.downloads import Downloads
from coordinator.archives.launchers import LauncherArchives
from coordinator.archives.store import ArchiveStore
from coordinator.delivery.claims import Claims
from coordinator.jobs.blocks import JobBlock, JobBlocks
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.order_signing import OrderSigner
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.asking import FrameRequester, RequestServices, StuckFrames
from coordinator.scheduling.backpressure import InFlightGauge
from coordinator.scheduling.lease_archives import LeaseArchives
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.order_writer import OrderWriter
from coordinator.scheduling.placing import FramePlacer, PlacementServices
from coordinator.scheduling.requirements import RequirementsBuilder
from coordinator.settings import SessionMode
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool
from sheepfold.backoff import Backoff
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.presence import Presence
from sheepfold.contract.signing import SignedMessage
from sheepfold.protocol.messages import JobAnswer, JobOffer, RendererOffer
from sheepfold.protocol.session_messages import Hardware
from sheepfold.protocol.status import JobStatus
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import HARDWARE, KEY, RENDERER, SCENE, FakeSession, md5_of, node


def frame(number: str = "0001", **changes: Any) -> JobOffer:
    """A frame whose archives the server of these tests has."""
    renderer = RendererOffer(md5=md5_of(RENDERER), command_line=".e -b .c -o .o -f .f", update_method="by_tile")
    values: dict[str, Any] = {"archive_md5": md5_of(SCENE), "renderer": renderer}
    return offer(number, **values | changes)


def gives(*offers: JobOffer) -> list[JobAnswer]:
    return [JobAnswer(status=JobStatus.OK, offer=offer, frames_remaining=7) for offer in offers]


@dataclass
class Troubles:
    """PCs without troubles of their own, or with those a test gives them."""

    #: Lease id → seconds since it first failed through its PC's own trouble.
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: str = ""

    def troubled_s(self, lease: Lease) -> float:
        return self.seconds.get(lease.id, 0.0)

    def summary(self, present: Mapping[str, Presence]) -> str:
        return self.reasons


class DispatcherHarness:
    """What asks for frames and places them, and what stands around it."""

    def __init__(self, ledger: Ledger, claims: Claims, folder: Path) -> None:
        self.ledger, self.claims = ledger, claims
        self.session, self.clock = FakeSession(), ManualClock()
        self.present: dict[str, Presence] = {"n1": node()}
        self.quarantined: set[str] = set()
        self.blocks = JobBlocks(KeyValueStore(ledger.database), "http://server").load()
        self.sent: list[tuple[SignedMessage, RenderOrder, str]] = []
        self.broker_error: Exception | None = None
        #: Called when the placer has chosen a node.
        self.on_look: Callable[[], object] = lambda: None
        #: Whether a renderer archive starts the PC's own Blender.
        self.is_launcher: Callable[[str], bool] = lambda _md5: False
        #: What the waits of the downloads were, in seconds.
        self.waits: list[float] = []
        #: Redis' clock; ``None``: Redis has never answered.
        self.redis_time: float | None = 1_000_000.0
        self.signer = OrderSigner(KeyValueStore(ledger.database), lambda: "f1", lambda: self.redis_time)
        self.folder = folder
        self.account = SessionPool(SessionMode.FARM, self._session).open(HARDWARE)
        self.make()

    def _session(self, _key: str, _hardware: Hardware) -> FarmSession:
        return cast("FarmSession", self.session)

    def make(self, **changes: Any) -> DispatcherHarness:
        """Both anew, with other settings."""
        if hasattr(self, "placer"):
            self.placer.close()
        self.pressure = InFlightGauge(many=1)
        self.tally, self.node_index = LeaseCounters(), NodeIndex(look_ahead=changes.pop("look_ahead", 1))
        self.ledger.watch(self.tally.follow)
        self.ledger.watch(self.node_index.on_lease_change)
        self.store = ArchiveStore(
            self.folder,
            quota_bytes=10**9,
            pinned=self.tally.needed_archives,
            reserve_bytes=changes.pop("reserve_bytes", 0),
        ).open()
        requirements = RequirementsBuilder(
            self.ledger,
            self.tally,
            self.node_index,
            changes.pop("job_tags", None),
            self.account.described_node,
            is_launcher=self.is_launcher,
        )
        waits = self.waits

        class RecordedBackoff(Backoff):
            def next(self) -> float:
                waits.append(super().next())
                return waits[-1]

        stuck, self.wakeups = StuckFrames(), Wakeups()
        self.downloads = Downloads(self.store, lambda: RecordedBackoff(10, 100, random.Random(1)), self.clock)
        self.requester = FrameRequester(
            RequestServices(
                ledger=self.ledger,
                counters=self.tally,
                nodes=self.node_index,
                gauge=self.pressure,
                archives=self.store,
                blocked=self,
                stuck=stuck,
                wakeups=self.wakeups,
            )
        )
        self.placer = FramePlacer(
            PlacementServices(
                ledger=self.ledger,
                nodes=self.node_index,
                present=self,
                requirements=requirements,
                archives=LeaseArchives(self.downloads, self.account, self.tally, self.wakeups, clock=self.clock),
                orders=OrderWriter(self, self.signer, render_limit_s=changes.pop("render_limit_s", None)),
                returns=self.claims,
                troubles=changes.pop("troubles", Troubles()),
                blocked=self,
                stuck=stuck,
                clock=lambda: time.time() + self.clock.now - ManualClock().now,
            )
        )
        assert not changes, "nothing takes these settings"
        return self

    def make_with_launchers(self) -> DispatcherHarness:
        """Both anew; renderer archives are looked into."""
        self.is_launcher = LauncherArchives(lambda md5: self.store.path_of(md5)).is_launcher
        return self.make()

    def block_of(self, lease: Lease) -> JobBlock | None:
        return self.blocks.of(lease.offer.job_id, lease.offer.frame)

    def turn_away(self, lease: Lease, block: JobBlock) -> None:
        self.ledger.apply(lease.id, LeaseEvent.CANCEL, reason=block.reason)

    def look(self) -> None:
        """Who is here and may get frames, as the farm's sweep tells the node_index."""
        usable = {id_: presence for id_, presence in self.present.items() if id_ not in self.quarantined}
        for node_id in self.node_index.nodes().keys() - usable.keys():
            self.node_index.remove(node_id)
        for presence in usable.values():
            self.node_index.upsert(presence, self.account.session_key(presence))

    @property
    def nodes(self) -> dict[str, Presence]:
        self.on_look()
        return self.present

    def ask(self) -> bool:
        self.look()
        return self.requester.ask_once(cast("FarmSession", self.session))

    def place(self) -> int:
        self.look()
        return self.placer.place_once()

    def ask_all(self) -> int:
        count = 0
        while self.ask():
            count += 1
        return count

    def grant(self, number: str = "0001", **changes: Any) -> Lease:
        return self.ledger.grant(frame(number, **changes), KEY)

    def state(self, lease: Lease) -> LeaseState:
        return self.ledger.get(lease.id).state

    def place_until(self, done: Callable[[], bool]) -> None:
        """Rounds of placing, as the farm makes them: when there may be something new, and every second."""
        for _ in range(20):
            self.wakeups.placing.clear()
            self.place()
            if done():
                return
            self.wakeups.placing.wait(1)
        raise AssertionError("it never came to that")

    def fetched(self) -> None:
        """The archives are here."""
        self.place_until(lambda: {md5_of(SCENE), md5_of(RENDERER)} <= set(self.store.held()))

    def send(self, signed: SignedMessage, order: RenderOrder, node_name: str) -> None:
        if self.broker_error is not None:
            raise self.broker_error
        self.sent.append((signed, order, node_name))
