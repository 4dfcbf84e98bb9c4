"""What the coordinator finds in its state folder after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.leases.errors import LedgerError
from coordinator.leases.lease import Delivery, LeaseEvent
from coordinator.settings import CoordinatorSettings
from coordinator.state_folder import StateFolder
from sheepfold.contract.api_messages import FailureKind, FailureReport
from tests.support.coordinator.builders import offer, rendering
from tests.support.coordinator.fakes import KEY

Open = Callable[[], StateFolder]


@pytest.fixture
def reopen_folder(tmp_path: Path) -> Iterator[Open]:
    """The folder, opened anew each time; whoever had it open before closes it."""
    settings = CoordinatorSettings(
        server_url="http://127.0.0.1:9", login="studio", password="secret", state_dir=tmp_path / "state"
    )
    with ExitStack() as closing:

        def make() -> StateFolder:
            closing.pop_all().close()
            state = StateFolder(settings, time.time)
            closing.callback(state.close)
            state.open_ledger()
            state.open_folders()
            return state

        yield make


def test_only_pictures_that_a_lease_names_are_kept(reopen_folder: Open) -> None:
    state = reopen_folder()
    lease = rendering(state.ledger)
    kept = state.spool.store(lease.id, 1, ".png", [b"entered"])
    state.spool.store(lease.id, 2, ".png", [b"the coordinator died before it was entered"])
    delivery = Delivery(picture=kept.name, size=7, render_s=1.0, memory_kb=1, cores=1)
    state.ledger.apply(lease.id, LeaseEvent.DELIVER, attempt=1, delivery=delivery)
    assert reopen_folder().spool.names() == [kept.name]


def test_a_picture_that_is_held_back_is_kept_too(reopen_folder: Open) -> None:
    state = reopen_folder()
    lease = rendering(state.ledger)
    kept = state.spool.store(lease.id, 1, ".png", [b"black"])
    delivery = Delivery(picture=kept.name, size=5, render_s=1.0, memory_kb=1, cores=1)
    state.ledger.apply(lease.id, LeaseEvent.HOLD_BACK, attempt=1, delivery=delivery, reason="black")
    assert reopen_folder().spool.names() == [kept.name]


def test_sessions_of_leases_and_of_reports_are_taken_up_again(reopen_folder: Open) -> None:
    state = reopen_folder()
    assert state.session_keys() == set()
    state.ledger.grant(offer("0001"), KEY)
    ended = state.ledger.apply(state.ledger.grant(offer("0002"), "node:w").id, LeaseEvent.GIVE_UP)
    assert state.session_keys() == {KEY}
    state.reports.put(ended, FailureReport(kind=FailureKind.DISK_FULL, reason="full"))
    assert reopen_folder().session_keys() == {KEY, "node:w"}


def test_a_farm_keeps_its_id_over_a_restart_and_another_farm_has_another(reopen_folder: Open, tmp_path: Path) -> None:
    farm_id = reopen_folder().farm_id()
    assert reopen_folder().farm_id() == farm_id
    (tmp_path / "state").rename(tmp_path / "moved")
    assert reopen_folder().farm_id() != farm_id


def test_two_coordinators_cannot_have_it_open(reopen_folder: Open, tmp_path: Path) -> None:
    state = reopen_folder()
    settings = CoordinatorSettings(
        server_url="http://127.0.0.1:9", login="studio", password="secret", state_dir=tmp_path / "state"
    )
    other = StateFolder(settings, time.time)
    with pytest.raises(LedgerError):
        other.open_ledger()
    state.close()
    other.open_ledger()
    other.close()
