"""The command line of ``bwrap`` for a view. Pure.

Nothing of the host is in the new root but what stands here; it is read only but for the renderer's folder and two
file systems in memory, each of a size. Names inside are those outside, so a command line means the same in both.

The environment is passed as arguments: what the renderer's archive puts into ``LD_LIBRARY_PATH`` must not be found by
``bwrap`` itself. None of it is secret.
"""

from __future__ import annotations

from collections.abc import Mapping

from .facts import HostFacts
from .levels import RenderLimits
from .view import View

#: All namespaces and none below them; ends with its worker; no terminal, no capabilities, no environment.
ISOLATION = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--clearenv",
)  # fmt: skip
HOST_NAME = "renderer"


def bubblewrap(
    host: HostFacts, view: View, environment: Mapping[str, str], limits: RenderLimits, *, filter_descriptor: int
) -> list[str]:
    """What stands before a renderer's own command line.

    ``filter_descriptor`` is open for reading: the filter of system calls as the kernel takes it.
    """
    size = str(limits.shared_memory_bytes)
    words = [host.bwrap, *ISOLATION, "--hostname", HOST_NAME, "--seccomp", str(filter_descriptor)]
    for name, value in sorted(environment.items()):
        words += ["--setenv", name, value]
    for path, target in host.links:
        words += ["--symlink", target, path]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108
    # Before what is given below: a work folder may lie in /tmp.
    words += ["--size", size, "--tmpfs", "/tmp"]  # noqa: S108
    for path in view.reads:
        words += ["--ro-bind", str(path), str(path)]
    for device in view.devices:
        words += ["--dev-bind", device, device]
    home = str(view.home)
    return [*words, "--bind", home, home, "--remount-ro", "/", "--chdir", home, "--", *_limited(host, limits)]


def _limited(host: HostFacts, limits: RenderLimits) -> list[str]:
    """Set inside, where only the renderer's own processes count."""
    if not host.prlimit:
        return []
    files = min(limits.open_files, host.open_files)
    return [host.prlimit, "--core=0", f"--fsize={limits.disk_bytes}", f"--nofile={files}", f"--nproc={limits.tasks}"]
