"""Serving an application in a thread."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from starlette.responses import PlainTextResponse

from coordinator.runtime.errors import AddressInUse
from coordinator.runtime.http_server import UvicornThread

HELLO = PlainTextResponse("hello")


def test_building_a_server_takes_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = UvicornThread(HELLO, "127.0.0.1", port)
        with pytest.raises(AddressInUse, match=f"SHEEPFOLD_PORT: cannot listen on 127.0.0.1:{port}"):
            server.bind()
        server.stop()


def test_a_bound_server_lets_connections_wait_until_it_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = UvicornThread(HELLO, "127.0.0.1", port).bind()
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        waiting.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server.start()
        waiting.settimeout(10)
        assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as answer:
        assert answer.read() == b"hello"
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)
