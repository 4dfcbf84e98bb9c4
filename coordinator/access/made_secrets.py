"""Secrets that nobody set: made once, and kept in the state folder where only its owner reads them."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from sheepfold.atomic_files import write_atomically
from sheepfold.config import read_secret_file

log = logging.getLogger(__name__)

_BYTES = 24


def kept_secret(file: Path, setting: str) -> str:
    """What is in ``file``, which is made where it is not there; ``setting`` is the variable that it stands for.

    Raises :class:`~sheepfold.errors.BadSecretFile`, and ``OSError`` where it cannot be written.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, f"{secrets.token_urlsafe(_BYTES)}\n".encode())
        log.info("%s is not set: one was made, it is in %s", setting, file)
    return read_secret_file(file, setting)
