"""What the server client never shows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import ServerSilent
from tests.support.servers.misbehaving_server import (
    PASSWORD,
    SIGN_IN,
    MisbehavingServer,
    ReceivedRequest,
    everything_about,
)

# The password


def echo_of_the_password(request: ReceivedRequest) -> None:
    request.answer(f"<config status='{PASSWORD.replace('&', '&amp;')}'/>")


BAD_SIGN_INS: dict[str, Callable[[ReceivedRequest], None]] = {
    "cut off": lambda request: request.raw(b""),
    "half": lambda request: request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<config"),
    "5xx": lambda request: request.answer(request.handler.path, 500),
    "echo": lambda request: request.answer(request.handler.path, 404),
    "echo in a status": echo_of_the_password,
    "circle": lambda request: request.answer("", 302, Location=request.handler.path),
    "bad redirect": lambda request: request.answer("", 302, Location="http://[" + request.handler.path),
    "redirect to nowhere": lambda request: request.answer(
        "", 302, Location="http://127.0.0.1:1" + request.handler.path
    ),
    "bad header": lambda request: request.raw(b"HTTP/1.1 abc\r\n\r\n"),
}


@pytest.mark.parametrize("name", BAD_SIGN_INS)
def test_the_password_is_in_no_exception_and_no_log(
    server: MisbehavingServer, client: ServerClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pages["/server/config.php"] = BAD_SIGN_INS[name]

    with pytest.raises(ServerSilent) as silent:
        client.sign_in(SIGN_IN)

    everything = everything_about(silent.value) + caplog.text + repr(client) + repr(SIGN_IN)
    for secret in ("s3cret", "rd%22", "p%C3%A4ss"):
        assert secret not in everything
    assert silent.value.__context__ is None


def test_the_password_is_in_no_exception_when_nobody_listens(client: ServerClient, server: MisbehavingServer) -> None:
    server.stop()

    with pytest.raises(ServerSilent) as silent:
        client.sign_in(SIGN_IN)
    assert "s3cret" not in everything_about(silent.value)


def test_only_http_and_https_roots_are_taken() -> None:
    for root in ("ftp://host", "host", "http://"):
        with pytest.raises(ValueError, match="root URL"):
            ServerClient(root)
