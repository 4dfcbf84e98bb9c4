"""The farm's authority on disk, and the coordinator's own certificate.

In ``tls`` below the state folder, each file for its owner alone::

    ca.pem, ca-key.pem                    made once, at the first start; PCs believe nobody else
    coordinator.pem, coordinator-key.pem  signed by it; renewed when its time comes or this machine is reached otherwise

Whoever has ``ca-key.pem`` can be the coordinator to every PC of the farm.
"""

from __future__ import annotations

import datetime
import functools
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from coordinator.settings import CoordinatorSettings
from sheepfold.atomic_files import write_atomically
from sheepfold.tls.certificates import (
    COORDINATOR_NAME,
    Authority,
    belong_together,
    coordinator_certificate,
    fingerprint,
    is_due,
    names_in,
    new_authority,
    new_key,
    node_certificate,
)
from sheepfold.tls.contexts import TlsFiles, server_context, with_people_certificate
from sheepfold.tls.errors import BadCertificate

from .errors import AuthorityUnusable
from .own_names import own_names

log = logging.getLogger(__name__)

#: Seconds between two looks at how this machine is reached, and how old its certificate is.
LOOK_EVERY_S = 600.0


def now() -> datetime.datetime:
    """This machine's time with its zone, as certificates are dated."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, kw_only=True)
class StudioCertificate:
    """What browsers are shown instead of the farm's own; files in PEM."""

    certificate: Path
    key: Path


class FarmAuthority:
    """Signs for the farm. Thread-safe once it is open; a certificate is signed from any thread."""

    def __init__(
        self,
        folder: Path,
        names: Callable[[], Iterable[str]],
        *,
        studio: StudioCertificate | None = None,
        clock: Callable[[], datetime.datetime] = now,
    ) -> None:
        """``names``: host names and addresses that this machine is reached by."""
        self._studio = studio
        self._folder, self._names, self._clock = folder, names, clock
        self.files = TlsFiles(
            authority=folder / "ca.pem", certificate=folder / "coordinator.pem", key=folder / "coordinator-key.pem"
        )
        self._ca_key = folder / "ca-key.pem"
        self._authority: Authority
        self._context: ssl.SSLContext

    def open(self) -> None:
        """Reads what is kept, and makes what is missing. Raises AuthorityUnusable."""
        try:
            self._open()
        except OSError as error:
            raise AuthorityUnusable(
                f"SHEEPFOLD_STATE_DIR: {self._folder} cannot be used: {error.strerror or error}"
            ) from None
        if self._studio is not None:
            self._show_people(self._studio)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.files.authority.exists():
            key = new_key()
            write_atomically(self._ca_key, key)
            write_atomically(self.files.authority, new_authority(key, self._clock()))
        try:
            self._authority = Authority(certificate=self.files.authority.read_bytes(), key=self._ca_key.read_bytes())
            if not belong_together(self._authority.certificate, self._authority.key):
                raise BadCertificate("the key is another certificate's")
        except (BadCertificate, FileNotFoundError) as error:
            raise AuthorityUnusable(
                f"SHEEPFOLD_STATE_DIR: {self._ca_key} and {self.files.authority.name} are no authority ({error}): "
                f"restore both, or remove {self._folder} and invite every PC anew"
            ) from None
        self._renew_where_due()
        self._context = server_context(self.files)

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, by which PCs check all others; PEM."""
        return self._authority.certificate

    @property
    def fingerprint(self) -> str:
        """By which PCs know the farm: 64 hexadecimal digits."""
        return fingerprint(self._authority.certificate)

    def server_context(self) -> ssl.SSLContext:
        """For the coordinator's servers; a renewed certificate is shown without a restart."""
        return self._context

    def _show_people(self, studio: StudioCertificate) -> None:
        certificate, key = studio.certificate, studio.key
        try:
            with_people_certificate(self._context, certificate, key)
        except OSError as error:  # ssl.SSLError is one
            why = error.strerror or getattr(error, "reason", None) or str(error)
            raise AuthorityUnusable(
                f"SHEEPFOLD_TLS_CERT, SHEEPFOLD_TLS_KEY: {certificate} and {key} cannot be used: {why}"
            ) from None

    def sign_node(self, request: bytes, node_id: str) -> bytes:
        """A certificate for a node. Raises BadCertificate."""
        return node_certificate(self._authority, request, node_id, self._clock())

    def renew_once(self) -> float:
        """Another certificate where it is time for one; seconds until the next look."""
        if self._renew_where_due():
            self._context.load_cert_chain(self.files.certificate, self.files.key)
            log.info("the coordinator's certificate was renewed")
        return LOOK_EVERY_S

    def _renew_where_due(self) -> bool:
        names = frozenset((COORDINATOR_NAME, *self._names()))
        if self._is_good(names):
            return False
        key = self.files.key.read_bytes() if self.files.key.exists() else new_key()
        certificate = coordinator_certificate(self._authority, key, sorted(names), self._clock())
        write_atomically(self.files.key, key)
        write_atomically(self.files.certificate, certificate)
        return True

    def _is_good(self, names: frozenset[str]) -> bool:
        try:
            certificate, key = self.files.certificate.read_bytes(), self.files.key.read_bytes()
            return (
                names <= names_in(certificate)
                and not is_due(certificate, self._clock())
                and belong_together(certificate, key)
            )
        except (OSError, BadCertificate):
            return False


def farm_authority(settings: CoordinatorSettings) -> FarmAuthority:
    """The authority of these settings' state folder; nothing is read yet."""
    certificate, key = settings.tls_cert, settings.tls_key
    studio = StudioCertificate(certificate=certificate, key=key) if certificate and key else None
    own = functools.partial(own_names, settings.public_url)
    return FarmAuthority(settings.state_dir / "tls", own, studio=studio)
