"""Why a renderer gave no picture, told from what it left behind. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from .contract import FailureKind

#: A loader that finds no library ends at once; a 127 after that is the renderer's own.
LOADER_FAILS_WITHIN_S = 10
#: A renderer that was killed from outside while it held this share of the memory was killed for it.
MEMORY_SHARE = 0.6

_DISK = re.compile(r"No space left on device|ENOSPC|Disk quota exceeded|There is not enough space on the disk", re.I)
_MEMORY = re.compile(
    r"std::bad_alloc|Malloc returns null|Calloc returns null|out of (?:GPU |video |device )?memory|MemoryError|"
    r"Cannot allocate memory|CUDA_ERROR_OUT_OF_MEMORY",
    re.I,
)
_LIBRARIES = re.compile(r"error while loading shared libraries|cannot open shared object|Library not loaded")
_CRASHED = re.compile(r"Writing: .*\.crash\.txt|Segmentation fault|EXCEPTION_ACCESS_VIOLATION")
#: NTSTATUS codes of a process that crashed: access violation, stack overflow, broken heap, ...
_WINDOWS_CRASH = frozenset({0xC0000005, 0xC0000094, 0xC00000FD, 0xC0000374, 0xC0000409, 0x80000003})


@dataclass(frozen=True, kw_only=True)
class Remains:
    """A renderer that ended by itself without a picture."""

    #: As :attr:`subprocess.Popen.returncode` gives it: negative for a signal.
    exit_code: int
    ran_s: float
    log: str
    crash_file: bool
    #: Peak of the process tree, kB.
    memory_kb: int
    #: Of this PC, kB.
    ram_kb: int


def why(remains: Remains) -> tuple[FailureKind, str]:
    """The kind of failure and one line for a person."""
    died_of = _signal(remains.exit_code)
    if _DISK.search(remains.log):
        return FailureKind.DISK_FULL, "the disk filled up while rendering"
    if died_of == "SIGTERM" or (died_of == "SIGKILL" and remains.memory_kb < remains.ram_kb * MEMORY_SHARE):
        return FailureKind.RENDERER_CRASHED, f"the renderer was killed from outside ({died_of})"
    if died_of == "SIGKILL" or _MEMORY.search(remains.log):
        return FailureKind.OUT_OF_MEMORY, f"memory ran out, the renderer held {remains.memory_kb // 1024} MB"
    loader_failed = remains.exit_code == 127 and remains.ran_s < LOADER_FAILS_WITHIN_S
    if loader_failed or _LIBRARIES.search(remains.log):
        return FailureKind.MISSING_LIBRARIES, _library_line(remains.log)
    if died_of:
        return FailureKind.RENDERER_CRASHED, f"the renderer died of {died_of}"
    if remains.crash_file or _CRASHED.search(remains.log):
        return FailureKind.RENDERER_CRASHED, "the renderer left a crash report"
    return FailureKind.NO_OUTPUT, f"the renderer ended with exit code {remains.exit_code} and left no picture"


def _signal(exit_code: int) -> str:
    """The name of the signal it died of, empty where it did not; a shell between says 128 + the number."""
    if exit_code & 0xFFFFFFFF in _WINDOWS_CRASH:
        return f"exception {exit_code & 0xFFFFFFFF:#010x}"
    number = -exit_code if exit_code < 0 else exit_code - 128 if 128 < exit_code < 160 else 0
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if exit_code < 0 else ""


def _library_line(log: str) -> str:
    for line in log.splitlines():
        if _LIBRARIES.search(line):
            return line.strip()[:300]
    return "the renderer could not be loaded (exit code 127)"
