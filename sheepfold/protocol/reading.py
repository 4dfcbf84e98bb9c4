"""XML bytes or form fields → message. The mirror image is ``writing.py``; either side of the wire uses both.

Every function raises :class:`MalformedMessage` when what came is not a message of its exchange, naming what is missing
or wrong. What nobody knows (elements, attributes, parameters) is passed over, so that later generations can be read.
Statuses nobody knows survive as numbers.

How strict a field is read depends on what happens if it is wrong: a sum that becomes a path or an id that must go
back unchanged has to be right, a figure for a person (frames remaining, memory used) is dropped when it is unusable.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import TypeVar
from urllib.parse import unquote_plus

from .errors import MalformedMessage
from .messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    Chunk,
    ComputeMethod,
    Credentials,
    Endpoints,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    Hardware,
    JobAnswer,
    JobOffer,
    JobRequest,
    ProjectAnswer,
    ProjectStep,
    RamUnit,
    RendererOffer,
    ServerFigures,
    SignInAnswer,
    SignInRequest,
    SpeedTestResult,
    UnreadableOffer,
    ValidationAnswer,
)
from .status import BeatStatus, ErrorStatus, JobStatus, ProjectStatus, SignInStatus, ValidationStatus, status_of
from .xml_document import MAX_JOB_ANSWER_BYTES, Element, read_document

S = TypeVar("S", bound=IntEnum)

#: Request type → the endpoint it names. What a session needs of them depends on its generation (``dialects.py``).
ENDPOINT_OF_REQUEST = {
    "validate-job": "validate_job",
    "request-job": "request_job",
    "download-archive": "download_archive",
    "download-binary": "download_binary",
    "download-chunk": "download_chunk",
    "error": "error",
    "keepmealive": "keepmealive",
    "logout": "logout",
    "speedtest-answer": "speedtest_answer",
    "sheepfold-project": "project",
}
#: Told in bytes, every PC that runs Blender has more than this; told in kilobytes, none has: a tebibyte.
_RAM_IN_BYTES_FROM = 1 << 30
#: For a person; more of them, or longer ones, say nothing more.
_UNKNOWN_REQUESTS_SHOWN, _UNKNOWN_REQUEST_CHARS = 10, 40

_MD5 = re.compile("[0-9a-fA-F]{32}")
# Eighteen digits fit a signed 64-bit integer, and no memory of a PC has more.
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})\s*")
_YES = frozenset({"1", "true", "yes"})


def read_sign_in_request(fields: Mapping[str, str], *, ram_unit: RamUnit | None = None) -> SignInRequest:
    """Session creation, from query or form. A missing version reads as empty: it has a status of its own (100).

    Without ``ram_unit`` the memory's size tells its unit: the specification says bytes, observed clients kilobytes.
    """
    _need(fields, "login", "password", "os", "bits", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "ram")
    hardware = Hardware(
        os=fields["os"],
        bits=fields["bits"],
        cpu_family=fields["cpu_family"],
        cpu_model=fields["cpu_model"],
        cpu_model_name=fields["cpu_model_name"],
        cpu_cores=_count(fields["cpu_cores"], "cpu_cores"),
        ram=_ram_bytes(_count(fields["ram"], "ram"), ram_unit),
        os_version=fields.get("os_version", ""),
    )
    return SignInRequest(
        credentials=Credentials(login=fields["login"], password=fields["password"]),
        version=fields.get("version", ""),
        hardware=hardware,
        extras=fields.get("extras"),
        hostname=fields.get("hostname", ""),
        hardware_id=fields.get("hwid", ""),
    )


def _ram_bytes(ram: int, unit: RamUnit | None) -> int:
    in_kilobytes = ram < _RAM_IN_BYTES_FROM if unit is None else unit is RamUnit.KILOBYTES
    return ram * 1024 if in_kilobytes else ram


def read_sign_in_answer(data: bytes) -> SignInAnswer:
    """``<config>``. Of several requests of one type the last wins; which of them a session needs is not judged here."""
    root = read_document(data, "config")
    status = _status(root, SignInStatus)
    if status != SignInStatus.OK:
        return SignInAnswer(status=status)
    requests = {request.attribute("type") or "": request for request in root.children("request")}
    paths = {kind: request.attribute("path") or "" for kind, request in requests.items()}
    beat, validation = requests.get("keepmealive"), requests.get("validate-job")
    endpoints = Endpoints(
        **{name: paths.get(kind, "") for kind, name in ENDPOINT_OF_REQUEST.items()},
        # Zero or less would mean a heartbeat without pause.
        max_period_s=_usable(beat.attribute("max-period"), least=1) if beat else None,
        reads_confirmed=_yes(validation.attribute("confirmed")) if validation else False,
    )
    unknown = sorted(kind[:_UNKNOWN_REQUEST_CHARS] for kind in paths if kind and kind not in ENDPOINT_OF_REQUEST)
    return SignInAnswer(
        status=status,
        endpoints=endpoints,
        public_key=root.attribute("publickey") or None,
        speed_test_targets=_speed_test_targets(root),
        unknown_requests=tuple(unknown[:_UNKNOWN_REQUESTS_SHOWN]),
    )


def _speed_test_targets(root: Element) -> tuple[str, ...]:
    test = root.child("speedtest")
    targets = test.children("target") if test else []
    return tuple(url for target in targets if (url := target.attribute("url")))


def read_speed_test_report(data: bytes) -> tuple[SpeedTestResult, ...]:
    """``<speedtest>``, as a client measured it; what is nonsense counts as nothing measured."""
    targets = read_document(data, "speedtest").children("target")
    return tuple(
        SpeedTestResult(
            url=target.attribute("url") or "",
            speed=_usable(target.attribute("speed")) or 0,
            ping_ms=_usable(target.attribute("ping")) or 0,
        )
        for target in targets
    )


def read_archive_request(fields: Mapping[str, str], *, kind: str | None = None) -> ArchiveRequest:
    """An archive download; ``kind`` where the address that was asked says it already (``binary``, ``chunk``)."""
    kind = kind or fields.get("type", "")
    if kind == "chunk":
        _need(fields, "chunk")
        return ArchiveRequest(type=kind, chunk=fields["chunk"])
    _need({**fields, "type": kind}, "type", "job")
    if kind not in ("binary", "job"):
        raise MalformedMessage(f"type is binary or job, not {kind[:40]!r}")
    return ArchiveRequest(type=kind, job=fields["job"], revision=fields.get("revision"))


def read_job_request(fields: Mapping[str, str], body: bytes = b"") -> JobRequest:
    """A job request; ``body`` is ``<cache>`` with the archives already held, or empty."""
    _need(fields, "computemethod")
    try:
        method = ComputeMethod(_number(fields["computemethod"], "computemethod"))
    except ValueError:
        raise MalformedMessage("computemethod is 0, 1 or 2") from None
    files = read_document(body, "cache").children("file") if body.strip() else []
    return JobRequest(
        compute_method=method,
        held_archives=tuple(_md5(file, "md5") for file in files),
        cpu_cores=_usable(fields.get("cpu_cores")),
        ram_max_kb=_usable(fields.get("ram_max")),
        # -1 (Java) and 0 (Rust) both say that there is no limit.
        render_time_max_s=_usable(fields.get("rendertime_max"), least=1),
        gpu_type=fields.get("gpu_type"),
        gpu_model=fields.get("gpu_model"),
        gpu_ram=_usable(fields.get("gpu_ram")),
        network_down=_usable(fields.get("network_dl")),
        network_up=_usable(fields.get("network_up")),
    )


def read_job_answer(data: bytes) -> JobAnswer:
    """``<jobrequest>``. The archives to delete come on every status.

    An offer that cannot be followed but names its job and frame is an :class:`UnreadableOffer`; without the two the
    whole answer is malformed.
    """
    root = read_document(data, "jobrequest", limit=MAX_JOB_ANSWER_BYTES)
    status = _status(root, JobStatus)
    job = root.child("job")
    if status == JobStatus.OK and job is None:
        raise MalformedMessage("<jobrequest> has status 0 and no <job>")
    answer = JobAnswer(
        status=status,
        frames_remaining=_frames_remaining(root),
        figures=_figures(root),
        delete_archives=tuple(
            _md5(file, "md5") for file in root.children("file") if file.attribute("action") == "delete"
        ),
        wait_s=_usable(root.attribute("sheepfold-wait-s"), least=1),
    )
    if status != JobStatus.OK or job is None:
        return answer
    _need_attributes(job, "job", "id", "frame")
    try:
        return replace(answer, offer=_offer(job))
    except MalformedMessage as error:
        return replace(answer, unreadable=_unreadable(job, error.reason))


def _frames_remaining(root: Element) -> int | None:
    """Generations until 2016 say it in ``<frames>``, later ones in ``<stats>``."""
    frames, stats = root.child("frames"), root.child("stats")
    if frames is not None:
        return _usable(frames.attribute("remaining"))
    return _usable(stats.attribute("frame_remaining")) if stats is not None else None


def _figures(root: Element) -> ServerFigures | None:
    stats = root.child("stats")
    if stats is None:
        return None
    return ServerFigures(
        renderable_projects=_usable(stats.attribute("renderable_project")) or 0,
        waiting_projects=_usable(stats.attribute("waiting_project")) or 0,
        connected_machines=_usable(stats.attribute("connected_machine")) or 0,
    )


def _unreadable(job: Element, reason: str) -> UnreadableOffer:
    return UnreadableOffer(
        job=job.attribute("id") or "",
        frame=job.attribute("frame") or "",
        extras=job.attribute("extras"),
        reason=reason,
    )


def _offer(job: Element) -> JobOffer:
    chunks = _chunks(job)
    _need_attributes(job, "job", "id", "path", "frame", *([] if chunks else ["archive_md5"]))
    renderer = job.child("renderer")
    if renderer is None:
        raise MalformedMessage("<job> has no <renderer>")
    _need_attributes(renderer, "renderer", "md5", "commandline")
    script, name, target = job.child("script"), job.attribute("name"), job.attribute("validation_url")
    # Thousands of frames of one job are held at a time, and the server writes the same texts for each: kept once.
    return JobOffer(
        job_id=sys.intern(job.attribute("id") or ""),
        frame=job.attribute("frame") or "",
        path=sys.intern(job.attribute("path") or ""),
        use_gpu=_yes(job.attribute("use_gpu")),
        archive_md5=sys.intern(_md5(job, "archive_md5")) if job.attribute("archive_md5") else "",
        revision=sys.intern(job.attribute("revision") or ""),
        renderer=_renderer(
            _md5(renderer, "md5"),
            renderer.attribute("commandline") or "",
            renderer.attribute("update_method") or "",
        ),
        script=sys.intern(script.text if script else ""),
        extras=job.attribute("extras"),
        synchronous_upload=_yes(job.attribute("synchronous_upload")),
        name=None if name is None else sys.intern(name),
        chunks=chunks,
        password=job.attribute("password"),
        # Encoded once, as a form encodes it: observed clients read a plus sign as a space.
        validation_url=unquote_plus(target) if target else None,
    )


def _chunks(job: Element) -> tuple[Chunk, ...]:
    listed = job.child("chunks")
    if listed is None:
        return ()
    chunks = listed.children("chunk")
    for chunk in chunks:
        _need_attributes(chunk, "chunk", "id", "md5")
    return _same_chunks(tuple((chunk.attribute("id") or "", _md5(chunk, "md5")) for chunk in chunks))


@functools.lru_cache(maxsize=64)
def _same_chunks(pairs: tuple[tuple[str, str], ...]) -> tuple[Chunk, ...]:
    return tuple(Chunk(id=id_, md5=md5) for id_, md5 in pairs)


@functools.lru_cache(maxsize=64)
def _renderer(md5: str, command_line: str, update_method: str) -> RendererOffer:
    return RendererOffer(md5=md5, command_line=command_line, update_method=update_method)


def read_frame_upload(fields: Mapping[str, str]) -> FrameUpload:
    """What goes with a frame, from query or form."""
    fields = _with_one_spelling(fields)
    _need(fields, "job", "frame", "rendertime")
    return FrameUpload(
        job=fields["job"],
        frame=fields["frame"],
        render_time_s=_count(fields["rendertime"], "rendertime"),
        revision=fields.get("revision", ""),
        extras=fields.get("extras"),
        memory_used_kb=_usable(fields.get("memoryused")),
        cores=_usable(fields.get("cores")),
        is_confirmed=_yes(fields.get("confirmed")),
    )


def read_validation_answer(data: bytes) -> ValidationAnswer:
    """``<jobvalidate>``."""
    return ValidationAnswer(status=_status(read_document(data, "jobvalidate"), ValidationStatus))


def read_beat(fields: Mapping[str, str]) -> Beat:
    """A heartbeat, from query or form; later generations, and idle clients, name neither job nor frame."""
    paused = fields.get("paused")
    return Beat(
        job=fields.get("job") or None,
        frame=fields.get("frame") or None,
        extras=fields.get("extras"),
        render_time_s=_usable(fields.get("rendertime")),
        remaining_s=_usable(fields.get("remainingtime")),
        paused=None if paused is None else _yes(paused),
    )


def read_beat_answer(data: bytes) -> BeatAnswer:
    """``<keepmealive>``."""
    return BeatAnswer(status=_status(read_document(data, "keepmealive"), BeatStatus))


def read_error_report(fields: Mapping[str, str]) -> ErrorReport:
    """An error report, from query or form; the time is read in both spellings. It may be about no frame at all."""
    fields = _with_one_spelling(fields)
    return ErrorReport(
        job=fields.get("job") or None,
        frame=fields.get("frame") or None,
        extras=fields.get("extras"),
        render_time_s=_usable(fields.get("rendertime")),
        memory_used_kb=_usable(fields.get("memoryused")),
        type=_usable(fields.get("type")),
    )


def read_error_answer(data: bytes) -> ErrorAnswer:
    """``<error>``."""
    return ErrorAnswer(status=_status(read_document(data, "error"), ErrorStatus))


def read_project_step(fields: Mapping[str, str]) -> ProjectStep:
    """A word about a project, from query or form."""
    _need(fields, "job", "step")
    if fields["step"] not in ("cancel", "resume"):
        raise MalformedMessage(f"step is cancel or resume, not {fields['step'][:40]!r}")
    return ProjectStep(job=fields["job"], step=fields["step"])


def read_project_answer(data: bytes) -> ProjectAnswer:
    """``<project>``."""
    root = read_document(data, "project")
    job, name = root.attribute("job") or "", root.attribute("name") or ""
    return ProjectAnswer(status=_status(root, ProjectStatus), job=job, name=name)


def _with_one_spelling(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Observed clients write ``render_time`` where the specification says ``rendertime``."""
    if "rendertime" in fields or "render_time" not in fields:
        return fields
    return {**fields, "rendertime": fields["render_time"]}


