"""A ledger on disk and what stands around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_parts import NotPng, Told

from coordinator.claims import Claims, Events
from coordinator.ledger import Ledger
from coordinator.ledger_file import sqlite_url
from coordinator.spool import Spool


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(sqlite_url(tmp_path / "state" / "ledger.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def claims(ledger: Ledger, spool: Spool, told: Told) -> Claims:
    def inspect(path: Path) -> None:
        if not path.read_bytes().startswith(b"PNG"):
            raise NotPng("this is no picture")

    events = Events(
        delivered=told.delivered.append,
        returned=told.returned.append,
        gave_up=lambda lease, failure: told.gave_up.append((lease, failure)),
    )
    return Claims(ledger, spool, inspect, events, attempts=2, not_a_picture=NotPng)
