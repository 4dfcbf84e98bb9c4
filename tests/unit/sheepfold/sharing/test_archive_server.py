"""What an archive server hands out, and to whom; over real HTTP."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from render_tasks.archives.partial_archive import PartialArchive
from render_tasks.archives.peer_client import NODE_TIMEOUTS, PeerClient, PeerTimeouts
from render_tasks.errors import PeerBusy, PeerLacksPiece, PeerUnusable
from sheepfold.contract.api_messages import PIECES_HEADER, ArchiveManifest, ArchiveSources, archive_pass
from sheepfold.sharing.archive_server import ArchiveServer
from sheepfold.sharing.pieces import BLOCK_BYTES, sum_of
from sheepfold.sharing.shared_archive import SharedArchive

TOKEN, MD5 = "a-farm-token", "ab" * 16
CONTENT = os.urandom(3 * BLOCK_BYTES + 1000)
PIECES = [CONTENT[at : at + BLOCK_BYTES] for at in range(0, len(CONTENT), BLOCK_BYTES)]
PLAN = ArchiveManifest(
    md5=MD5,
    size=len(CONTENT),
    piece_bytes=BLOCK_BYTES,
    sums=tuple(sum_of(piece) for piece in PIECES),
    sources=ArchiveSources(coordinator="http://127.0.0.1:9"),
)


class FakeArchives:
    """Has one archive, as far as a test put pieces in."""

    def __init__(self, folder: Path) -> None:
        self.arriving = PartialArchive(folder / "archive", PLAN)
        self.asked: list[str] = []
        self.gate: threading.Event | None = None

    def __call__(self, md5: str) -> SharedArchive | None:
        self.asked.append(md5)
        return self.arriving.shared() if md5 == MD5 else None


@pytest.fixture
def archives(tmp_path: Path) -> FakeArchives:
    return FakeArchives(tmp_path)


@pytest.fixture
def server(archives: FakeArchives) -> Iterator[ArchiveServer]:
    server = ArchiveServer(archives, TOKEN, at_once=2, answer_s=0.2).bind("127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def get(server: ArchiveServer, path: str = f"/archives/{MD5}", **headers: str) -> requests.Response:
    shown = {"Authorization": f"Bearer {archive_pass(TOKEN, MD5)}"} | headers
    return requests.get(f"http://127.0.0.1:{server.port}{path}", headers=shown, timeout=10)


def fill(archives: FakeArchives, *pieces: int) -> None:
    for piece in pieces:
        assert archives.arriving.put(piece, PIECES[piece])


def test_a_whole_archive_is_handed_out_whole_and_in_ranges(server: ArchiveServer, archives: FakeArchives) -> None:
    fill(archives, 0, 1, 2, 3)
    assert get(server).content == CONTENT
    part = get(server, Range=f"bytes=5-{BLOCK_BYTES + 5}")
    assert (part.status_code, part.content) == (206, CONTENT[5 : BLOCK_BYTES + 6])
    assert part.headers[PIECES_HEADER] == get(server, f"/archives/{MD5}/pieces").text == "all"
    assert get(server, Range="bytes=-10").content == CONTENT[-10:]
    sent = len(CONTENT) + BLOCK_BYTES + 1 + 10
    # Counted when the server has sent it, a blink after the client has it.
    deadline = time.monotonic() + 10
    while server.bytes_sent < sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.bytes_sent == sent


def test_only_what_lies_in_pieces_that_are_right_leaves(server: ArchiveServer, archives: FakeArchives) -> None:
    fill(archives, 1, 3)
    assert get(server, f"/archives/{MD5}/pieces").text == "a"
    assert get(server, Range=f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}").content == PIECES[1]
    assert get(server, Range=f"bytes={3 * BLOCK_BYTES}-").content == PIECES[3]
    for wanted in (f"bytes={BLOCK_BYTES - 1}-{BLOCK_BYTES}", f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES}", "bytes=0-0"):
        refused = get(server, Range=wanted)
        assert (refused.status_code, refused.headers[PIECES_HEADER]) == (416, "a")
    assert get(server).status_code == 416
    everything = get(server, **{"Range": f"bytes={3 * BLOCK_BYTES}-", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert everything.status_code == 416, "a range that turns into the whole"


@pytest.mark.parametrize("wanted", ["bytes=9-5", "bytes=99999999-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", ""])
def test_what_is_no_range_of_bytes_is_refused(server: ArchiveServer, archives: FakeArchives, wanted: str) -> None:
    fill(archives, 0)
    assert get(server, Range=wanted).status_code == 416


def test_a_wrong_piece_is_never_kept(archives: FakeArchives) -> None:
    for wrong in (PIECES[1], PIECES[0][:-1], b"", PIECES[0] + b"x"):
        with pytest.raises(PeerUnusable):
            archives.arriving.put(0, wrong)
    assert archives.arriving.shared().pieces == 0
    assert archives.arriving.put(0, PIECES[0])
    assert not archives.arriving.put(0, PIECES[0]), "it was here already"


@pytest.mark.parametrize(
    "shown", ["", "Bearer", f"Bearer {TOKEN}", f"Bearer {archive_pass(TOKEN, 'c' * 32)}", "Bearer \xe9"]
)
def test_nothing_is_told_without_the_archives_pass(server: ArchiveServer, archives: FakeArchives, shown: str) -> None:
    for path in (f"/archives/{MD5}", f"/archives/{MD5}/pieces"):
        assert get(server, path, Authorization=shown).status_code == 401
    assert not archives.asked


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "..%2f..%2fetc%2fpasswd", "AB" * 16, "ab" * 15, "ab" * 17, "%00" + "a" * 31]
)
def test_a_name_that_is_no_md5_never_reaches_the_disk(server: ArchiveServer, archives: FakeArchives, name: str) -> None:
    allowed = {"Authorization": f"Bearer {archive_pass(TOKEN, requests.utils.unquote(name))}"}
    assert get(server, f"/archives/{name}", **allowed).status_code == 404
    assert not archives.asked


def test_an_archive_that_is_not_here_is_not_found(server: ArchiveServer) -> None:
    other = "c" * 32
    assert get(server, f"/archives/{other}", Authorization=f"Bearer {archive_pass(TOKEN, other)}").status_code == 404


def test_bytes_leave_by_sendfile(
    server: ArchiveServer, archives: FakeArchives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    plain = os.sendfile

    def spy(out: int, source: int, offset: int, count: int) -> int:
        sent.append(count := plain(out, source, offset, count))
        return count

    monkeypatch.setattr(os, "sendfile", spy)
    fill(archives, 0, 1)
    assert get(server, Range=f"bytes=0-{2 * BLOCK_BYTES - 1}").content == CONTENT[: 2 * BLOCK_BYTES]
    assert sum(sent) == 2 * BLOCK_BYTES


class StuckReader:
    """Asks for an archive and reads nothing, through a window so small that the answer cannot be sent."""

    def __init__(self, server: ArchiveServer, address: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind((address, 0))
        self.socket.connect(("127.0.0.1", server.port))
        asks = f"GET /archives/{MD5} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {archive_pass(TOKEN, MD5)}\r\n\r\n"
        self.socket.sendall(asks.encode())
        self.began = self.socket.recv(12)

    def is_cut_off(self, within_s: float) -> bool:
        """Whether the connection ends by itself, without anything being read."""
        poll = select.poll()
        poll.register(self.socket, select.POLLERR | select.POLLHUP)
        return bool(poll.poll(within_s * 1000))


def test_a_server_with_enough_askers_says_so_and_drops_those_that_do_not_read(
    archives: FakeArchives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sheepfold.sharing.archive_server.SLOWEST_BYTES_PER_S", 10**9)
    server = ArchiveServer(archives, TOKEN, at_once=2, answer_s=1.0).bind("127.0.0.1", 0)
    server.start()
    fill(archives, 0, 1, 2, 3)
    client = PeerClient(MD5, archive_pass(TOKEN, MD5))
    url = f"http://127.0.0.1:{server.port}"
    stuck = [StuckReader(server, address) for address in ("127.0.0.2", "127.0.0.3")]
    assert all(reader.began == b"HTTP/1.1 200" for reader in stuck)
    with pytest.raises(PeerBusy):
        client.piece(url, 0, 10, NODE_TIMEOUTS)
    assert client.pieces(url, NODE_TIMEOUTS) == "all", "what it has can still be asked"
    assert all(reader.is_cut_off(within_s=10) for reader in stuck)
    assert client.piece(url, 0, 10, NODE_TIMEOUTS)[0] == CONTENT[:10]
    server.stop()


def test_one_address_takes_half_of_the_answers_at_most(archives: FakeArchives) -> None:
    server = ArchiveServer(archives, TOKEN, at_once=4).bind("127.0.0.1", 0).start()
    fill(archives, 0, 1, 2, 3)
    readers = [StuckReader(server, "127.0.0.2") for _ in range(4)]
    assert [reader.began for reader in readers] == [b"HTTP/1.1 200"] * 2 + [b"HTTP/1.1 503"] * 2
    assert get(server).content == CONTENT
    server.stop()


def test_whoever_stops_reading_has_no_longer_than_what_was_read_allows(
    archives: FakeArchives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an answer that may take long, when nothing of it is read, then it ends after the first seconds."""
    monkeypatch.setattr("sheepfold.sharing.archive_server.SLICE_BYTES", BLOCK_BYTES // 8)
    monkeypatch.setattr("sheepfold.sharing.archive_server.SLOWEST_BYTES_PER_S", BLOCK_BYTES // 6)
    server = ArchiveServer(archives, TOKEN, at_once=2, answer_s=0.5).bind("127.0.0.1", 0)
    assert server._socket
    server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)  # what the system takes counts as read
    server.start()
    fill(archives, 0, 1, 2, 3)
    reader = StuckReader(server)
    assert reader.began == b"HTTP/1.1 200"
    assert reader.is_cut_off(within_s=10), "the whole would have had 18 s"
    server.stop()


def test_a_client_asks_over_one_connection_and_tells_refusals_apart(
    server: ArchiveServer, archives: FakeArchives
) -> None:
    fill(archives, 0)
    client = PeerClient(MD5, archive_pass(TOKEN, MD5))
    url = f"http://127.0.0.1:{server.port}"
    assert client.piece(url, 0, BLOCK_BYTES, NODE_TIMEOUTS) == (PIECES[0], "1")
    with pytest.raises(PeerLacksPiece):
        client.piece(url, BLOCK_BYTES, 2 * BLOCK_BYTES, NODE_TIMEOUTS)
    with pytest.raises(PeerUnusable):
        PeerClient(MD5, "wrong").pieces(url, NODE_TIMEOUTS)
    client.close()
    with pytest.raises(PeerUnusable):
        client.pieces(url, NODE_TIMEOUTS)


def test_a_source_that_drips_is_given_up_in_bounded_time() -> None:
    """Given a source that sends a byte now and then, when its time is over, then the piece is asked of others."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n\r\n")
                while not ended.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        client = PeerClient(MD5, "pass")
        patience = PeerTimeouts(connect_s=1, silence_s=1, at_least_s=0.2, bytes_per_s=10**9)
        began = time.monotonic()
        with pytest.raises(PeerUnusable, match="too slow"):
            client.piece(f"http://127.0.0.1:{listening.getsockname()[1]}", 0, 1000, patience)
        assert time.monotonic() - began < 5
        ended.set()


def test_a_taken_port_is_told_before_anything_is_served(server: ArchiveServer, archives: FakeArchives) -> None:
    other = ArchiveServer(archives, TOKEN, at_once=1)
    with pytest.raises(OSError, match="in use"):
        other.bind("127.0.0.1", server.port)
    other.stop()
