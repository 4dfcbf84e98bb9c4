"""The messages of a session at work, as frozen values; those of its beginning are in ``session_messages.py``.

Who sends them and how they travel is not said here.

Exchanges, in the order of ``protocol.txt``::

    sign-in        SignInRequest            → SignInAnswer (Endpoints)
    speed test     SpeedTestReport          → nothing              since 2021
    log-out        nothing                  → nothing
    archive        ArchiveRequest           → bytes, or HTTP 404
    job request    JobRequest               → JobAnswer (JobOffer, or UnreadableOffer)
    validation     FrameUpload + file       → ValidationAnswer
    heartbeat      Beat                     → BeatAnswer
    error report   ErrorReport + file       → ErrorAnswer

A server of ours adds one that the specification does not have, and says so in its endpoints::

    project        ProjectStep              → ProjectAnswer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from .status import BeatStatus, ErrorStatus, JobStatus, ProjectStatus, ValidationStatus


class ComputeMethod(IntEnum):
    """What a job request offers to compute with."""

    CPU_OR_GPU = 0
    CPU_ONLY = 1
    GPU_ONLY = 2


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest:
    """Which archive: a renderer of a job (``binary``), a job's scene (``job``), or a piece of one (``chunk``)."""

    type: str
    #: Not needed for a chunk.
    job: str = ""
    #: Only for ``type == "job"``; ``None`` where the offer named none (since 2016-10).
    revision: str | None = None
    #: Only for ``type == "chunk"``; opaque to us.
    chunk: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """Asks for one frame, and says what is held already so that the server can name what to delete."""

    compute_method: ComputeMethod
    #: MD5 sums of the archives already held, lower-case hex.
    held_archives: tuple[str, ...] = ()
    #: What later generations tell about the machine; ``None``: not told.
    cpu_cores: int | None = None
    ram_max_kb: int | None = None
    #: Seconds; ``None``: no limit.
    render_time_max_s: int | None = None
    gpu_type: str | None = None
    gpu_model: str | None = None
    #: Bytes.
    gpu_ram: int | None = None
    #: Bytes a second, as measured; 0: not measured.
    network_down: int | None = None
    network_up: int | None = None


@dataclass(frozen=True, kw_only=True)
class RendererOffer:
    """The renderer archive that a job wants, and how it is to be called."""

    #: MD5 of the renderer archive, lower-case hex.
    md5: str
    #: For example ``.e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1``.
    command_line: str
    #: ``remainingtime``, ``blenderinternal`` or ``by_tile``; empty where none was given.
    update_method: str = ""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a scene archive that comes by itself; pieces in order are the archive's bytes."""

    #: Opaque to us; it goes back in a query, never into a path.
    id: str
    #: Lower-case hex.
    md5: str


@dataclass(frozen=True, kw_only=True)
class JobOffer:
    """One frame of one job, as the server granted it.

    The offer itself says how its scene comes (:attr:`archive_md5` or :attr:`chunks`), whether it is locked
    (:attr:`password`) and where its frame goes (:attr:`validation_url`, or the session's endpoint).
    """

    job_id: str
    #: Exactly as it came, leading zeros included (``"0340"``); it goes back unchanged.
    frame: str
    #: The scene's path inside the job archive.
    path: str
    use_gpu: bool
    #: MD5 of the job archive, lower-case hex; empty where the scene comes in chunks alone.
    archive_md5: str
    #: Empty where the server gave none (since 2016-10); then nothing names one.
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
    #: The scene's pieces in order, where it comes in pieces (since 2024-03).
    chunks: tuple[Chunk, ...] = ()
    #: Opens the scene's zip; empty: it is not locked. ``None`` where the server gave no such attribute.
    password: str | None = field(default=None, repr=False)
    #: Where the frame goes, a whole URL, decoded; its query is a secret. ``None``: to the session's endpoint.
    validation_url: str | None = field(default=None, repr=False)

    @property
    def scene_md5s(self) -> tuple[str, ...]:
        """MD5 sums of the archives that make the scene, in order."""
        return tuple(chunk.md5 for chunk in self.chunks) or (self.archive_md5,)


@dataclass(frozen=True, kw_only=True)
class UnreadableOffer:
    """A granted frame whose offer cannot be read: it has to be given back, by job and frame."""

    job: str
    frame: str
    extras: str | None = None
    #: What is wrong with the offer, one line.
    reason: str


@dataclass(frozen=True, kw_only=True)
class ServerFigures:
    """What a server tells a person about itself; clients of 2016-10 and later want it beside every offer."""

    renderable_projects: int = 0
    waiting_projects: int = 0
    connected_machines: int = 0


@dataclass(frozen=True, kw_only=True)
class JobAnswer:
    """A frame, or the reason why there is none."""

    status: JobStatus | int
    #: With status 0 there is this, or :attr:`unreadable`.
    offer: JobOffer | None = None
    unreadable: UnreadableOffer | None = None
    #: Frames left at the server, where it says so.
    frames_remaining: int | None = None
    figures: ServerFigures | None = None
    #: MD5 sums of archives the server says are no longer needed, lower-case hex.
    delete_archives: tuple[str, ...] = ()
    #: With "no job" from a server of ours: it may be asked again after so many seconds.
    wait_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class FrameUpload:
    """What goes with a finished frame."""

    job: str
    frame: str
    #: Whole seconds, rounded up.
    render_time_s: int
    #: Empty where the offer named none.
    revision: str
    extras: str | None = None
    #: Peak memory in kB.
    memory_used_kb: int | None = None
    cores: int | None = None
    #: The picture is black or transparent, and not by mistake: it was rendered twice, or continues frames that were.
    #: An addition of ours, for servers that read it.
    is_confirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class ValidationAnswer:
    """What became of an uploaded frame."""

    status: ValidationStatus | int


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One heartbeat: this frame is still being worked on; without a job, the whole session is alive."""

    job: str | None = None
    frame: str | None = None
    extras: str | None = None
    #: Seconds rendered so far, and to come; since 2015-04.
    render_time_s: int | None = None
    remaining_s: int | None = None
    #: Since 2022-10.
    paused: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BeatAnswer:
    """Whether to go on with the frame or stop."""

    status: BeatStatus | int


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """A frame that could not be rendered, or a trouble without a frame; its log travels as the file."""

    job: str | None = None
    frame: str | None = None
    extras: str | None = None
    render_time_s: int | None = None
    #: Peak memory in kB.
    memory_used_kb: int | None = None
    #: What went wrong, as later generations number it (:class:`~sheepfold.protocol.status.ErrorType`).
    type: int | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorAnswer:
    """Whether the server took the report; it says nothing of what it does with the frame."""

    status: ErrorStatus | int


@dataclass(frozen=True, kw_only=True)
class ProjectStep:
    """Tells a server of ours that a project is not to be rendered (``cancel``), or is again (``resume``)."""

    #: Its number or its name.
    job: str
    step: str


@dataclass(frozen=True, kw_only=True)
class ProjectAnswer:
    """Which project it was, and what became of it."""

    status: ProjectStatus | int
    #: Its number; empty where there is none of that number or name.
    job: str = ""
    name: str = ""
