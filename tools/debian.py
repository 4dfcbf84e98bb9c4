"""Debian packages, where we may install them: asked to, as root, where apt-get is. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

#: The Makefile sets it for `make lab` and `make test`, which README.md says; for the rest a person does.
ASKED = "INSTALL_DEBIAN_PACKAGES"
#: A large package on a slow line; apt gives up on a dead mirror by itself, much earlier.
APT_TIMEOUT_S = 1800


class AptFailed(Exception):
    """apt-get could not install the packages; holds what it said last."""


def may_install() -> bool:
    """Whether this process was asked to install Debian packages, and can."""
    return (
        os.environ.get(ASKED) == "1"
        and hasattr(os, "geteuid")
        and os.geteuid() == 0
        and shutil.which("apt-get") is not None
    )


def install(*packages: str) -> None:
    """Install the packages without recommendations and without questions.

    The package lists are fetched only when the first try fails: on most machines they are there. Raises
    :class:`AptFailed`.
    """
    print(f"apt-get install {' '.join(packages)}", file=sys.stderr)
    try:
        _apt_get("install", "--no-install-recommends", *packages)
    except AptFailed:
        _apt_get("update")
        _apt_get("install", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> None:
    # Without a timeout for the lock, a machine that updates itself just now would make us fail at once.
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    # Without a runlevel a package starts no service of its own.
    environment["RUNLEVEL"] = "1"
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AptFailed(f"{' '.join(command)} took more than {APT_TIMEOUT_S} s") from error
    if done.returncode:
        raise AptFailed(f"{' '.join(command)} failed:\n" + "\n".join(done.stdout.splitlines()[-8:]))
