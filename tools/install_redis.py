"""Debian's Redis for the tests, where it is missing and we may install it. The wheel's server is tested beside it.

Standard library only. Never fails: without Debian's, the tests take the one that came with pip.
"""

from __future__ import annotations

import shutil
import sys

from debian import AptFailed, install, may_install


def main() -> None:
    """Installs ``redis-server`` unless it is there."""
    if shutil.which("redis-server") or not may_install():
        return
    try:
        install("redis-server")
    except AptFailed as error:
        print(f"install_redis: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
