"""Who signs what, for whom, and for how long."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from sheepfold.tls.certificates import (
    AUTHORITY_DAYS,
    COORDINATOR_DAYS,
    COORDINATOR_NAME,
    NODE_DAYS,
    Authority,
    belong_together,
    coordinator_certificate,
    fingerprint,
    is_due,
    names_in,
    new_authority,
    new_key,
    node_certificate,
    requested_key,
    signing_request,
)
from sheepfold.tls.errors import BadCertificate

NOW = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    key = new_key()
    return Authority(certificate=new_authority(key, NOW), key=key)


def usages(certificate: bytes) -> set[x509.ObjectIdentifier]:
    read = x509.load_pem_x509_certificate(certificate)
    return set(read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_the_authority_signs_itself_and_nothing_below_a_certificate_of_its_own(authority: Authority) -> None:
    read = x509.load_pem_x509_certificate(authority.certificate)
    read.verify_directly_issued_by(read)
    limits = read.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert read.not_valid_after_utc - NOW == AUTHORITY_DAYS * DAY


def test_two_farms_have_two_fingerprints(authority: Authority) -> None:
    other = new_authority(new_key(), NOW)
    assert fingerprint(other) != fingerprint(authority.certificate)
    assert len(fingerprint(other)) == 64
    assert fingerprint(other) == x509.load_pem_x509_certificate(other).fingerprint(hashes.SHA256()).hex()


def test_the_coordinators_certificate_has_its_farms_name_and_those_that_people_use(authority: Authority) -> None:
    key = new_key()
    made = coordinator_certificate(authority, key, ["farm.studio", "192.168.1.10", "::1", COORDINATOR_NAME], NOW)
    x509.load_pem_x509_certificate(made).verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate)
    )
    assert names_in(made) == {COORDINATOR_NAME, "farm.studio", "192.168.1.10", "::1"}
    assert usages(made) == {ExtendedKeyUsageOID.SERVER_AUTH}
    assert belong_together(made, key)
    assert not belong_together(made, authority.key)


def test_a_nodes_certificate_is_bound_to_its_id_and_its_key(authority: Authority) -> None:
    key = new_key()
    made = node_certificate(authority, signing_request(key), "pc-1", NOW)
    assert names_in(made) == {"pc-1.node.sheepfold.internal"}
    assert usages(made) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert belong_together(made, key)
    read = x509.load_pem_x509_certificate(made)
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert read.not_valid_after_utc - NOW == NODE_DAYS * DAY


def test_what_a_request_says_of_itself_does_not_count(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wish = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COORDINATOR_NAME)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(COORDINATOR_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = node_certificate(authority, wish.public_bytes(serialization.Encoding.PEM), "pc-1", NOW)
    assert names_in(made) == {"pc-1.node.sheepfold.internal"}
    assert not x509.load_pem_x509_certificate(made).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("node_id", ["", "a.b", "coordinator.sheepfold.internal", "pc 1", "*", "x" * 65, "pc-1\n"])
def test_what_is_no_node_id_gets_no_certificate(authority: Authority, node_id: str) -> None:
    with pytest.raises(BadCertificate, match="no node id"):
        node_certificate(authority, signing_request(new_key()), node_id, NOW)


def test_a_request_must_be_signed_with_its_own_key_of_the_farms_kind() -> None:
    good = signing_request(new_key())
    assert requested_key(good).curve.name == "secp256r1"
    der = x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER)
    damaged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])).public_bytes(serialization.Encoding.PEM)
    other_kind = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ed25519.Ed25519PrivateKey.generate(), None)
        .public_bytes(serialization.Encoding.PEM)
    )
    for bad in (damaged, other_kind):
        with pytest.raises(BadCertificate, match="P-256 key of its own"):
            requested_key(bad)
    with pytest.raises(BadCertificate, match="no request"):
        requested_key(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")


def test_a_certificate_is_due_when_a_third_of_its_time_is_left(authority: Authority) -> None:
    made = coordinator_certificate(authority, new_key(), [], NOW)
    assert not is_due(made, NOW)
    assert not is_due(made, NOW + 0.6 * COORDINATOR_DAYS * DAY)
    assert is_due(made, NOW + 0.7 * COORDINATOR_DAYS * DAY)
    assert is_due(made, NOW + 2 * COORDINATOR_DAYS * DAY)


def test_a_pcs_clock_may_be_a_little_behind(authority: Authority) -> None:
    made = coordinator_certificate(authority, new_key(), [], NOW)
    assert x509.load_pem_x509_certificate(made).not_valid_before_utc < NOW - 0.9 * DAY


def test_what_is_no_certificate_or_no_key_is_told(authority: Authority) -> None:
    with pytest.raises(BadCertificate, match="no certificate"):
        fingerprint(b"certainly not")
    with pytest.raises(BadCertificate, match="no private key"):
        belong_together(authority.certificate, authority.certificate)
