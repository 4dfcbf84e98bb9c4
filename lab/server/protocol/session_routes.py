"""Sessions, jobs and archives over HTTP. What a client says about a frame is in ``frame_routes.py``.

Parameters are taken from the query and from the body alike. Cookies carry the session.
"""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from lab.errors import BadForm, UnknownProject
from lab.server.chunks import PieceFile
from lab.server.forms import MAX_BODY_BYTES, STRANGERS_BODY_BYTES, read_form
from lab.server.services import LabServices
from lab.server.store.accounts import Account
from lab.server.store.frame_views import Granted
from lab.server.store.web_sessions import SessionState, WebSession
from lab.server.test_frames import is_test_job
from lab.settings import Mode
from sheepfold.protocol.errors import MalformedMessage
from sheepfold.protocol.messages import ArchiveRequest, JobAnswer, JobOffer, JobRequest, ServerFigures
from sheepfold.protocol.reading_requests import read_archive_request, read_job_request, read_sign_in_request
from sheepfold.protocol.session_messages import SignInAnswer, SignInRequest
from sheepfold.protocol.status import JobStatus, SignInStatus
from sheepfold.protocol.writing import write_job_answer, write_sign_in_answer
from sheepfold.protocol.xml_document import write_document
from sheepfold.serving.errors import TooManyGuesses

from .endpoints import COOKIE, ENDPOINTS, PROJECT_PATH, REVISION, xml
from .offers import address_of_request, offer_of, work_of_project, work_of_test_frame
from .pieces import PieceResponse, takes_pieces

log = logging.getLogger(__name__)

#: A client of ours that has no job asks again after this long, so that a new project begins within seconds.
SHORTEST_WAIT_S = 2
LONGEST_WAIT_S = 60
#: All sessions together; each request costs the database thread about a millisecond.
QUESTIONS_A_SECOND = 25
#: Sessions that were heard of in this time share the requests.
ASKING_S = 180.0

_RESTING = {Mode.MAINTENANCE: JobStatus.MAINTENANCE, Mode.OVERLOADED: JobStatus.OVERLOADED}


