from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from coordinator.leases.lease import Delivery, Lease, LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.heartbeat import DEFAULT_MAX_PERIOD_S, RETRY_SHARE, Heartbeat
from sheepfold.protocol.messages import Beat, BeatAnswer
from sheepfold.protocol.session_messages import Endpoints
from sheepfold.protocol.status import BeatStatus
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import offer, rendering

KEY = "farm:linux/64bit"


@dataclass
class Server:
    """Takes beats; answers what ``says`` holds, or nothing."""

    max_period_s: int | None = 100
    says: int | None = 0
    beats: list[Beat] = field(default_factory=list)
    died: int = 0

    @property
    def client(self) -> Server:
        return self

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(
            validate_job="v",
            request_job="r",
            download_archive="d",
            error="e",
            keepmealive="k",
            logout="l",
            max_period_s=self.max_period_s,
        )

    def ensure_signed_in(self) -> bool:
        return True

    def session_died(self) -> None:
        self.died += 1

    def beat(self, beat: Beat) -> BeatAnswer:
        self.beats.append(beat)
        if self.says is None:
            raise ServerSilent("heartbeat", "http://server", "no answer")
        return BeatAnswer(status=self.says)


def heartbeat(
    ledger: Ledger, server: Server, clock: ManualClock, at_most_every_s: float = 600.0
) -> tuple[Heartbeat, list]:
    stopped: list[Lease] = []
    beats = Heartbeat(
        ledger,
        {KEY: server},
        lambda lease, _: stopped.append(lease),
        at_most_every_s=at_most_every_s,
        clock=clock,
    )
    beats.beat_once()  # the round of the start; nothing is there yet
    return beats, stopped


@pytest.mark.parametrize(
    ("setting_s", "max_period_s", "interval_s"),
    [(600, 100, 50), (20, 100, 20), (600, None, DEFAULT_MAX_PERIOD_S / 2), (5000, 1440, 720)],
)
def test_a_lease_is_beaten_at_the_smaller_of_the_setting_and_half_the_period(
    ledger: Ledger, setting_s: float, max_period_s: int | None, interval_s: float
) -> None:
    server, clock = Server(max_period_s=max_period_s), ManualClock()
    beats, _ = heartbeat(ledger, server, clock, setting_s)
    rendering(ledger)
    assert beats.beat_once() == pytest.approx(interval_s)

    clock.now += interval_s - 0.01
    beats.beat_once()
    assert not server.beats
    clock.now += 0.02
    beats.beat_once()
    [beat] = server.beats
    assert (beat.job, beat.frame, beat.extras, beat.paused) == ("77", "0012", "opaque", False)


def test_a_beat_tells_how_long_the_frame_is_rendered_and_will_be(ledger: Ledger) -> None:
    server, clock = Server(), ManualClock()
    lease = rendering(ledger, "0001")
    waiting = ledger.grant(offer("0002"), KEY)
    done = rendering(ledger, "0003")
    ledger.apply(
        done.id,
        LeaseEvent.DELIVER,
        delivery=Delivery(picture="a.1.png", size=1, render_s=41.2, memory_kb=1, cores=1),
    )
    beats = Heartbeat(
        ledger,
        {KEY: server},
        lambda _lease, _reason: None,
        at_most_every_s=600,
        remaining_s=lambda asked: 12.3 if asked.id in (lease.id, waiting.id) else None,
        clock=clock,
        wall_clock=lambda: lease.changed_at + 6.5,
    )
    beats.beat_once()
    times = {beat.frame: (beat.render_time_s, beat.remaining_s) for beat in server.beats}
    assert times == {"0001": (7, 13), "0002": (0, None), "0003": (42, 0)}


def test_a_clock_that_was_set_back_makes_no_time_negative(ledger: Ledger) -> None:
    server = Server()
    lease = rendering(ledger)
    beats = Heartbeat(
        ledger, {KEY: server}, lambda *_: None, at_most_every_s=600, wall_clock=lambda: lease.changed_at - 60
    )
    beats.beat_once()
    assert [(beat.render_time_s, beat.remaining_s) for beat in server.beats] == [(0, None)]


def test_every_active_lease_has_a_beat_of_its_own_and_ended_ones_have_none(ledger: Ledger) -> None:
    server, clock = Server(), ManualClock()
    beats, _ = heartbeat(ledger, server, clock)
    rendering(ledger, "0001")
    ledger.grant(offer("0002"), KEY)
    ended = rendering(ledger, "0003")
    ledger.apply(ended.id, LeaseEvent.CANCEL)
    beats.beat_once()
    clock.now += 51
    beats.beat_once()
    assert sorted(beat.frame for beat in server.beats) == ["0001", "0002"]


def test_a_beat_without_an_answer_does_not_count_and_is_tried_again_soon(ledger: Ledger) -> None:
    server, clock = Server(says=None), ManualClock()
    beats, _ = heartbeat(ledger, server, clock)
    rendering(ledger)
    beats.beat_once()
    clock.now += 51
    assert beats.beat_once() == pytest.approx(50 * RETRY_SHARE)
    assert beats.missed == 1
    server.says = 0
    clock.now += 50 * RETRY_SHARE
    assert beats.beat_once() == pytest.approx(50)
    assert beats.answered == 1
    assert len(server.beats) == 2


def test_a_stop_ends_the_lease(ledger: Ledger) -> None:
    server, clock = Server(says=BeatStatus.STOP), ManualClock()
    beats, stopped = heartbeat(ledger, server, clock)
    lease = rendering(ledger)
    beats.beat_once()
    clock.now += 51
    beats.beat_once()
    assert stopped == [lease]


def test_after_a_restart_every_lease_is_beaten_at_once(ledger: Ledger) -> None:
    rendering(ledger)
    server = Server()
    heartbeat(ledger, server, ManualClock())
    assert len(server.beats) == 1


def test_a_stop_leaves_a_picture_alone_that_waits_for_its_upload(ledger: Ledger) -> None:
    server, clock = Server(says=BeatStatus.STOP), ManualClock()
    beats, stopped = heartbeat(ledger, server, clock)
    lease = rendering(ledger)
    beats.beat_once()
    ledger.apply(lease.id, LeaseEvent.DELIVER)
    for _ in range(3):
        clock.now += 51
        beats.beat_once()
    assert not stopped
    assert len(server.beats) == 1, "the server has ended it; there is nothing to keep alive"


def test_a_beat_of_a_dead_session_does_not_count_and_has_it_replaced(ledger: Ledger) -> None:
    server, clock = Server(says=202), ManualClock()
    beats, stopped = heartbeat(ledger, server, clock)
    rendering(ledger)
    beats.beat_once()
    clock.now += 51
    assert beats.beat_once() == pytest.approx(50 * RETRY_SHARE)
    assert (server.died, stopped) == (1, [])
