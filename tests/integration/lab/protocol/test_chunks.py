"""Scenes in pieces: who is told of them, and that they are the archive's bytes."""

from __future__ import annotations

import hashlib
import random
import zipfile
from pathlib import Path

import pytest

from tests.support.servers.running_lab import Client, RunningLab, running_lab

MIB = 1024 * 1024
NEWEST, EARLIER = "7.24086.0", "6.22306.0"


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, chunk_mb=1) as lab:
        yield lab


def large_project(lab: RunningLab, size: int = 4 * MIB + 12345) -> bytes:
    """A project whose archive has a little more than ``size`` bytes; the answer is the archive."""
    archive = lab.folder / "large.zip"
    with zipfile.ZipFile(archive, "w") as writing:
        writing.writestr("a.blend", random.Random(8).randbytes(size))
    lab.owner.submit(archive, {"name": "large", "frames": "1-9", "scene": "a.blend"})
    return archive.read_bytes()


def offered_pieces(client: Client) -> list[tuple[str, str]]:
    assert client.request_job() == 0
    return [(chunk.attrib["id"], chunk.attrib["md5"]) for chunk in client.answer.findall("job/chunks/chunk")]


def fetch(client: Client, chunk: str) -> bytes:
    answer = client.http.get(client.url + client.paths["download-chunk"], params={"chunk": chunk}, timeout=20)
    answer.raise_for_status()
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


def test_the_newest_generation_is_told_of_pieces_that_are_the_archive(lab: RunningLab):
    archive = large_project(lab)
    client = lab.client(version=NEWEST)
    pieces = offered_pieces(client)
    assert len(pieces) == 5
    fetched = [fetch(client, chunk) for chunk, _ in pieces]
    assert [hashlib.md5(data).hexdigest() for data in fetched] == [md5 for _, md5 in pieces]
    assert b"".join(fetched) == archive
    assert [len(data) for data in fetched[:-1]] == [MIB] * 4
    assert client.job["archive_md5"] == hashlib.md5(archive).hexdigest()


@pytest.mark.parametrize("version", ["3.3.1762", EARLIER, "nonsense", "७.1"])
def test_every_other_client_is_told_of_one_piece_that_is_the_archive(lab: RunningLab, version):
    archive = large_project(lab)
    client = lab.client(version=version)
    md5 = hashlib.md5(archive).hexdigest()
    assert offered_pieces(client) == [(md5, md5)]
    assert fetch(client, md5) == archive
    assert client.download(type="job", job=client.job["id"]).content == archive


def test_a_scene_of_exactly_one_piece_is_one(lab: RunningLab):
    archive = large_project(lab, MIB - 300)
    md5 = hashlib.md5(archive).hexdigest()
    assert len(archive) <= MIB
    assert offered_pieces(lab.client(version=NEWEST)) == [(md5, md5)]


def test_nobody_gets_pieces_without_a_session_or_under_a_made_up_name(lab: RunningLab):
    large_project(lab)
    client = lab.client(version=NEWEST)
    [(chunk, _), *_] = offered_pieces(client)
    url = client.url + client.paths["download-chunk"]
    for wrong in ("", "0" * 32, "../server.sqlite3", chunk.upper(), chunk + "\n", "%00"):
        assert client.http.get(url, params={"chunk": wrong}, timeout=10).status_code == 404
    stranger = Client(lab.url)
    assert stranger.http.get(url, params={"chunk": chunk}, timeout=10).status_code == 404
    client.log_out()
    assert client.http.get(url, params={"chunk": chunk}, timeout=10).status_code == 404


def test_pieces_are_cut_once_and_known_after_a_restart(tmp_path, monkeypatch):
    with running_lab(tmp_path, chunk_mb=1) as lab:
        large_project(lab)
        pieces = offered_pieces(lab.client(version=NEWEST))

    def cut_again(*_arguments: object) -> None:
        raise AssertionError("the archive was read once more")

    monkeypatch.setattr("lab.server.chunks.cut", cut_again)
    with running_lab(tmp_path, chunk_mb=1) as lab:
        assert offered_pieces(lab.client(version=NEWEST)) == pieces


def test_another_size_of_pieces_cuts_anew(tmp_path):
    with running_lab(tmp_path, chunk_mb=1) as lab:
        archive = large_project(lab)
    with running_lab(tmp_path, chunk_mb=2) as lab:
        client = lab.client(version=NEWEST)
        pieces = offered_pieces(client)
        assert len(pieces) == 3
        assert b"".join(fetch(client, chunk) for chunk, _ in pieces) == archive
    with running_lab(tmp_path) as lab:
        assert len(offered_pieces(lab.client(version=NEWEST))) == 1


def test_the_head_of_a_piece_has_its_length_and_no_body(lab: RunningLab):
    large_project(lab)
    client = lab.client(version=NEWEST)
    [(chunk, _), *_] = offered_pieces(client)
    answer = client.http.head(client.url + client.paths["download-chunk"], params={"chunk": chunk}, timeout=10)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(MIB), b"")
    assert len(fetch(client, chunk)) == MIB  # the connection goes on


def test_an_archive_that_lost_its_end_is_cut_off_and_the_server_goes_on(lab: RunningLab, caplog):
    archive = large_project(lab)
    client = lab.client(version=NEWEST)
    pieces = offered_pieces(client)
    stored = lab.services.store.archive(hashlib.md5(archive).hexdigest())
    stored.write_bytes(archive[: 3 * MIB + 7])
    with pytest.raises(OSError, match=r"."):
        fetch(client, pieces[3][0])
    assert fetch(client, pieces[0][0]) == archive[:MIB]
