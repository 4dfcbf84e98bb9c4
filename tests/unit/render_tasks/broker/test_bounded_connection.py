"""What a connection to Redis holds of a value, however long it is: a server of this test's own at the other end."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
import redis

from render_tasks.broker import bounded_connection
from render_tasks.broker.bounded_connection import BoundedConnection

MOST_BYTES = 1000
CHUNK = b"x" * 65536


class FakeRedis:
    """Sends what the test says, whatever it is asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def sends(self, *parts: bytes) -> None:
        """The next connection gets these, one after the other."""

        def serve() -> None:
            peer, _ = self._listener.accept()
            with peer:
                for part in parts:
                    peer.sendall(part)
                peer.recv(1)  # until the other side closes

        self._threads.append(threading.Thread(target=serve, daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        for thread in self._threads:
            thread.join(5)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[FakeRedis]:
    server = FakeRedis()
    yield server
    server.close()


@pytest.fixture
def connection(server: FakeRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoundedConnection]:
    monkeypatch.setattr(bounded_connection, "MAX_MESSAGE_BYTES", MOST_BYTES)
    # Without redis-py's own first words.
    connection = BoundedConnection(
        host="127.0.0.1",
        port=server.port,
        socket_timeout=5,
        redis_connect_func=lambda opened: opened._parser.on_connect(opened),
    )
    yield connection
    connection.disconnect()


def value(content: bytes) -> bytes:
    """As Redis sends a value."""
    return b"$%d\r\n%s\r\n" % (len(content), content)


@pytest.mark.parametrize("length", [0, 1, MOST_BYTES])
def test_a_value_of_bounded_size_is_read_whole(server: FakeRedis, connection: BoundedConnection, length: int) -> None:
    server.sends(value(b"y" * length))
    connection.connect()
    assert connection.read_response() == b"y" * length


@pytest.mark.parametrize("length", [MOST_BYTES + 1, 64 * 1024, 10 * 64 * 1024 + 7])
def test_of_a_longer_one_an_empty_value_is_seen_and_what_follows_is_read(
    server: FakeRedis, connection: BoundedConnection, length: int
) -> None:
    server.sends(b"*2\r\n" + value(b"farm.n1") + value(b"y" * length), value(b"next"), b":7\r\n")
    connection.connect()
    assert connection.read_response() == [b"farm.n1", b""]
    assert connection.read_response() == b"next"
    assert connection.read_response() == 7


def test_a_long_value_that_comes_byte_by_byte_is_thrown_away_as_well(
    server: FakeRedis, connection: BoundedConnection
) -> None:
    whole = value(b"y" * (MOST_BYTES + 5)) + value(b"next")
    server.sends(*(whole[at : at + 1] for at in range(len(whole))))
    connection.connect()
    assert [connection.read_response(), connection.read_response()] == [b"", b"next"]


def test_hundreds_of_megabytes_take_no_memory(server: FakeRedis, connection: BoundedConnection) -> None:
    chunks = 3000
    server.sends(b"$%d\r\n" % (chunks * len(CHUNK)), *([CHUNK] * chunks), b"\r\n", value(b"next"))
    connection.connect()
    tracemalloc.start()
    try:
        assert connection.read_response() == b""
        assert connection.read_response() == b"next"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024**2


def test_a_server_that_goes_away_amid_a_long_value_is_an_error(
    server: FakeRedis, connection: BoundedConnection
) -> None:
    server.sends(b"$%d\r\n" % (MOST_BYTES * 2), b"y" * 10)
    connection.connect()
    connection._sock.shutdown(socket.SHUT_WR)
    with pytest.raises(redis.ConnectionError, match="closed"):
        connection.read_response()
