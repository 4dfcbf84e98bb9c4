"""Archives of granted frames come into the depot."""

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
from tests.support.coordinator.dispatcher_harness import Chain
from tests.support.coordinator.fakes import RENDERER, SCENE, md5_of, node

SILENCE = ServerSilent("archive download", "http://server/x", "no answer")
#: First wait after silence, jitter included.
LONGEST_FIRST_WAIT_S = 12.5


def test_both_archives_are_fetched_once_however_many_frames_want_them(chain: Chain) -> None:
    chain.present = {"n1": node(slots=5)}
    for number in range(5):
        chain.grant(f"{number:04}")
    chain.place_until(lambda: len(chain.sent) == 5)
    assert sorted(chain.session.downloads, key=lambda download: download.type) == [
        ArchiveRequest(type="binary", job="77"),
        ArchiveRequest(type="job", job="77", revision="3"),
    ]


def test_both_archives_travel_side_by_side(chain: Chain) -> None:
    together = threading.Barrier(2, timeout=10)
    chain.session.during_download = lambda _request, _cancelled: together.wait()
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)


def test_a_silent_server_is_asked_again_later_and_no_lease_is_lost(chain: Chain, told: ClaimRecord) -> None:
    chain.session.archives["job"] = [SILENCE, SCENE]
    lease = chain.grant()
    chain.place_until(lambda: md5_of(RENDERER) in chain.store.held() and len(chain.session.downloads) == 2)
    for _ in range(5):
        chain.place()
    assert len(chain.session.downloads) == 2, "it waits before it asks again"
    assert chain.ledger.get(lease.id) == lease

    chain.clock.now += LONGEST_FIRST_WAIT_S
    chain.place_until(lambda: len(chain.sent) == 1)
    assert len(chain.session.downloads) == 3
    assert not told.gave_up


def test_waits_for_a_silent_server_grow(chain: Chain) -> None:
    chain.session.archives["job"] = [SILENCE]
    chain.grant()
    for tries in (1, 2, 3):
        chain.place_until(lambda tries=tries: len(chain.waits) == tries)
        chain.clock.now += 1000
    assert chain.waits[0] < chain.waits[1] < chain.waits[2]


def test_a_session_that_is_not_signed_in_fetches_nothing_yet(chain: Chain) -> None:
    chain.session.signed_in = False
    lease = chain.grant()
    chain.place()
    assert chain.wakeups.placing.wait(10)
    chain.place()
    assert not chain.session.downloads
    assert chain.state(lease) is LeaseState.GRANTED


@pytest.mark.parametrize("kind", ["job", "binary"])
def test_an_archive_the_server_no_longer_has_gives_the_frame_up_with_a_report(
    chain: Chain, told: ClaimRecord, kind: str
) -> None:
    chain.session.archives[kind] = [ArchiveGone("the server no longer has the archive")]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    [(failed, failure)] = told.gave_up
    assert (failed.id, failure.kind) == (lease.id, FailureKind.NO_ARCHIVE)
    assert "no longer has" in failure.reason
    assert not chain.sent


def test_an_archive_that_keeps_arriving_with_another_md5_gives_the_frame_up(chain: Chain, told: ClaimRecord) -> None:
    chain.session.archives["job"] = [b"something else"]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    assert sum(download.type == "job" for download in chain.session.downloads) == DOWNLOAD_TRIES
    assert md5_of(b"something else") in told.gave_up[0][1].reason
    assert md5_of(SCENE) not in chain.store.held()


def test_an_md5_that_would_become_a_path_gives_the_frame_up(chain: Chain) -> None:
    lease = chain.grant(archive_md5="../../etc/passwd")
    chain.place()
    assert chain.state(lease) is LeaseState.FAILED


def test_one_damaged_download_costs_nothing_but_time(chain: Chain) -> None:
    chain.session.archives["job"] = [SCENE[:-1], SCENE]
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)


def test_a_full_disk_waits_for_room(chain: Chain, told: ClaimRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.make(reserve_bytes=1000)
    usage = collections.namedtuple("usage", "total used free")
    lease = chain.grant()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10))
        chain.place_until(lambda: len(chain.waits) == 2)
    assert chain.ledger.get(lease.id) == lease
    assert chain.place() == 0
    assert not chain.session.downloads, "the line is spared while there is no room"
    chain.clock.now += LONGEST_FIRST_WAIT_S
    chain.place_until(lambda: len(chain.sent) == 1)
    assert not told.gave_up


