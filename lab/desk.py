"""Every exchange of ``protocol.txt`` over HTTP: where clients of the protocol are served.

Parameters are taken from the query and from the body alike. Cookies carry the session. Where the specification names
no status for what happened (a heartbeat or an error report of a dead session), 202 is answered, which a client knows
from job requests and otherwise reads as an unknown error.
"""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from coordinator.protocol.errors import MalformedMessage
from coordinator.protocol.messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    ComputeMethod,
    Endpoints,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobOffer,
    JobRequest,
    RendererOffer,
    SignInAnswer,
    SignInRequest,
    ValidationAnswer,
)
from coordinator.protocol.reading import (
    read_archive_request,
    read_beat,
    read_error_report,
    read_frame_upload,
    read_job_request,
    read_sign_in_request,
)
from coordinator.protocol.status import BeatStatus, ErrorStatus, JobStatus, SignInStatus, ValidationStatus
from coordinator.protocol.writing import (
    write_beat_answer,
    write_error_answer,
    write_job_answer,
    write_sign_in_answer,
    write_validation_answer,
)

from .errors import BadForm, NotAPicture, UnknownProject
from .forms import Form, read_form
from .frames import MAX_LOG_BYTES, Granted, Verdict, Wanted
from .office import Office
from .pictures import Picture, inspect
from .projects import Compute
from .script import COMMAND_LINE, UPDATE_METHOD, script_for
from .sessions import SessionState, WebSession
from .settings import Mode

log = logging.getLogger(__name__)

COOKIE = "sheepfold_session"
#: Projects cannot be changed once they are submitted, so there is only ever this revision.
REVISION = "0"
#: One request's error log; more of it is not read.
MAX_REPORT_BYTES = 16 * 1024 * 1024

ENDPOINTS = Endpoints(
    validate_job="/server/send_frame.php",
    request_job="/server/request_job.php",
    download_archive="/server/download.php",
    error="/server/error.php",
    keepmealive="/server/keepmealive.php",
    logout="/account.php?mode=logout&worker=1",
)
_RESTING = {Mode.MAINTENANCE: JobStatus.MAINTENANCE, Mode.OVERLOADED: JobStatus.OVERLOADED}


