"""Whose turn it is, and that nobody waits for a slot that is free."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped
from render_tasks.orders.slot_gaps import SlotGaps
from render_tasks.orders.slots import PASSED_AT_MOST, Slot, Slots, Waiting, take_next


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def waiting(keys: str) -> list[Waiting]:
    return [Waiting(key=key, came_at=place) for place, key in enumerate(keys)]


def test_orders_are_served_as_they_came_where_nothing_is_warm() -> None:
    orders = waiting("abc")
    assert [take_next(orders, warm).key for warm in ("", "d", "")] == ["a", "b", "c"]


def test_an_order_whose_scene_is_warm_goes_first() -> None:
    orders = waiting("abab")
    assert [take_next(orders, warm).came_at for warm in ("b", "ab", "b", "b")] == [1, 0, 3, 2]


def test_an_order_that_was_passed_often_enough_goes_before_a_warm_one() -> None:
    orders = waiting("abbbbb")
    assert "".join(str(take_next(orders, "b").key) for _ in range(6)) == "b" * PASSED_AT_MOST + "abb"


class Queue:
    """Orders that wait for one slot, each in a thread of its own; the slot goes from hand to hand."""

    def __init__(self, warm: Collection[Hashable] = ()) -> None:
        self.warm = set(warm)
        self.slots = Slots(1, lambda: self.warm)
        self.served: list[str] = []
        self._go_on = threading.Semaphore(0)
        self._was_served = threading.Semaphore(0)

    def add(self, name: str, token: CancelToken | None = None, came_at: float | None = None) -> threading.Thread:
        """``name`` begins with its key."""
        came = time.monotonic() if came_at is None else came_at
        before, is_first = len(self.slots.waiting_keys()), not self.served
        thread = threading.Thread(target=self._wait, args=(name, token or CancelToken(), came), daemon=True)
        thread.start()
        if is_first:
            assert self._was_served.acquire(timeout=5)
        else:
            wait_for(lambda: len(self.slots.waiting_keys()) > before)
        return thread

    def next(self) -> str:
        """The slot is given up; who got it then."""
        self._go_on.release()
        assert self._was_served.acquire(timeout=5)
        return self.served[-1]

    def _wait(self, name: str, token: CancelToken, came_at: float) -> None:
        try:
            with self.slots.acquire(name[0], token, came_at=came_at):
                self.served.append(name)
                self.warm = {name[0]}
                self._was_served.release()
                self._go_on.acquire()
        except AttemptDropped:
            self.served.append(f"{name} dropped")


def test_two_jobs_that_take_turns_are_rendered_in_runs() -> None:
    queue = Queue()
    for name in ("a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "b5"):
        queue.add(name)
    order = ["a1", *(queue.next() for _ in range(9))]
    assert order == ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4", "b5", "a5"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30).flatmap(
    lambda keys: st.tuples(st.just(keys), st.permutations(range(len(keys))))), st.integers(1, 6))  # fmt: skip
def test_nobody_is_passed_by_more_than_a_few_that_came_later(orders: tuple[list[str], list[int]], ready: int) -> None:
    """In whatever order they are ready: a few wait, one is served, the next is ready."""
    everyone = waiting("".join(orders[0]))
    coming, queue, warm = [everyone[place] for place in orders[1]], [], ""
    passed = dict.fromkeys(range(len(everyone)), 0)
    while coming or queue:
        while coming and len(queue) < ready:
            bisect.insort(queue, coming.pop(), key=lambda order: order.came_at)
        chosen = take_next(queue, (warm,))
        warm = str(chosen.key)
        for order in queue:
            passed[int(order.came_at)] += order.came_at < chosen.came_at
    assert max(passed.values()) <= PASSED_AT_MOST


def test_an_order_whose_archives_come_late_keeps_its_turn() -> None:
    queue = Queue()
    for name, came_at in (("a1", 1), ("b3", 3), ("b4", 4), ("c2", 2)):
        queue.add(name, came_at=came_at)
    assert [queue.next(), queue.next(), queue.next()] == ["c2", "b3", "b4"]


def test_a_stop_ends_the_wait_at_once_and_the_slot_goes_to_the_next() -> None:
    queue, token = Queue(), CancelToken()
    queue.add("a1")
    stopped = queue.add("b1", token)
    queue.add("c1")
    token.cancel("cancelled")
    stopped.join(1)
    assert queue.served == ["a1", "b1 dropped"]
    assert queue.next() == "c1"


def test_an_order_that_was_stopped_before_takes_no_slot() -> None:
    slots, token = Slots(1), CancelToken()
    token.cancel("cancelled")
    with pytest.raises(AttemptDropped, match="cancelled"), slots.acquire("a", token, came_at=0):
        pass
    with slots.acquire("a", CancelToken(), came_at=0) as slot:
        assert slot.number == 1


def test_the_slot_used_last_is_taken_first() -> None:
    slots = Slots(3)
    with slots.acquire("a", CancelToken(), came_at=0) as first:
        pass
    with slots.acquire("a", CancelToken(), came_at=0) as second, slots.acquire("a", CancelToken(), came_at=0) as third:
        assert (first.number, second.number, third.number) == (1, 1, 2)


def test_a_render_that_fails_gives_its_slot_back() -> None:
    slots = Slots(1)
    with contextlib.suppress(ZeroDivisionError), slots.acquire("a", CancelToken(), came_at=0):
        raise ZeroDivisionError
    with slots.acquire("a", CancelToken(), came_at=0) as slot:
        assert slot.number == 1


def test_many_threads_share_a_few_slots_and_each_has_its_turn() -> None:
    slots, held, most, lock = Slots(3), [0], [0], threading.Lock()

    def use(slot: Slot) -> None:
        assert slot.number in (1, 2, 3)
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        with lock:
            held[0] -= 1

    def some(key: int) -> None:
        for _ in range(50):
            with slots.acquire(key, CancelToken(), came_at=0) as slot:
                use(slot)

    threads = [threading.Thread(target=some, args=(key,)) for key in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] <= 3


def test_a_switch_tells_once_and_also_those_who_ask_too_late() -> None:
    token, called = CancelToken(), []
    token.add_callback(lambda: called.append("first"))
    token.cancel("cancelled")
    token.cancel("leaving")
    token.add_callback(lambda: called.append("late"))
    assert called == ["first", "late"]
    assert token.reason == "cancelled"


def test_the_median_of_the_gaps_is_told_now_and_then() -> None:
    gaps = SlotGaps()
    lines = [gaps.add(seconds) for seconds in [0.010] * 30 + [0.5] * 20]
    assert [bool(line) for line in lines] == [False] * 49 + [True]
    assert lines[-1] == "between two frames a slot was idle for 10 ms in the median of the last 50, 500 ms at most"
