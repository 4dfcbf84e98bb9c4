"""Another machine's clock, asked now and then."""

from __future__ import annotations

from sheepfold.backoff import ASK_EVERY_S, SharedClock


class Machines:
    """The other machine's clock and our own; how often the other one was asked."""

    def __init__(self) -> None:
        self.theirs: float | None = 1000.0
        self.ours = 5.0
        self.asked = 0
        self.clock = SharedClock(self._ask, steady=lambda: self.ours)

    def _ask(self) -> float | None:
        self.asked += 1
        return self.theirs


def test_it_is_asked_once_and_counted_on_for_a_while() -> None:
    machines = Machines()
    assert machines.clock.now() == 1000.0
    machines.ours += ASK_EVERY_S - 1
    machines.theirs = 7777.0
    assert machines.clock.now() == 1000.0 + ASK_EVERY_S - 1
    assert machines.asked == 1
    machines.ours += 1
    assert machines.clock.now() == 7777.0


def test_it_can_be_asked_at_once() -> None:
    machines = Machines()
    machines.clock.now()
    machines.theirs = 4600.0
    assert machines.clock.ask_again() == 4600.0
    machines.ours += 1
    assert machines.clock.now() == 4601.0


def test_a_silent_machine_is_counted_on_from_its_last_answer() -> None:
    machines = Machines()
    machines.clock.now()
    machines.theirs = None
    machines.ours += 3600
    assert machines.clock.now() == 4600.0
    assert machines.clock.ask_again() == 4600.0
    machines.theirs = 2.0
    assert machines.clock.now() == 2.0, "it is asked again until it answers"


def test_a_machine_that_never_answered_has_no_time() -> None:
    machines = Machines()
    machines.theirs = None
    assert machines.clock.now() is None
    assert machines.clock.ask_again() is None
    machines.theirs = 1.0
    assert machines.clock.now() == 1.0
