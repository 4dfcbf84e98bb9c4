"""Which requests come from a page of another site."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sheepfold.serving.origins import PageGuard, is_foreign

OWN = {"host": "farm.lan:8421"}


def raw_headers(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://farm.lan:8421"},
        {"origin": "http://FARM.lan:8421"},
        {"referer": "http://farm.lan:8421/projects?x=1"},
        {"origin": "http://farm.lan:8421", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"host": "farm.lan", "origin": "https://farm.lan"},
        {"host": "farm.lan:443", "origin": "https://farm.lan"},
        {"host": "[::1]:8421", "origin": "http://[::1]:8421"},
    ],
)
def test_our_own_page_and_a_client_without_a_page_are_not_foreign(headers: dict[str, str]) -> None:
    assert not is_foreign(raw_headers(OWN | headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://farm.lan:8420"},
        {"origin": "http://farm.lan"},
        {"origin": "http://farm.lan:8421.evil.example"},
        {"origin": "http://farm.lan:8421@evil.example"},
        {"origin": "null"},
        {"origin": "http://farm.lan:port"},
        {"origin": "http://[", "referer": "http://farm.lan:8421/"},
        {"referer": "http://evil.example/http://farm.lan:8421/"},
        {"origin": "http://evil.example", "referer": "http://farm.lan:8421/"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://farm.lan:8421"},
        {"host": "", "origin": "null"},
        {"origin": "\xff"},
    ],
)
def test_another_sites_page_is_foreign(headers: dict[str, str]) -> None:
    assert is_foreign(raw_headers(OWN | headers))


def ask(method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[bytes, bytes], list[str]]:
    """What a guarded application answers, and what reached it."""
    reached: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"SAMEORIGIN")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body of a refused request is not read")

    guard = PageGuard(app, changed_by_reading=("/server/",))
    scope = {"type": "http", "method": method, "path": path, "headers": raw_headers(OWN | headers)}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), reached


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_change_for_another_site_never_reaches_the_application(method: str) -> None:
    status, headers, reached = ask(method, "/api/mode", {"origin": "http://evil.example"})
    assert (status, reached, headers[b"connection"]) == (403, [], b"close")
    assert ask(method, "/api/mode", {"origin": "http://farm.lan:8421"})[2] == ["/api/mode"]


def test_reading_is_left_alone_but_where_it_changes_something() -> None:
    evil = {"referer": "http://evil.example/"}
    assert ask("GET", "/api/overview", evil)[2] == ["/api/overview"]
    assert ask("GET", "/server/logout.php", evil)[0] == 403


def test_every_answer_says_that_it_is_what_it_is_called_and_keeps_what_it_says_itself() -> None:
    _, headers, _ = ask("GET", "/", {})
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert headers[b"referrer-policy"] == b"same-origin"
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"
