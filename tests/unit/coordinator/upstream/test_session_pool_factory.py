"""What the sessions of one account share, and what tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.runtime.wakeups import Wakeups
from coordinator.settings import CoordinatorSettings
from coordinator.upstream.session_pool import SessionFactory, hardware_for_server
from coordinator.upstream.uploads.error_reports import ReportBox
from sheepfold.protocol.messages import UnreadableOffer
from tests.support.coordinator.fakes import HARDWARE, KEY

OURS = hardware_for_server(HARDWARE)


class FactoryHarness:
    """A factory with a real store and real reports."""

    def __init__(self, store: KeyValueStore, reports: ReportBox, folder: Path) -> None:
        self.store, self.reports, self.wakeups = store, reports, Wakeups()
        self.settings = CoordinatorSettings(
            server_url="http://127.0.0.1:9", login="studio", password="secret", state_dir=folder, no_job_wait_s=7
        )

    def make(self, farm_id: str = "farm-1") -> SessionFactory:
        return SessionFactory(self.settings, self.store, self.reports, self.wakeups, lambda: farm_id)

    def signs_in_with(self, key: str, farm_id: str = "farm-1") -> Any:
        identity = self.make(farm_id)._identity_of(key)
        return identity.request(OURS, "pc", None)


@pytest.fixture
def factory(store: KeyValueStore, reports: ReportBox, tmp_path: Path) -> FactoryHarness:
    return FactoryHarness(store, reports, tmp_path)


def test_a_session_has_its_key_the_hardware_and_the_account(factory: FactoryHarness) -> None:
    session = factory.make().create(KEY, OURS)
    assert (session.key, session.machine.hardware, session.machine.node_id) == (KEY, OURS, "")
    credentials = factory.signs_in_with(KEY).credentials
    assert (credentials.login, credentials.password) == ("studio", "secret")


def test_each_farm_and_session_has_a_hardware_id_that_a_restart_keeps(factory: FactoryHarness) -> None:
    ours = factory.signs_in_with(KEY).hardware_id
    assert len(ours) == 32
    assert factory.signs_in_with(KEY).hardware_id == ours
    others = {factory.signs_in_with("node:w").hardware_id, factory.signs_in_with(KEY, "farm-2").hardware_id}
    assert len(others | {ours}) == 3


def test_a_session_goes_on_where_it_was_before_a_restart(factory: FactoryHarness) -> None:
    before = factory.make().create(KEY, OURS)
    before._services.remember('{"login": "studio", "client": "x"}')
    assert factory.make().create(KEY, OURS)._services.recall() == '{"login": "studio", "client": "x"}'
    assert factory.make().create("node:w", OURS)._services.recall() is None
    assert "studio" not in (factory.store.get(f"session:{KEY}") or ""), "nobody may read it in the file"


def test_a_frame_nobody_can_follow_goes_back_at_once(factory: FactoryHarness) -> None:
    session = factory.make().create(KEY, OURS)
    session._services.return_offer(KEY, UnreadableOffer(job="7", frame="0001", extras=None, reason="no renderer"))
    [waiting] = factory.reports.waiting(KEY)
    pending = factory.reports.read(waiting)
    assert pending is not None
    assert (pending.job, pending.frame) == ("7", "0001")
    assert factory.wakeups.uploading.is_set()
