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
from tests.support.coordinator.builders import ClaimRecord, Listener, look, open_ledger
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
    events = Listener(
        delivered=claim_record.delivered.append,
        failed=lambda lease, failure: claim_record.failed.append((lease.node_id, failure.kind)),
        held_back=lambda lease, doubt: claim_record.held_back.append((lease.node_id, doubt)),
        overtaken=claim_record.overtaken.append,
        returned=claim_record.returned.append,
        gave_up=claim_record.give_up,
    )
    return Claims(ledger, spool, FrameValidator(look, claim_record.absolved.append), events, attempts=2)


@pytest.fixture
def harness(ledger: Ledger, claims: Claims, tmp_path: Path) -> Iterator[DispatcherHarness]:
    made = DispatcherHarness(ledger, claims, tmp_path / "archives")
    yield made
    made.placer.close()
