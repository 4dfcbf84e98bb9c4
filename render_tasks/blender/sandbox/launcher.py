"""Starts a renderer under Landlock and a filter of system calls, and sees that nothing of it is left.

A script with nothing but the standard library, so that it starts in a few milliseconds. Its one argument is what
:func:`render_tasks.blender.sandbox.landlock.instructions` made. It is two processes::

    launcher    outside of the sandbox: whatever the renderer lets loose becomes its child; ends all of it when the
                renderer or the worker ends, then ends as the renderer did
    renderer    limits, no capabilities, Landlock, the filter, and then the renderer's own program

Exit code 126: the sandbox could not be made, and standard error says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import struct
import sys
from typing import Any, NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_SET_PARENT_DEATH_SIGNAL, _SET_SECCOMP, _DROP_BOUNDING, _SET_NO_NEW_PRIVS, _SET_SUBREAPER = 1, 22, 24, 38, 36
_SECCOMP_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
#: Rights of Landlock that make sense for a file; the kernel refuses the others.
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_NOT_MADE = 126
#: Tasks of a user are counted to this many, and no further than a kernel can have.
_PRECISION, _MOST_TASKS = 16, 1 << 22
_OWN_PID = "own pid"


def main() -> NoReturn:
    """Runs the renderer; ends as it did."""
    told, worker, renderer = json.loads(sys.argv[1]), os.getppid(), 0

    def end(_number: int, _frame: object) -> NoReturn:
        _end(renderer)

    signal.signal(signal.SIGTERM, end)
    _prctl(_SET_SUBREAPER, 1)
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("1000")
    if os.getppid() != worker:
        sys.exit(_NOT_MADE)
    renderer = os.fork()
    if renderer == 0:
        _become(told)
    # The renderer's pipes are its own: what waits for their end must not wait for this process.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    status = 0
    while True:
        child, status = os.wait()
        if child == renderer:
            break
    _kill_children()
    _end_as(status)


def _become(told: dict[str, Any]) -> NoReturn:
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _limit(told)
        os.chdir(told["folder"])
        _drop_capabilities()
        _prctl(_SET_NO_NEW_PRIVS, 1)
        _restrict(told["attributes"], told["rules"])
        _filter(told["filter"])
        os.execve(told["argv"][0], told["argv"], told["environment"])  # noqa: S606
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        os.write(2, f"the renderer was not started in its sandbox: {error.strerror}{where}\n".encode())
    finally:
        os._exit(_NOT_MADE)


def _limit(told: dict[str, Any]) -> None:
    for name, value in told["limits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(number, (value, value))
    # Counted for the user, whose other programs run already.
    tasks = told["tasks"] + _tasks_as_counted(_tasks_of(os.getuid()))
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = tasks if hard == resource.RLIM_INFINITY else min(tasks, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _tasks_as_counted(seen: int) -> int:
    """How many tasks the kernel counts for this user, to within :data:`_PRECISION`; ``seen`` are in ``/proc``.

    It counts those of other containers, too, which nobody in this one can see. It tells by what it refuses.
    """
    if _may_fork(seen + _PRECISION):
        return seen
    refused, allowed = seen + _PRECISION, 2 * (seen + _PRECISION)
    while not _may_fork(allowed):
        refused, allowed = allowed, 2 * allowed
        if allowed >= _MOST_TASKS:
            return seen
    while allowed - refused > _PRECISION:
        middle = (refused + allowed) // 2
        refused, allowed = (refused, middle) if _may_fork(middle) else (middle, allowed)
    return allowed


def _may_fork(limit: int) -> bool:
    """Whether the kernel lets this user have one more process under this limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard != resource.RLIM_INFINITY and limit > hard:
        return True
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
    try:
        child = os.fork()
    except BlockingIOError:
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _tasks_of(uid: int) -> int:
    count = 0
    for name in os.listdir("/proc"):  # noqa: PTH208 (pathlib takes twice the time to start)
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if os.stat(f"/proc/{name}").st_uid == uid:  # noqa: PTH116
                    count += int(_stat_of(name)[17])
    return count


def _stat_of(pid: str) -> list[bytes]:
    """The fields of a process from its state on."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2].split()


def _drop_capabilities() -> None:
    number = 0
    while _libc.prctl(_DROP_BOUNDING, number, 0, 0, 0) == 0:
        number += 1
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    _checked(_libc.capset(header, ctypes.create_string_buffer(24)))


def _restrict(attributes: list[int], rules: list[tuple[str, int]]) -> None:
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, ctypes.create_string_buffer(packed), len(packed), 0))
    for path, rights in rules:
        _allow(ruleset, path, rights)
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # nothing there, nothing to allow
        return
    if not stat.S_ISDIR(os.fstat(opened).st_mode):
        rights &= _FILE_RIGHTS
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, opened))
    _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    os.close(opened)


def _filter(words: list[tuple[int, int, int, int | str]]) -> None:
    own = os.getpid()
    values = [own if value == _OWN_PID else value for *_, value in words]
    program = b"".join(
        struct.pack("=HBBI", code, yes, no, value) for (code, yes, no, _), value in zip(words, values, strict=True)
    )
    kept = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(words), ctypes.addressof(kept)))
    _checked(_libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, described, 0, 0))


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def _end(renderer: int) -> NoReturn:
    """The worker is gone, or wants us gone."""
    if renderer:
        with contextlib.suppress(OSError):
            os.kill(renderer, signal.SIGKILL)
    _kill_children()
    os._exit(128 + signal.SIGTERM)


def _kill_children() -> None:
    """Kills what is left below this process; children of the killed become ours and are killed in their turn."""
    while True:
        for pid in _children():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = str(os.getpid()).encode()
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = _stat_of(name)
                if fields[1] == own and fields[0] != b"Z":
                    found.append(int(name))
    return found


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
