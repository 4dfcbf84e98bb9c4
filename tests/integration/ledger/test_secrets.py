"""What must survive a restart and may not be read in the ledger's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.leases.errors import LedgerUnwritable
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from sheepfold.protocol.messages import Chunk
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.ledger_writer import offer

SECRETS = {"password": "scene-s3cret", "validation_url": "https://up.example/put?key=url-s3cret"}


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(ledger_path)
    yield opened
    opened.database.close()


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.suffix != ".key")


def test_secrets_of_an_offer_survive_and_are_in_no_file(ledger: Ledger, ledger_path: Path) -> None:
    chunks = (Chunk(id="a/../b", md5="0" * 32), Chunk(id="2", md5="1" * 32))
    locked = replace(offer(1), archive_md5="", chunks=chunks, **SECRETS)
    lease = ledger.grant(locked, "farm:linux/64bit")
    KeyValueStore(ledger.database).put_secret("session:farm", "cookie-s3cret")
    KeyValueStore(ledger.database).put_secret("session:farm", "cookie-s3cret")
    assert b"s3cret" not in everything_in(ledger_path.parent)
    ledger.database.close()
    again = open_ledger(ledger_path)
    assert again.get(lease.id).offer == locked
    assert KeyValueStore(again.database).get_secret("session:farm") == "cookie-s3cret"
    again.database.close()
    assert ledger_path.with_name("ledger.sqlite.key").stat().st_mode & 0o777 == 0o600


def test_a_copy_without_its_key_tells_no_secret(ledger: Ledger, ledger_path: Path, tmp_path: Path) -> None:
    lease = ledger.grant(replace(offer(1), **SECRETS), "farm:linux/64bit")
    KeyValueStore(ledger.database).put_secret("session:farm", "cookie-s3cret")
    (tmp_path / "copy").mkdir()
    ledger.database.backup(tmp_path / "copy" / "ledger.sqlite")
    copy = open_ledger(tmp_path / "copy" / "ledger.sqlite")
    assert copy.get(lease.id).offer == offer(1)
    assert KeyValueStore(copy.database).get_secret("session:farm") is None
    copy.database.close()


def test_a_key_file_that_is_none_is_told_by_its_name(ledger_path: Path) -> None:
    ledger_path.parent.mkdir(mode=0o700)
    ledger_path.with_name("ledger.sqlite.key").write_text("not a key")
    with pytest.raises(LedgerUnwritable, match=r"ledger\.sqlite\.key holds no key"):
        open_ledger(ledger_path)
