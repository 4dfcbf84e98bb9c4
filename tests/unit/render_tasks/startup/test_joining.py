"""Joining by an invitation, against the coordinator's own routes over TLS, and against those who only pretend."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest

from render_tasks.errors import CoordinatorRefused, CoordinatorUnreachable
from render_tasks.membership import kept_membership, membership_files
from render_tasks.settings import WorkerSettings
from render_tasks.startup.joining import join_farm
from render_tasks.work_dir import WorkDir
from sheepfold.contract.invitations import Invitation
from sheepfold.tls.certificates import NODE_DAYS, Authority, names_in, node_certificate, signing_request
from sheepfold.tls.errors import NotThisFarm
from tests.support.servers.invited_farm import InvitedFarm, secrets_in


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COORDINATOR_URL", "FARM_TOKEN", "JOIN", "WORK_DIR"):
        monkeypatch.delenv(f"SHEEPFOLD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def farm(tmp_path: Path) -> InvitedFarm:
    with InvitedFarm(tmp_path / "farm") as farm:
        yield farm


@pytest.fixture
def folder(tmp_path: Path) -> WorkDir:
    folder = WorkDir(tmp_path / "work")
    yield folder
    folder.close()


def settings(folder: WorkDir, **values: str) -> WorkerSettings:
    return WorkerSettings(work_dir=folder.path, **values)  # type: ignore[call-arg]


def code_of(line: str) -> str:
    return Invitation.from_line(line).code


def test_a_pc_gets_a_certificate_of_its_id_and_keeps_its_key_to_itself(farm: InvitedFarm, folder: WorkDir) -> None:
    joined = join_farm(settings(folder, join=farm.line), folder)
    assert joined == kept_membership(folder.path)
    assert joined.coordinator_url == f"https://127.0.0.1:{farm.port}"
    assert names_in(joined.files.certificate.read_bytes()) == {f"{folder.node_id}.node.sheepfold.internal"}
    assert joined.authority == farm.authority.certificate
    assert {stat.S_IMODE(file.stat().st_mode) for file in (folder.path / "membership").iterdir()} == {0o600}
    assert not secrets_in(farm.requests, joined.files.key.read_text())
    assert [request[:2] for request in farm.requests] == [("GET", "/farm-ca.pem"), ("POST", "/api/certificate")]


def test_a_line_that_was_used_may_stay_in_the_settings(farm: InvitedFarm, folder: WorkDir) -> None:
    line = farm.line
    first = join_farm(settings(folder, join=line), folder)
    asked = len(farm.requests)
    assert join_farm(settings(folder, join=line), folder) == first
    # And without it, address and certificate are known.
    assert settings(folder).coordinator_url == first.coordinator_url
    assert join_farm(settings(folder), folder) == first
    assert len(farm.requests) == asked


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_line(farm: InvitedFarm, folder: WorkDir) -> None:
    line = farm.line
    join_farm(settings(folder, join=line), folder)
    (folder.path / "membership" / "coordinator").unlink()
    assert join_farm(settings(folder, join=line), folder) == kept_membership(folder.path)


def test_a_line_lets_one_pc_in(farm: InvitedFarm, folder: WorkDir, tmp_path: Path) -> None:
    line, other = farm.line, WorkDir(tmp_path / "other")
    join_farm(settings(folder, join=line), folder)
    with pytest.raises(CoordinatorRefused, match="used already"):
        join_farm(settings(other, join=line), other)
    assert kept_membership(other.path) is None
    other.close()


def test_a_wrong_code_is_refused(farm: InvitedFarm, folder: WorkDir) -> None:
    line = farm.line
    with pytest.raises(CoordinatorRefused, match="wrong"):
        join_farm(settings(folder, join=line.replace(code_of(line), "0" * 40)), folder)


def test_a_pc_whose_id_is_taken_becomes_a_node_of_its_own(farm: InvitedFarm, folder: WorkDir) -> None:
    came_with = folder.node_id
    farm.taken.add(came_with)
    joined = join_farm(settings(folder, join=farm.line), folder)
    assert folder.node_id != came_with
    assert names_in(joined.files.certificate.read_bytes()) == {f"{folder.node_id}.node.sheepfold.internal"}


def test_another_farm_at_the_address_is_told_no_secret(farm: InvitedFarm, folder: WorkDir, tmp_path: Path) -> None:
    with InvitedFarm(tmp_path / "false") as false:
        line = farm.line.replace(f":{farm.port}/", f":{false.port}/")
        with pytest.raises(NotThisFarm, match="told no secret"):
            join_farm(settings(folder, join=line), folder)
        assert [request[:2] for request in false.requests] == [("GET", "/farm-ca.pem")]
        assert not secrets_in(false.requests, code_of(line), folder.node_secret, folder.node_id)
    assert kept_membership(folder.path) is None


def test_who_shows_the_farms_authority_and_has_not_its_key_is_told_no_secret(
    farm: InvitedFarm, folder: WorkDir, tmp_path: Path
) -> None:
    with InvitedFarm(tmp_path / "false", shown_authority=farm.authority.certificate) as false:
        line = farm.line.replace(f":{farm.port}/", f":{false.port}/")
        with pytest.raises(NotThisFarm, match="told no secret"):
            join_farm(settings(folder, join=line), folder)
        assert [request[:2] for request in false.requests] == [("GET", "/farm-ca.pem")]


def test_a_node_of_the_farm_that_plays_its_coordinator_is_told_no_secret(
    farm: InvitedFarm, folder: WorkDir, tmp_path: Path
) -> None:
    thief = WorkDir(tmp_path / "thief")
    stolen = join_farm(settings(thief, join=farm.line), thief)
    with InvitedFarm(tmp_path / "false", shown_authority=farm.authority.certificate) as false:
        false.authority.server_context().load_cert_chain(stolen.files.certificate, stolen.files.key)
        line = farm.line.replace(f":{farm.port}/", f":{false.port}/")
        with pytest.raises(NotThisFarm, match="Hostname mismatch"):
            join_farm(settings(folder, join=line), folder)
        assert not secrets_in(false.requests, code_of(line), folder.node_secret)
    thief.close()


def test_nobody_at_the_address_is_told_as_such(farm: InvitedFarm, folder: WorkDir) -> None:
    with pytest.raises(CoordinatorUnreachable, match="Connection refused"):
        join_farm(settings(folder, join=farm.line.replace(f":{farm.port}/", ":9/")), folder)


def test_a_certificate_that_is_about_to_end_is_renewed_by_itself(farm: InvitedFarm, folder: WorkDir) -> None:
    joined = join_farm(settings(folder, join=farm.line), folder)
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=0.8 * NODE_DAYS)
    ca = farm.authority.files.authority.parent
    authority = Authority(certificate=farm.authority.certificate, key=(ca / "ca-key.pem").read_bytes())
    old = node_certificate(authority, signing_request(joined.files.key.read_bytes()), folder.node_id, long_ago)
    joined.files.certificate.write_bytes(old)
    assert join_farm(settings(folder), folder) == joined
    assert joined.files.certificate.read_bytes() != old
    # By the certificate itself, and no code.
    assert farm.requests[-1][:3] == ("POST", "/api/certificate", folder.node_id)


def test_a_farm_that_is_away_does_not_keep_an_old_certificate_from_use(folder: WorkDir, tmp_path: Path) -> None:
    with InvitedFarm(tmp_path / "farm") as farm:
        joined = join_farm(settings(folder, join=farm.line), folder)
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=0.8 * NODE_DAYS)
        authority = Authority(certificate=joined.authority, key=(tmp_path / "farm" / "tls" / "ca-key.pem").read_bytes())
        request = signing_request(joined.files.key.read_bytes())
        joined.files.certificate.write_bytes(node_certificate(authority, request, folder.node_id, long_ago))
    assert join_farm(settings(folder), folder) == joined


def test_a_farm_token_for_another_address_wins_over_what_is_kept(farm: InvitedFarm, folder: WorkDir) -> None:
    join_farm(settings(folder, join=farm.line), folder)
    given = settings(folder, coordinator_url="http://127.0.0.1:8420", farm_token="a-farm-token")
    assert join_farm(given, folder) is None


def test_files_of_a_membership_lie_in_one_folder(folder: WorkDir) -> None:
    assert {file.parent for file in vars(membership_files(folder.path)).values()} == {folder.path / "membership"}
