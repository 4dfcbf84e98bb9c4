"""Archives of granted frames come into the coordinator's store."""

from __future__ import annotations

import collections
import shutil
import threading
from collections.abc import Callable

import pytest

from coordinator.archives.store import DOWNLOAD_TRIES
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.scheduling.lease_archives import FORGET_EVERY_S
from coordinator.upstream.errors import ArchiveGone, ServerSilent
from coordinator.upstream.session_state import SessionState
from sheepfold.contract.api_messages import FailureKind
from sheepfold.protocol.messages import ArchiveRequest
from tests.support.coordinator.builders import ClaimRecord
from tests.support.coordinator.dispatcher_harness import DispatcherHarness
from tests.support.coordinator.fakes import RENDERER, SCENE, md5_of, node

SILENCE = ServerSilent("archive download", "http://server/x", "no answer")
#: First wait after silence, jitter included.
LONGEST_FIRST_WAIT_S = 12.5


def test_both_archives_are_fetched_once_however_many_frames_want_them(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=5)}
    for number in range(5):
        harness.grant(f"{number:04}")
    harness.place_until(lambda: len(harness.sent) == 5)
    assert sorted(harness.session.downloads, key=lambda download: download.type) == [
        ArchiveRequest(type="binary", job="77"),
        ArchiveRequest(type="job", job="77", revision="3"),
    ]


def test_both_archives_travel_side_by_side(harness: DispatcherHarness) -> None:
    together = threading.Barrier(2, timeout=10)
    harness.session.during_download = lambda _request, _cancelled: together.wait()
    harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)


def test_a_silent_server_is_asked_again_later_and_no_lease_is_lost(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    harness.session.archives["job"] = [SILENCE, SCENE]
    lease = harness.grant()
    harness.place_until(lambda: md5_of(RENDERER) in harness.store.held() and len(harness.session.downloads) == 2)
    for _ in range(5):
        harness.place()
    assert len(harness.session.downloads) == 2, "it waits before it asks again"
    assert harness.ledger.get(lease.id) == lease

    harness.clock.now += LONGEST_FIRST_WAIT_S
    harness.place_until(lambda: len(harness.sent) == 1)
    assert len(harness.session.downloads) == 3
    assert not claim_record.gave_up


def test_waits_for_a_silent_server_grow(harness: DispatcherHarness) -> None:
    harness.session.archives["job"] = [SILENCE]
    harness.grant()
    for tries in (1, 2, 3):
        harness.place_until(lambda tries=tries: len(harness.waits) == tries)
        harness.clock.now += 1000
    assert harness.waits[0] < harness.waits[1] < harness.waits[2]


def test_a_session_that_is_not_signed_in_fetches_nothing_yet(harness: DispatcherHarness) -> None:
    harness.session.signed_in = False
    lease = harness.grant()
    harness.place()
    assert harness.wakeups.placing.wait(10)
    harness.place()
    assert not harness.session.downloads
    assert harness.state(lease) is LeaseState.GRANTED


@pytest.mark.parametrize("kind", ["job", "binary"])
def test_an_archive_the_server_no_longer_has_gives_the_frame_up_with_a_report(
    harness: DispatcherHarness, claim_record: ClaimRecord, kind: str
) -> None:
    harness.session.archives[kind] = [ArchiveGone("the server no longer has the archive")]
    lease = harness.grant()
    harness.place_until(lambda: harness.state(lease) is LeaseState.FAILED)
    [(failed, failure)] = claim_record.gave_up
    assert (failed.id, failure.kind) == (lease.id, FailureKind.NO_ARCHIVE)
    assert "no longer has" in failure.reason
    assert not harness.sent


def test_an_archive_that_keeps_arriving_with_another_md5_gives_the_frame_up(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    harness.session.archives["job"] = [b"something else"]
    lease = harness.grant()
    harness.place_until(lambda: harness.state(lease) is LeaseState.FAILED)
    assert sum(download.type == "job" for download in harness.session.downloads) == DOWNLOAD_TRIES
    assert md5_of(b"something else") in claim_record.gave_up[0][1].reason
    assert md5_of(SCENE) not in harness.store.held()


def test_an_md5_that_would_become_a_path_gives_the_frame_up(harness: DispatcherHarness) -> None:
    lease = harness.grant(archive_md5="../../etc/passwd")
    harness.place()
    assert harness.state(lease) is LeaseState.FAILED


def test_one_damaged_download_costs_nothing_but_time(harness: DispatcherHarness) -> None:
    harness.session.archives["job"] = [SCENE[:-1], SCENE]
    harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)


def test_a_full_disk_waits_for_room(
    harness: DispatcherHarness, claim_record: ClaimRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make(reserve_bytes=1000)
    usage = collections.namedtuple("usage", "total used free")
    lease = harness.grant()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10))
        harness.place_until(lambda: len(harness.waits) == 2)
    assert harness.ledger.get(lease.id) == lease
    assert harness.place() == 0
    assert not harness.session.downloads, "the line is spared while there is no room"
    harness.clock.now += LONGEST_FIRST_WAIT_S
    harness.place_until(lambda: len(harness.sent) == 1)
    assert not claim_record.gave_up


