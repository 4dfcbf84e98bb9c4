"""One thread's connections to a render server: no redirects, harmless repetitions alone, one look at proxies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import urllib3

from coordinator.upstream.transport.connections import ONCE, REPEATED, SharedJar, ThreadSession
from coordinator.upstream.transport.deadline import HELD_POOLS

FIRST, SECOND = "http://render.example", "https://other.example"


class ScriptedServer:
    """Answers one request after the other with the next status; the last one is repeated."""

    def __init__(self) -> None:
        self.statuses, self.requests, self.agents = [200], list[str](), list[str | None]()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scripted.requests.append(f"{self.command} {self.path}")
                scripted.agents.append(self.headers["User-Agent"])
                statuses = scripted.statuses
                self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
                self.send_header("Location", "/elsewhere")
                self.send_header("Retry-After", "3600")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_args: object) -> None:
                """Silence."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ScriptedServer()
    yield running
    running.close()


def ask(server: ScriptedServer, retry: urllib3.Retry, method: str = "GET") -> requests.Response:
    with ThreadSession(retry) as session:
        return session.request(method, f"{server.url}/a", timeout=10)


def settings_for(session: ThreadSession, url: str) -> dict[str, object]:
    return session.merge_environment_settings(url, {}, None, None, None)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(server: ScriptedServer, status: int) -> None:
    server.statuses = [status, 200]
    assert ask(server, REPEATED).status_code == status
    assert server.requests == ["GET /a"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_get_is_repeated_twice_while_the_server_is_out_of_order_at_once_whatever_it_asks_for(
    server: ScriptedServer, status: int
) -> None:
    server.statuses = [status, 200]
    assert ask(server, REPEATED).status_code == 200
    assert server.requests == ["GET /a"] * 2
    server.statuses = [status]
    assert ask(server, REPEATED).status_code == status
    assert server.requests == ["GET /a"] * 5


@pytest.mark.parametrize(
    ("retry", "method", "status"), [(REPEATED, "POST", 503), (REPEATED, "GET", 500), (ONCE, "GET", 503)]
)
def test_what_might_be_done_twice_or_will_not_get_better_is_not_repeated(
    server: ScriptedServer, retry: urllib3.Retry, method: str, status: int
) -> None:
    server.statuses = [status, 200]
    assert ask(server, retry, method).status_code == status
    assert server.requests == [f"{method} /a"]


def test_a_server_learns_who_asks_and_is_asked_for_no_compression(server: ScriptedServer) -> None:
    assert ask(server, ONCE).request.headers["Accept-Encoding"] == "identity"
    [agent] = server.agents
    assert agent is not None
    assert agent.startswith("sheepfold")


def test_the_environment_is_read_once_for_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ThreadSession(ONCE)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy-1:3128")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "")
    first = settings_for(session, f"{FIRST}/a?b")
    assert first["proxies"] == {"http": "http://proxy-1:3128"}
    monkeypatch.setenv("HTTP_PROXY", "http://proxy-2:3128")
    assert settings_for(session, f"{FIRST}/another")["proxies"] == {"http": "http://proxy-1:3128"}
    assert settings_for(session, f"{FIRST}:8080/a")["proxies"] == {"http": "http://proxy-2:3128"}


def test_what_one_exchange_changes_of_its_settings_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    session = ThreadSession(ONCE)
    settings_for(session, SECOND)["verify"] = False
    assert settings_for(session, SECOND)["verify"] is not False


@pytest.mark.parametrize("url", [FIRST, SECOND])
def test_a_deadline_can_end_every_connection_through_a_proxy_too(url: str) -> None:
    adapter = ThreadSession(ONCE).get_adapter(url)
    assert isinstance(adapter, requests.adapters.HTTPAdapter)
    assert adapter.poolmanager.pool_classes_by_scheme is HELD_POOLS
    assert adapter.proxy_manager_for("http://proxy:3128").pool_classes_by_scheme is HELD_POOLS


def test_cookies_may_come_and_go_while_another_thread_walks_through_the_jar() -> None:
    jar = SharedJar()
    for name in ("a", "b"):
        jar.set(name, "1", domain=f"{name}.example")

    def change() -> None:
        jar.set("c", "1", domain="c.example")
        jar.clear("b.example", "/", "b")

    walk = iter(jar)
    seen = [next(walk).name]
    changing = threading.Thread(target=change)
    changing.start()
    changing.join(10)
    assert not changing.is_alive(), "a walk holds nobody up"
    seen += [cookie.name for cookie in walk]
    assert seen == ["a", "b"]
    assert [cookie.name for cookie in jar] == ["a", "c"]
