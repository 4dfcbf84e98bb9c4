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
from enum import IntEnum
from typing import TypeVar

from .document import MAX_JOB_ANSWER_BYTES, Element, read_document
from .errors import MalformedMessage
from .messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
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
    RamUnit,
    RendererOffer,
    SignInAnswer,
    SignInRequest,
    ValidationAnswer,
)
from .status import BeatStatus, ErrorStatus, JobStatus, SignInStatus, ValidationStatus, status_of

S = TypeVar("S", bound=IntEnum)

#: Request types without which a session can do nothing. ``logout`` and ``error`` may be missing: such a session is
#: usable, it just ends by itself and takes no reports.
NEEDED_REQUESTS = ("validate-job", "request-job", "download-archive", "keepmealive")

_MD5 = re.compile("[0-9a-fA-F]{32}")
# Eighteen digits fit a signed 64-bit integer, and no memory of a PC has more.
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})\s*")
_YES = frozenset({"1", "true", "yes"})


def read_sign_in_request(fields: Mapping[str, str], *, ram_unit: RamUnit = RamUnit.BYTES) -> SignInRequest:
    """Session creation, from the query. A missing version reads as empty: it has a status of its own (100)."""
    _need(fields, "login", "password", "os", "bits", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "ram")
    hardware = Hardware(
        os=fields["os"],
        bits=fields["bits"],
        cpu_family=fields["cpu_family"],
        cpu_model=fields["cpu_model"],
        cpu_model_name=fields["cpu_model_name"],
        cpu_cores=_count(fields["cpu_cores"], "cpu_cores"),
        ram=_count(fields["ram"], "ram") * (1024 if ram_unit is RamUnit.KILOBYTES else 1),
    )
    return SignInRequest(
        credentials=Credentials(login=fields["login"], password=fields["password"]),
        version=fields.get("version", ""),
        hardware=hardware,
        extras=fields.get("extras"),
    )


def read_sign_in_answer(data: bytes) -> SignInAnswer:
    """``<config>``. Of several requests of one type the last wins."""
    root = read_document(data, "config")
    status = _status(root, SignInStatus)
    if status != SignInStatus.OK:
        return SignInAnswer(status=status)
    requests = {one.attribute("type"): one for one in root.children("request") if one.attribute("path")}
    missing = [kind for kind in NEEDED_REQUESTS if kind not in requests]
    if missing:
        raise MalformedMessage(f"<config> has no request of type {', '.join(missing)}")

    def path(kind: str) -> str:
        return (requests[kind].attribute("path") or "") if kind in requests else ""

    endpoints = Endpoints(
        validate_job=path("validate-job"),
        request_job=path("request-job"),
        download_archive=path("download-archive"),
        error=path("error"),
        keepmealive=path("keepmealive"),
        logout=path("logout"),
        # Zero or less would mean a heartbeat without pause.
        max_period_s=_usable(requests["keepmealive"].attribute("max-period"), least=1),
    )
    return SignInAnswer(status=status, endpoints=endpoints)


def read_archive_request(fields: Mapping[str, str]) -> ArchiveRequest:
    """An archive download: a job's scene needs its revision, a renderer does not."""
    _need(fields, "type", "job")
    if fields["type"] not in ("binary", "job"):
        raise MalformedMessage(f"type is binary or job, not {fields['type'][:40]!r}")
    if fields["type"] == "job":
        _need(fields, "revision")
    return ArchiveRequest(type=fields["type"], job=fields["job"], revision=fields.get("revision"))


def read_job_request(fields: Mapping[str, str], body: bytes = b"") -> JobRequest:
    """A job request; ``body`` is ``<cache>`` with the archives already held, or empty."""
    _need(fields, "computemethod")
    try:
        method = ComputeMethod(_number(fields["computemethod"], "computemethod"))
    except ValueError:
        raise MalformedMessage("computemethod is 0, 1 or 2") from None
    files = read_document(body, "cache").children("file") if body.strip() else []
    return JobRequest(compute_method=method, held_archives=tuple(_md5(one, "md5") for one in files))


def read_job_answer(data: bytes) -> JobAnswer:
    """``<jobrequest>``. The archives to delete come on every status."""
    root = read_document(data, "jobrequest", limit=MAX_JOB_ANSWER_BYTES)
    status = _status(root, JobStatus)
    frames = root.child("frames")
    job = root.child("job")
    if status == JobStatus.OK and job is None:
        raise MalformedMessage("<jobrequest> has status 0 and no <job>")
    return JobAnswer(
        status=status,
        offer=_offer(job) if status == JobStatus.OK and job else None,
        frames_remaining=_usable(frames.attribute("remaining")) if frames else None,
        delete_archives=tuple(_md5(one, "md5") for one in root.children("file") if one.attribute("action") == "delete"),
    )


def _offer(job: Element) -> JobOffer:
    _need_attributes(job, "job", "id", "archive_md5", "revision", "path", "frame")
    renderer = job.child("renderer")
    if renderer is None:
        raise MalformedMessage("<job> has no <renderer>")
    _need_attributes(renderer, "renderer", "md5", "commandline")
    script, name = job.child("script"), job.attribute("name")
    # Thousands of frames of one job are held at a time, and the server writes the same texts for each: kept once.
    return JobOffer(
        job_id=sys.intern(job.attribute("id") or ""),
        frame=job.attribute("frame") or "",
        path=sys.intern(job.attribute("path") or ""),
        use_gpu=_yes(job.attribute("use_gpu")),
        archive_md5=sys.intern(_md5(job, "archive_md5")),
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
    )


@functools.lru_cache(maxsize=64)
def _renderer(md5: str, command_line: str, update_method: str) -> RendererOffer:
    return RendererOffer(md5=md5, command_line=command_line, update_method=update_method)


def read_frame_upload(fields: Mapping[str, str]) -> FrameUpload:
    """What goes with a frame, from query or form."""
    fields = _with_one_spelling(fields)
    _need(fields, "job", "frame", "rendertime", "revision")
    return FrameUpload(
        job=fields["job"],
        frame=fields["frame"],
        render_time_s=_count(fields["rendertime"], "rendertime"),
        revision=fields["revision"],
        extras=fields.get("extras"),
        memory_used_kb=_usable(fields.get("memoryused")),
        cores=_usable(fields.get("cores")),
    )


def read_validation_answer(data: bytes) -> ValidationAnswer:
    """``<jobvalidate>``."""
    return ValidationAnswer(status=_status(read_document(data, "jobvalidate"), ValidationStatus))


def read_beat(fields: Mapping[str, str]) -> Beat:
    """A heartbeat, from query or form."""
    _need(fields, "job", "frame")
    return Beat(job=fields["job"], frame=fields["frame"], extras=fields.get("extras"))


def read_beat_answer(data: bytes) -> BeatAnswer:
    """``<keepmealive>``."""
    return BeatAnswer(status=_status(read_document(data, "keepmealive"), BeatStatus))


def read_error_report(fields: Mapping[str, str]) -> ErrorReport:
    """An error report, from query or form; the time is read in both spellings."""
    fields = _with_one_spelling(fields)
    _need(fields, "job", "frame")
    return ErrorReport(
        job=fields["job"],
        frame=fields["frame"],
        extras=fields.get("extras"),
        render_time_s=_usable(fields.get("rendertime")),
        memory_used_kb=_usable(fields.get("memoryused")),
    )


def read_error_answer(data: bytes) -> ErrorAnswer:
    """``<error>``."""
    return ErrorAnswer(status=_status(read_document(data, "error"), ErrorStatus))


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
