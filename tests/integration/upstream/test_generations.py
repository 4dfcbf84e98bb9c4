"""The server client against a server of each generation: what is said, as raw as it arrives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import ServerSilent, UnknownGeneration
from sheepfold.protocol.dialects import DIALECTS, Dialect, dialect_of
from sheepfold.protocol.messages import ArchiveRequest, Beat, Chunk, ErrorReport
from sheepfold.protocol.session_messages import Credentials
from sheepfold.protocol.status import SignInStatus
from tests.support.servers.misbehaving_server import JOB, SIGN_IN, MisbehavingServer, ReceivedRequest

REQUESTS = {
    2015: ("validate-job", "request-job", "download-archive", "error", "keepmealive", "logout"),
    2017: ("validate-job", "request-job", "download-archive", "error", "keepmealive", "logout"),
    2020: ("request-job", "download-archive", "error", "keepmealive", "logout"),
    2022: ("request-job", "download-archive", "error", "keepmealive", "logout", "speedtest-answer"),
    2024: ("request-job", "download-binary", "download-chunk", "error", "keepmealive", "speedtest-answer"),
}
EVERYTHING = tuple(dict.fromkeys(kind for kinds in REQUESTS.values() for kind in kinds))
REQUEST = replace(SIGN_IN, hostname="pc-07", hardware_id="0" * 32)
QUESTION = replace(JOB, cpu_cores=8, ram_max_kb=2**24)
BEAT = Beat(job="1", frame="0340", extras="x", render_time_s=7, remaining_s=3, paused=False)
REPORT = ErrorReport(job="1", frame="0340", extras="x", render_time_s=7, memory_used_kb=9, type=12)


def config(kinds: tuple[str, ...], more: str = "") -> str:
    requests = "".join(f'<request type="{kind}" path="/{kind}" />' for kind in kinds)
    return f'<config status="0" publickey="the-key">{requests}{more}</config>'


def answer_with(body: str) -> Callable[[ReceivedRequest], None]:
    return lambda request: request.answer(body)


@pytest.fixture
def signed_in_client_of(server: MisbehavingServer) -> Iterator[Callable[..., ServerClient]]:
    clients: list[ServerClient] = []

    def sign_in(year: int, kinds: tuple[str, ...] | None = None) -> ServerClient:
        server.pages |= {
            "/server/config.php": answer_with(config(kinds or REQUESTS[year])),
            "/request-job": answer_with('<jobrequest status="200" />'),
            "/keepmealive": answer_with('<keepmealive status="0" />'),
            "/error": answer_with('<error status="0" />'),
            "/validate-job": answer_with('<jobvalidate status="0" />'),
        }
        client = ServerClient(server.url, dialect=dialect_of(year), answer_deadline_s=4)
        clients.append(client)
        assert client.sign_in(replace(REQUEST, version=dialect_of(year).version)).status == SignInStatus.OK
        return client

    yield sign_in
    for client in clients:
        client.close()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.year))
def test_the_sign_in_travels_as_its_generation_sends_it(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient], dialect: Dialect
) -> None:
    signed_in_client_of(dialect.year)
    [request] = server.received
    by_form = dialect.year >= 2020
    sent = dict(parse_qsl(request.body.decode(), keep_blank_values=True)) if by_form else request.query
    assert request.method == ("POST" if by_form else "GET")
    assert ("?" in request.handler.path) != by_form, "a password in a form is in no server's access log"
    assert request.headers["Content-Type"] == ("application/x-www-form-urlencoded" if by_form else None)
    assert set(sent) - {"extras"} == set(dialect.sign_in) - {"extras"}
    assert sent["ram"] == str(2**34 if dialect.year == 2015 else 2**24)
    assert sent["version"] == dialect.version
    assert (sent.get("hostname"), sent.get("hwid")) == (
        "pc-07" if dialect.year > 2015 else None,
        "0" * 32 if dialect.year >= 2022 else None,
    )


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.year))
def test_questions_beats_and_reports_speak_the_sessions_generation(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient], dialect: Dialect
) -> None:
    client = signed_in_client_of(dialect.year)
    client.request_job(QUESTION)
    client.beat(BEAT)
    client.report_error(REPORT, "log")
    asked, beaten, reported = server.received[1:]
    assert (asked.method, asked.query.get("cpu_cores")) == ("POST", "8" if dialect.year > 2015 else None)
    assert asked.headers["Content-Type"] == dialect.held_archives_type
    assert (b"<cache>" in asked.body) == (dialect.year < 2024)
    assert set(beaten.query) == set(dialect.beating)
    assert set(reported.query) == set(dialect.reporting)
    assert reported.query.get("type") == ("12" if dialect.year > 2015 else None)


def test_a_server_that_answers_every_generation_is_spoken_to_in_the_one_signed_in_with(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient]
) -> None:
    signed_in_client_of(2015, EVERYTHING).beat(BEAT)
    assert set(server.received[-1].query) == {"job", "frame", "extras"}


def test_a_server_of_another_generation_is_spoken_to_in_its_own_after_the_sign_in(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient]
) -> None:
    client = signed_in_client_of(2015, REQUESTS[2024])
    client.request_job(QUESTION)
    assert server.received[0].method == "GET"
    assert (server.received[-1].body, server.received[-1].query["rendertime_max"]) == (b"", "0")


def test_a_restart_goes_on_in_the_sessions_generation_and_with_its_key(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient]
) -> None:
    frozen = signed_in_client_of(2015, REQUESTS[2024]).freeze()
    later = ServerClient(server.url)
    later.thaw(frozen)
    later.request_job(QUESTION)
    assert server.received[-1].body == b""
    assert later.public_key == "the-key"
    later.close()


def test_a_key_outlives_its_session_but_goes_to_no_other_server(
    server: MisbehavingServer, signed_in_client_of: Callable[..., ServerClient]
) -> None:
    client = signed_in_client_of(2022)
    client.log_out()
    later, elsewhere = ServerClient(server.url), ServerClient("http://127.0.0.1:1")
    for other in (later, elsewhere):
        other.thaw(client.freeze())
    assert (later.public_key, later.endpoints) == ("the-key", None)
    assert (elsewhere.public_key, elsewhere.endpoints) == (None, None)


# Archives


@pytest.mark.parametrize(
    ("kinds", "request_", "path"),
    [
        (REQUESTS[2015], ArchiveRequest(type="binary", job="1"), "/download-archive?type=binary&job=1"),
        (REQUESTS[2022], ArchiveRequest(type="job", job="1", revision=""), "/download-archive?type=job&job=1"),
        (REQUESTS[2024], ArchiveRequest(type="binary", job="1"), "/download-binary?job=1"),
        (EVERYTHING, ArchiveRequest(type="binary", job="1"), "/download-archive?type=binary&job=1"),
        (EVERYTHING, ArchiveRequest(type="chunk", chunk="../a b"), "/download-chunk?chunk=..%2Fa+b"),
    ],
)
def test_each_archive_comes_from_where_the_server_has_it(
    server: MisbehavingServer,
    signed_in_client_of: Callable[..., ServerClient],
    kinds: tuple[str, ...],
    request_: ArchiveRequest,
    path: str,
) -> None:
    client, target = signed_in_client_of(2015, kinds), io.BytesIO()
    for kind in kinds:
        server.pages.setdefault(f"/{kind}", lambda request: request.answer(b"archive"))
    client.download(request_, target, limit_bytes=100, cancelled=lambda: False)
    assert target.getvalue() == b"archive"
    assert server.received[-1].handler.path.replace("&revision=", "") == path


# Offers


def offer(*, archive: bool = True, chunks: bool = True, url: str = "") -> str:
    md5, pieces = f'archive_md5="{"a" * 32}"' if archive else "", ""
    if chunks:
        pieces = f'<chunks><chunk id="c1" md5="{"c" * 32}"/><chunk id="c2" md5="{"d" * 32}"/></chunks>'
    target = f'validation_url="{quote(url, safe="")}"' if url else ""
    return (
        f'<jobrequest status="0"><job id="77" frame="0001" path="a.blend" use_gpu="0" extras="x" {md5} {target}>'
        f'{pieces}<renderer md5="{"b" * 32}" commandline=".e .c .o .f"/><script/></job></jobrequest>'
    )


CHUNKS = (Chunk(id="c1", md5="c" * 32), Chunk(id="c2", md5="d" * 32))


@pytest.mark.parametrize(
    ("year", "kinds", "with_chunks"),
    [(2015, EVERYTHING, False), (2022, EVERYTHING, False), (2024, EVERYTHING, True), (2015, REQUESTS[2024], True)],
)
def test_an_offer_that_names_its_scene_twice_has_one_way_to_it(
    server: MisbehavingServer,
    signed_in_client_of: Callable[..., ServerClient],
    year: int,
    kinds: tuple[str, ...],
    with_chunks: bool,
) -> None:
    client = signed_in_client_of(year, kinds)
    server.pages["/request-job"] = answer_with(offer(url="http://other/frame?token=1"))
    found = client.request_job(QUESTION).offer
    assert found is not None
    assert (found.chunks, found.archive_md5) == ((CHUNKS, "") if with_chunks else ((), "a" * 32))


@pytest.mark.parametrize(
    ("kinds", "text", "missing"),
    [
        (REQUESTS[2022], offer(archive=False, url="http://other/"), "no download-chunk"),
        (REQUESTS[2024], offer(chunks=False, url="http://other/"), "no download-archive"),
        (REQUESTS[2022], offer(), "no validate-job"),
    ],
)
def test_an_offer_that_this_server_gives_no_way_to_carry_out_is_told_as_one_nobody_can_follow(
    server: MisbehavingServer,
    signed_in_client_of: Callable[..., ServerClient],
    kinds: tuple[str, ...],
    text: str,
    missing: str,
) -> None:
    client = signed_in_client_of(2022, kinds)
    server.pages["/request-job"] = answer_with(text)
    answer = client.request_job(QUESTION)
    assert answer.offer is None
    assert answer.unreadable is not None
    assert (answer.unreadable.job, answer.unreadable.frame, answer.unreadable.extras) == ("77", "0001", "x")
    assert missing in answer.unreadable.reason


# A generation nobody speaks


def test_a_server_whose_language_nobody_speaks_is_logged_out_of_and_described(
    server: MisbehavingServer, client: ServerClient
) -> None:
    server.pages["/server/config.php"] = lambda request: request.answer(
        config(("stream-job", "keepmealive", "logout")), Set_Cookie="WORKER=42; path=/"
    )
    server.pages["/logout"] = answer_with("bye")
    with pytest.raises(UnknownGeneration, match=r"has no request-job, .*; it has stream-job instead"):
        client.sign_in(REQUEST)
    assert [request.path for request in server.received] == ["/server/config.php", "/logout"]
    assert server.received[-1].headers["Cookie"] == "WORKER=42"
    assert client.endpoints is None


# Secrets


@pytest.mark.parametrize("year", [2015, 2022])
def test_a_public_key_is_in_no_exception(server: MisbehavingServer, year: int) -> None:
    def echo(request: ReceivedRequest) -> None:
        sent = request.query or dict(parse_qsl(request.body.decode()))
        request.answer(f"<config status='{sent['password']}'/>")

    server.pages["/server/config.php"] = echo
    client = ServerClient(server.url, dialect=dialect_of(year))
    with pytest.raises(ServerSilent) as silent:
        client.sign_in(replace(REQUEST, credentials=Credentials(login="studio", password="k3y/of=ours")))
    assert "k3y" not in str(silent.value)
    assert "k3y" not in repr(silent.value)


def test_what_is_remembered_holds_no_password(signed_in_client_of: Callable[..., ServerClient], tmp_path: Path) -> None:
    frozen = signed_in_client_of(2022).freeze()
    assert json.loads(frozen)["key"] == "the-key"
    assert "s3cret" not in frozen
