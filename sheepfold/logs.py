"""The log of every command: one line an event, to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

#: Time, level, the module that speaks, and what it says.
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO, *, quiet: Iterable[str] = ()) -> None:
    """From now on, in place of what was set up before; loggers named in ``quiet`` only warn."""
    logging.basicConfig(stream=sys.stderr, level=level, format=FORMAT, force=True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
