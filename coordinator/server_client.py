"""Speaks to the render server: one method per exchange, on top of ``exchange.py``.

What comes back is a message of the protocol, whatever its status, or one of three exceptions: :class:`ServerSilent`
(no usable answer: try again later), :class:`ArchiveGone` (404 on a download), :class:`DownloadCancelled` (we asked).

**What is repeated by itself.** Only what may arrive twice without harm: heartbeats and downloads, both GET. Not the
sign-in (each makes a session, and a wrong password repeated locks an account), not a job request (each answer grants a
frame), not uploads and reports (their queue repeats them anyway), not the log-out (nobody waits for it).

**How parameters travel.** In the query, for all exchanges; the frame and the log are a multipart part named ``file``.
The specification allows GET or POST, and the original client, which every server of this protocol had to work with,
writes a query.

**Where endpoints lead.** They are resolved against the root URL, or, when the sign-in was redirected, against where it
ended (``http`` to ``https``, or a host with ``www.``).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, quote_plus, urljoin, urlsplit

from .deadline import Deadline
from .exchange import (
    ANSWER_DEADLINE_S,
    SLOWEST_TRANSFER,
    Call,
    Exchanges,
    Response,
    ServerSilent,
    SharedJar,
    Unusable,
    multipart,
    pieces_of,
    public,
)
from .protocol import reading, writing
from .protocol.dialects import SPECIFICATION
from .protocol.document import MAX_JOB_ANSWER_BYTES, MAX_MESSAGE_BYTES
from .protocol.errors import MalformedMessage
from .protocol.messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    Endpoints,
    ErrorAnswer,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobRequest,
    RamUnit,
    SignInAnswer,
    SignInRequest,
    ValidationAnswer,
)
from .protocol.status import ErrorStatus, SignInStatus

__all__ = ["ArchiveGone", "DownloadCancelled", "ServerClient", "ServerSilent"]

logger = logging.getLogger(__name__)

#: A farm that stops does not wait for its server.
LOG_OUT_DEADLINE_S = 5.0
#: Below 500, the statuses that say "later": request timeout, too many requests.
LATER = frozenset({408, 429})
#: Types of pictures that not every system's table knows.
PICTURE_TYPES = {".exr": "image/x-exr", ".hdr": "image/vnd.radiance"}

T = TypeVar("T")


class ArchiveGone(Exception):
    """The server no longer has the archive (HTTP 404)."""


class DownloadCancelled(Exception):
    """The download was given up because its caller no longer wants it."""


@dataclass(frozen=True, kw_only=True)
class _Live:
    """A server session: swapped as a whole, so that no thread mixes two."""

    jar: SharedJar
    #: What relative endpoints are relative to.
    base: str
    endpoints: Endpoints


class ServerClient:
    """One account's session at one server. Threads share it: one cookie jar, connections of their own.

    ``root_url`` is the server's root (without ``/server``); raises ``ValueError`` when it is no http or https URL.
    """

    def __init__(
        self,
        root_url: str,
        *,
        config_path: str = "/server/config.php",
        ram_unit: RamUnit = RamUnit.BYTES,
        connect_timeout_s: float = 10,
        read_timeout_s: float = 60,
        answer_deadline_s: float = ANSWER_DEADLINE_S,
    ) -> None:
        if urlsplit(root_url).scheme not in ("http", "https") or not urlsplit(root_url).hostname:
            raise ValueError("the server's root URL begins with http:// or https:// and a host")
        self._root = root_url.rstrip("/") + "/"
        self._config_path = config_path.lstrip("/")
        self._ram_unit = ram_unit
        self._exchanges = Exchanges(connect_timeout_s, read_timeout_s)
        self._deadline_s = answer_deadline_s
        self._live: _Live | None = None

    def __repr__(self) -> str:
        return f"ServerClient({public(self._root)!r})"

    @property
    def endpoints(self) -> Endpoints | None:
        """Where the session's exchanges live; ``None`` while there is no session."""
        live = self._live
        return live.endpoints if live else None

    def sign_in(self, request: SignInRequest) -> SignInAnswer:
        """Asks for a session, with a fresh cookie jar. On status 0 it replaces the one before."""
        password = request.credentials.password
        call = Call(
            exchange="sign-in",
            base=self._root,
            path=self._config_path,
            jar=SharedJar(),
            params=writing.write_sign_in_request(request, dataclasses.replace(SPECIFICATION, ram_unit=self._ram_unit)),
            deadline_s=self._deadline_s,
            secrets=(password, quote(password), quote_plus(password)),
        )
        answer, final_url = self._exchanges.make(
            call, lambda response, _: (_message(response, reading.read_sign_in_answer), response.url)
        )
        if answer.status == SignInStatus.OK and answer.endpoints:
            self._live = _Live(jar=call.jar, base=self._base_after(final_url), endpoints=answer.endpoints)
        return answer

    def request_job(self, request: JobRequest) -> JobAnswer:
        """Asks for a frame."""
        query, cache, kind = writing.write_job_request(request)
        call = self._call("job request", "request_job", method="POST", params=query, body=lambda _: (cache, kind or ""))
        return self._exchanges.make(
            call, lambda response, _: _message(response, reading.read_job_answer, limit=MAX_JOB_ANSWER_BYTES)
        )

    def validate(self, upload: FrameUpload, picture: Path) -> ValidationAnswer:
        """Uploads a frame, streamed from disk. Raises ``OSError`` when the picture cannot be opened.

        Servers that do not say they read ``confirmed`` are not sent it.
        """
        if not (self.endpoints and self.endpoints.reads_confirmed):
            upload = dataclasses.replace(upload, is_confirmed=False)
        kind = (
            PICTURE_TYPES.get(picture.suffix.lower())
            or mimetypes.guess_type(picture.name)[0]
            or "application/octet-stream"
        )
        with picture.open("rb") as file:

            def body(deadline: Deadline) -> tuple[Any, str]:
                file.seek(0)
                return multipart(picture.name, file, kind, deadline)

            params = writing.write_frame_upload(upload)
            call = self._call("validation", "validate_job", method="POST", params=params, body=body)
            return self._exchanges.make(call, lambda response, _: _message(response, reading.read_validation_answer))

    def beat(self, beat: Beat) -> BeatAnswer:
        """Sends one heartbeat."""
        call = self._call("heartbeat", "keepmealive", params=writing.write_beat(beat), repeated=True)
        return self._exchanges.make(call, lambda response, _: _message(response, reading.read_beat_answer))

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer:
        """Tells the server that a frame failed, and how. A server that takes no reports counts as told."""
        if self.endpoints and not self.endpoints.error:
            return ErrorAnswer(status=ErrorStatus.OK)
        text = log.encode("utf-8", "replace")
        call = self._call(
            "error report",
            "error",
            method="POST",
            params=writing.write_error_report(report),
            body=lambda deadline: multipart("log.txt", text, "text/plain; charset=utf-8", deadline),
        )
        return self._exchanges.make(call, lambda response, _: _message(response, reading.read_error_answer))

    def download(
        self, request: ArchiveRequest, target: BinaryIO, *, limit_bytes: int, cancelled: Callable[[], bool]
    ) -> None:
        """Streams an archive into ``target``, which holds part of it when this raises. Nothing is verified here.

        Raises :class:`ArchiveGone`, :class:`DownloadCancelled`, :class:`ServerSilent` (also above ``limit_bytes``), and
        whatever ``target`` raises.
        """
        call = self._call(
            "archive download",
            "download_archive",
            params=writing.write_archive_request(request),
            repeated=True,
            abandoned=cancelled,
        )
        try:
            self._exchanges.make(call, lambda response, deadline: _save(response, deadline, target, limit_bytes))
        except ServerSilent:
            if cancelled():
                raise DownloadCancelled("the download was given up on request") from None
            raise

    def log_out(self) -> None:
        """Ends the session at the server; afterwards there is none, whatever the server says."""
        live, self._live = self._live, None
        if live and live.endpoints.logout:
            call = Call(
                exchange="log-out",
                base=live.base,
                path=live.endpoints.logout,
                jar=live.jar,
                deadline_s=min(self._deadline_s, LOG_OUT_DEADLINE_S),
            )
            self._exchanges.make(call, lambda response, _: None)

    def abort(self) -> None:
        """Ends every exchange that is under way: each raises :class:`ServerSilent` in its own thread."""
        self._exchanges.abort()

    def close(self) -> None:
        """Closes the idle connections of all threads."""
        self._exchanges.close()

    def freeze(self) -> str:
        """The session as JSON, cookies included: a secret. Empty when there is no session."""
        live = self._live
        if live is None:
            return ""
        return json.dumps(
            {
                "root": self._root,
                "base": live.base,
                "endpoints": dataclasses.asdict(live.endpoints),
                "cookies": [{name.lstrip("_"): value for name, value in vars(one).items()} for one in live.jar],
            }
        )

    def thaw(self, text: str) -> None:
        """Takes up a frozen session. One of another server, or one that cannot be read, is left."""
        if not text:
            return
        try:
            data = json.loads(text)
            if data["root"] != self._root:
                return
            jar = SharedJar()
            for one in data["cookies"]:
                jar.set_cookie(Cookie(**one))
            self._live = _Live(jar=jar, base=data["base"], endpoints=Endpoints(**data["endpoints"]))
        except (ValueError, TypeError, KeyError):
            logger.warning("the remembered server session cannot be read; signing in again")

    def _base_after(self, final_url: str) -> str:
        """The root URL, or the one a redirected sign-in shows to be the real one."""
        plain = public(final_url)
        if plain == public(urljoin(self._root, self._config_path)):
            return self._root
        return plain.removesuffix(self._config_path) if plain.endswith("/" + self._config_path) else urljoin(plain, "/")

    def _call(self, exchange: str, endpoint: str, **details: Any) -> Call:
        live = self._live
        if live is None:
            raise ServerSilent(exchange, public(self._root), "not signed in")
        path = getattr(live.endpoints, endpoint)
        return Call(exchange=exchange, base=live.base, path=path, jar=live.jar, deadline_s=self._deadline_s, **details)


def _message(response: Response, read: Callable[[bytes], T], *, limit: int = MAX_MESSAGE_BYTES) -> T:
    """The protocol's message in the answer. A 4xx may carry one; its status says more than HTTP's."""
    code = response.status_code
    if code >= 500 or code in LATER:
        raise Unusable(f"HTTP {code}")
    data = bytearray()
    for piece in pieces_of(response, limit):
        data += piece
    try:
        return read(bytes(data))
    except MalformedMessage as error:
        raise Unusable(f"HTTP {code}, {error.reason}") from None


def _save(response: Response, deadline: Deadline, target: BinaryIO, limit: int) -> None:
    if response.status_code == 404:
        raise ArchiveGone("the server no longer has this archive (HTTP 404)")
    if response.status_code != 200:
        raise Unusable(f"HTTP {response.status_code}")
    for piece in pieces_of(response, limit):
        deadline.extend(len(piece) / SLOWEST_TRANSFER)
        target.write(piece)
