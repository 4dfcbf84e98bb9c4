"""Certificates of the farm's own authority. Pure: keys and certificates are PEM text in bytes, the time is given.

The coordinator is one authority, and signs two kinds::

    farm authority ──▶ coordinator   named COORDINATOR_NAME, beside the names and addresses that people use
                   └─▶ node          named <node id>.node.sheepfold.internal; for both ends of a connection

A node is believed to be the coordinator by nobody: whoever calls the coordinator asks for its name, not for the address
that was called. So addresses may change as they like.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import BadCertificate

#: What every coordinator is called towards its own farm; the domain is reserved for private use.
COORDINATOR_NAME = "coordinator.sheepfold.internal"
NODE_DOMAIN = "node.sheepfold.internal"
#: How long they are valid, in days: the authority outlives the PCs, the coordinator's is renewed by itself.
AUTHORITY_DAYS, COORDINATOR_DAYS, NODE_DAYS = 3650, 90, 730
#: Renewed when less than this part of it is left.
RENEWED_BELOW = 1 / 3
#: A PC's clock may be behind ours (days).
CLOCK_DAYS = 1
_NODE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}", re.ASCII)
_ORGANISATION = "sheepfold"


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Signs certificates; ``key`` never leaves the coordinator's machine."""

    certificate: bytes
    key: bytes


def new_key() -> bytes:
    """A private key (P-256), unencrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_authority(key: bytes, now: datetime.datetime) -> bytes:
    """The certificate of a farm's authority, signed by itself."""
    private, name = _private(key), _named("farm authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _valid(x509.CertificateBuilder().subject_name(name).issuer_name(name), now, AUTHORITY_DAYS)
        .public_key(private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    return _pem(builder.sign(private, hashes.SHA256()))


def coordinator_certificate(authority: Authority, key: bytes, names: Iterable[str], now: datetime.datetime) -> bytes:
    """For the coordinator's servers. ``names``: host names and addresses beside :data:`COORDINATOR_NAME`."""
    public = _private(key).public_key()
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    alternatives = [COORDINATOR_NAME, *(name for name in dict.fromkeys(names) if name != COORDINATOR_NAME)]
    return _signed(authority, public, COORDINATOR_NAME, alternatives, usages, now, COORDINATOR_DAYS)


def node_certificate(authority: Authority, request: bytes, node_id: str, now: datetime.datetime) -> bytes:
    """For a node, of whose request nothing counts but the key. Raises BadCertificate."""
    if not _NODE_ID.fullmatch(node_id):
        raise BadCertificate("this is no node id")
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    public = requested_key(request)
    return _signed(authority, public, node_id, [f"{node_id}.{NODE_DOMAIN}"], usages, now, NODE_DAYS)


def signing_request(key: bytes) -> bytes:
    """Asks for a certificate of this key; who it is for the authority decides."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_named("node"))
    return builder.sign(_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request is signed with. Raises BadCertificate."""
    try:
        read = x509.load_pem_x509_csr(request)
        is_signed, public = read.is_signature_valid, read.public_key()
    except (ValueError, TypeError, InvalidSignature):
        raise BadCertificate("this is no request for a certificate") from None
    if not is_signed or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise BadCertificate("the request is not signed with a P-256 key of its own")
    return public


def request_key_sum(request: bytes) -> bytes:
    """Tells a request's key from every other one (SHA-256). Raises BadCertificate."""
    public = requested_key(request).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).digest()


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate, 64 hexadecimal digits. Raises BadCertificate."""
    return _read(certificate).fingerprint(hashes.SHA256()).hex()


def names_in(certificate: bytes) -> frozenset[str]:
    """Host names and addresses that it is for. Raises BadCertificate."""
    try:
        kinds = _read(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in kinds.get_values_for_type(x509.IPAddress))
    return frozenset((*kinds.get_values_for_type(x509.DNSName), *addresses))


def is_due(certificate: bytes, now: datetime.datetime) -> bool:
    """Whether it is time for another one. Raises BadCertificate."""
    read = _read(certificate)
    begins, ends = read.not_valid_before_utc, read.not_valid_after_utc
    return (ends - now) < (ends - begins) * RENEWED_BELOW


def is_due_now(certificate: bytes) -> bool:
    """The same, by this machine's clock."""
    return is_due(certificate, datetime.datetime.now(datetime.UTC))


def belong_together(certificate: bytes, key: bytes) -> bool:
    """Whether a certificate is this private key's. Raises BadCertificate."""
    return _read(certificate).public_key() == _private(key).public_key()


def _signed(
    authority: Authority,
    public: ec.EllipticCurvePublicKey,
    name: str,
    alternatives: list[str],
    usages: list[x509.ObjectIdentifier],
    now: datetime.datetime,
    days: int,
) -> bytes:
    issuer, signer = _read(authority.certificate), _private(authority.key)
    builder = (
        _valid(x509.CertificateBuilder().subject_name(_named(name)).issuer_name(issuer.subject), now, days)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(other) for other in alternatives]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _pem(builder.sign(signer, hashes.SHA256()))


def _valid(builder: x509.CertificateBuilder, now: datetime.datetime, days: int) -> x509.CertificateBuilder:
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=CLOCK_DAYS))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ])  # fmt: skip


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise BadCertificate("this is no private key in PEM, or it is locked") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise BadCertificate("this private key is not of the kind that the farm uses")
    return private


def _read(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise BadCertificate("this is no certificate in PEM") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
