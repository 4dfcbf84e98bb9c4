"""What a client says about a frame it holds, over HTTP: finished, still at it, or failed.

Where the specification names no status for what happened (a heartbeat or an error report of a dead session), 202 is
answered, which a client knows from job requests and otherwise reads as an unknown error.
"""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from lab.errors import BadForm
from lab.server.forms import Form, read_form
from lab.server.services import LabServices
from lab.server.store.frame_views import Verdict, Wanted
from lab.server.store.frames import MAX_LOG_BYTES
from lab.server.store.web_sessions import SessionState, WebSession
from lab.server.test_frames import is_test_job
from sheepfold.errors import NotAPicture
from sheepfold.limited.errors import ChildUnavailable
from sheepfold.pictures import Picture
from sheepfold.protocol.errors import MalformedMessage
from sheepfold.protocol.messages import Beat, BeatAnswer, ErrorAnswer, ErrorReport, FrameUpload, ValidationAnswer
from sheepfold.protocol.reading_requests import read_beat, read_error_report, read_frame_upload
from sheepfold.protocol.status import BeatStatus, ErrorStatus, JobStatus, ValidationStatus
from sheepfold.protocol.writing import write_beat_answer, write_error_answer, write_validation_answer

from .endpoints import COOKIE, REVISION, xml

log = logging.getLogger(__name__)

#: One request's error log; more of it is not read.
MAX_REPORT_BYTES = 16 * 1024 * 1024


