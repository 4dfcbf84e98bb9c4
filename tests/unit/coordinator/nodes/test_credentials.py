"""Who is the node it names."""

from __future__ import annotations

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.errors import TooManyNodes

FIRST, SECOND = "1" * 64, "2" * 64


@pytest.fixture
def store(ledger: Ledger) -> KeyValueStore:
    return KeyValueStore(ledger.database)


def test_the_first_to_join_under_an_id_decides_and_a_restart_changes_nothing(store: KeyValueStore) -> None:
    credentials = NodeCredentials(store)
    assert not credentials.is_right("n1", FIRST)
    assert credentials.admit("n1", FIRST, ())
    for known in (credentials, NodeCredentials(store)):
        assert known.is_right("n1", FIRST)
        assert not known.is_right("n1", SECOND)
        assert not known.is_right("n2", FIRST)
        assert not known.admit("n1", SECOND, ())
        assert known.admit("n1", FIRST, ())


def test_the_ledger_keeps_no_secret(store: KeyValueStore) -> None:
    NodeCredentials(store).admit("n1", FIRST, ())
    assert FIRST not in (store.get("node-credentials") or "")


def test_beyond_the_limit_those_that_are_away_are_forgotten_and_nobody_who_is_here(store: KeyValueStore) -> None:
    credentials = NodeCredentials(store, most_nodes=2)
    credentials.admit("here", FIRST, ())
    credentials.admit("away", FIRST, ())
    assert credentials.admit("new", SECOND, {"here"})
    assert credentials.is_right("here", FIRST)
    assert not credentials.is_right("away", FIRST)
    with pytest.raises(TooManyNodes):
        credentials.admit("one more", SECOND, {"here", "new"})
    assert not credentials.admit("here", SECOND, {"here", "new"})


@pytest.mark.parametrize("kept", ["", "{", "[]", "7"])
def test_what_cannot_be_read_keeps_nobody_out(store: KeyValueStore, kept: str) -> None:
    store.put("node-credentials", kept)
    assert NodeCredentials(store).admit("n1", FIRST, ())


def test_a_revoked_nodes_secret_proves_nothing_under_any_id_and_a_restart_changes_nothing(store: KeyValueStore) -> None:
    credentials = NodeCredentials(store)
    credentials.admit("n1", FIRST, ())
    credentials.admit("n2", SECOND, ())
    credentials.revoke("n1")
    for known in (credentials, NodeCredentials(store)):
        assert not known.is_right("n1", FIRST)
        assert known.fingerprint("n1") is None
        assert known.is_revoked("n1")
        assert known.is_revoked("another", FIRST)
        assert known.is_taken("n1", FIRST)
        assert known.is_right("n2", SECOND)
        assert not known.is_revoked("n2", SECOND)
