"""Every message of the protocol as a frozen value. Who sends it and how it travels is not said here.

Exchanges, in the order of ``protocol.txt``::

    sign-in        Hardware, Credentials    → SignInAnswer (Endpoints)
    log-out        nothing                  → nothing
    archive        ArchiveRequest           → bytes, or HTTP 404
    job request    JobRequest               → JobAnswer (JobOffer)
    validation     FrameUpload + file       → ValidationAnswer
    heartbeat      Beat                     → BeatAnswer
    error report   ErrorReport + file       → ErrorAnswer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from .status import BeatStatus, ErrorStatus, JobStatus, SignInStatus, ValidationStatus


class OperatingSystem(StrEnum):
    """The three systems of the specification."""

    WINDOWS = "windows"
    MAC = "mac"
    LINUX = "linux"


class Bits(StrEnum):
    """The two architecture sizes of the specification."""

    B32 = "32bit"
    B64 = "64bit"


class ComputeMethod(IntEnum):
    """What a job request offers to compute with."""

    CPU_OR_GPU = 0
    CPU_ONLY = 1
    GPU_ONLY = 2


class RamUnit(StrEnum):
    """The specification says bytes; observed clients sent kilobytes."""

    BYTES = "bytes"
    KILOBYTES = "kilobytes"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account. The password never shows in ``repr``."""

    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The one machine a session describes."""

    os: str
    #: ``"32bit"`` or ``"64bit"``.
    bits: str
    cpu_family: str
    cpu_model: str
    cpu_model_name: str
    #: Cores or threads available.
    cpu_cores: int
    #: Memory in bytes, whatever unit the wire uses.
    ram: int


@dataclass(frozen=True, kw_only=True)
class SignInRequest:
    """Session creation."""

    credentials: Credentials
    #: Client's version, for example ``3.3.1762``; empty where a client gave none.
    version: str
    hardware: Hardware
    extras: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where each exchange of a session lives. Paths are as the server wrote them: absolute, relative or whole URLs."""

    validate_job: str
    request_job: str
    download_archive: str
    error: str
    keepmealive: str
    logout: str
    #: Seconds a server waits between two heartbeats; ``None`` where it gave no usable ``max-period``.
    max_period_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class SignInAnswer:
    """A session's endpoints, or the reason why there is none."""

    status: SignInStatus | int
    #: Present exactly when ``status`` is 0.
    endpoints: Endpoints | None = None


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest:
    """Which archive: a renderer of a job (``binary``) or a job's scene (``job``)."""

    type: str
    job: str
    #: Only for ``type == "job"``.
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """Asks for one frame."""

    compute_method: ComputeMethod
    #: MD5 sums of the archives already held, lower-case hex.
    held_archives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RendererOffer:
    """The renderer a job wants."""

    #: MD5 of the renderer archive, lower-case hex.
    md5: str
    #: For example ``.e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1``.
    command_line: str
    #: ``remainingtime``, ``blenderinternal`` or ``by_tile``; empty where none was given.
    update_method: str = ""


@dataclass(frozen=True, kw_only=True)
class JobOffer:
    """One frame of one job, as the server granted it."""

    job_id: str
    #: Exactly as it came, leading zeros included (``"0340"``); it goes back unchanged.
    frame: str
    #: The scene's path inside the job archive.
    path: str
    use_gpu: bool
    #: MD5 of the job archive, lower-case hex.
    archive_md5: str
    revision: str
    renderer: RendererOffer
    #: Python that runs inside Blender before the render.
    script: str
    #: Opaque to us; ``None`` where the server gave no such attribute.
    extras: str | None = None
    #: The frame must be uploaded before its session asks for another job.
    synchronous_upload: bool = False
    #: A person's name for the job; later servers give one.
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobAnswer:
    """A frame, or the reason why there is none."""

    status: JobStatus | int
    #: Present exactly when ``status`` is 0.
    offer: JobOffer | None = None
    #: Frames left at the server, where it says so.
    frames_remaining: int | None = None
    #: MD5 sums of archives the server says are no longer needed, lower-case hex.
    delete_archives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FrameUpload:
    """What goes with a finished frame."""

    job: str
    frame: str
    #: Whole seconds, rounded up.
    render_time_s: int
    revision: str
    extras: str | None = None
    #: Peak memory in kB.
    memory_used_kb: int | None = None
    cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class ValidationAnswer:
    """What became of an uploaded frame."""

    status: ValidationStatus | int


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One heartbeat: this frame is still being worked on."""

    job: str
    frame: str
    extras: str | None = None


@dataclass(frozen=True, kw_only=True)
class BeatAnswer:
    """Go on, or stop."""

    status: BeatStatus | int


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """A frame that could not be rendered; its log travels as the file."""

    job: str
    frame: str
    extras: str | None = None
    render_time_s: int | None = None
    #: Peak memory in kB.
    memory_used_kb: int | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorAnswer:
    """The report arrived."""

    status: ErrorStatus | int
