"""A ledger on disk and what stands around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.delivery.validation import FrameValidator
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.upstream.uploads.error_reports import ReportBox
from tests.support.coordinator.builders import ClaimRecord, look, open_ledger
from tests.support.coordinator.dispatcher_harness import DispatcherHarness


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "state" / "ledger.sqlite")
    yield opened
    opened.database.close()


@pytest.fixture
def store(ledger: Ledger) -> KeyValueStore:
    return KeyValueStore(ledger.database)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool").open()


@pytest.fixture
def reports(tmp_path: Path) -> ReportBox:
    return ReportBox(tmp_path / "reports").open()


@pytest.fixture
def claim_record() -> ClaimRecord:
    return ClaimRecord()


@pytest.fixture
def claims(ledger: Ledger, spool: Spool, claim_record: ClaimRecord) -> Claims:
    return Claims(
        ledger, spool, FrameValidator(look, claim_record.absolved.append), claim_record.listener(), attempts=2
    )


@pytest.fixture
def harness(ledger: Ledger, claims: Claims, tmp_path: Path) -> Iterator[DispatcherHarness]:
    harness = DispatcherHarness(ledger, claims, tmp_path / "archives")
    yield harness
    harness.placer.close()