def _need(fields: Mapping[str, str], *names: str) -> None:
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise MalformedMessage(f"missing parameter: {', '.join(missing)}")


def _need_attributes(element: Element, tag: str, *names: str) -> None:
    missing = [name for name in names if not element.attribute(name)]
    if missing:
        raise MalformedMessage(f"<{tag}> lacks {', '.join(missing)}")


def _status(root: Element, kind: type[S]) -> S | int:
    text = root.attribute("status")
    if text is None:
        raise MalformedMessage("the answer has no status")
    return status_of(kind, _number(text, "status"))


def _md5(element: Element, name: str) -> str:
    text = element.attribute(name) or ""
    if not _MD5.fullmatch(text):
        raise MalformedMessage(f"{name} is 32 hex digits, not {text[:40]!r}")
    return text.lower()


def _number(text: str, what: str) -> int:
    found = _NUMBER.fullmatch(text)
    if not found:
        raise MalformedMessage(f"{what} is a whole number, not {text[:40]!r}")
    return int(found[1])


def _count(text: str, what: str) -> int:
    number = _number(text, what)
    if number < 0:
        raise MalformedMessage(f"{what} is not negative, but {number}")
    return number


def _usable(text: str | None, *, least: int = 0) -> int | None:
    """A figure nobody depends on: ``None`` where it is missing or nonsense."""
    found = _NUMBER.fullmatch(text) if text else None
    return int(found[1]) if found and int(found[1]) >= least else None


def _yes(text: str | None) -> bool:
    return text is not None and text.strip().lower() in _YES
