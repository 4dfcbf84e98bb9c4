"""Message → XML bytes or form fields. The mirror image is ``reading.py``; either side of the wire uses both.

Requests become parameters in the order of ``protocol.txt`` (the caller decides whether they travel as query or as
form), answers become documents in UTF-8. An optional value that is ``None`` is not written at all, an empty one is.

Every function raises :class:`UnwritableMessage` for a value the wire cannot carry.
"""

from __future__ import annotations

import re
from typing import Any

from .document import write_document
from .errors import UnwritableMessage
from .messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    Endpoints,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobOffer,
    JobRequest,
    RamUnit,
    SignInAnswer,
    SignInRequest,
    ValidationAnswer,
)

_MD5 = re.compile("[0-9a-f]{32}")


def write_sign_in_request(request: SignInRequest, *, ram_unit: RamUnit = RamUnit.BYTES) -> dict[str, str]:
    """Session creation as query parameters. They hold the password: never to be logged."""
    hardware = request.hardware
    return _fields(
        login=request.credentials.login,
        password=request.credentials.password,
        version=request.version,
        os=hardware.os,
        bits=hardware.bits,
        cpu_family=hardware.cpu_family,
        cpu_model=hardware.cpu_model,
        cpu_model_name=hardware.cpu_model_name,
        cpu_cores=hardware.cpu_cores,
        ram=hardware.ram // (1024 if ram_unit is RamUnit.KILOBYTES else 1),
        extras=request.extras,
    )


def write_sign_in_answer(answer: SignInAnswer) -> bytes:
    """``<config>``, well-formed: an ampersand in a path is written ``&amp;``."""
    content: dict[str, Any] = {"@status": int(answer.status)}
    if answer.endpoints:
        content["request"] = _requests(answer.endpoints)
    return write_document("config", content)


def _requests(endpoints: Endpoints) -> list[dict[str, Any]]:
    beat: dict[str, Any] = {"@type": "keepmealive", "@path": endpoints.keepmealive}
    if endpoints.max_period_s is not None:
        beat["@max-period"] = endpoints.max_period_s
    requests = [
        {"@type": "validate-job", "@path": endpoints.validate_job},
        {"@type": "request-job", "@path": endpoints.request_job},
        {"@type": "download-archive", "@path": endpoints.download_archive},
        {"@type": "error", "@path": endpoints.error},
        beat,
        {"@type": "logout", "@path": endpoints.logout},
    ]
    return [one for one in requests if one["@path"]]


def write_archive_request(request: ArchiveRequest) -> dict[str, str]:
    """An archive download as parameters."""
    return _fields(type=request.type, job=request.job, revision=request.revision)


def write_job_request(request: JobRequest) -> tuple[dict[str, str], bytes]:
    """A job request as (query parameters, ``<cache>`` body)."""
    files = [{"@md5": _md5(md5)} for md5 in request.held_archives]
    return _fields(computemethod=int(request.compute_method)), write_document("cache", {"file": files})


def write_job_answer(answer: JobAnswer) -> bytes:
    """``<jobrequest>``."""
    content: dict[str, Any] = {"@status": int(answer.status)}
    if answer.frames_remaining is not None:
        content["frames"] = {"@remaining": answer.frames_remaining}
    if answer.offer:
        content["job"] = _job(answer.offer)
    if answer.delete_archives:
        content["file"] = [{"@md5": _md5(md5), "@action": "delete"} for md5 in answer.delete_archives]
    return write_document("jobrequest", content)


def _job(offer: JobOffer) -> dict[str, Any]:
    job: dict[str, Any] = {
        "@id": offer.job_id,
        "@use_gpu": "1" if offer.use_gpu else "0",
        "@archive_md5": _md5(offer.archive_md5),
        "@revision": offer.revision,
        "@path": offer.path,
        "@frame": offer.frame,
        "@synchronous_upload": "1" if offer.synchronous_upload else "0",
        "@extras": offer.extras,
        "@name": offer.name,
        "renderer": {
            "@md5": _md5(offer.renderer.md5),
            "@commandline": offer.renderer.command_line,
            "@update_method": offer.renderer.update_method,
        },
        "script": offer.script,
    }
    return {key: value for key, value in job.items() if value is not None}


def write_frame_upload(upload: FrameUpload) -> dict[str, str]:
    """What goes with a frame, as parameters; the frame itself is the part ``file``."""
    return _fields(
        job=upload.job,
        frame=upload.frame,
        rendertime=upload.render_time_s,
        revision=upload.revision,
        extras=upload.extras,
        memoryused=upload.memory_used_kb,
        cores=upload.cores,
    )


def write_validation_answer(answer: ValidationAnswer) -> bytes:
    """``<jobvalidate>``."""
    return write_document("jobvalidate", {"@status": int(answer.status)})


def write_beat(beat: Beat) -> dict[str, str]:
    """A heartbeat as parameters."""
    return _fields(job=beat.job, frame=beat.frame, extras=beat.extras)


def write_beat_answer(answer: BeatAnswer) -> bytes:
    """``<keepmealive>``."""
    return write_document("keepmealive", {"@status": int(answer.status)})


def write_error_report(report: ErrorReport) -> dict[str, str]:
    """An error report as parameters; the log is the part ``file``."""
    return _fields(
        job=report.job,
        frame=report.frame,
        extras=report.extras,
        rendertime=report.render_time_s,
        memoryused=report.memory_used_kb,
    )


def write_error_answer(answer: ErrorAnswer) -> bytes:
    """``<error>``."""
    return write_document("error", {"@status": int(answer.status)})


def _fields(**values: str | int | None) -> dict[str, str]:
    fields = {name: str(value) for name, value in values.items() if value is not None}
    for name, text in fields.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnwritableMessage(f"{name} holds half a character, which UTF-8 cannot carry") from None
    return fields


def _md5(text: str) -> str:
    if not _MD5.fullmatch(text):
        raise UnwritableMessage(f"an MD5 sum is 32 lower-case hex digits, not {text[:40]!r}")
    return text
