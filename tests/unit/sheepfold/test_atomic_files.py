"""A file is whole or not there, whatever fails in between; its mode is right from the first byte on."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.broker.redis_config import RedisFolder
from coordinator.broker.redis_probe import Address
from coordinator.leases.sealing import Sealer
from render_tasks.work_dir import WorkDir
from sheepfold import atomic_files
from sheepfold.atomic_files import (
    SYNCED_ONE_BY_ONE,
    atomically_replaced,
    is_disk_full,
    prepare_folder,
    rename_durably,
    sync_tree,
    write_all_atomically,
    write_atomically,
)


@pytest.fixture
def synced_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was synced, in order; a folder's with a slash."""
    names: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        names.append(f"{path.name}/" if path.is_dir() else path.name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return names


def fail_to_write(*_: object) -> None:
    raise OSError(errno.EIO, "the disk is gone")


def test_the_content_then_the_name_are_on_disk_when_it_returns(tmp_path: Path, synced_names: list[str]) -> None:
    write_atomically(tmp_path / "token", b"first")
    write_atomically(tmp_path / "token", b"second")
    assert (tmp_path / "token").read_bytes() == b"second"
    assert [name.startswith(".incoming-") for name in synced_names] == [True, False] * 2
    assert synced_names[1::2] == [f"{tmp_path.name}/"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_mode_is_right_before_the_first_byte(tmp_path: Path, mode: int) -> None:
    before = os.umask(0)
    try:
        with atomically_replaced(tmp_path / "key.pem", mode=mode) as part:
            assert (stat.S_IMODE(part.stat().st_mode), part.stat().st_size) == (mode, 0)
            assert part.suffix == ".pem"
            part.write_bytes(b"key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_atomically(tmp_path / "token", b"old")
    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail_to_write)
    with pytest.raises(OSError, match="the disk is gone"):
        write_atomically(tmp_path / "token", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"token": b"old"}


def test_what_the_writer_raises_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomically_replaced(tmp_path / "thumb.jpg") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_renamed_durably(tmp_path: Path, synced_names: list[str]) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "box").mkdir()
    rename_durably(tmp_path / "new", tmp_path / "box" / "kept")
    assert synced_names == ["new/", "box/"]
    assert (tmp_path / "box" / "kept").is_dir()


def test_a_crash_leaves_only_what_the_next_start_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", fail_to_write)
        crash.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(OSError, match="the disk is gone"):
            write_atomically(tmp_path / "report.json", b"{}")
    assert len(list(tmp_path.iterdir())) == 1
    prepare_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_synced_file_by_file_until_it_is_large(
    tmp_path: Path, synced_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: whole.append(True))
    (tmp_path / "tex").mkdir()
    (tmp_path / "tex" / "a.png").write_bytes(b"a")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    sync_tree(tmp_path)
    assert sorted(synced_names) == sorted([f"{tmp_path.name}/", "tex/", "a.png"])
    for number in range(SYNCED_ONE_BY_ONE):
        (tmp_path / f"{number}").touch()
    sync_tree(tmp_path)
    assert (len(synced_names), whole) == (3, [True])


@pytest.mark.parametrize(
    ("code", "is_full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (None, False)]
)
def test_a_full_disk_is_told_from_other_trouble(code: int | None, is_full: bool) -> None:
    assert is_disk_full(OSError(code, "said") if code else OSError("said")) is is_full


def write_redis_config(folder: Path) -> Path:
    redis = RedisFolder(folder)
    redis.prepare()
    redis.configure(Address(host="127.0.0.1", port=6379, password="secret"), ["127.0.0.1"])
    return redis.config_file


def write_ledger_key(folder: Path) -> Path:
    Sealer.from_file(folder / "ledger.key")
    return folder / "ledger.key"


def write_node_identity(folder: Path) -> Path:
    WorkDir(folder).close()
    return folder / "node-id"


@pytest.mark.parametrize("write", [write_redis_config, write_ledger_key, write_node_identity])
def test_private_files_of_the_farm_are_written_this_way(
    tmp_path: Path, synced_names: list[str], write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == atomic_files.PRIVATE_MODE
    assert synced_names[0].startswith(".incoming-")
    assert synced_names[1] == f"{tmp_path.name}/"


def many(count: int) -> dict[str, bytes]:
    return {f"{number}.json": b"%d" % number for number in range(count)}


def test_many_files_are_synced_at_once(
    tmp_path: Path, synced_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sync", lambda: synced_names.append("everything"))
    write_all_atomically(tmp_path, many(SYNCED_ONE_BY_ONE + 1))
    assert synced_names == ["everything", f"{tmp_path.name}/"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == many(SYNCED_ONE_BY_ONE + 1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {atomic_files.PRIVATE_MODE}


def test_a_few_files_are_synced_one_by_one_and_their_folder_once(tmp_path: Path, synced_names: list[str]) -> None:
    write_all_atomically(tmp_path, many(3))
    assert [name.startswith(".incoming-") for name in synced_names] == [True, True, True, False]
    assert synced_names[-1] == f"{tmp_path.name}/"


def test_many_files_that_cannot_be_written_leave_no_temporary_ones(tmp_path: Path) -> None:
    (tmp_path / "1.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_all_atomically(tmp_path, many(3))
    assert {path.name for path in tmp_path.iterdir()} == {"0.json", "1.json"}