def test_an_error_of_our_own_disk_waits_and_holds_no_other_frame_up(chain: Chain) -> None:
    other = b"another scene"
    chain.present = {"n1": node(slots=4)}
    chain.session.archives["job"] = [OSError(5, "Input/output error"), other]
    ill = chain.grant("0001")
    chain.place()
    assert chain.wakeups.placing.wait(10)
    chain.grant("0002", archive_md5=md5_of(other))
    chain.place_until(lambda: [order.frame for _, order, _ in chain.sent] == ["0002"])
    assert chain.state(ill) is LeaseState.GRANTED
    before = len(chain.session.downloads)
    chain.place()
    assert len(chain.session.downloads) == before, "it waits before it tries again"


def test_a_download_that_failed_for_an_earlier_frame_says_nothing_about_a_later_one(chain: Chain) -> None:
    scene_failed = threading.Event()
    gone = ArchiveGone("gone")
    chain.session.archives = {"job": [gone, gone, SCENE], "binary": [gone, gone, RENDERER]}

    def renderer_last(request: ArchiveRequest, _cancelled: object) -> None:
        if request.type == "binary":
            assert scene_failed.wait(10)

    chain.session.during_download = renderer_last
    first = chain.grant("0001")
    chain.place_until(lambda: chain.state(first) is LeaseState.FAILED)
    chain.wakeups.placing.clear()
    scene_failed.set()
    assert chain.wakeups.placing.wait(10)
    chain.place()  # nobody waits for it any more

    later = chain.grant("0002")
    chain.place_until(lambda: chain.state(later) is not LeaseState.GRANTED)
    assert chain.state(later) is LeaseState.ORDERED


def test_a_failure_is_told_only_to_frames_that_waited_for_it(chain: Chain) -> None:
    other = b"another scene"
    chain.present = {"n1": node(slots=9)}
    chain.session.archives = {"job": [ArchiveGone("gone"), ArchiveGone("gone"), other], "binary": [RENDERER]}
    cancelled, waited = chain.grant("0001"), chain.grant("0002")
    chain.place()
    chain.ledger.apply(cancelled.id, LeaseEvent.CANCEL)
    chain.place_until(lambda: chain.state(waited) is LeaseState.FAILED)

    chain.session.archives["job"] = [SCENE]
    later = chain.grant("0003")
    chain.place_until(lambda: chain.state(later) is not LeaseState.GRANTED)
    assert chain.state(later) is LeaseState.ORDERED


def test_a_dead_sessions_not_found_is_asked_again_with_a_new_session(chain: Chain) -> None:
    chain.session.archives["job"] = [ArchiveGone("gone"), SCENE]
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.session.died == 1


def test_a_disabled_session_is_not_given_up_because_an_archive_is_gone(chain: Chain) -> None:
    chain.session.state = SessionState.DISABLED
    chain.session.archives["job"] = [ArchiveGone("gone")]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    assert chain.session.died == 0, "its finished frames still have to go up"


def test_closing_ends_downloads_that_are_under_way(chain: Chain) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(_request: ArchiveRequest, cancelled: Callable[[], bool]) -> None:
        begun.set()
        for _ in range(1000):
            if cancelled():
                ended.set()
                return
            threading.Event().wait(0.01)

    chain.session.during_download = endless
    chain.grant()
    chain.place()
    assert begun.wait(10)
    chain.placer.close()
    assert ended.wait(10)


def test_downloads_that_nobody_wants_any_more_are_forgotten_now_and_then(chain: Chain) -> None:
    chain.session.archives["job"] = [SILENCE]
    lease = chain.grant()
    chain.place_until(lambda: len(chain.waits) == 1)
    chain.ledger.apply(lease.id, LeaseEvent.CANCEL)
    chain.place()
    assert chain.downloads._waits, "not for every frame"
    chain.clock.now += FORGET_EVERY_S
    chain.place()
    assert not chain.downloads._waits
