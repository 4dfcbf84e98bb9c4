"""How each side of a TLS connection is set up, and who the other side proved to be."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .certificates import COORDINATOR_NAME, NODE_DOMAIN


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Files of one side, in PEM."""

    #: The farm's authority: whoever it signed is believed.
    authority: Path
    certificate: Path
    key: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a server of the farm: a client may show its node's certificate, and needs none. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(authority: bytes, own: TlsFiles | None = None, *, any_member: bool = False) -> ssl.SSLContext:
    """For a client that believes the farm's authority (PEM) alone. Raises OSError.

    ``any_member``: whatever it signed will do, a node as well; else the name that is asked for is compared.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    context.check_hostname = not any_member
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def unverified_context() -> ssl.SSLContext:
    """For a connection over which nothing is told: what comes back is compared with what is known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def with_people_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Shows the studio's own certificate to whoever does not ask for the farm's name. Raises OSError.

    The farm's own clients ask for :data:`COORDINATOR_NAME` and go on to see the farm's.
    """
    studio = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    studio.minimum_version = ssl.TLSVersion.TLSv1_2
    studio.load_cert_chain(certificate, key)

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name != COORDINATOR_NAME:
            connection.context = studio

    context.sni_callback = choose


def node_in(certificate: Mapping[str, Any] | None) -> str:
    """The node whose certificate was shown and verified, as ``getpeercert`` gives it; empty: none."""
    alternatives = cast("tuple[tuple[str, str], ...]", (certificate or {}).get("subjectAltName", ()))
    ending = f".{NODE_DOMAIN}"
    return next(
        (name.removesuffix(ending) for kind, name in alternatives if kind == "DNS" and name.endswith(ending)), ""
    )
