"""Pictures on their way through the spool."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.delivery.errors import BadName, CutOff
from coordinator.delivery.spool import Spool, spool_name
from sheepfold.atomic_files import receiving
from sheepfold.errors import DiskFull, TooLarge

LEASE = "3f2a" * 8


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", limit_bytes=1000).open()


def everything_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").iterdir())


def test_a_picture_comes_out_as_it_went_in(spool: Spool) -> None:
    stored = spool.store(LEASE, 2, ".PNG", [b"one", b"", b"two"])
    assert (stored.name, stored.size) == (f"{LEASE}.2.png", 6)
    assert stored.md5 == hashlib.md5(b"onetwo").hexdigest()
    assert stored.path.read_bytes() == b"onetwo"
    assert spool.path(stored.name) == stored.path
    assert spool.names() == [stored.name]


def test_a_picture_that_breaks_off_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        spool.store(LEASE, 1, ".png", breaks_off())
    assert everything_in(tmp_path) == []


def test_a_picture_with_another_sum_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(CutOff) as caught:
        spool.store(LEASE, 1, ".png", [b"half"], md5="0" * 32)
    assert caught.value.got == hashlib.md5(b"half").hexdigest()
    assert everything_in(tmp_path) == []


def test_a_picture_that_is_too_large_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        spool.store(LEASE, 1, ".png", [b"x" * 600, b"x" * 600])
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX error numbers")
def test_a_full_disk_is_said_and_leaves_nothing(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFull):
        spool.store(LEASE, 1, ".png", [b"x"])
    assert everything_in(tmp_path) == []


def test_the_last_of_the_disk_is_left_to_the_ledger(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), receiving(tmp_path, reserve_bytes=2**62):
        pass
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_are_not_kept_leave_nothing(spool: Spool, tmp_path: Path) -> None:
    with spool.receive(LEASE, 1, ".exr") as incoming:
        incoming.write(b"half")
    assert everything_in(tmp_path) == []


def test_the_same_picture_again_replaces_the_first(spool: Spool) -> None:
    spool.store(LEASE, 1, ".png", [b"first"])
    assert spool.store(LEASE, 1, ".png", [b"again"]).path.read_bytes() == b"again"
    assert len(spool.names()) == 1


def test_a_discarded_picture_is_gone_and_may_be_discarded_again(spool: Spool) -> None:
    name = spool.store(LEASE, 1, ".png", [b"x"]).name
    spool.discard(name)
    spool.discard(name)
    assert spool.names() == []


def test_what_a_crash_left_is_removed_at_the_next_start(spool: Spool, tmp_path: Path) -> None:
    kept = spool.store(LEASE, 1, ".png", [b"x"]).name
    (tmp_path / "spool" / ".incoming-123").write_bytes(b"half")
    Spool(tmp_path / "spool").open()
    assert everything_in(tmp_path) == [kept]


@pytest.mark.parametrize(
    ("lease_id", "attempt", "suffix"),
    [
        ("../../etc/passwd", 1, ".png"),
        ("3F2A/", 1, ".png"),
        ("", 1, ".png"),
        (LEASE, 0, ".png"),
        (LEASE, -1, ".png"),
        (LEASE, 1, ".sh"),
        (LEASE, 1, "png"),
        (LEASE, 1, "/../x.png"),
        (LEASE, 1, ""),
        (LEASE + "\n", 1, ".png"),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(lease_id: str, attempt: int, suffix: str) -> None:
    with pytest.raises(BadName):
        spool_name(lease_id, attempt, suffix)


@pytest.mark.parametrize(
    "name", ["../x.1.png", ".incoming-1", f"{LEASE}.1.py", f"{LEASE}.1.png/..", f"{LEASE}.1.png\n"]
)
def test_only_names_of_the_spool_become_paths(spool: Spool, name: str) -> None:
    with pytest.raises(BadName):
        spool.path(name)


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_only_the_owner_may_look(spool: Spool, tmp_path: Path) -> None:
    stored = spool.store(LEASE, 1, ".png", [b"x"])
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_every_suffix_that_a_worker_gives_is_one_that_is_kept() -> None:
    from coordinator.delivery.spool import PICTURE_SUFFIXES
    from render_tasks.blender.output.image_format import KINDS

    assert {suffix for _, suffix in KINDS} | {".tga"} <= PICTURE_SUFFIXES
