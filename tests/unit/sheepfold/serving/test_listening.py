"""A port is taken, or known to be taken, before a server runs."""

from __future__ import annotations

import socket

import pytest

from sheepfold.serving.listening import listen


def test_a_free_port_accepts_before_anybody_serves() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "asyncio leaves Nagle's delay on for others"
        socket.create_connection(listener.getsockname(), timeout=5).close()


def test_a_taken_port_is_told_at_once() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


def test_a_number_that_is_no_port_leaves_no_socket_open(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(OverflowError):
        listen("127.0.0.1", 70_000)
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")
def test_no_host_is_every_interface_of_both_versions() -> None:
    with listen("", 0) as listener:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, listener.getsockname()[1]), timeout=5).close()
