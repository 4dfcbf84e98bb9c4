"""The farm's authority on disk."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest

from coordinator.certificates.errors import AuthorityUnusable
from coordinator.certificates.farm_authority import FarmAuthority, StudioCertificate
from sheepfold.tls.certificates import (
    COORDINATOR_DAYS,
    COORDINATOR_NAME,
    Authority,
    coordinator_certificate,
    fingerprint,
    names_in,
    new_authority,
    new_key,
    signing_request,
)
from sheepfold.tls.contexts import client_context, node_in

NOW = datetime.datetime.now(datetime.UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


def opened(folder: Path, *names: str, clock: Clock | None = None, **more: StudioCertificate) -> FarmAuthority:
    authority = FarmAuthority(folder, lambda: names, clock=clock or Clock(), **more)
    authority.open()
    return authority


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection in memory; raises what either end raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                pass
        if len(done) == 2:
            return ends
    raise AssertionError("the handshake does not end")


def test_the_authority_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = opened(tmp_path / "tls").fingerprint
    assert opened(tmp_path / "tls").fingerprint == first
    files = sorted((tmp_path / "tls").iterdir())
    assert [file.name for file in files] == ["ca-key.pem", "ca.pem", "coordinator-key.pem", "coordinator.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_the_coordinator_is_known_by_its_farms_name_and_by_those_of_its_machine(tmp_path: Path) -> None:
    authority = opened(tmp_path, "localhost", "192.168.1.10")
    client = client_context(authority.certificate)
    for name in (COORDINATOR_NAME, "localhost", "192.168.1.10"):
        handshake(authority.server_context(), client, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(authority.server_context(), client, "192.168.1.11")


def test_another_farm_is_not_believed(tmp_path: Path) -> None:
    own, other = opened(tmp_path / "own"), opened(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other.server_context(), client_context(own.certificate), COORDINATOR_NAME)


def test_a_node_proves_its_id_and_is_not_taken_for_the_coordinator(tmp_path: Path) -> None:
    authority, key = opened(tmp_path / "tls"), new_key()
    (tmp_path / "node-key.pem").write_bytes(key)
    (tmp_path / "node.pem").write_bytes(authority.sign_node(signing_request(key), "pc-1"))
    ca = authority.certificate
    node = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    node.load_cert_chain(tmp_path / "node.pem", tmp_path / "node-key.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(node, client_context(ca), COORDINATOR_NAME)
    client = client_context(ca)
    client.load_cert_chain(tmp_path / "node.pem", tmp_path / "node-key.pem")
    _, server_end = handshake(authority.server_context(), client, COORDINATOR_NAME)
    assert node_in(server_end.getpeercert()) == "pc-1"


def test_a_new_address_and_an_old_date_renew_the_certificate_and_nothing_else(tmp_path: Path) -> None:
    clock, names = Clock(), ["192.168.1.10"]
    authority = FarmAuthority(tmp_path, lambda: names, clock=clock)
    authority.open()
    key, first = authority.files.key.read_bytes(), authority.files.certificate.read_bytes()
    authority.renew_once()
    assert authority.files.certificate.read_bytes() == first
    names[:] = ["192.168.1.11"]
    authority.renew_once()
    second = authority.files.certificate.read_bytes()
    assert names_in(second) == {COORDINATOR_NAME, "192.168.1.11"}
    handshake(authority.server_context(), client_context(authority.certificate), "192.168.1.11")
    clock.now += datetime.timedelta(days=0.7 * COORDINATOR_DAYS)
    authority.renew_once()
    assert authority.files.certificate.read_bytes() not in (first, second)
    assert authority.files.key.read_bytes() == key


def test_half_a_certificate_is_made_anew(tmp_path: Path) -> None:
    authority = opened(tmp_path)
    authority.files.certificate.write_bytes(b"half")
    handshake(opened(tmp_path).server_context(), client_context(authority.certificate), COORDINATOR_NAME)


@pytest.mark.parametrize("lost", ["ca-key.pem", "damaged", "another's"])
def test_an_authority_that_lost_its_key_is_not_silently_replaced(tmp_path: Path, lost: str) -> None:
    before = opened(tmp_path).certificate
    if lost == "ca-key.pem":
        (tmp_path / lost).unlink()
    else:
        (tmp_path / "ca-key.pem").write_bytes(b"damaged" if lost == "damaged" else new_key())
    with pytest.raises(AuthorityUnusable, match="restore both"):
        opened(tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthorityUnusable, match="SHEEPFOLD_STATE_DIR"):
        opened(tmp_path / "file" / "tls")


def studio_of(folder: Path) -> tuple[StudioCertificate, bytes]:
    """The studio's own authority, and a certificate of it for its own name."""
    folder.mkdir()
    ca_key, key = new_key(), new_key()
    ca = new_authority(ca_key, NOW)
    made = coordinator_certificate(Authority(certificate=ca, key=ca_key), key, ["farm.studio"], NOW)
    for name, content in (("ca.pem", ca), ("cert.pem", made), ("key.pem", key)):
        (folder / name).write_bytes(content)
    return StudioCertificate(certificate=folder / "cert.pem", key=folder / "key.pem"), ca


def test_the_studios_certificate_is_shown_to_people_and_the_farms_to_pcs(tmp_path: Path) -> None:
    studio, ca = studio_of(tmp_path / "studio")
    authority = opened(tmp_path / "tls", studio=studio)
    handshake(authority.server_context(), client_context(ca), "farm.studio")
    handshake(authority.server_context(), client_context(authority.certificate), COORDINATOR_NAME)


def test_a_studios_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    studio, _ = studio_of(tmp_path / "studio")
    studio.key.write_bytes(new_key())
    with pytest.raises(AuthorityUnusable, match="SHEEPFOLD_TLS_CERT, SHEEPFOLD_TLS_KEY"):
        opened(tmp_path / "tls", studio=studio)
    studio.key.unlink()
    with pytest.raises(AuthorityUnusable, match="No such file"):
        opened(tmp_path / "tls", studio=studio)


def test_the_fingerprint_is_the_certificates(tmp_path: Path) -> None:
    authority = opened(tmp_path)
    assert authority.fingerprint == fingerprint((tmp_path / "ca.pem").read_bytes())
