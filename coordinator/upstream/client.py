"""Speaks to the render server: one method per exchange, on top of ``http_transport.py``.

What comes back is a message of the protocol, whatever its status, or one of these exceptions: :class:`ServerSilent`
(no usable answer: try again later; a :class:`BadAnswer` where the server is there and said something else),
:class:`ArchiveGone` (404 on a download), :class:`DownloadCancelled` (we asked), and at the sign-in
:class:`UnknownGeneration`.

**What is repeated by itself.** Only what may arrive twice without harm: heartbeats and downloads, both GET. Not the
sign-in (each makes a session, and a wrong password repeated locks an account), not a job request (each answer grants a
frame), not uploads and reports (their queue repeats them anyway), not the log-out (nobody waits for it).

**How parameters travel.** In the query; the sign-in of later generations is a form, and the frame and the log are a
multipart part named ``file``. What is said depends on the generation (:mod:`sheepfold.protocol.dialects`): the
sign-in on the row that the operator names, the rest on the request types of the answer to it.

**Where endpoints lead.** They are resolved against the root URL, or, when the sign-in was redirected, against where it
ended (``http`` to ``https``, or a host with ``www.``). A frame goes to the address that its offer names, if it does.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from coordinator.upstream.exchanges.answers import message_of, save, validation_of
from coordinator.upstream.exchanges.frame_upload import content_type_of, name_of, with_figures
from coordinator.upstream.exchanges.offers import usable
from coordinator.upstream.exchanges.server_session import ServerSession
from coordinator.upstream.exchanges.sign_in import base_after, sign_in_call
from coordinator.upstream.exchanges.speed_test import SpeedTests
from coordinator.upstream.transport.addresses import public
from coordinator.upstream.transport.connections import SharedJar
from coordinator.upstream.transport.deadline import Deadline
from coordinator.upstream.transport.http_transport import (
    ANSWER_DEADLINE_S,
    HttpCall,
    HttpTransport,
    fixed_body,
    multipart,
)
from coordinator.upstream.transport.inward import InwardGuard
from sheepfold.protocol import reading_answers, writing
from sheepfold.protocol.dialects import SPECIFICATION, Dialect, spoken_with
from sheepfold.protocol.messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobRequest,
    ProjectAnswer,
    ProjectStep,
    ValidationAnswer,
)
from sheepfold.protocol.session_messages import Endpoints, SignInAnswer, SignInRequest
from sheepfold.protocol.status import ErrorStatus, SignInStatus
from sheepfold.protocol.xml_document import MAX_JOB_ANSWER_BYTES

from .errors import DownloadCancelled, ServerSilent, UnknownGeneration

logger = logging.getLogger(__name__)

#: A farm that stops does not wait for its server.
LOG_OUT_DEADLINE_S = 5.0
#: The time of a smaller upload says more about the server than about the line.
TELLING_BYTES = 256 * 1024
#: Somebody waits for the end of a job; what the server cannot be told now it learns frame by frame.
PROJECT_DEADLINE_S = 3.0


class ServerClient:
    """One account's session at one server. Threads share it: one cookie jar, connections of their own.

    ``root_url`` is the server's root (without ``/server``); raises ``ValueError`` when it is no http or https URL.
    ``dialect`` is the row that the sign-in is written in.
    """

    def __init__(
        self,
        root_url: str,
        *,
        config_path: str = "/server/config.php",
        dialect: Dialect = SPECIFICATION,
        connect_timeout_s: float = 10,
        read_timeout_s: float = 60,
        answer_deadline_s: float = ANSWER_DEADLINE_S,
    ) -> None:
        if urlsplit(root_url).scheme not in ("http", "https") or not urlsplit(root_url).hostname:
            raise ValueError("the server's root URL begins with http:// or https:// and a host")
        self._root = root_url.rstrip("/") + "/"
        self._config_path = config_path.lstrip("/")
        self._dialect = dialect
        #: Signs in as the password does, where the server gave one; kept with the session.
        self.public_key: str | None = None
        #: Bytes a second, as measured last; 0: not measured.
        self.network_down = self.network_up = 0
        self._exchanges = HttpTransport(connect_timeout_s, read_timeout_s, InwardGuard(self._root))
        self._deadline_s = answer_deadline_s
        self._live: ServerSession | None = None

    def __repr__(self) -> str:
        return f"ServerClient({public(self._root)!r})"

    @property
    def endpoints(self) -> Endpoints | None:
        """Where the session's exchanges live; ``None`` while there is no session."""
        live = self._live
        return live.endpoints if live else None

    def sign_in(self, request: SignInRequest) -> SignInAnswer:
        """Asks for a session, with a fresh cookie jar. On status 0 it replaces the one before.

        Raises :class:`UnknownGeneration`, logged out again, where no dialect of ours suits the server.
        """
        path = self._config_path
        call = sign_in_call(self._root, path, request, self._dialect, deadline_s=self._deadline_s)
        answer, final_url = self._exchanges.make(
            call, lambda response, _: (message_of(response, reading_answers.read_sign_in_answer), response.url)
        )
        if answer.status == SignInStatus.OK and answer.endpoints:
            self._live = self._begun(answer.endpoints, base_after(self._root, path, final_url), call.jar, answer)
            self.public_key = answer.public_key
        return answer

    def _begun(self, endpoints: Endpoints, base: str, jar: SharedJar, answer: SignInAnswer) -> ServerSession:
        spoken = spoken_with(endpoints, self._dialect)
        session = ServerSession(jar=jar, base=base, endpoints=endpoints, dialect=spoken or self._dialect)
        if spoken is None:
            with contextlib.suppress(ServerSilent):
                self._log_out(session)
            raise UnknownGeneration(endpoints, answer.unknown_requests)
        return session

    def request_job(self, request: JobRequest) -> JobAnswer:
        """Asks for a frame. An offer that comes has one way to its scene, and one that we can go."""
        session = self._session("job request")
        query, cache, kind = writing.write_job_request(request, session.dialect)
        body = None if cache is None else fixed_body(cache, kind or "")
        call = self._call(session, "job request", "request_job", method="POST", params=query, body=body)
        answer = self._exchanges.make(
            call, lambda response, _: message_of(response, reading_answers.read_job_answer, limit=MAX_JOB_ANSWER_BYTES)
        )
        return usable(answer, session.endpoints, session.dialect)

    def validate(self, upload: FrameUpload, picture: Path, url: str | None = None) -> ValidationAnswer:
        """Uploads a frame, streamed from disk, to ``url`` where its offer names one.

        HTTP 413 means what status 306 means. Servers that do not say they read ``confirmed`` are not sent it. Raises
        ``OSError`` when the picture cannot be opened.
        """
        if not (self.endpoints and self.endpoints.reads_confirmed):
            upload = replace(upload, is_confirmed=False)
        with picture.open("rb") as file:

            def body(deadline: Deadline) -> tuple[Any, str]:
                file.seek(0)
                return multipart(name_of(upload, picture), file, content_type_of(picture), deadline)

            call, begun = self._validation(upload, url, body), time.monotonic()
            answer = self._exchanges.make(call, lambda response, _: validation_of(response))
            if (size := os.fstat(file.fileno()).st_size) >= TELLING_BYTES:
                self.network_up = int(size / max(time.monotonic() - begun, 0.001))
            return answer

    def _validation(
        self, upload: FrameUpload, url: str | None, body: Callable[[Deadline], tuple[Any, str]]
    ) -> HttpCall:
        session = self._session("validation")
        details: dict[str, Any] = {"method": "POST", "body": body}
        if url is None:
            return self._call(
                session, "validation", "validate_job", params=writing.write_frame_upload(upload), **details
            )
        return session.call_at("validation", with_figures(url, upload), deadline_s=self._deadline_s, **details)

    def beat(self, beat: Beat) -> BeatAnswer:
        """Sends a heartbeat for one frame or for the whole session; it may be sent twice when a connection broke."""
        session = self._session("heartbeat")
        params = writing.write_beat(beat, session.dialect)
        call = self._call(session, "heartbeat", "keepmealive", params=params, repeated=True)
        return self._exchanges.make(call, lambda response, _: message_of(response, reading_answers.read_beat_answer))

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer:
        """Tells the server that a frame failed, and how. A server that takes no reports counts as told."""
        session = self._session("error report")
        if not session.endpoints.error:
            return ErrorAnswer(status=ErrorStatus.OK)
        text = log.encode("utf-8", "replace")
        call = self._call(
            session,
            "error report",
            "error",
            method="POST",
            params=writing.write_error_report(report, session.dialect),
            body=functools.partial(multipart, "log.txt", text, "text/plain; charset=utf-8"),
        )
        return self._exchanges.make(call, lambda response, _: message_of(response, reading_answers.read_error_answer))

    def tell_project(self, step: ProjectStep) -> ProjectAnswer:
        """Stops or resumes a project at a server of ours; ``endpoints.project`` says whether it is one."""
        deadline_s, params = min(self._deadline_s, PROJECT_DEADLINE_S), writing.write_project_step(step)
        call = self._session("project").call("project", "project", deadline_s=deadline_s, method="POST", params=params)
        return self._exchanges.make(call, lambda response, _: message_of(response, reading_answers.read_project_answer))

    def download(
        self, request: ArchiveRequest, target: BinaryIO, *, limit_bytes: int, cancelled: Callable[[], bool]
    ) -> None:
        """Streams an archive into ``target``, which holds part of it when this raises. Nothing is verified here.

        Raises :class:`ArchiveGone`, :class:`DownloadCancelled`, :class:`ServerSilent` (also above ``limit_bytes``), and
        whatever ``target`` raises.
        """
        session = self._session("archive download")
        endpoint, by_type = session.endpoint_of(request)
        call = self._call(
            session,
            "archive download",
            endpoint,
            params=writing.write_archive_request(request, by_type=by_type),
            repeated=True,
            abandoned=cancelled,
        )
        try:
            self._exchanges.make(call, lambda response, deadline: save(response, deadline, target, limit_bytes))
        except ServerSilent:
            if cancelled():
                raise DownloadCancelled("the download was given up on request") from None
            raise

    def run_speed_test(self, tests: SpeedTests, targets: tuple[str, ...]) -> None:
        """Measures what the server would like to know, and tells it; takes seconds."""
        session = self._session("speed test")
        if targets and session.endpoints.speedtest_answer:
            results = tests.run(self._exchanges, session, targets, deadline_s=self._deadline_s)
            self.network_down = max(result.speed for result in results)

    def log_out(self) -> None:
        """Ends the session at the server; afterwards there is none, whatever the server says."""
        session, self._live = self._live, None
        if session:
            self._log_out(session)

    def _log_out(self, session: ServerSession) -> None:
        if session.endpoints.logout:
            deadline_s = min(self._deadline_s, LOG_OUT_DEADLINE_S)
            call = session.call("log-out", "logout", deadline_s=deadline_s)
            self._exchanges.make(call, lambda response, _: None)

    def abort(self) -> None:
        """Ends every exchange that is under way: each raises :class:`ServerSilent` in its own thread."""
        self._exchanges.abort()

    def close(self) -> None:
        """Closes the idle connections of all threads."""
        self._exchanges.close()

    def freeze(self) -> str:
        """The session and the public key as JSON, cookies included: a secret. Empty when there is neither."""
        session, key = self._live, self.public_key
        if session is None and key is None:
            return ""
        return json.dumps({"root": self._root, "key": key, "session": session.frozen() if session else None})

    def thaw(self, text: str) -> None:
        """Takes up what was frozen. What is of another server, or cannot be read, is left."""
        if not text:
            return
        try:
            data = json.loads(text)
            if data["root"] == self._root:
                self.public_key = data["key"]
                self._live = ServerSession.thawed(data["session"]) if data["session"] else None
        except (ValueError, TypeError, KeyError):
            logger.warning("the remembered server session cannot be read; signing in again")

    def _session(self, exchange: str) -> ServerSession:
        session = self._live
        if session is None:
            raise ServerSilent(exchange, public(self._root), "not signed in")
        return session

    def _call(self, session: ServerSession, exchange: str, endpoint: str, **details: Any) -> HttpCall:
        return session.call(exchange, endpoint, deadline_s=self._deadline_s, **details)
