"""Find a Blender or install one; print its path. Standard library only.

The ways, in order; the first that gives a Blender which starts wins:

``named``   ``$SHEEPFOLD_BLENDER``: a wrong one is an error, not a reason to look further
``path``    ``blender`` on PATH
``kept``    the bpy wheel that an earlier run put into ``.blender/`` (nothing is fetched)
``apt``     Debian's package, asked to and as root (``tools.debian``)
``wheel``   the bpy wheel that fits this Python, in ``.blender/`` behind a launcher that takes Blender's arguments

The path goes to standard output, everything else to standard error. Exit code 1: there is no Blender, and standard
error says what to install.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools import debian

PROJECT = Path(__file__).resolve().parent.parent
#: Where the wheel lives; git ignores it.
WHEEL_HOME = PROJECT / ".blender"
LAUNCHER = PROJECT / "tools" / "bpy_launcher.py"
#: The wheel for each Python; no other wheel can be imported there.
WHEEL_FOR_PYTHON: Mapping[tuple[int, int], str] = {(3, 11): "bpy==4.5.*", (3, 13): "bpy>=5.1,<6"}
#: Shared libraries the wheel links to and a Debian without a desktop lacks.
WHEEL_LIBRARIES = (
    "libegl1", "libgl1", "libgomp1", "libice6", "libsm6", "libx11-6", "libxfixes3", "libxi6", "libxkbcommon0",
    "libxrender1", "libxxf86vm1",
)  # fmt: skip
#: Blender says its version within a second; a cold disk may need longer.
VERSION_TIMEOUT_S = 120


class NoBlender(Exception):
    """This way gives no Blender; the message says why and, where that helps, what to install."""


def named(environment: Mapping[str, str] = os.environ) -> str | None:
    """``$SHEEPFOLD_BLENDER``, or ``None`` where it is not set."""
    wanted = environment.get("SHEEPFOLD_BLENDER")
    if not wanted:
        return None
    found = shutil.which(wanted, path=environment.get("PATH"))
    if found is None:
        raise NoBlender(f"SHEEPFOLD_BLENDER names {wanted}, which is no program")
    return str(checked(Path(found).absolute()))


def on_path(environment: Mapping[str, str] = os.environ) -> str | None:
    """``blender`` on PATH; ``None`` where there is none, :class:`NoBlender` where it does not start."""
    found = shutil.which("blender", path=environment.get("PATH"))
    return None if found is None else str(checked(Path(found).absolute()))


def kept_wheel() -> str | None:
    """The launcher of a wheel that is installed already."""
    launcher = WHEEL_HOME / "blender"
    return str(checked(launcher)) if launcher.exists() else None


def from_debian() -> str | None:
    """Installs Debian's package; ``None`` where this process cannot install any."""
    if not debian.may_install():
        return None
    try:
        debian.install("blender")
    except debian.AptFailed as error:
        raise NoBlender(str(error)) from error
    return on_path()


def from_wheel() -> str:
    """The bpy wheel, in an environment of its own below ``.blender/``."""
    wheel = WHEEL_FOR_PYTHON.get(sys.version_info[:2])
    if wheel is None:
        versions = " and ".join(f"{major}.{minor}" for major, minor in WHEEL_FOR_PYTHON)
        raise NoBlender(f"there is no bpy wheel for Python {sys.version.split()[0]} (there are for {versions})")
    environment = WHEEL_HOME / "venv"
    python = environment / "bin" / "python"
    say(f"pip install {wheel} into {environment}: 350 MB to fetch, 900 MB on disk")
    try:
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment))
        _run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input", wheel)
        libraries_for(python)
    except subprocess.CalledProcessError as error:
        raise NoBlender(f"{wheel} could not be installed: {shlex.join(error.cmd)} failed") from error
    return str(checked(write_launcher(python)))


def libraries_for(python: Path) -> None:
    """Make sure that this Python can import bpy; asked to and as root, Debian's libraries are installed for it."""
    missing = import_failure(python)
    if missing and debian.may_install():
        try:
            debian.install(*WHEEL_LIBRARIES)
        except debian.AptFailed as error:
            say(str(error))
        missing = import_failure(python)
    if missing:
        raise NoBlender(
            f"bpy is installed but cannot be imported: {missing}\n"
            f"Install the libraries it needs (Debian and Ubuntu: apt-get install {' '.join(WHEEL_LIBRARIES)})."
        )


def import_failure(python: Path) -> str:
    """Why ``import bpy`` fails, in one line; empty when it does not."""
    done = subprocess.run(
        [python, "-I", "-c", "import bpy, os; os._exit(0)"],  # an ordinary exit may wait for ever
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def write_launcher(python: Path) -> Path:
    """An executable that takes Blender's arguments and runs them with bpy; it may be linked to from elsewhere."""
    launcher = WHEEL_HOME / "blender"
    command = shlex.join([str(python), "-I", str(LAUNCHER)])
    launcher.write_text(f'#!/bin/sh\n# Made by tools/find_blender.py.\nexec {command} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return launcher


def checked(blender: Path) -> Path:
    """The same path, once that Blender has told its version; raises :class:`NoBlender`."""
    try:
        done = subprocess.run(
            [blender, "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=VERSION_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBlender(f"{blender} does not start: {error}") from error
    said = (done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
    if done.returncode or not said.startswith("Blender"):
        raise NoBlender(f"{blender} does not start: {(done.stderr.strip() or said).splitlines()[-1]}")
    say(f"{said}: {blender}")
    return blender


WAYS: Mapping[str, Callable[[], str | None]] = {
    "named": named,
    "path": on_path,
    "kept": kept_wheel,
    "apt": from_debian,
    "wheel": from_wheel,
}


def find(ways: Mapping[str, Callable[[], str | None]] = WAYS) -> str:
    """The path of a Blender; raises :class:`NoBlender` with every way's reason."""
    reasons: list[str] = []
    for name, way in ways.items():
        try:
            found = way()
        except NoBlender as error:
            if name == "named":
                raise
            reasons.append(str(error))
            say(f"{error}")
        else:
            if found is not None:
                return found
    raise NoBlender(
        "No Blender was found and none could be installed. Install one (Debian and Ubuntu: apt-get install blender) "
        "or set SHEEPFOLD_BLENDER to the path of one." + "".join(f"\n- {reason}" for reason in reasons)
    )


def say(line: str) -> None:
    """Progress on standard error: standard output is the answer."""
    print(f"find_blender: {line}", file=sys.stderr)


def _run(*command: str) -> None:
    # Standard output is for the path alone.
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """``python -m tools.find_blender [--only WAY]`` prints the path."""
    parser = argparse.ArgumentParser(description="Find a Blender or install one; print its path.")
    parser.add_argument("--only", choices=tuple(WAYS), action="append", help="try this way alone (may be repeated)")
    only = parser.parse_args(arguments).only
    try:
        print(find({name: way for name, way in WAYS.items() if not only or name in only}))
    except NoBlender as error:
        print(f"find_blender: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
