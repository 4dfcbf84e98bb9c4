"""Which connections are cut off, and when; the clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from sheepfold.serving.connection_limits import Connection, ConnectionLimits, ConnectionRules, Phase

RULES = ConnectionRules(waiting_per_address=3, per_address=20, total=30, head_bytes=1000, slowest_bytes_per_s=100)


class FakeTransport:
    """Notes that it was cut off."""

    def __init__(self, address: str) -> None:
        self.address, self.is_cut, self.unsent = address, False, 0

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return (self.address, 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_cut = True


class Clients:
    """Connections, and a clock that moves in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.limits = ConnectionLimits(RULES, clock=lambda: self.now)

    def connect(self, address: str = "10.0.0.1") -> Connection:
        return self.limits.opened(cast("Any", FakeTransport(address)))

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.limits.look_once()

    def cut(self, connection: Connection) -> bool:
        return cast("Any", connection.transport).is_cut


@pytest.fixture
def clients() -> Iterator[Clients]:
    loop = asyncio.new_event_loop()
    created: list[Clients] = []

    async def make() -> None:
        created.append(Clients())
        created[0].connect("192.168.0.99")  # the timer needs a loop that runs

    loop.run_until_complete(make())
    yield created[0]
    loop.close()


def test_half_a_head_is_cut_off_after_its_time_however_it_drips(clients: Clients) -> None:
    connection = clients.connect()
    for _ in range(10):
        clients.limits.took(connection, 1)
        clients.wait(1)
    assert not clients.cut(connection)
    clients.wait(1)
    assert clients.cut(connection)


def test_a_head_without_an_end_is_cut_off_by_its_size(clients: Clients) -> None:
    connection = clients.connect()
    clients.limits.took(connection, 1000)
    assert not clients.cut(connection)
    clients.limits.took(connection, 1)
    assert clients.cut(connection)


def test_a_body_has_to_keep_its_pace_once_it_had_a_start(clients: Clients) -> None:
    quick, slow = clients.connect(), clients.connect()
    for connection in (quick, slow):
        connection.enter(Phase.BODY)
    for _ in range(60):
        clients.limits.took(quick, 80)  # a little slower than the pace, and 15 s behind it at the most
        clients.limits.took(slow, 1)
        clients.wait(1)
    assert (clients.cut(quick), clients.cut(slow)) == (False, True)


def test_time_in_which_the_application_does_not_read_is_not_the_clients(clients: Clients) -> None:
    connection = clients.connect()
    connection.enter(Phase.BODY)
    connection.unread = lambda: True
    clients.wait(300)
    assert not clients.cut(connection)


def test_the_rest_of_an_answered_body_has_a_deadline_at_any_pace(clients: Clients) -> None:
    connection = clients.connect()
    connection.enter(Phase.REST)
    for _ in range(61):
        clients.limits.took(connection, 10_000)
        clients.wait(1)
    assert clients.cut(connection)


def test_an_answer_that_nobody_reads_is_cut_off_and_a_slow_reader_is_not(clients: Clients) -> None:
    never, slow = clients.connect(), clients.connect()
    for connection in (never, slow):
        connection.enter(Phase.IDLE)
        cast("Any", connection.transport).unsent = 50_000
    for _ in range(60):
        cast("Any", slow.transport).unsent -= 120
        clients.wait(1)
    assert (clients.cut(never), clients.cut(slow)) == (True, False)


def test_of_many_that_wait_at_one_address_the_oldest_are_cut_off(clients: Clients) -> None:
    waiting = [clients.connect() for _ in range(6)]
    other = clients.connect("10.0.0.2")
    clients.limits.look_once()
    assert not any(map(clients.cut, waiting)), "all of them are new"
    clients.wait(1)
    assert list(map(clients.cut, waiting)) == [True, True, True, False, False, False]
    assert not clients.cut(other)


def test_connections_that_have_asked_do_not_count_as_waiting(clients: Clients) -> None:
    asked = [clients.connect() for _ in range(10)]
    for connection in asked:
        connection.enter(Phase.IDLE)
    clients.wait(30)
    assert not any(map(clients.cut, asked))


def asked(clients: Clients, count: int, address: str = "10.0.0.1") -> list[Connection]:
    """Connections that have sent a request."""
    made = [clients.connect(address) for _ in range(count)]
    for connection in made:
        connection.enter(Phase.IDLE)
    return made


def test_an_address_and_the_server_have_only_so_many(clients: Clients) -> None:
    of_one = asked(clients, 20)
    one_too_many = clients.connect()
    assert clients.cut(one_too_many)
    assert not any(map(clients.cut, of_one))
    clients.limits.closed(one_too_many)
    clients.limits.look_once()
    asked(clients, 9, "10.0.1.1")
    asked_first = clients.connect("192.168.0.99")  # the fixture's own waits, and makes room
    asked_first.enter(Phase.IDLE)
    assert clients.cut(clients.connect("10.0.1.2"))
    for connection in of_one:
        clients.limits.closed(connection)
    assert not clients.cut(clients.connect())


def test_one_that_has_said_nothing_for_long_makes_room_for_a_new_one(clients: Clients) -> None:
    """Given an address whose connections send half a head each, when an honest one comes from there, it is let in."""
    silent = [clients.connect() for _ in range(20)]
    honest = asked(clients, 2)
    assert list(map(clients.cut, silent)) == [True, True] + [False] * 18
    assert not any(map(clients.cut, honest))
    others = [clients.connect("10.0.0.2") for _ in range(12)]
    assert not clients.cut(others[-1]), "it may be honest, too"
    assert sum(map(clients.cut, silent)) > 2


def test_a_connection_that_was_cut_off_makes_room_once(clients: Clients) -> None:
    silent = clients.connect()
    asked(clients, 19)
    clients.connect()
    assert clients.cut(silent)
    second = clients.connect()
    assert not clients.cut(second), "the first of those that still wait goes, not the one that has gone"


def test_addresses_of_one_ipv6_network_count_as_one(clients: Clients) -> None:
    of_one = [clients.connect(f"2001:db8:1:2:aaaa:bbbb:0:{number:x}") for number in range(21)]
    assert clients.cut(of_one[0])
    assert not clients.cut(clients.connect("2001:db8:1:3::1"))
