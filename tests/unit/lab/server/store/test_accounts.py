"""Accounts and web sessions."""

import pytest
from sqlalchemy import text

from lab.errors import StoreTooNew
from lab.server.store.accounts import Accounts
from lab.server.store.database import Store
from lab.server.store.web_sessions import FORGET_AFTER_S, SessionState
from tests.support.lab.store_harness import HARDWARE, StoreHarness


def test_a_password_is_right_or_wrong(harness):
    accounts = Accounts(harness.store, clock=harness.clock)
    accounts.put("anna", "sheep", is_owner=True)
    assert accounts.check("anna", "sheep") == accounts.get("anna")
    assert accounts.check("anna", "sheep") is not None
    assert accounts.check("anna", "Sheep") is None
    assert accounts.check("nobody", "sheep") is None


def test_a_changed_password_ends_the_trust_in_the_old_one(harness):
    accounts = Accounts(harness.store, clock=harness.clock)
    accounts.put("anna", "old")
    assert accounts.check("anna", "old")
    accounts.put("anna", "new")
    assert accounts.check("anna", "old") is None
    assert accounts.check("anna", "new")


def test_a_new_account_needs_a_password_and_an_old_one_keeps_its_own(harness):
    accounts = Accounts(harness.store, clock=harness.clock)
    with pytest.raises(KeyError):
        accounts.put("anna", None)
    accounts.put("anna", "sheep")
    accounts.put("anna", None, may_render=False)
    account = Accounts(harness.store, clock=harness.clock).check("anna", "sheep")
    assert account is not None
    assert not account.may_render


def test_neither_passwords_nor_cookies_are_in_the_database(harness, tmp_path):
    Accounts(harness.store, clock=harness.clock).put("anna", "correct horse battery")
    cookie = harness.sessions.open("anna", "1.0", HARDWARE)
    harness.store.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "server").glob("server.sqlite3*"))
    assert b"anna" in written
    assert b"correct horse" not in written
    assert cookie.encode() not in written


def test_an_idle_session_expires_and_is_forgotten_much_later(harness, tmp_path):
    cookie = harness.sessions.open("anna", "1.0", HARDWARE)
    harness.now += 900
    assert harness.sessions.find(cookie).state is SessionState.LIVE
    harness.now += 1001
    assert harness.sessions.find(cookie).state is SessionState.EXPIRED
    harness.store.close()
    soon = StoreHarness(tmp_path / "server", now=harness.now + 60)
    assert soon.sessions.find(cookie).state is SessionState.EXPIRED
    soon.store.close()
    late = StoreHarness(tmp_path / "server", now=harness.now + FORGET_AFTER_S)
    assert late.sessions.find(cookie) is None
    late.store.close()


def test_three_broken_frames_disable_a_session_and_a_restart_remembers(harness, tmp_path):
    cookie = harness.sessions.open("anna", "1.0", HARDWARE)
    session = harness.sessions.find(cookie)
    for _ in range(3):
        assert harness.sessions.find(cookie).state is SessionState.LIVE
        harness.sessions.note_broken_frame(session)
    assert harness.sessions.find(cookie).state is SessionState.DISABLED
    harness.store.close()
    again = StoreHarness(tmp_path / "server")
    assert again.sessions.find(cookie).state is SessionState.DISABLED
    again.store.close()


def test_a_logged_out_cookie_is_unknown(harness):
    cookie = harness.sessions.open("anna", "1.0", HARDWARE)
    harness.sessions.close(harness.sessions.find(cookie))
    assert harness.sessions.find(cookie) is None
    assert harness.sessions.find(None) is None


def test_a_database_of_a_later_version_is_left_alone(harness, tmp_path):
    with harness.store.transaction() as db:
        db.execute(text("PRAGMA user_version = 99"))
    harness.store.close()
    with pytest.raises(StoreTooNew, match="schema 99"):
        Store(tmp_path / "server")


def test_only_the_owner_of_the_computer_reads_the_store(harness, tmp_path):
    assert (tmp_path / "server").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "server" / "server.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_database_without_notes_gets_them_and_keeps_its_projects(tmp_path):
    harness = StoreHarness(tmp_path)
    harness.project(notes="told")
    with harness.store.transaction() as db:
        db.execute(text("ALTER TABLE projects DROP COLUMN notes"))
        db.execute(text("PRAGMA user_version = 1"))
    harness.store.close()
    again = StoreHarness(tmp_path)
    assert [project.notes for project in again.projects.all()] == [""]
    assert again.project(notes="one\ntwo").notes == "one\ntwo"
    again.store.close()
