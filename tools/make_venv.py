"""Make a virtual environment with pip inside, also where Debian's Python came without ``python3-venv``.

Standard library only: this is the first of our programs that a fresh clone runs. The ways, in order:

1. ``python -m venv``, where ensurepip is there;
2. the same after installing Debian's ``python3-venv``, asked to and as root;
3. ``virtualenv``, where it is on PATH;
4. an environment without pip, into which this Python's own pip installs one.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import debian

OLDEST = (3, 11)


class NoWay(Exception):
    """No virtual environment can be made here; the message names what to install."""


def make_venv(target: Path) -> None:
    """Make ``target`` an environment of this Python; an unfinished one that lies there is replaced."""
    if importlib.util.find_spec("ensurepip") is None and debian.may_install():
        try:
            debian.install(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
        except debian.AptFailed as error:
            print(error, file=sys.stderr)
        importlib.invalidate_caches()
    if importlib.util.find_spec("ensurepip") is not None:
        _run(sys.executable, "-m", "venv", "--clear", str(target))
    elif virtualenv := shutil.which("virtualenv"):
        _run(virtualenv, "--quiet", "--clear", "--python", sys.executable, str(target))
    elif importlib.util.find_spec("pip") is not None:
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(target))
        _run(sys.executable, "-m", "pip", "--python", str(python_of(target)), "install", "--quiet", "pip")
    else:
        raise NoWay(
            f"Python {sys.version.split()[0]} at {sys.executable} cannot make virtual environments: "
            "its ensurepip is missing. Install it (Debian and Ubuntu: apt-get install python3-venv) and try again."
        )


def python_of(environment: Path) -> Path:
    """Where the environment's interpreter is on this system."""
    windows = environment / "Scripts" / "python.exe"
    return windows if sys.platform == "win32" else environment / "bin" / "python"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def main(arguments: Sequence[str]) -> int:
    """``python -m tools.make_venv FOLDER`` makes it there."""
    if len(arguments) != 1:
        print("usage: python -m tools.make_venv FOLDER", file=sys.stderr)
        return 2
    if sys.version_info < OLDEST:
        print(f"sheepfold needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    try:
        make_venv(Path(arguments[0]))
    except (NoWay, subprocess.CalledProcessError, OSError) as error:
        print(f"make_venv: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
