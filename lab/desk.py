"""Sessions, jobs and archives of ``protocol.txt`` over HTTP. What a client says about a frame is in ``frame_desk.py``.

Parameters are taken from the query and from the body alike. Cookies carry the session.
"""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from coordinator.protocol.errors import MalformedMessage
from coordinator.protocol.messages import (
    ArchiveRequest,
    ComputeMethod,
    Endpoints,
    JobAnswer,
    JobOffer,
    JobRequest,
    RendererOffer,
    SignInAnswer,
    SignInRequest,
)
from coordinator.protocol.reading import (
    read_archive_request,
    read_job_request,
    read_sign_in_request,
)
from coordinator.protocol.status import JobStatus, SignInStatus
from coordinator.protocol.writing import (
    write_job_answer,
    write_sign_in_answer,
)

from .endpoints import COOKIE, ENDPOINTS, REVISION, xml
from .errors import BadForm, UnknownProject
from .forms import read_form
from .frames import Granted
from .office import Office
from .projects import Compute
from .script import COMMAND_LINE, UPDATE_METHOD, script_for
from .sessions import SessionState, WebSession
from .settings import Mode

log = logging.getLogger(__name__)

_RESTING = {Mode.MAINTENANCE: JobStatus.MAINTENANCE, Mode.OVERLOADED: JobStatus.OVERLOADED}


class Desk:
    """Sign-in, log-out, job request and downloads; one method per exchange."""

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
        return xml(write_job_answer(await self._office.ask(self._answer_job, request.cookies.get(COOKIE), asked)))

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
        if session is None or not session.is_alive:
            return None
        try:
            project = self._office.projects.get(asked.job)
        except UnknownProject:
            return None
        if asked.type == "job":
            return self._office.store.archive(project.archive_md5) if asked.revision == REVISION else None
        renderer = self._office.renderers.get(session.platform)
        return renderer.path if renderer else None


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
    return xml(write_sign_in_answer(SignInAnswer(status=status, endpoints=endpoints)))
