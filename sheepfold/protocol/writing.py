"""Message → XML bytes or form fields.

The mirror images are ``reading_requests.py`` and ``reading_answers.py``; either side of the wire uses all three.

Requests become parameters in the order of ``protocol.txt`` (the caller decides whether they travel as query or as
form), answers become documents in UTF-8. An optional value that is ``None`` is not written at all, an empty one is.

Every function raises :class:`UnwritableMessage` for a value the wire cannot carry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from .dialects import SPECIFICATION, Dialect
from .errors import UnwritableMessage
from .messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobOffer,
    JobRequest,
    ProjectAnswer,
    ProjectStep,
    ServerFigures,
    ValidationAnswer,
)
from .reading_answers import ENDPOINT_OF_REQUEST
from .session_messages import Endpoints, RamUnit, SignInAnswer, SignInRequest, SpeedTestResult
from .xml_document import write_document

_MD5 = re.compile("[0-9a-f]{32}")


def write_sign_in_request(request: SignInRequest, dialect: Dialect = SPECIFICATION) -> dict[str, str]:
    """Session creation as parameters. They hold the password: never to be logged."""
    hardware, account = request.hardware, request.credentials
    extras = request.extras
    return _written(
        dialect.picked(
            dialect.sign_in,
            {
                "login": account.login,
                "password": account.password,
                "version": request.version,
                "os": hardware.os,
                "bits": hardware.bits,
                "cpu_family": hardware.cpu_family,
                "cpu_model": hardware.cpu_model,
                "cpu_model_name": hardware.cpu_model_name,
                "cpu_cores": hardware.cpu_cores,
                "ram": hardware.ram // (1024 if dialect.ram_unit is RamUnit.KILOBYTES else 1),
                # Optional in the specification; every later client writes it, empty or not.
                "extras": "" if extras is None and dialect.year > SPECIFICATION.year else extras,
                "os_version": hardware.os_version,
                "hostname": request.hostname,
                "ui": "GuiText",
                "headless": dialect.headless,
                "hwid": request.hardware_id,
            },
        )
    )


def write_sign_in_answer(answer: SignInAnswer) -> bytes:
    """``<config>``, well-formed: an ampersand in a path is written ``&amp;``."""
    content: dict[str, Any] = {"@status": int(answer.status)}
    if answer.public_key is not None:
        content["@publickey"] = answer.public_key
    if answer.endpoints:
        content["request"] = _requests(answer.endpoints)
    if answer.speed_test_targets:
        content["speedtest"] = {"target": [{"@url": url} for url in answer.speed_test_targets]}
    return write_document("config", content)


def _requests(endpoints: Endpoints) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []
    for kind, name in ENDPOINT_OF_REQUEST.items():
        request: dict[str, Any] = {"@type": kind, "@path": getattr(endpoints, name)}
        if kind == "keepmealive" and endpoints.max_period_s is not None:
            request["@max-period"] = endpoints.max_period_s
        if kind == "validate-job" and endpoints.reads_confirmed:
            request["@confirmed"] = "1"
        requests.append(request)
    return [request for request in requests if request["@path"]]


def write_speed_test_report(results: Sequence[SpeedTestResult]) -> bytes:
    """What each address gave: bytes a second and milliseconds to the first byte, 0 where nothing came."""
    targets = [{"@url": result.url, "@speed": result.speed, "@ping": result.ping_ms} for result in results]
    return write_document("speedtest", {"target": targets})


def write_archive_request(request: ArchiveRequest, *, by_type: bool = True) -> dict[str, str]:
    """An archive download as parameters; without ``by_type`` the address says already what is wanted."""
    if request.type == "chunk":
        return _fields(chunk=request.chunk)
    return _fields(type=request.type if by_type else None, job=request.job, revision=request.revision)


def write_job_request(
    request: JobRequest, dialect: Dialect = SPECIFICATION
) -> tuple[dict[str, str], bytes | None, str | None]:
    """A job request as (query parameters, ``<cache>`` body, its content type); no body where archives aren't told."""
    limit_s = request.render_time_max_s
    query = dialect.picked(
        dialect.asking,
        {
            "computemethod": int(request.compute_method),
            "network_dl": request.network_down or 0,
            "network_up": request.network_up or 0,
            "cpu_cores": request.cpu_cores,
            "ram_max": request.ram_max_kb,
            "rendertime_max": dialect.no_time_limit if limit_s is None else limit_s,
            "gpu_type": request.gpu_type,
            "gpu_model": request.gpu_model,
            "gpu_ram": request.gpu_ram,
        },
    )
    if dialect.held_archives_type is None:
        return _written(query), None, None
    files = [{"@md5": _md5(md5)} for md5 in request.held_archives]
    return _written(query), write_document("cache", {"file": files}), dialect.held_archives_type


