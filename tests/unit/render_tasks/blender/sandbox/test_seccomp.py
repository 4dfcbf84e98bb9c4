"""The filter of system calls, run by an interpreter of the few instructions it uses."""

from __future__ import annotations

import errno
import struct

import pytest

from render_tasks.blender.sandbox.seccomp import (
    AUDIT_ARCH,
    OWN_PID,
    Instruction,
    number,
    packed,
    program,
    refusals,
)

PID = 4711
ALLOWED, KILLED = "allowed", "killed"
MACHINES = tuple(AUDIT_ARCH)


def verdict(words: list[Instruction], call: int, *arguments: int, arch: int) -> str:
    """What the kernel would do: allow, kill, or the name of the error."""
    fields = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", call, arch, 0, *(value & (1 << 64) - 1 for value in fields))
    at = accumulator = 0
    while True:
        code, yes, no, given = words[at]
        value = PID if given == OWN_PID else int(given)
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}.get(value) or (
                errno.errorcode[value & 0xFFFF] if value & 0xFFFF else "feigned"
            )
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += yes if holds else no


def ask(call: str, *arguments: int, landlock: int | None = None, machine: str = "x86_64") -> str:
    found = number(call, machine)
    assert found is not None
    return verdict(program(refusals(landlock), machine), found, *arguments, arch=AUDIT_ARCH[machine])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "call", ["ptrace", "process_vm_readv", "bpf", "mount", "unshare", "setns", "keyctl", "userfaultfd", "reboot"]
)
def test_what_no_renderer_needs_is_refused(call: str, machine: str) -> None:
    assert ask(call, machine=machine) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("arch", "call"), [(0, 0), (1, 2), (1, 3), (39, 172), (231, 94)])
def test_ordinary_calls_pass(machine: str, arch: int, call: int) -> None:
    numbers = {"x86_64": arch, "aarch64": call}
    for landlock in (None, 1, 7):
        words = program(refusals(landlock), machine)
        assert verdict(words, numbers[machine], arch=AUDIT_ARCH[machine]) == ALLOWED


def test_another_machines_numbers_end_the_process() -> None:
    words = program(refusals(None), "x86_64")
    assert verdict(words, 0, arch=AUDIT_ARCH["aarch64"]) == KILLED
    assert verdict(words, 0x40000000 | 101, arch=AUDIT_ARCH["x86_64"]) == "ENOSYS"


def test_there_are_no_sockets_but_pairs_that_lead_nowhere() -> None:
    for family in (1, 2, 10, 16, 17, 40):
        assert ask("socket", family, 1) == "EACCES"
    assert ask("socketpair", 1, 1) == ALLOWED
    assert ask("socketpair", 1, 1 | 0o2000000) == ALLOWED
    assert ask("socketpair", 1, 2) == "EACCES"
    assert ask("socketpair", 1, 2 | 0o2000000) == "EACCES"


def test_threads_may_be_made_and_namespaces_may_not() -> None:
    threads = 0x3D0F00
    assert ask("clone", threads) == ALLOWED
    assert ask("clone", threads | 0x10000000) == "EPERM"
    assert ask("clone", 0x00020000) == "EPERM"
    assert ask("clone3") == "ENOSYS"


def test_nobody_types_into_the_terminal() -> None:
    assert ask("ioctl", 0, 0x5412) == "EPERM"
    assert ask("ioctl", 0, 0x5401) == ALLOWED


def test_modes_of_files_are_not_changed_under_landlock_which_does_not_see_it() -> None:
    assert ask("chmod") == ask("fchmodat2") == ask("utimensat") == ALLOWED
    assert ask("chmod", landlock=7) == ask("fchmodat2", landlock=7) == ask("utimensat", landlock=7) == "feigned"
    assert ask("chown", landlock=7) == ask("setxattr", landlock=7) == ask("shmget", landlock=7) == "EPERM"


def test_limits_and_priorities_of_others_are_not_changed() -> None:
    assert ask("prlimit64", 0, landlock=7) == ask("prlimit64", PID, landlock=7) == ALLOWED
    assert ask("prlimit64", 1234, landlock=7) == "EPERM"
    assert ask("setpriority", 0, 0, landlock=7) == ALLOWED
    assert ask("setpriority", 0, 1234, landlock=7) == "EPERM"


@pytest.mark.parametrize("target", [0, PID])
def test_where_landlock_knows_no_scopes_a_process_signals_only_itself(target: int) -> None:
    assert ask("kill", target, landlock=5) == ALLOWED
    for other in (1234, 1, -1, -1234):
        assert ask("kill", other, landlock=5) == "EPERM"
        assert ask("kill", other, landlock=6) == ALLOWED
    assert ask("tgkill", PID, landlock=5) == ALLOWED
    assert ask("tgkill", 1234, landlock=5) == ask("tkill", 1234, landlock=5) == "EPERM"
    assert ask("fcntl", 3, 8, landlock=5) == "EPERM"
    assert ask("fcntl", 3, 1, landlock=5) == ALLOWED


def test_files_are_not_cut_where_landlock_does_not_see_it() -> None:
    assert ask("truncate", landlock=2) == "EPERM"
    assert ask("truncate", landlock=3) == ALLOWED


def test_the_filter_is_packed_as_the_kernel_reads_it() -> None:
    words = program(refusals(None), "x86_64")
    assert len(packed(words)) == 8 * len(words)
    assert packed(words)[:8] == struct.pack("=HBBI", 0x20, 0, 0, 4)
    assert len(words) < 4096