def test_an_error_of_our_own_disk_waits_and_holds_no_other_frame_up(harness: DispatcherHarness) -> None:
    other = b"another scene"
    harness.present = {"n1": node(slots=4)}
    harness.session.archives["job"] = [OSError(5, "Input/output error"), other]
    ill = harness.grant("0001")
    harness.place()
    assert harness.wakeups.placing.wait(10)
    harness.grant("0002", archive_md5=md5_of(other))
    harness.place_until(lambda: [order.frame for _, order, _ in harness.sent] == ["0002"])
    assert harness.state(ill) is LeaseState.GRANTED
    before = len(harness.session.downloads)
    harness.place()
    assert len(harness.session.downloads) == before, "it waits before it tries again"


def test_a_download_that_failed_for_an_earlier_frame_says_nothing_about_a_later_one(harness: DispatcherHarness) -> None:
    scene_failed = threading.Event()
    gone = ArchiveGone("gone")
    harness.session.archives = {"job": [gone, gone, SCENE], "binary": [gone, gone, RENDERER]}

    def renderer_last(request: ArchiveRequest, _cancelled: object) -> None:
        if request.type == "binary":
            assert scene_failed.wait(10)

    harness.session.during_download = renderer_last
    first = harness.grant("0001")
    harness.place_until(lambda: harness.state(first) is LeaseState.FAILED)
    harness.wakeups.placing.clear()
    scene_failed.set()
    assert harness.wakeups.placing.wait(10)
    harness.place()  # nobody waits for it any more

    later = harness.grant("0002")
    harness.place_until(lambda: harness.state(later) is not LeaseState.GRANTED)
    assert harness.state(later) is LeaseState.ORDERED


def test_a_failure_is_told_only_to_frames_that_waited_for_it(harness: DispatcherHarness) -> None:
    other = b"another scene"
    harness.present = {"n1": node(slots=9)}
    harness.session.archives = {"job": [ArchiveGone("gone"), ArchiveGone("gone"), other], "binary": [RENDERER]}
    cancelled, waited = harness.grant("0001"), harness.grant("0002")
    harness.place()
    harness.ledger.apply(cancelled.id, LeaseEvent.CANCEL)
    harness.place_until(lambda: harness.state(waited) is LeaseState.FAILED)

    harness.session.archives["job"] = [SCENE]
    later = harness.grant("0003")
    harness.place_until(lambda: harness.state(later) is not LeaseState.GRANTED)
    assert harness.state(later) is LeaseState.ORDERED


def test_a_dead_sessions_not_found_is_asked_again_with_a_new_session(harness: DispatcherHarness) -> None:
    harness.session.archives["job"] = [ArchiveGone("gone"), SCENE]
    harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)
    assert harness.session.died == 1


def test_a_disabled_session_is_not_given_up_because_an_archive_is_gone(harness: DispatcherHarness) -> None:
    harness.session.state = SessionState.DISABLED
    harness.session.archives["job"] = [ArchiveGone("gone")]
    lease = harness.grant()
    harness.place_until(lambda: harness.state(lease) is LeaseState.FAILED)
    assert harness.session.died == 0, "its finished frames still have to go up"


def test_closing_ends_downloads_that_are_under_way(harness: DispatcherHarness) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(_request: ArchiveRequest, cancelled: Callable[[], bool]) -> None:
        begun.set()
        for _ in range(1000):
            if cancelled():
                ended.set()
                return
            threading.Event().wait(0.01)

    harness.session.during_download = endless
    harness.grant()
    harness.place()
    assert begun.wait(10)
    harness.placer.close()
    assert ended.wait(10)


def test_downloads_that_nobody_wants_any_more_are_forgotten_now_and_then(harness: DispatcherHarness) -> None:
    harness.session.archives["job"] = [SILENCE]
    lease = harness.grant()
    harness.place_until(lambda: len(harness.waits) == 1)
    harness.ledger.apply(lease.id, LeaseEvent.CANCEL)
    harness.place()
    assert harness.downloads._waits, "not for every frame"
    harness.clock.now += FORGET_EVERY_S
    harness.place()
    assert not harness.downloads._waits
