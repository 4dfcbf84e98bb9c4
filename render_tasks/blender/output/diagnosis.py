"""Why a renderer gave no picture, told from what it left behind. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from render_tasks.blender.startup_script import SCENE_MARK
from sheepfold.contract.api_messages import FailureKind

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
#: What Blender says of a scene that it will not render, from 2.7x to 5.x; nothing of it depends on the PC.
_SCENE_SAYS = (
    (FailureKind.NO_CAMERA, re.compile(r"\bno camera\b|Camera .* is not a multi-view camera", re.I)),
    # A Blender that was built without the denoiser renders nothing of a scene that wants it.
    (FailureKind.NO_ENGINE, re.compile(r"engine not found '|Build without OpenImageDenoise")),
    (
        FailureKind.SCENE_UNREADABLE,
        re.compile(r"not a blend file|Failed to read blend file|newer version of Blender|Missing DNA block"),
    ),
    (
        FailureKind.NOTHING_TO_RENDER,
        re.compile(
            r"All (?:render|view) layers are disabled|No node tree in scene|No render output node in scene|"
            r"No border area selected"
        ),
    ),
)
_NO_ENGINE = re.compile(r"^Error: (Engine '.*' not available for scene '(.*)') \(", re.M)
_ERROR = re.compile(r"^[ \t]*(?:RuntimeError: )?Error: (.+)$", re.M)
_MARKED = re.compile(r"^(?:RuntimeError: )?Error: ")
#: The last line of a traceback, as Blender prints one after ``Error: Python:``.
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)(?:: .*)?$", re.M)
_FOLDERS = re.compile(r"'[^'\n]*[/\\]([^'/\\\n]+)'")
_BANNER = re.compile(r"^Blender (\d+\.\d+(?:\.\d+)?)", re.M)
MAX_REASON = 300
#: What a shell says of a program that it cannot start.
_NOT_STARTED = (126, 127)
#: NTSTATUS codes of a process that crashed: access violation, stack overflow, broken heap, ...
_WINDOWS_CRASH = frozenset({0xC0000005, 0xC0000094, 0xC00000FD, 0xC0000374, 0xC0000409, 0x80000003})


@dataclass(frozen=True, kw_only=True)
class ExitEvidence:
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
    #: The renderer archive starts the PC's own Blender.
    is_launcher: bool = False
    #: The log begins where the renderer did.
    is_whole_log: bool = False


def diagnose(evidence: ExitEvidence) -> tuple[FailureKind, str]:
    """The kind of failure and one line for a person: Blender's own last ``Error:`` where it gave one."""
    log = evidence.log
    died_of = _signal(evidence.exit_code)
    said = blender_error(log)
    if _DISK.search(log):
        return FailureKind.DISK_FULL, "the disk filled up while rendering"
    if died_of == "SIGTERM" or (died_of == "SIGKILL" and evidence.memory_kb < evidence.ram_kb * MEMORY_SHARE):
        return FailureKind.RENDERER_CRASHED, f"the renderer was killed from outside ({died_of})"
    if died_of == "SIGKILL" or _MEMORY.search(log):
        return FailureKind.OUT_OF_MEMORY, f"memory ran out, the renderer held {evidence.memory_kb // 1024} MB"
    if _LIBRARIES.search(log):
        return FailureKind.MISSING_LIBRARIES, _library_line(log)
    if no_blender := _no_blender(evidence):
        return FailureKind.NO_BLENDER, no_blender
    if evidence.exit_code == 127 and evidence.ran_s < LOADER_FAILS_WITHIN_S:
        return FailureKind.MISSING_LIBRARIES, _library_line(log)
    if died_of:
        return FailureKind.RENDERER_CRASHED, _and_blender_says(f"the renderer died of {died_of}", said)
    if evidence.crash_file or _CRASHED.search(log):
        return FailureKind.RENDERER_CRASHED, _and_blender_says("the renderer left a crash report", said)
    if fault := scene_fault(said, log):
        return fault
    return FailureKind.NO_OUTPUT, ended_without_picture(evidence)


def ended_without_picture(evidence: ExitEvidence) -> str:
    """What is known of a renderer that ended for no reason that its log names."""
    said = blender_error(evidence.log)
    ended = f"the renderer ended with exit code {evidence.exit_code} and left no picture"
    return f"{said} ({ended})" if said else ended


def scene_fault(said: str, log: str = "") -> tuple[FailureKind, str] | None:
    """What is wrong with the scene on every PC, by Blender's last error; ``None`` where that says nothing of it.

    ``log`` tells which Blender it was.
    """
    kind = next((kind for kind, says in _SCENE_SAYS if says.search(said)), None)
    if kind is None:
        return None
    version = _BANNER.search(log)
    if kind is FailureKind.SCENE_UNREADABLE and version:
        return kind, f"{said} (this is Blender {version[1]}: a newer one may read it)"
    return kind, said


def missing_engine(log: str, script: str) -> str:
    """Blender's line about an engine that it replaced by another one; empty where it rendered with the scene's own.

    Blender goes on with another engine, and the picture is not the scene's. A server's ``script`` may choose an engine
    of its own. Only the scene that was rendered counts.
    """
    if "render.engine" in script:
        return ""
    rendered = log.partition(SCENE_MARK)[2].partition("\n")[0].rstrip("\r")
    return next((found[1] for found in _NO_ENGINE.finditer(log) if found[2] == rendered), "")


def blender_error(log: str) -> str:
    """The last line that Blender marks as an error, without the folders of this PC; empty where there is none."""
    found = [*_ERROR.finditer(log)]
    if not found:
        return ""
    said = found[-1][1].strip()
    if said.startswith("Python: Traceback"):
        raised = _RAISED.search(log, found[-1].end())
        said = raised[0] if raised else "an error in Python"
    return one_line(said)


def one_line(text: str) -> str:
    """A reason as people and servers get it: no ``Error:``, no folders of this PC, of bounded length."""
    plain = _MARKED.sub("", " ".join(text.split()))
    return _FOLDERS.sub(r"'\1'", plain)[:MAX_REASON]


def _and_blender_says(reason: str, said: str) -> str:
    return f"{reason}; Blender's last error: {said}" if said else reason


def _no_blender(remains: ExitEvidence) -> str:
    """Why the PC's own Blender did not start; empty where it did, or where the archive brings its renderer."""
    if not remains.is_launcher:
        return ""
    if remains.exit_code in _NOT_STARTED:
        return (
            f"{_last_line(remains.log) or 'the Blender of this PC cannot be started'} (exit code {remains.exit_code})"
        )
    if remains.is_whole_log and not _BANNER.search(remains.log):
        return f"what is started as Blender on this PC is none: it ended with exit code {remains.exit_code}"
    return ""


def _last_line(log: str) -> str:
    lines = log.split("\n")
    return one_line(next((line for line in reversed(lines) if line.strip()), ""))


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
