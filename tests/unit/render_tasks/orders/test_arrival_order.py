"""Orders that are ready in the same moment queue as they came."""

from __future__ import annotations

import threading

from render_tasks.orders.arrival_order import ArrivalOrder


def queue(turns: ArrivalOrder, came: dict[str, float], needs: dict[str, str], ready: list[str]) -> list[str]:
    """Lets these orders get ready one after the other; the order in which they queued."""
    inside, go, queued = threading.Semaphore(0), {name: threading.Event() for name in came}, []

    def wait_in_line(name: str) -> None:
        with turns.preparing(needs.get(name, "archives"), came[name]):
            inside.release()
            assert go[name].wait(5)
        queued.append(name)

    threads = {name: threading.Thread(target=wait_in_line, args=(name,), daemon=True) for name in came}
    for thread in threads.values():
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=5)
    for name in ready:
        go[name].set()
        threads[name].join(0.05)
    for thread in threads.values():
        thread.join(5)
    return queued


def test_an_order_lets_those_before_it_queue_first() -> None:
    assert queue(ArrivalOrder(5), {"a": 1, "b": 2, "c": 3}, {}, ["c", "b", "a"]) == ["a", "b", "c"]


def test_orders_for_other_archives_do_not_wait() -> None:
    assert queue(ArrivalOrder(5), {"a": 1, "b": 2}, {"b": "others"}, ["b", "a"]) == ["b", "a"]


def test_nobody_waits_long_for_an_order_in_trouble() -> None:
    assert queue(ArrivalOrder(0.01), {"a": 1, "b": 2}, {}, ["b", "a"]) == ["b", "a"]
