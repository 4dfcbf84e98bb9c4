"""How many files and sockets this process may have open."""

from __future__ import annotations

import logging

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

log = logging.getLogger(__name__)

#: Each connection takes one, each file one more; a system without a hard limit would let a leak go on for ever.
WANTED_FILES = 65_536


def raise_file_limit() -> int:
    """Raises the soft limit as far as the system lets us; what it is now. Most systems begin with 1,024."""
    if resource is None:
        return WANTED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS has a lower limit than it says
            log.warning("the limit of open files stays at %d: %s", soft, error)
            return soft
        return wanted
    return soft
