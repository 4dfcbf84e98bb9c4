"""What a server answers, XML → message. The mirror image is in ``writing.py``.

Every function raises :class:`MalformedMessage` when what came is not a message of its exchange, naming what is missing
or wrong. What nobody knows (elements, attributes) is passed over, so that later generations can be read.
Statuses nobody knows survive as numbers.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from urllib.parse import unquote_plus

from .errors import MalformedMessage
from .field_values import is_yes, need_attributes, read_md5, read_status, usable_number
from .messages import (
    BeatAnswer,
    Chunk,
    ErrorAnswer,
    JobAnswer,
    JobOffer,
    ProjectAnswer,
    RendererOffer,
    ServerFigures,
    UnreadableOffer,
    ValidationAnswer,
)
from .session_messages import Endpoints, SignInAnswer
from .status import BeatStatus, ErrorStatus, JobStatus, ProjectStatus, SignInStatus, ValidationStatus
from .xml_document import MAX_JOB_ANSWER_BYTES, Element, read_document

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
#: For a person; more of them, or longer ones, say nothing more.
_UNKNOWN_REQUESTS_SHOWN, _UNKNOWN_REQUEST_CHARS = 10, 40


def read_sign_in_answer(data: bytes) -> SignInAnswer:
    """``<config>``. Of several requests of one type the last wins; which of them a session needs is not judged here."""
    root = read_document(data, "config")
    status = read_status(root, SignInStatus)
    if status != SignInStatus.OK:
        return SignInAnswer(status=status)
    requests = {request.attribute("type") or "": request for request in root.children("request")}
    paths = {kind: request.attribute("path") or "" for kind, request in requests.items()}
    beat, validation = requests.get("keepmealive"), requests.get("validate-job")
    endpoints = Endpoints(
        **{name: paths.get(kind, "") for kind, name in ENDPOINT_OF_REQUEST.items()},
        # Zero or less would mean a heartbeat without pause.
        max_period_s=usable_number(beat.attribute("max-period"), least=1) if beat else None,
        reads_confirmed=is_yes(validation.attribute("confirmed")) if validation else False,
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


def read_job_answer(data: bytes) -> JobAnswer:
    """``<jobrequest>``. The archives to delete come on every status.

    An offer that cannot be followed but names its job and frame is an :class:`UnreadableOffer`; without the two the
    whole answer is malformed.
    """
    root = read_document(data, "jobrequest", limit=MAX_JOB_ANSWER_BYTES)
    status = read_status(root, JobStatus)
    job = root.child("job")
    if status == JobStatus.OK and job is None:
        raise MalformedMessage("<jobrequest> has status 0 and no <job>")
    answer = JobAnswer(
        status=status,
        frames_remaining=_frames_remaining(root),
        figures=_figures(root),
        delete_archives=tuple(
            read_md5(file, "md5") for file in root.children("file") if file.attribute("action") == "delete"
        ),
        wait_s=usable_number(root.attribute("sheepfold-wait-s"), least=1),
    )
    if status != JobStatus.OK or job is None:
        return answer
    need_attributes(job, "job", "id", "frame")
    try:
        return replace(answer, offer=_offer(job))
    except MalformedMessage as error:
        return replace(answer, unreadable=_unreadable(job, error.reason))


def _frames_remaining(root: Element) -> int | None:
    """Generations until 2016 say it in ``<frames>``, later ones in ``<stats>``."""
    frames, stats = root.child("frames"), root.child("stats")
    if frames is not None:
        return usable_number(frames.attribute("remaining"))
    return usable_number(stats.attribute("frame_remaining")) if stats is not None else None


def _figures(root: Element) -> ServerFigures | None:
    stats = root.child("stats")
    if stats is None:
        return None
    return ServerFigures(
        renderable_projects=usable_number(stats.attribute("renderable_project")) or 0,
        waiting_projects=usable_number(stats.attribute("waiting_project")) or 0,
        connected_machines=usable_number(stats.attribute("connected_machine")) or 0,
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
    need_attributes(job, "job", "id", "path", "frame", *([] if chunks else ["archive_md5"]))
    renderer = job.child("renderer")
    if renderer is None:
        raise MalformedMessage("<job> has no <renderer>")
    need_attributes(renderer, "renderer", "md5", "commandline")
    script, name, target = job.child("script"), job.attribute("name"), job.attribute("validation_url")
    # Thousands of frames of one job are held at a time, and the server writes the same texts for each: kept once.
    return JobOffer(
        job_id=sys.intern(job.attribute("id") or ""),
        frame=job.attribute("frame") or "",
        path=sys.intern(job.attribute("path") or ""),
        use_gpu=is_yes(job.attribute("use_gpu")),
        archive_md5=sys.intern(read_md5(job, "archive_md5")) if job.attribute("archive_md5") else "",
        revision=sys.intern(job.attribute("revision") or ""),
        renderer=_renderer(
            read_md5(renderer, "md5"),
            renderer.attribute("commandline") or "",
            renderer.attribute("update_method") or "",
        ),
        script=sys.intern(script.text if script else ""),
        extras=job.attribute("extras"),
        synchronous_upload=is_yes(job.attribute("synchronous_upload")),
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
        need_attributes(chunk, "chunk", "id", "md5")
    return _same_chunks(tuple((chunk.attribute("id") or "", read_md5(chunk, "md5")) for chunk in chunks))


@functools.lru_cache(maxsize=64)
def _same_chunks(pairs: tuple[tuple[str, str], ...]) -> tuple[Chunk, ...]:
    return tuple(Chunk(id=id_, md5=md5) for id_, md5 in pairs)


@functools.lru_cache(maxsize=64)
def _renderer(md5: str, command_line: str, update_method: str) -> RendererOffer:
    return RendererOffer(md5=md5, command_line=command_line, update_method=update_method)


def read_validation_answer(data: bytes) -> ValidationAnswer:
    return ValidationAnswer(status=read_status(read_document(data, "jobvalidate"), ValidationStatus))


def read_beat_answer(data: bytes) -> BeatAnswer:
    return BeatAnswer(status=read_status(read_document(data, "keepmealive"), BeatStatus))


def read_error_answer(data: bytes) -> ErrorAnswer:
    return ErrorAnswer(status=read_status(read_document(data, "error"), ErrorStatus))


def read_project_answer(data: bytes) -> ProjectAnswer:
    root = read_document(data, "project")
    job, name = root.attribute("job") or "", root.attribute("name") or ""
    return ProjectAnswer(status=read_status(root, ProjectStatus), job=job, name=name)
