"""Public keys: they sign in as the password does, for rendering alone, and end with the password."""

import sqlite3

from sqlalchemy import text

from lab.server.store.accounts import Accounts
from lab.server.store.database import Store
from tests.support.lab.store_harness import StoreHarness


def accounts_of(harness: StoreHarness) -> Accounts:
    return Accounts(harness.store, clock=harness.clock)


def key_of(accounts: Accounts, login: str, password: str) -> str:
    signed_in = accounts.sign_in(login, password)
    assert signed_in is not None
    return signed_in.public_key


def test_a_key_signs_in_as_the_password_does_and_is_given_again(harness):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep")
    key = key_of(accounts, "anna", "sheep")
    assert len(key) == 43
    assert key_of(accounts, "anna", key) == key
    assert accounts.sign_in("anna", key).account == accounts.get("anna")


def test_a_key_is_no_password(harness):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep", is_owner=True)
    key = key_of(accounts, "anna", "sheep")
    for _ in range(2):
        assert accounts.check("anna", key) is None
        assert accounts.check("anna", "sheep")


def test_a_key_is_of_one_account(harness):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep")
    accounts.put("ben", "sheep")
    anna, ben = key_of(accounts, "anna", "sheep"), key_of(accounts, "ben", "sheep")
    assert anna != ben
    assert accounts.sign_in("ben", anna) is None
    assert accounts.sign_in("nobody", anna) is None
    assert accounts.sign_in("nobody", "") is None
    assert accounts.sign_in("anna", "") is None


def test_a_key_outlives_a_restart_with_the_same_password_but_no_other_password(harness):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep", is_owner=True)
    key = key_of(accounts, "anna", "sheep")
    again = accounts_of(harness)
    again.put("anna", "sheep", is_owner=True)  # as every start of the server does
    assert again.sign_in("anna", key)
    again.put("anna", None, may_render=False)
    assert not again.sign_in("anna", key).account.may_render
    again.put("anna", "goat", is_owner=True)
    assert again.sign_in("anna", key) is None
    assert accounts_of(harness).sign_in("anna", key) is None
    again.put("anna", "sheep", is_owner=True)
    assert again.sign_in("anna", key) is None  # revoked is revoked


def test_neither_keys_nor_what_they_are_made_of_are_in_the_database(harness, tmp_path):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep")
    key = key_of(accounts, "anna", "sheep")
    assert key not in repr(accounts.sign_in("anna", key))
    harness.store.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "server").glob("server.sqlite3*"))
    assert b"anna" in written
    assert key.encode() not in written


def test_an_account_from_before_there_were_keys_gets_one_at_its_next_password(harness, tmp_path):
    accounts = accounts_of(harness)
    accounts.put("anna", "sheep")
    with harness.store.transaction() as db:
        db.execute(text("UPDATE accounts SET key_hash = NULL"))
    former = accounts_of(harness)
    assert former.sign_in("anna", "") is None
    key = key_of(former, "anna", "sheep")
    assert former.sign_in("anna", key)
    assert accounts_of(harness).sign_in("anna", key)


def test_a_database_of_the_first_schema_gets_what_it_lacks(tmp_path):
    Store(tmp_path / "server").close()
    path = tmp_path / "server" / "server.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE chunks")
        db.execute("ALTER TABLE accounts DROP COLUMN key_hash")
        for column in ("tests_wanted", "tests_done", "test_render_s"):
            db.execute(f"ALTER TABLE web_sessions DROP COLUMN {column}")
        db.execute("INSERT INTO accounts VALUES ('ben', x'00', x'00', 1, 0)")
        db.execute(
            "INSERT INTO web_sessions VALUES ('s', 'ben', 'linux', '64bit', '3', 'c', 1, 1, 'live', 0, 1e6, 1e6)"
        )
        db.execute("PRAGMA user_version = 1")
    db.close()
    harness = StoreHarness(tmp_path / "server")
    assert accounts_of(harness).get("ben")
    [session] = harness.sessions.known()
    assert (session.tests_wanted, session.tests_done, session.test_render_s) == (0, 0, 0)
    with harness.store.transaction() as db:
        assert db.execute(text("SELECT count(*) FROM chunks")).scalar_one() == 0
        assert db.execute(text("PRAGMA user_version")).scalar_one() == 2
    harness.store.close()