class SessionRoutes:
    """Sign-in, log-out, job request and downloads; one method per exchange."""

    def __init__(self, services: LabServices) -> None:
        self._services = services

    async def sign_in(self, request: Request) -> Response:
        """Session creation; a refusal is a document with a status, never an HTTP error."""
        try:
            form = await read_form(request, body_limit=STRANGERS_BODY_BYTES)
        except BadForm:
            return _signed_in(SignInStatus.MISSING_PARAMETER)
        if not form.fields.get("version"):
            return _signed_in(SignInStatus.NO_VERSION)
        if _is_older(form.fields["version"], self._services.settings.min_version):
            return _signed_in(SignInStatus.CLIENT_TOO_OLD)
        try:
            asked = read_sign_in_request(form.fields)
        except MalformedMessage:
            return _signed_in(SignInStatus.MISSING_PARAMETER)
        # Not even an expired cookie is a reason to refuse: clients that are answered 103 sleep for 5 to 15 minutes.
        try:
            signed_in = await self._services.check_sign_in(asked.credentials.login, asked.credentials.password)
        except TooManyGuesses as error:  # no status says "later", and a refusal would end a client for good
            return Response(status_code=429, headers={"retry-after": error.retry_after})
        if signed_in is None:
            return _signed_in(SignInStatus.AUTHENTICATION_FAILED)
        token = await self._services.threads.run_in_db_thread(
            self._open_session, signed_in.account, asked, request.cookies.get(COOKIE)
        )
        log.info("%s signed in with %s %s", signed_in.account.login, asked.hardware.os, asked.hardware.bits)
        project = PROJECT_PATH if signed_in.account.is_owner else ""
        answer = _signed_in(SignInStatus.OK, self._services.settings.max_period_s, signed_in.public_key, project)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    def _open_session(self, account: Account, asked: SignInRequest, former_token: str | None) -> str:
        services = self._services
        former = services.sessions.find(former_token)
        tests = services.settings.test_frames
        token = services.sessions.open(account.login, asked.version[:50], asked.hardware, tests_wanted=tests)
        session = services.sessions.find(token)
        if former is not None and session is not None and former.login == account.login:
            services.frames.take_over(former, session)
        return token

    async def log_out_as_specified(self, request: Request) -> Response:
        """Session end at the specification's address, whose query says that it is one."""
        if request.query_params.get("mode") != "logout":
            return Response(status_code=404)
        return await self.log_out(request)

    async def log_out(self, request: Request) -> Response:
        """Session end: its cookie dies and its leases are free."""
        await self._services.threads.run_in_db_thread(self._log_out, request.cookies.get(COOKIE))
        answer = Response(status_code=200, media_type="text/plain")
        answer.delete_cookie(COOKIE)
        return answer

    def _log_out(self, token: str | None) -> None:
        session = self._services.sessions.find(token)
        if session is not None:
            self._services.frames.release(session)
            self._services.sessions.close(session)
            log.info("%s logged out", session.login)

    async def request_job(self, request: Request) -> Response:
        """Job request: one frame, or why there is none."""
        known = await self._services.threads.run_in_db_thread(self._is_alive, request.cookies.get(COOKIE))
        try:
            form = await read_form(request, body_limit=MAX_BODY_BYTES if known else STRANGERS_BODY_BYTES)
            asked = read_job_request(form.fields, form.body)
        except (BadForm, MalformedMessage) as error:
            # The specification has no status for it. Of those that clients know, this one makes them wait and ask on.
            log.warning("an unreadable job request: %s", error)
            status = JobStatus.INTERNAL_ERROR if known else JobStatus.SESSION_DEAD
            return xml(write_job_answer(JobAnswer(status=status)))
        token, address = request.cookies.get(COOKIE), address_of_request(request)
        answer, cut_bytes = await self._services.threads.run_in_db_thread(self._answer_job, token, asked, address)
        if answer.offer is not None and cut_bytes:
            pieces = await self._services.chunks.of(answer.offer.archive_md5, cut_bytes)
            answer = replace(answer, offer=replace(answer.offer, chunks=pieces))
        return xml(write_job_answer(answer))

    def _is_alive(self, token: str | None) -> bool:
        session = self._services.sessions.find(token)
        return session is not None and session.is_alive

    def _answer_job(self, token: str | None, asked: JobRequest, address: str) -> tuple[JobAnswer, int]:
        """The answer, and the size of its archive where the client may be given it in pieces, else 0."""
        services = self._services
        unneeded = services.projects.no_longer_needed(asked.held_archives)
        session = services.sessions.find(token)
        refusal = self._refusal(session)
        if session is None or refusal is not None:
            return JobAnswer(status=refusal or JobStatus.SESSION_DEAD), 0
        renderer_md5 = services.renderers[session.platform].md5
        if services.test_frames and (test := services.test_frames.next_job(session)):
            work = work_of_test_frame(test, services.test_frames.scene, asked.compute_method)
            return self._offered(offer_of(work, renderer_md5, address), unneeded), 0
        granted = services.frames.grant(session, asked.compute_method)
        if not isinstance(granted, Granted):
            wait_s = wait_for_jobs_s(services.sessions.seen_within(ASKING_S))
            return JobAnswer(status=granted, frames_remaining=0, delete_archives=unneeded, wait_s=wait_s), 0
        offer = offer_of(work_of_project(granted, asked.compute_method), renderer_md5, address)
        cut_bytes = granted.project.archive_bytes if takes_pieces(session.version) else 0
        return self._offered(offer, unneeded), cut_bytes

    def _offered(self, offer: JobOffer, unneeded: tuple[str, ...]) -> JobAnswer:
        services = self._services
        active = services.projects.active()
        return JobAnswer(
            status=JobStatus.OK,
            offer=offer,
            frames_remaining=sum(project.remaining for project in active),
            figures=ServerFigures(renderable_projects=len(active), connected_machines=services.sessions.count()),
            delete_archives=unneeded,
        )

    def _refusal(self, session: WebSession | None) -> JobStatus | None:
        if session is None or session.state is SessionState.EXPIRED:
            return JobStatus.SESSION_DEAD
        if session.state is SessionState.DISABLED:
            return JobStatus.SESSION_DISABLED
        account = self._services.accounts.get(session.login)
        if account is None or not account.may_render:
            return JobStatus.NO_RENDERING_RIGHT
        if self._services.mode in _RESTING:
            return _RESTING[self._services.mode]
        return None if session.platform in self._services.renderers else JobStatus.NO_RENDERER

    async def download(self, request: Request) -> Response:
        """A renderer or a project archive, or 404."""
        return await self._download(request, None)

    async def download_binary(self, request: Request) -> Response:
        """A renderer, as clients since 2024 ask for it."""
        return await self._download(request, "binary")

    async def download_chunk(self, request: Request) -> Response:
        """A piece of a project archive, as clients since 2024 ask for it."""
        return await self._download(request, "chunk")

    async def _download(self, request: Request, kind: str | None) -> Response:
        try:
            asked = read_archive_request((await read_form(request)).fields, kind=kind)
        except (BadForm, MalformedMessage):
            return Response(status_code=404)
        found = await self._services.threads.run_in_db_thread(self._archive, request.cookies.get(COOKIE), asked)
        if isinstance(found, PieceFile) and found.path.is_file():
            return PieceResponse(found)
        if isinstance(found, Path) and found.is_file():
            return FileResponse(found, media_type="application/zip")
        return Response(status_code=404)

    def _archive(self, token: str | None, asked: ArchiveRequest) -> Path | PieceFile | None:
        services = self._services
        session = services.sessions.find(token)
        if session is None or not session.is_alive:
            return None
        tests = services.test_frames
        if asked.type == "chunk":
            is_test = tests is not None and asked.chunk == tests.scene.md5
            return tests.scene.path if tests and is_test else services.chunks.find(asked.chunk or "")
        if tests is not None and is_test_job(asked.job):
            return tests.scene.path if asked.type == "job" else self._renderer(session)
        try:
            project = services.projects.get(asked.job)
        except UnknownProject:
            return None
        if asked.type == "job":
            return services.store.archive(project.archive_md5) if asked.revision in (None, "", REVISION) else None
        return self._renderer(session)

    def _renderer(self, session: WebSession) -> Path | None:
        renderer = self._services.renderers.get(session.platform)
        return renderer.path if renderer else None

    async def take_speed_test(self, request: Request) -> Response:
        """What a client of 2021 and later measured unasked: taken, and forgotten."""
        with contextlib.suppress(BadForm):
            await read_form(request)
        return xml(write_document("speedtest", {"@status": 0}))


def _is_older(version: str, oldest: str) -> bool:
    """Whether ``3.3.9`` comes before ``3.3.10``; what is no number counts as 0."""
    if not oldest:
        return False

    def numbers(text: str) -> list[int]:
        parts = [int(part) if part.isascii() and part.isdigit() else 0 for part in text[:50].split(".")]
        return parts + [0] * (10 - len(parts))

    return numbers(version) < numbers(oldest)


def wait_for_jobs_s(sessions: int) -> int:
    """Seconds until a session without a job may ask again.

    Short, so that a project that arrives is begun at once; with many sessions longer, for one of them asks soon anyway.
    """
    return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, math.ceil(sessions / QUESTIONS_A_SECOND)))


def _signed_in(
    status: SignInStatus, max_period_s: int | None = None, public_key: str | None = None, project: str = ""
) -> Response:
    endpoints = None
    if status is SignInStatus.OK:
        endpoints = replace(ENDPOINTS, max_period_s=max_period_s, project=project)
    return xml(write_sign_in_answer(SignInAnswer(status=status, endpoints=endpoints, public_key=public_key)))