class FrameRoutes:
    """Validation, heartbeat and error report; one method per exchange."""

    def __init__(self, services: LabServices) -> None:
        self._services = services

    async def validate(self, request: Request) -> Response:
        """Takes the picture of a frame; answers once it is checked and stored."""
        status = await self._validate(request)
        return xml(write_validation_answer(ValidationAnswer(status=status)))

    async def _validate(self, request: Request) -> ValidationStatus:
        services = self._services
        session = await services.threads.run_in_db_thread(services.sessions.find, request.cookies.get(COOKIE))
        is_live = session is not None and session.state is SessionState.LIVE
        path = services.store.incoming()
        try:
            form = await read_form(request, to=path if is_live else None, limit=services.settings.max_frame_bytes)
            if session is None or not is_live:
                return ValidationStatus.SESSION_DEAD
            upload = read_frame_upload(form.fields)
            if form.file is None:
                return ValidationStatus.MISSING_PARAMETER
            return await self._check_picture(session, upload, form.file)
        except MalformedMessage:
            return ValidationStatus.MISSING_PARAMETER
        except BadForm as error:
            log.warning("an unreadable upload: %s", error)
            return ValidationStatus.NOT_AN_IMAGE if error.too_large else ValidationStatus.UPLOAD_FAILED
        except ChildUnavailable as error:
            log.error("an upload cannot be looked at: %s", error)
            return ValidationStatus.UPLOAD_FAILED
        except OSError as error:
            log.error("an upload could not be stored: %s", error.strerror or type(error).__name__)
            return ValidationStatus.UPLOAD_FAILED
        finally:
            path.unlink(missing_ok=True)

    async def _check_picture(self, session: WebSession, upload: FrameUpload, path: Path) -> ValidationStatus:
        services = self._services
        wanted = await services.threads.run_in_db_thread(self._wanted, session, upload)
        if wanted is not Wanted.TAKE or upload.revision not in ("", REVISION):
            return ValidationStatus.OK if wanted is Wanted.HAVE else ValidationStatus.MISSING_PARAMETER
        try:
            picture = await services.threads.run_in_image_thread(services.untrusted.inspect, path)
        except NotAPicture as error:
            log.warning("job %s frame %s from %s: %s", upload.job, upload.frame, session.login, error)
            await services.threads.run_in_db_thread(self._refuse, session, upload)
            return ValidationStatus.NOT_AN_IMAGE
        return await services.threads.run_in_db_thread(self._take, session, upload, picture, path)

    def _wanted(self, session: WebSession, upload: FrameUpload) -> Wanted:
        tests = self._services.test_frames
        if tests is None or not is_test_job(upload.job):
            return self._services.frames.wanted(session, upload.job, upload.frame)
        if tests.is_due(session, upload.job, upload.frame):
            return Wanted.TAKE
        return Wanted.HAVE if tests.is_done(session, upload.job, upload.frame) else Wanted.UNKNOWN

    def _refuse(self, session: WebSession, upload: FrameUpload) -> None:
        if self._services.test_frames and is_test_job(upload.job):
            self._services.test_frames.failed(session)
            return
        self._services.frames.refuse(session, upload.job, upload.frame)
        self._services.frames.note_refusal(upload, None)
        self._services.sessions.note_broken_frame(session)

    def _take(self, session: WebSession, upload: FrameUpload, picture: Picture, path: Path) -> ValidationStatus:
        if self._services.test_frames and is_test_job(upload.job):
            self._services.test_frames.passed(session, upload.render_time_s)
            return ValidationStatus.OK
        verdict = self._services.frames.take(session, upload, picture, path)
        if verdict is Verdict.ACCEPTED:
            if picture.is_empty and (wronged := self._services.frames.take_back_refusal(upload.job, upload.frame)):
                self._services.sessions.take_back_broken_frame(wronged)
            return ValidationStatus.OK
        why = self._services.frames.note_refusal(upload, picture)
        log.warning("job %s frame %s from %s is broken: %s", upload.job, upload.frame, session.login, why)
        self._services.sessions.note_broken_frame(session)
        return ValidationStatus.BROKEN_FRAME

    async def beat(self, request: Request) -> Response:
        """Session heartbeat: for one lease, or for all of the session."""
        try:
            asked = read_beat((await read_form(request)).fields)
        except (BadForm, MalformedMessage):
            return xml(write_beat_answer(BeatAnswer(status=BeatStatus.STOP)))
        status = await self._services.threads.run_in_db_thread(self._beat, request.cookies.get(COOKIE), asked)
        return xml(write_beat_answer(BeatAnswer(status=status)))

    def _beat(self, token: str | None, asked: Beat) -> BeatStatus | int:
        session = self._services.sessions.find(token)
        if session is None or not session.is_alive:
            return int(JobStatus.SESSION_DEAD)
        if asked.job is None or asked.frame is None:
            self._services.frames.beat_all(session)
            return BeatStatus.OK
        tests = self._services.test_frames
        if tests and is_test_job(asked.job):
            return BeatStatus.OK if tests.is_due(session, asked.job, asked.frame) else BeatStatus.STOP
        return self._services.frames.beat(session, asked.job, asked.frame)

    async def report_error(self, request: Request) -> Response:
        """A frame that could not be rendered, with its log."""
        path = self._services.store.incoming()
        try:
            known = await self._services.threads.run_in_db_thread(self._is_alive, request.cookies.get(COOKIE))
            form = await _read_report(request, path if known else None)
            asked = read_error_report(form.fields)
            text = _end_of(form.file) if form.file else form.fields.get("file", "").encode()
            status = await self._services.threads.run_in_db_thread(self._fail, request.cookies.get(COOKIE), asked, text)
        except MalformedMessage:
            status = int(ValidationStatus.MISSING_PARAMETER)
        finally:
            path.unlink(missing_ok=True)
        return xml(write_error_answer(ErrorAnswer(status=status)))

    def _is_alive(self, token: str | None) -> bool:
        session = self._services.sessions.find(token)
        return session is not None and session.is_alive

    def _fail(self, token: str | None, asked: ErrorReport, text: bytes) -> ErrorStatus | int:
        session = self._services.sessions.find(token)
        if session is None or not session.is_alive:
            return int(JobStatus.SESSION_DEAD)
        if asked.job is None or asked.frame is None:
            log.info("%s reports trouble of type %s without a frame", session.login, asked.type)
            return ErrorStatus.OK
        tests = self._services.test_frames
        if tests and is_test_job(asked.job):
            if tests.is_due(session, asked.job, asked.frame):
                tests.failed(session)
            return ErrorStatus.OK
        if not self._services.frames.fail(session, asked.job, asked.frame, text):
            log.info("%s reports job %s frame %s, which is not theirs", session.login, asked.job[:20], asked.frame[:20])
        return ErrorStatus.OK


async def _read_report(request: Request, path: Path | None) -> Form:
    """The report, its log in ``path``; of a client that nobody knows no log is kept."""
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
