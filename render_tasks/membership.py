"""What makes this PC one of a farm's: in ``membership`` below the work folder, each file for its owner alone.

::

    authority.pem    the farm's authority: nobody else is believed to be its coordinator
    key.pem          this PC's own key; it never leaves it
    certificate.pem  says which node this is
    coordinator      the address it joined at; written last, so that what is there is whole
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sheepfold.atomic_files import write_atomically
from sheepfold.tls.certificates import belong_together, fingerprint, new_key
from sheepfold.tls.contexts import TlsFiles
from sheepfold.tls.errors import BadCertificate

#: An address is never longer (characters).
_MAX_ADDRESS = 1000


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A farm, and what proves to it who this PC is."""

    coordinator_url: str
    files: TlsFiles

    @property
    def authority(self) -> bytes:
        """The farm authority's certificate, PEM. Raises OSError."""
        return self.files.authority.read_bytes()

    @property
    def fingerprint(self) -> str:
        """By which the farm is known. Raises OSError and BadCertificate."""
        return fingerprint(self.authority)


def membership_files(work_dir: Path) -> TlsFiles:
    """Where they are, whether or not they are there."""
    folder = work_dir / "membership"
    return TlsFiles(authority=folder / "authority.pem", certificate=folder / "certificate.pem", key=folder / "key.pem")


def kept_membership(work_dir: Path) -> Membership | None:
    """The farm that this work folder joined by invitation; ``None``: none, or what is kept is not whole."""
    files = membership_files(work_dir)
    with contextlib.suppress(OSError, UnicodeError, BadCertificate):
        url = (work_dir / "membership" / "coordinator").read_text("ascii")[:_MAX_ADDRESS].strip()
        if (
            url
            and belong_together(files.certificate.read_bytes(), files.key.read_bytes())
            and fingerprint(files.authority.read_bytes())
        ):
            return Membership(coordinator_url=url, files=files)
    return None


def own_key(work_dir: Path) -> bytes:
    """This PC's key, made at the first call: a second try to join has the same one. Raises OSError."""
    path = membership_files(work_dir).key
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_atomically(path, new_key())
    return path.read_bytes()


def keep_membership(work_dir: Path, url: str, authority: bytes, certificate: bytes) -> Membership:
    """Writes what was got for :func:`own_key`. Raises OSError."""
    files, address = membership_files(work_dir), work_dir / "membership" / "coordinator"
    address.unlink(missing_ok=True)
    write_atomically(files.authority, authority)
    write_atomically(files.certificate, certificate)
    write_atomically(address, url.encode("ascii"))
    return Membership(coordinator_url=url, files=files)
