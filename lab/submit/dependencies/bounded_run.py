"""Runs a program over a file that nobody vouches for: bounded in time and memory, with a home of its own.

Where ``bwrap`` (bubblewrap) is on PATH and works, the program also has no network, sees nothing of the user's home but
what it is given, and writes into its own folder alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Everything a program writes: its answer and what it says.
MAX_FILE_BYTES = 256 * 1024 * 1024
_LAST_BYTES = 4000
_SANDBOX_CHECK_S = 10
#: Where users keep what is theirs.
_PRIVATE = ("/home", "/root", "/tmp", "/var/tmp", "/run/user")  # noqa: S108
_OWN_FOLDERS = ("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME",
                "XDG_STATE_HOME", "BLENDER_USER_RESOURCES", "BLENDER_USER_CONFIG", "BLENDER_USER_SCRIPTS",
                "BLENDER_USER_DATAFILES", "BLENDER_USER_EXTENSIONS")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended that :func:`run_bounded` ran."""

    #: ``None``: it was killed because its time was up.
    code: int | None
    #: The end of what it said.
    said: str


def run_bounded(
    command: Sequence[str], folder: Path, *, reads: Sequence[Path], limit_s: float, memory_bytes: int
) -> Ended:
    """Run ``command`` and wait; ``folder`` (existing) is its home, ``reads`` the files and folders it may read besides.

    Raises ``OSError`` where it cannot be started.
    """
    with (folder / "said.txt").open("w+b") as output:
        process = subprocess.Popen(
            [*_sandbox(command[0], folder, reads), *command],
            env=_environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_limits(memory_bytes, limit_s),
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill_all(process)
        output.seek(0)
        return Ended(code=code, said=output.read()[-_LAST_BYTES:].decode("utf-8", "replace").strip())


def _environment(folder: Path) -> Mapping[str, str]:
    """Ours without the farm's settings, which hold passwords."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHEEPFOLD_")}
    return kept | dict.fromkeys(_OWN_FOLDERS, str(folder)) | {"XDG_RUNTIME_DIR": str(folder)}


def _limits(memory_bytes: int, limit_s: float) -> Callable[[], None] | None:
    if sys.platform == "win32":
        return None
    import resource

    wanted = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
        # On many cores at once; the clock on the wall ends it long before.
        resource.RLIMIT_CPU: int(limit_s) * (os.cpu_count() or 1) + 1,
    }

    def set_limits() -> None:
        for name, value in wanted.items():
            hard = resource.getrlimit(name)[1]
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(name, (soft, hard))

    return set_limits


def _sandbox(program: str, folder: Path, reads: Sequence[Path]) -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return []
    base = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    base += ["--dev", "/dev", "--proc", "/proc"]
    try:
        works = subprocess.run([*base, "true"], capture_output=True, timeout=_SANDBOX_CHECK_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if not works:  # many containers allow no namespaces
        return []
    hidden = _hidden_folders()
    for path in hidden:
        base += ["--tmpfs", str(path)]
    home = Path(program).resolve().parent  # a renderer consists of more than its binary
    for path in (Path(program), Path(program).resolve() if home in hidden else home, *reads):
        # What is not hidden is there already, and a link in its place cannot be mounted over.
        if any(path.is_relative_to(folder) for folder in hidden):
            base += ["--ro-bind", str(path), str(path)]
    return [*base, "--bind", str(folder), str(folder), "--chdir", str(folder), "--"]


def _hidden_folders() -> list[Path]:
    named = {Path.home(), *(Path(name) for name in _PRIVATE)}
    return sorted(path for path in named if path.is_dir() and path != Path("/"))


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """The program and whatever it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
