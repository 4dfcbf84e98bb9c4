"""The command line of bwrap."""

from __future__ import annotations

from pathlib import Path

from render_tasks.blender.sandbox.bubblewrap import bubblewrap
from render_tasks.blender.sandbox.facts import HostFacts
from render_tasks.blender.sandbox.levels import RenderLimits
from render_tasks.blender.sandbox.view import View

HOST = HostFacts(
    system="linux",
    machine="x86_64",
    uid=1000,
    bwrap="/usr/bin/bwrap",
    prlimit="/usr/bin/prlimit",
    links=(("/lib", "usr/lib"),),
    cpus=4,
    open_files=4096,
)
VIEW = View(home=Path("/tmp/w/home"), reads=(Path("/usr"), Path("/tmp/w/scene")), devices=("/dev/nvidia0",))
LIMITS = RenderLimits(disk_bytes=7, shared_memory_bytes=5)


def command_line(host: HostFacts = HOST, view: View = VIEW) -> list[str]:
    return bubblewrap(host, view, {"HOME": "/tmp/w/home"}, LIMITS, filter_descriptor=9)


def index_of(line: list[str], *part: str) -> int:
    """Where these words stand one after the other."""
    return next(at for at in range(len(line)) if line[at : at + len(part)] == list(part))


def test_nothing_is_shared_with_the_pc() -> None:
    line = command_line()
    for option in ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"):
        assert option in line
    index_of(line, "--cap-drop", "ALL")
    index_of(line, "--seccomp", "9")
    assert "--share-net" not in line


def test_the_environment_is_the_renderers_alone() -> None:
    line = command_line()
    assert line.index("--clearenv") < index_of(line, "--setenv", "HOME", "/tmp/w/home")
    assert line.count("--setenv") == 1


def test_only_the_home_may_be_written() -> None:
    line = command_line()
    assert [line[at + 1] for at, word in enumerate(line) if word == "--bind"] == ["/tmp/w/home"]
    index_of(line, "--ro-bind", "/tmp/w/scene", "/tmp/w/scene")
    index_of(line, "--remount-ro", "/")


def test_what_lies_in_tmp_is_mounted_over_the_empty_one() -> None:
    line = command_line()
    empty = index_of(line, "--size", "5", "--tmpfs", "/tmp")
    assert empty < index_of(line, "--ro-bind", "/tmp/w/scene") < index_of(line, "--bind", "/tmp/w/home")
    index_of(line, "--size", "5", "--tmpfs", "/dev/shm")


def test_devices_and_links_are_there_by_their_names() -> None:
    line = command_line()
    index_of(line, "--dev-bind", "/dev/nvidia0", "/dev/nvidia0")
    index_of(line, "--symlink", "usr/lib", "/lib")


def test_limits_are_set_inside_where_other_programs_do_not_count() -> None:
    line = command_line()
    inside = line[line.index("--") + 1 :]
    assert inside == ["/usr/bin/prlimit", "--core=0", "--fsize=7", "--nofile=4096", "--nproc=96"]