class Desk:
    """Where clients of the protocol are served; one method per exchange."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def sign_in(self, request: Request) -> Response:
        """Session creation."""
        try:
            form = await read_form(request)
        except BadForm:
            return _signed_in(SignInStatus.MISSING_PARAMETER)
        if not form.fields.get("version"):
            return _signed_in(SignInStatus.NO_VERSION)
        if _is_older(form.fields["version"], self._office.settings.min_version):
            return _signed_in(SignInStatus.CLIENT_TOO_OLD)
        try:
            asked = read_sign_in_request(form.fields)
        except MalformedMessage:
            return _signed_in(SignInStatus.MISSING_PARAMETER)
        former = await self._office.ask(self._office.sessions.find, request.cookies.get(COOKIE))
        if former is not None and former.state is SessionState.EXPIRED:
            answer = _signed_in(SignInStatus.WEB_SESSION_EXPIRED)
            answer.delete_cookie(COOKIE)
            return answer
        return await self._open_session(asked)

    async def _open_session(self, asked: SignInRequest) -> Response:
        account = await self._office.check_password(asked.credentials.login, asked.credentials.password)
        if account is None:
            return _signed_in(SignInStatus.AUTHENTICATION_FAILED)
        token = await self._office.ask(self._office.sessions.open, account.login, asked.version[:50], asked.hardware)
        log.info("%s signed in with %s %s", account.login, asked.hardware.os, asked.hardware.bits)
        answer = _signed_in(SignInStatus.OK, self._office.settings.max_period_s)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="lax")
        return answer

    async def log_out(self, request: Request) -> Response:
        """Session end: its cookie dies and its leases are free."""
        if request.query_params.get("mode") != "logout":
            return Response(status_code=404)
        await self._office.ask(self._log_out, request.cookies.get(COOKIE))
        answer = Response(status_code=200, media_type="text/plain")
        answer.delete_cookie(COOKIE)
        return answer

    def _log_out(self, token: str | None) -> None:
        session = self._office.sessions.find(token)
        if session is not None:
            self._office.frames.release(session)
            self._office.sessions.close(session)
            log.info("%s logged out", session.login)

    async def request_job(self, request: Request) -> Response:
        """Job request: one frame, or why there is none."""
        try:
            form = await read_form(request)
            asked = read_job_request(form.fields, form.body)
        except (BadForm, MalformedMessage) as error:
            log.warning("an unreadable job request: %s", error)
            return Response(status_code=400)
        return _xml(write_job_answer(await self._office.ask(self._answer_job, request.cookies.get(COOKIE), asked)))

    def _answer_job(self, token: str | None, asked: JobRequest) -> JobAnswer:
        office = self._office
        unneeded = office.projects.no_longer_needed(asked.held_archives)
        session = office.sessions.find(token)
        refusal = self._refusal(session)
        if session is None or refusal is not None:
            return JobAnswer(status=refusal or JobStatus.SESSION_DEAD)
        granted = office.frames.grant(session, asked.compute_method)
        if not isinstance(granted, Granted):
            return JobAnswer(status=granted, frames_remaining=0, delete_archives=unneeded)
        return JobAnswer(
            status=JobStatus.OK,
            offer=_offer(granted, asked.compute_method, office.renderers[session.platform].md5),
            frames_remaining=office.projects.frames_remaining(),
            delete_archives=unneeded,
        )

    def _refusal(self, session: WebSession | None) -> JobStatus | None:
        if session is None or session.state is SessionState.EXPIRED:
            return JobStatus.SESSION_DEAD
        if session.state is SessionState.DISABLED:
            return JobStatus.SESSION_DISABLED
        account = self._office.accounts.get(session.login)
        if account is None or not account.may_render:
            return JobStatus.NO_RENDERING_RIGHT
        if self._office.mode in _RESTING:
            return _RESTING[self._office.mode]
        return None if session.platform in self._office.renderers else JobStatus.NO_RENDERER

    async def download(self, request: Request) -> Response:
        """A renderer or a project archive, or 404."""
        try:
            asked = read_archive_request((await read_form(request)).fields)
        except (BadForm, MalformedMessage):
            return Response(status_code=404)
        path = await self._office.ask(self._archive, request.cookies.get(COOKIE), asked)
        if path is None or not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, media_type="application/zip")

    def _archive(self, token: str | None, asked: ArchiveRequest) -> Path | None:
        session = self._office.sessions.find(token)
        if not _is_alive(session):
            return None
        try:
            project = self._office.projects.get(asked.job)
        except UnknownProject:
            return None
        if asked.type == "job":
            return self._office.store.archive(project.archive_md5) if asked.revision == REVISION else None
        renderer = self._office.renderers.get(session.platform) if session else None
        return renderer.path if renderer else None

    async def validate(self, request: Request) -> Response:
        """A finished frame."""
        status = await self._validate(request)
        return _xml(write_validation_answer(ValidationAnswer(status=status)))

    async def _validate(self, request: Request) -> ValidationStatus:
        office = self._office
        session = await office.ask(office.sessions.find, request.cookies.get(COOKIE))
        welcome = session is not None and session.state is SessionState.LIVE
        path = office.store.incoming()
        try:
            form = await read_form(request, to=path if welcome else None, limit=office.settings.max_frame_bytes)
            if session is None or not welcome:
                return ValidationStatus.SESSION_DEAD
            upload = read_frame_upload(form.fields)
            if form.file is None:
                return ValidationStatus.MISSING_PARAMETER
            return await self._judge(session, upload, form.file)
        except MalformedMessage:
            return ValidationStatus.MISSING_PARAMETER
        except BadForm as error:
            log.warning("an unreadable upload: %s", error)
            return ValidationStatus.NOT_AN_IMAGE if error.too_large else ValidationStatus.UPLOAD_FAILED
        except OSError as error:
            log.error("an upload could not be stored: %s", error.strerror or type(error).__name__)
            return ValidationStatus.UPLOAD_FAILED
        finally:
            path.unlink(missing_ok=True)

    async def _judge(self, session: WebSession, upload: FrameUpload, path: Path) -> ValidationStatus:
        office = self._office
        wanted = await office.ask(office.frames.wanted, session, upload.job, upload.frame)
        if wanted is not Wanted.TAKE or upload.revision != REVISION:
            return ValidationStatus.OK if wanted is Wanted.HAVE else ValidationStatus.MISSING_PARAMETER
        try:
            picture = await office.look(inspect, path)
        except NotAPicture as error:
            log.warning("job %s frame %s from %s: %s", upload.job, upload.frame, session.login, error)
            await office.ask(self._refuse, session, upload)
            return ValidationStatus.NOT_AN_IMAGE
        return await office.ask(self._take, session, upload, picture, path)

    def _refuse(self, session: WebSession, upload: FrameUpload) -> None:
        self._office.frames.refuse(session, upload.job, upload.frame)
        self._office.sessions.note_broken_frame(session)

    def _take(self, session: WebSession, upload: FrameUpload, picture: Picture, path: Path) -> ValidationStatus:
        verdict = self._office.frames.take(session, upload, picture, path)
        if verdict is Verdict.ACCEPTED:
            return ValidationStatus.OK
        log.warning("job %s frame %s from %s is broken: %s", upload.job, upload.frame, session.login, picture)
        self._office.sessions.note_broken_frame(session)
        return ValidationStatus.BROKEN_FRAME

    async def beat(self, request: Request) -> Response:
        """Session heartbeat, for one lease."""
        try:
            asked = read_beat((await read_form(request)).fields)
        except (BadForm, MalformedMessage):
            return _xml(write_beat_answer(BeatAnswer(status=BeatStatus.STOP)))
        status = await self._office.ask(self._beat, request.cookies.get(COOKIE), asked)
        return _xml(write_beat_answer(BeatAnswer(status=status)))

    def _beat(self, token: str | None, asked: Beat) -> BeatStatus | int:
        session = self._office.sessions.find(token)
        if session is None or not _is_alive(session):
            return int(JobStatus.SESSION_DEAD)
        return self._office.frames.beat(session, asked.job, asked.frame)

    async def report_error(self, request: Request) -> Response:
        """A frame that could not be rendered, with its log."""
        path = self._office.store.incoming()
        try:
            form = await _read_report(request, path)
            asked = read_error_report(form.fields)
            text = _end_of(form.file) if form.file else form.fields.get("file", "").encode()
            status = await self._office.ask(self._fail, request.cookies.get(COOKIE), asked, text)
        except MalformedMessage:
            status = int(ValidationStatus.MISSING_PARAMETER)
        finally:
            path.unlink(missing_ok=True)
        return _xml(write_error_answer(ErrorAnswer(status=status)))

    def _fail(self, token: str | None, asked: ErrorReport, text: bytes) -> ErrorStatus | int:
        session = self._office.sessions.find(token)
        if session is None or not _is_alive(session):
            return int(JobStatus.SESSION_DEAD)
        if not self._office.frames.fail(session, asked.job, asked.frame, text):
            log.info("%s reports job %s frame %s, which is not theirs", session.login, asked.job[:20], asked.frame[:20])
        return ErrorStatus.OK


def _offer(granted: Granted, method: ComputeMethod, renderer_md5: str) -> JobOffer:
    project = granted.project
    gpu = project.compute is Compute.GPU or (project.compute is Compute.EITHER and method != ComputeMethod.CPU_ONLY)
    return JobOffer(
        job_id=str(project.id),
        frame=granted.frame,
        path=project.scene_path,
        use_gpu=gpu,
        archive_md5=project.archive_md5,
        revision=REVISION,
        renderer=RendererOffer(md5=renderer_md5, command_line=COMMAND_LINE, update_method=UPDATE_METHOD),
        script=script_for(use_gpu=gpu),
        extras=project.extras,
        synchronous_upload=project.test_frame,
        name=project.name,
    )


async def _read_report(request: Request, path: Path) -> Form:
    try:
        return await read_form(request, to=path, limit=MAX_REPORT_BYTES)
    except BadForm as error:
        # The log is lost; which frame failed may still stand in the query, and matters more.
        log.warning("an unreadable error report: %s", error)
        return Form(fields=dict(request.query_params))


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - MAX_LOG_BYTES))
        return file.read()


def _is_alive(session: WebSession | None) -> bool:
    # A disabled session may still beat, download and report: its frames are being rendered.
    return session is not None and session.state is not SessionState.EXPIRED


def _is_older(version: str, oldest: str) -> bool:
    """Whether ``3.3.9`` comes before ``3.3.10``; what is no number counts as 0."""
    if not oldest:
        return False

    def numbers(text: str) -> list[int]:
        parts = [int(part) if part.isascii() and part.isdigit() else 0 for part in text[:50].split(".")]
        return parts + [0] * (10 - len(parts))

    return numbers(version) < numbers(oldest)


def _signed_in(status: SignInStatus, max_period_s: int | None = None) -> Response:
    endpoints = None
    if status is SignInStatus.OK:
        endpoints = Endpoints(**{**vars(ENDPOINTS), "max_period_s": max_period_s})
    return _xml(write_sign_in_answer(SignInAnswer(status=status, endpoints=endpoints)))


def _xml(body: bytes) -> Response:
    return Response(body, media_type="text/xml")
