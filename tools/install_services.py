"""What the tests and benchmarks use of Debian's, where it is missing and we were asked to install it.

Redis: the wheel's server is tested beside it. ``ip`` and ``tc``: hosts and cables of a LAN on one machine. ``7z``:
zips that another program locked. ``bwrap``: scenes are looked at in a sandbox. ``cc``: the clock of real
processes is set by a few lines of C. Chromium: what a page of another site makes a browser do. Standard library only.
Never fails: without Debian's Redis the tests take the one that came with pip, and who needs cables says that there are
none.
"""

from __future__ import annotations

import shutil
import sys

from tools.debian import AptFailed, install, may_install

#: Program → its package.
PACKAGES = {
    "redis-server": "redis-server",
    "tc": "iproute2",
    "7z": "p7zip-full",
    "bwrap": "bubblewrap",
    "cc": "build-essential",
    "chromium": "chromium",
}


def main() -> None:
    """Installs each that is not there, or says which they are."""
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if not missing:
        return
    if not may_install():
        print(f"install_services: not here, not installed: {' '.join(missing)}", file=sys.stderr)
        return
    try:
        install(*missing)
    except AptFailed as error:
        print(f"install_services: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
