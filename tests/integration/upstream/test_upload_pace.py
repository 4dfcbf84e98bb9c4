"""Forty frames to a real server that never stores one of them and finds another too large."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.delivery.spool import Spool, spool_name
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.lease import Delivery, LeaseEvent, LeaseState
from coordinator.runtime.keyed_pool import KeyedThreadPool
from coordinator.upstream.client import ServerClient
from coordinator.upstream.client_identity import ClientIdentity
from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_workers import THREADS, UPLOADS_AT_ONCE
from coordinator.upstream.signing_in import DescribedMachine
from coordinator.upstream.uploads.error_reports import ReportBox
from coordinator.upstream.uploads.session_uploads import SessionUploads
from coordinator.upstream.uploads.upload_services import UploadServices
from sheepfold.backoff import Backoff
from sheepfold.protocol.messages import JobOffer, RendererOffer
from tests.support.coordinator.builders import open_ledger
from tests.support.servers.misbehaving_server import SIGN_IN, MisbehavingServer, ReceivedRequest

FRAMES = 40
#: What the server takes for each frame.
STORING_S = 0.1
MOST_OF_THE_UNDISTURBED_TIME = 1.2
KEY = "farm:linux/64bit"


def storing_page(bad: dict[str, Callable[[ReceivedRequest], None]]) -> Callable[[ReceivedRequest], None]:
    def page(request: ReceivedRequest) -> None:
        time.sleep(STORING_S)
        store = bad.get(request.query["frame"], lambda request: request.answer('<jobvalidate status="0" />'))
        store(request)

    return page


NEVER_STORED = {"0000": lambda request: request.answer('<jobvalidate status="303" />')}
TOO_LARGE = {"0001": lambda request: request.answer("<html>413 Request Entity Too Large</html>", 413)}


class UploadingSession:
    """Uploads of one session with forty frames in its spool, and the threads that the coordinator gives it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.ledger = open_ledger(folder / "ledger.sqlite")
        tally = LeaseCounters()
        self.ledger.watch(tally.follow)
        spool = Spool(folder / "spool").open()
        self.client = ServerClient(url)
        self.session = FarmSession(
            key=KEY,
            machine=DescribedMachine(hardware=SIGN_IN.hardware),
            client=self.client,
            identity=ClientIdentity(credentials=SIGN_IN.credentials),
        )
        services = UploadServices(
            ledger=self.ledger,
            counters=tally,
            spool=spool,
            reports=ReportBox(folder / "reports").open(),
            backoff=lambda: Backoff(5, 600, random.Random()),
            give_up=lambda _lease, _report: None,
        )
        self.uploads = SessionUploads(self.session, services)
        for number in range(FRAMES):
            self._deliver(f"{number:04}", spool)

    def _deliver(self, frame: str, spool: Spool) -> None:
        renderer = RendererOffer(md5="b" * 32, command_line=".e -b .c -o .o -f .f")
        offer = JobOffer(
            job_id="77",
            frame=frame,
            path="demo.blend",
            use_gpu=False,
            archive_md5="a" * 32,
            revision="3",
            renderer=renderer,
            script="",
        )
        lease = self.ledger.grant(offer, KEY)
        self.ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")
        self.ledger.apply(lease.id, LeaseEvent.START)
        name = spool_name(lease.id, 1, ".png")
        spool.path(name).write_bytes(b"\x89PNG" + bytes(20_000))
        delivery = Delivery(picture=name, size=20_004, render_s=1.0, memory_kb=1, cores=1)
        self.ledger.apply(lease.id, LeaseEvent.DELIVER, delivery=delivery)

    def seconds_until(self, accepted: int) -> float:
        """Uploads as the session loops do, until so many frames are in."""
        errors: list[Exception] = []
        pool = KeyedThreadPool(
            "uploading", threads=THREADS, at_once=UPLOADS_AT_ONCE, fatal=FatalRefusal, on_fatal=errors.append
        )
        self.session.ensure_signed_in()
        begun = time.monotonic()
        while self.ledger.counts()[LeaseState.ACCEPTED] < accepted:
            assert time.monotonic() < begun + 60, self.ledger.counts()
            assert not errors
            pool.submit(KEY, self.uploads.pending(), self.uploads.flush_once)
            time.sleep(0.02)
        took_s = time.monotonic() - begun
        pool.stop()
        pool.join(10)
        return took_s


def test_one_frame_that_is_never_stored_and_one_that_is_too_large_delay_no_other(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = storing_page({})
    undisturbed_s = UploadingSession(tmp_path / "undisturbed", server.url).seconds_until(FRAMES)

    server.pages["/server/send_frame.php"] = storing_page(NEVER_STORED | TOO_LARGE)
    disturbed = UploadingSession(tmp_path / "disturbed", server.url)
    disturbed_s = disturbed.seconds_until(FRAMES - 2)
    print(f"undisturbed {undisturbed_s:.2f} s, disturbed {disturbed_s:.2f} s: {disturbed_s / undisturbed_s:.2f} times")
    assert disturbed_s <= MOST_OF_THE_UNDISTURBED_TIME * undisturbed_s
    counts = disturbed.ledger.counts()
    assert (counts[LeaseState.REFUSED], counts[LeaseState.DELIVERED]) == (1, 1)
