"""Texts that must survive a restart and may not be read in the ledger: passwords of scenes, sessions, upload addresses.

They are encrypted with a key that lies beside the ledger (``<ledger>.key``, mode 0600, made at first use). A copy of
the ledger without its key, such as a backup, tells none of them: its sessions sign in again, and a frame whose secret
cannot be opened fails with that reason.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from sheepfold.atomic_files import write_atomically

log = logging.getLogger(__name__)


class Sealer:
    """Encrypts and decrypts short texts; authenticated, so that nothing altered is taken for one of ours."""

    def __init__(self, key: bytes | None = None) -> None:
        """``key`` as :meth:`from_file` keeps it; ``None``: one that is forgotten with the process."""
        self._fernet = Fernet(key or Fernet.generate_key())

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """With the key in ``path``, made where there is none.

        Raises ``OSError``; ``ValueError`` for a file that is no key.
        """
        if path.exists():
            return cls(path.read_bytes().strip())
        key = Fernet.generate_key()
        write_atomically(path, key)
        return cls(key)

    def seal(self, text: str) -> str:
        """The text as it may be stored."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str | None:
        """The text; ``None`` where it was sealed with another key or altered."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except (InvalidToken, ValueError):
            log.warning("a secret in the ledger was sealed with another key than the one beside it")
            return None
