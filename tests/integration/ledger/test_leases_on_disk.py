"""The ledger on a real disk: what it promises of leases, also after a restart."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.leases.errors import IllegalTransition, LedgerUnwritable, StaleAttempt, UnknownLease
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import HeldBack, Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Grant, Transition
from tests.support.coordinator.ledger_harness import SESSION, delivered, held_back, reopened
from tests.support.coordinator.ledger_writer import DELIVERY, offer

S, E = LeaseState, LeaseEvent


def test_a_lease_comes_back_from_disk_exactly_as_it_went_in(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    granted = ledger.grant(offer(2), SESSION)
    failed = ledger.apply(granted.id, E.ORDER, node_id="n1")
    failed = ledger.apply(failed.id, E.FAIL, attempt=1, reason="renderer crashed")
    again = reopened(ledger, ledger_path)
    assert again.get(lease.id) == lease
    assert again.get(failed.id) == failed
    assert (failed.failures, failed.tried_nodes, failed.attempt) == (1, ("n1",), 2)
    assert again.leases() == [lease, failed]
    again.database.close()


def test_an_ended_lease_is_remembered_with_the_servers_answer(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    refused = ledger.apply(lease.id, E.REFUSE, reason="broken frame", answer=301)
    again = reopened(ledger, ledger_path)
    assert again.get(lease.id) == refused
    assert again.answer(lease.id) == 301
    assert again.leases() == []
    assert again.history() == [refused] == again.leases(S.REFUSED)
    again.database.close()


def test_the_accounts_know_what_each_attempt_came_to(ledger: Ledger) -> None:
    lease = ledger.grant(offer(1), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    ledger.apply(lease.id, E.FAIL, attempt=1, reason="out of memory")
    ledger.apply(lease.id, E.ORDER, node_id="n2")
    ledger.apply(lease.id, E.RETRY, reason="n2 fell silent")
    ledger.apply(lease.id, E.ORDER, node_id="n3")
    ledger.apply(lease.id, E.START, attempt=3)
    arrived = ledger.apply(lease.id, E.DELIVER, attempt=3, delivery=DELIVERY)
    ledger.apply(lease.id, E.ACCEPT, answer=0)
    first, second, third = ledger.attempts(lease.id)
    assert (first.node_id, first.outcome, first.reason) == ("n1", "fail", "out of memory")
    assert first.started_at is not None
    assert (second.node_id, second.outcome, second.started_at) == ("n2", "retry", None)
    assert (third.node_id, third.outcome, third.ended_at) == ("n3", "accepted", arrived.changed_at)
    assert (third.render_s, third.memory_kb, third.bytes) == (1.5, 2, 10)


def test_a_wrong_claim_changes_nothing_in_memory_or_on_disk(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    for event, attempt, error in ((E.DELIVER, 1, IllegalTransition), (E.ACCEPT, 2, StaleAttempt)):
        with pytest.raises(error):
            ledger.apply(lease.id, event, attempt=attempt)
    with pytest.raises(UnknownLease):
        ledger.apply("f" * 32, E.CANCEL)
    ended = ledger.apply(lease.id, E.CANCEL)
    with pytest.raises(IllegalTransition):
        ledger.apply(lease.id, E.ACCEPT)
    again = reopened(ledger, ledger_path)
    assert again.get(lease.id) == ended
    again.database.close()


def test_counts_know_every_state_before_and_after_a_restart(ledger: Ledger, ledger_path: Path) -> None:
    delivered(ledger, 1)
    ledger.grant(offer(2), SESSION)
    ledger.apply(delivered(ledger, 3).id, E.ACCEPT)
    expected = dict.fromkeys(S, 0) | {S.DELIVERED: 1, S.GRANTED: 1, S.ACCEPTED: 1}
    assert ledger.counts() == expected
    again = reopened(ledger, ledger_path)
    assert again.counts() == expected
    again.database.close()


def test_history_gives_the_latest_ends_first(ledger: Ledger) -> None:
    ids = [delivered(ledger, frame).id for frame in range(4)]
    for lease_id in reversed(ids):
        ledger.apply(lease_id, E.ACCEPT)
    assert [lease.id for lease in ledger.history(3)] == ids[:3]


def test_one_transaction_takes_what_holds_and_tells_what_does_not(ledger: Ledger) -> None:
    lease, other = ledger.apply_many([Grant(offer=offer(n), session_key=SESSION) for n in range(2)])
    assert isinstance(lease, Lease)
    assert isinstance(other, Lease)
    outcomes = ledger.apply_many(
        [
            Transition(lease_id=lease.id, event=E.ORDER, node_id="n1"),
            Transition(lease_id=other.id, event=E.ACCEPT),
            Transition(lease_id=lease.id, event=E.START, attempt=1),
            Transition(lease_id=lease.id, event=E.START, attempt=1),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Lease, IllegalTransition, Lease, IllegalTransition]
    assert ledger.get(lease.id).state is S.RENDERING
    assert ledger.get(other.id).state is S.GRANTED
    assert ledger.attempts(lease.id)[0].started_at is not None


def test_of_many_threads_that_claim_the_same_step_one_wins(ledger: Ledger) -> None:
    lease = ledger.apply(ledger.grant(offer(1), SESSION).id, E.ORDER, node_id="n1")
    together = threading.Barrier(8)

    def start() -> bool:
        together.wait(10)
        try:
            ledger.apply(lease.id, E.START, attempt=1)
        except IllegalTransition:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: start(), range(8)))
    assert sum(won) == 1


def test_a_script_is_stored_once_however_many_frames_carry_it(ledger: Ledger, ledger_path: Path) -> None:
    for frame in range(5):
        ledger.grant(offer(frame), SESSION)
    again = reopened(ledger, ledger_path)
    again.grant(offer(6), SESSION)
    with sqlite3.connect(ledger_path) as raw:
        assert raw.execute("SELECT count(*) FROM scripts").fetchone() == (1,)
    assert {lease.offer.script for lease in again.leases()} == {offer(1).script}
    again.database.close()


def test_small_texts_are_kept_replaced_and_deleted(ledger: Ledger, ledger_path: Path) -> None:
    store = KeyValueStore(ledger.database)
    store.put("session", "first")
    store.put("session", "second")
    store.put("key", "k")
    store.delete("key")
    store.delete("never kept")
    again = reopened(ledger, ledger_path)
    store = KeyValueStore(again.database)
    assert (store.get("session"), store.get("key"), store.get("other")) == ("second", None, None)
    again.database.close()


def test_a_job_is_asked_for_the_pictures_it_has(ledger: Ledger, ledger_path: Path) -> None:
    black = dataclasses.replace(DELIVERY, is_empty=True, is_confirmed=True)
    others = [
        ledger.grant(dataclasses.replace(offer(9), **change), SESSION)
        for change in ({"job_id": "13"}, {"revision": "2"})
    ]
    for lease in [*others, ledger.grant(offer(3), SESSION)]:
        ledger.apply(lease.id, E.ORDER, node_id="n1")
        ledger.apply(lease.id, E.START)
        ledger.apply(lease.id, E.DELIVER, delivery=black)
    ledger.apply(delivered(ledger, 1).id, E.ACCEPT)
    ledger.apply(delivered(ledger, 2).id, E.REFUSE)
    wanted = ledger.grant(offer(4), SESSION)
    after = reopened(ledger, ledger_path)
    assert sorted(after.pictures_of_job(wanted)) == [("0001", DELIVERY), ("0003", black)]
    after.database.close()


def test_a_picture_that_is_held_back_is_known_after_a_restart_and_what_it_took_is_in_the_accounts(
    ledger: Ledger, ledger_path: Path
) -> None:
    lease = held_back(ledger)
    ledger.apply(lease.id, E.ORDER, node_id="n2")
    after = reopened(ledger, ledger_path)
    found = after.get(lease.id)
    assert (found.state, found.attempt, found.failures) == (S.ORDERED, 2, 0)
    assert found.held_back == HeldBack(node_id="n1", delivery=DELIVERY)
    believed = after.apply(lease.id, E.BELIEVE)
    assert (believed.state, believed.node_id, believed.held_back) == (S.DELIVERED, "n1", None)
    first, second = after.attempts(lease.id)
    assert (first.outcome, first.reason, first.render_s, first.bytes) == ("hold back", "black", 1.5, 10)
    assert (second.outcome, second.node_id, second.render_s) == ("believe", "n2", None)
    last = reopened(after, ledger_path)
    assert last.get(lease.id) == believed
    last.database.close()


def test_who_watches_is_told_what_is_there_and_then_every_step_that_is_on_disk(
    ledger: Ledger, ledger_path: Path
) -> None:
    there = delivered(ledger, 1)
    steps: list[tuple[str | None, str]] = []
    ledger.watch(lambda before, after: steps.append((before.state.value if before else None, after.state.value)))
    assert steps == [(None, "delivered")]
    ledger.apply(there.id, E.ACCEPT)
    lease = ledger.grant(offer(2), SESSION)
    ledger.apply_many(
        [Transition(lease_id=lease.id, event=E.ORDER, node_id="n1"), Transition(lease_id=lease.id, event=E.START)]
    )
    with pytest.raises(IllegalTransition):
        ledger.apply(lease.id, E.ACCEPT)
    assert steps[1:] == [
        ("delivered", "accepted"),
        (None, "granted"),
        ("granted", "ordered"),
        ("ordered", "rendering"),
    ]


def test_a_step_that_the_disk_refuses_is_told_to_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = ledger.grant(offer(1), SESSION)
    steps: list[object] = []
    ledger.watch(lambda _before, after: steps.append(after))
    steps.clear()

    def full(_write: object) -> None:
        raise LedgerUnwritable("no room")

    monkeypatch.setattr(ledger.database, "write", full)
    with pytest.raises(LedgerUnwritable):
        ledger.apply(lease.id, E.ORDER, node_id="n1")
    assert not steps


def test_the_first_in_a_state_is_the_one_that_came_there_first_also_after_a_restart(
    ledger: Ledger, ledger_path: Path
) -> None:
    leases = [ledger.grant(offer(number), SESSION) for number in range(3)]
    for lease in (leases[2], leases[0], leases[1]):
        ledger.apply(lease.id, E.ORDER, node_id="n1")
    for opened in (ledger, reopened(ledger, ledger_path)):
        first = opened.first(S.ORDERED, lambda _: True)
        assert first is not None
        assert first.id == leases[2].id
        second = opened.first(S.ORDERED, lambda lease: lease.id != leases[2].id)
        assert second is not None
        assert second.id == leases[0].id
        assert opened.first(S.DELIVERED, lambda _: True) is None
    opened.database.close()


def test_a_lease_that_ended_long_ago_is_read_from_disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.leases.ledger.REMEMBERED", 2)
    ended = []
    for number in range(4):
        lease = delivered(ledger, number)
        ended.append(ledger.apply(lease.id, E.ACCEPT, answer=0))
    assert [ledger.get(lease.id) for lease in ended] == ended
