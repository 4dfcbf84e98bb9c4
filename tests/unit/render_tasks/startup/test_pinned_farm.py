"""A PC belongs to the farm that it joined first, whatever somebody says later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from render_tasks.errors import FarmChanged
from render_tasks.startup.pinned_farm import PinnedFarm
from sheepfold.contract.api_messages import JoinAnswer
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.signing import public_key_text
from sheepfold.errors import ExitCode
from tests.support.wire.contract_messages import KEY


def told(farm_id: str = "f1", key: Ed25519PrivateKey = KEY) -> JoinAnswer:
    """What a coordinator answers to a join."""
    return JoinAnswer(name="pc", redis_url="redis://h", queue="q", farm_id=farm_id, order_key=public_key_text(key))


def test_the_first_farm_is_written_down_for_its_owner_alone(tmp_path: Path) -> None:
    farm = PinnedFarm(tmp_path).accept(told())
    assert farm.farm_id == "f1"
    assert farm.order_key.public_bytes_raw() == KEY.public_key().public_bytes_raw()
    if os.name == "posix":
        assert (tmp_path / "farm").stat().st_mode & 0o777 == 0o600
    assert PinnedFarm(tmp_path).accept(told()).label == farm.label, "after a restart"


@pytest.mark.parametrize(
    "other", [told("f2"), told(key=Ed25519PrivateKey.generate()), told("f2", Ed25519PrivateKey.generate())]
)
@pytest.mark.parametrize("is_restarted", [True, False])
def test_another_farm_or_key_is_refused_with_what_to_do(tmp_path: Path, other: JoinAnswer, is_restarted: bool) -> None:
    pinned = PinnedFarm(tmp_path)
    before = pinned.accept(told())
    with pytest.raises(FarmChanged, match="sheepfold forget-farm") as refused:
        (PinnedFarm(tmp_path) if is_restarted else pinned).accept(other)
    assert before.label in str(refused.value)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert PinnedFarm(tmp_path).accept(told()).label == before.label, "its own is followed as before"


def test_a_running_worker_keeps_its_farm_though_the_file_is_gone(tmp_path: Path) -> None:
    pinned = PinnedFarm(tmp_path)
    pinned.accept(told())
    (tmp_path / "farm").unlink()
    with pytest.raises(FarmChanged):
        pinned.accept(told("f2"))


def test_a_file_that_cannot_be_read_is_no_reason_to_believe_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PinnedFarm(tmp_path).accept(told())

    def too_many_files(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", too_many_files)
        with pytest.raises(OSError, match="Too many"):
            PinnedFarm(tmp_path).accept(told("f2"))
    with pytest.raises(FarmChanged):
        PinnedFarm(tmp_path).accept(told("f2"))


def test_once_forgotten_the_next_farm_is_the_pcs(tmp_path: Path) -> None:
    label = PinnedFarm(tmp_path).accept(told()).label
    assert PinnedFarm(tmp_path).forget() == label
    assert PinnedFarm(tmp_path).forget() == ""
    assert PinnedFarm(tmp_path).accept(told("f2")).farm_id == "f2"


@pytest.mark.parametrize("kind", ["link", "folder", "rubbish", "half"])
def test_rubbish_in_its_place_is_set_aside_with_a_word(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    place, owners = tmp_path / "farm", tmp_path / "owners"
    owners.write_bytes(b"the owner's")
    if kind == "link":
        place.symlink_to(owners)
    elif kind == "folder":
        place.mkdir()
    else:
        place.write_bytes({"rubbish": b"\xff" * 10_000, "half": b'{"farm_id": "f1"}'}[kind])
    assert PinnedFarm(tmp_path).accept(told()).farm_id == "f1"
    assert "names no farm: it lies in" in caplog.text
    assert owners.read_bytes() == b"the owner's"
    assert PinnedFarm(tmp_path).peek() is not None


def test_an_answer_without_a_usable_key_pins_nothing(tmp_path: Path) -> None:
    broken = JoinAnswer(name="pc", redis_url="redis://h", queue="q", farm_id="f1", order_key="AAAA")
    with pytest.raises(MalformedContract):
        PinnedFarm(tmp_path).accept(broken)
    assert not (tmp_path / "farm").exists()
