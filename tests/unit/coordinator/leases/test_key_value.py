"""Small texts on disk: kept, replaced, sealed, and never half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.leases.errors import LedgerError
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger


@pytest.fixture
def transactions(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[sa.Connection], object]]:
    """Every transaction that the database is asked for."""
    done: list[Callable[[sa.Connection], object]] = []
    write = ledger.database.write

    def counted(step: Callable[[sa.Connection], object]) -> None:
        done.append(step)
        write(step)

    monkeypatch.setattr(ledger.database, "write", counted)
    return done


def test_what_was_put_last_is_what_the_next_process_reads(ledger: Ledger, store: KeyValueStore) -> None:
    store.put("dialect", "2015")
    store.put("dialect", "2024")
    store.put("other", "")
    again = KeyValueStore(ledger.database)
    assert (again.get("dialect"), again.get("other"), again.get("nothing")) == ("2024", "", None)


def test_the_same_value_again_costs_no_transaction(store: KeyValueStore, transactions: list[Any]) -> None:
    for value in ("a", "a", "b", "b"):
        store.put("key", value)
    assert len(transactions) == 2


def test_nothing_is_read_from_disk_twice(ledger: Ledger, store: KeyValueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("key", "value")
    monkeypatch.setattr(ledger.database, "reading", lambda: pytest.fail("it is in memory"))
    assert (store.get("key"), store.get("other")) == ("value", None)


def test_a_key_that_was_deleted_is_gone_for_the_next_process_too(
    ledger: Ledger, store: KeyValueStore, transactions: list[Any]
) -> None:
    store.put("key", "value")
    store.put("stays", "value")
    store.delete("key")
    store.delete("key")
    assert len(transactions) == 3, "a key that is not there is nothing to delete"
    assert store.get("key") is None
    again = KeyValueStore(ledger.database)
    assert (again.get("key"), again.get("stays")) == (None, "value")


@pytest.mark.parametrize("step", ["put", "delete"])
def test_a_write_that_fails_has_changed_nothing(
    ledger: Ledger, store: KeyValueStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store.put("key", "before")

    def full(_step: object) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.database, "write", full)
        with pytest.raises(LedgerError, match="the disk is full"):
            store.put("key", "after") if step == "put" else store.delete("key")
    assert store.get("key") == "before"
    store.put("key", "after")
    assert KeyValueStore(ledger.database).get("key") == "after", "the same value is written where it was not before"


def test_a_secret_is_read_by_its_name_and_not_in_the_file(ledger: Ledger, store: KeyValueStore, tmp_path: Path) -> None:
    store.put_secret("session", "s3cret-cookie")
    assert store.get_secret("session") == "s3cret-cookie"
    assert "s3cret" not in str(store.get("session"))
    assert KeyValueStore(ledger.database).get_secret("session") == "s3cret-cookie"
    assert not [file for file in (tmp_path / "state").iterdir() if b"s3cret" in file.read_bytes()]


def test_the_same_secret_again_costs_no_transaction_although_it_would_be_sealed_differently(
    store: KeyValueStore, transactions: list[Any]
) -> None:
    for secret in ("a", "a", "b"):
        store.put_secret("session", secret)
    assert len(transactions) == 2


def test_a_secret_that_never_was_or_cannot_be_opened_is_none(store: KeyValueStore) -> None:
    store.put("session", "not sealed at all")
    assert (store.get_secret("session"), store.get_secret("nothing")) == (None, None)
    store.put_secret("session", "a new one")
    assert store.get_secret("session") == "a new one"