def write_job_answer(answer: JobAnswer) -> bytes:
    content: dict[str, Any] = {"@status": int(answer.status)}
    if answer.wait_s is not None:
        content["@sheepfold-wait-s"] = answer.wait_s
    if answer.frames_remaining is not None:
        content["frames"] = {"@remaining": answer.frames_remaining}
    if answer.figures is not None:
        content["stats"] = _stats(answer.figures, answer.frames_remaining)
    if answer.offer:
        content["job"] = _job(answer.offer)
    if answer.delete_archives:
        content["file"] = [{"@md5": _md5(md5), "@action": "delete"} for md5 in answer.delete_archives]
    return write_document("jobrequest", content)


def _stats(figures: ServerFigures, frames_remaining: int | None) -> dict[str, Any]:
    """All six: a client of 2020 fails where it finds ``<stats>`` without one of them. Nobody earns points here."""
    return {
        "@frame_remaining": frames_remaining or 0,
        "@credits_total": 0,
        "@credits_session": 0,
        "@renderable_project": figures.renderable_projects,
        "@waiting_project": figures.waiting_projects,
        "@connected_machine": figures.connected_machines,
    }


def _job(offer: JobOffer) -> dict[str, Any]:
    job: dict[str, Any] = {
        "@id": offer.job_id,
        "@use_gpu": "1" if offer.use_gpu else "0",
        "@archive_md5": _md5(offer.archive_md5) if offer.archive_md5 or not offer.chunks else None,
        "@revision": offer.revision,
        "@path": offer.path,
        "@frame": offer.frame,
        "@synchronous_upload": "1" if offer.synchronous_upload else "0",
        "@extras": offer.extras,
        "@name": offer.name,
        "@validation_url": None if offer.validation_url is None else quote(offer.validation_url, safe=""),
        "@password": offer.password,
        "chunks": _chunks(offer),
        "renderer": {
            "@md5": _md5(offer.renderer.md5),
            "@commandline": offer.renderer.command_line,
            "@update_method": offer.renderer.update_method,
        },
        "script": offer.script,
    }
    return {key: value for key, value in job.items() if value is not None}


def _chunks(offer: JobOffer) -> dict[str, Any] | None:
    chunks = [{"@id": chunk.id, "@md5": _md5(chunk.md5)} for chunk in offer.chunks]
    return {"chunk": chunks} if chunks else None


def write_frame_upload(upload: FrameUpload) -> dict[str, str]:
    """What goes with a frame, as parameters; the frame itself is the part ``file``."""
    return _fields(
        job=upload.job,
        frame=upload.frame,
        rendertime=upload.render_time_s,
        revision=upload.revision or None,
        extras=upload.extras,
        memoryused=upload.memory_used_kb,
        cores=upload.cores,
        confirmed="1" if upload.is_confirmed else None,
    )


def write_frame_figures(upload: FrameUpload) -> dict[str, str]:
    """What is appended to an offer's own validation URL, which names the frame already."""
    confirmed = "1" if upload.is_confirmed else None
    return _fields(rendertime=upload.render_time_s, memoryused=upload.memory_used_kb, confirmed=confirmed)


def write_validation_answer(answer: ValidationAnswer) -> bytes:
    return write_document("jobvalidate", {"@status": int(answer.status)})


def write_beat(beat: Beat, dialect: Dialect = SPECIFICATION) -> dict[str, str]:
    """The parameters of a heartbeat: of its values, those that clients of the dialect's year send."""
    paused = None if beat.paused is None else str(beat.paused).lower()
    return _written(
        dialect.picked(
            dialect.beating,
            {
                "paused": paused,
                "job": beat.job,
                "frame": beat.frame,
                "extras": beat.extras,
                "rendertime": beat.render_time_s,
                "remainingtime": beat.remaining_s,
            },
        )
    )


def write_beat_answer(answer: BeatAnswer) -> bytes:
    return write_document("keepmealive", {"@status": int(answer.status)})


def write_error_report(report: ErrorReport, dialect: Dialect = SPECIFICATION) -> dict[str, str]:
    """An error report as parameters; the log is the part ``file``.

    The specification's name of the time is the later clients' ``render_time``.
    """
    return _written(
        dialect.picked(
            dialect.reporting,
            {
                "type": report.type,
                "job": report.job,
                "frame": report.frame,
                "extras": report.extras,
                "rendertime": report.render_time_s,
                "render_time": report.render_time_s,
                "memoryused": report.memory_used_kb,
            },
        )
    )


def write_error_answer(answer: ErrorAnswer) -> bytes:
    return write_document("error", {"@status": int(answer.status)})


def write_project_step(step: ProjectStep) -> dict[str, str]:
    """A word about a project as parameters."""
    return _fields(job=step.job, step=step.step)


def write_project_answer(answer: ProjectAnswer) -> bytes:
    return write_document("project", {"@status": int(answer.status), "@job": answer.job, "@name": answer.name})


def _fields(**values: str | int | None) -> dict[str, str]:
    return _written({name: str(value) for name, value in values.items() if value is not None})


def _written(fields: dict[str, str]) -> dict[str, str]:
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
