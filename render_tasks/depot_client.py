"""The worker's side of the depot; the only file here that imports requests.

Every call ends in an answer or in one of the errors of :mod:`render_tasks.errors`; which of them may be asked again is
said there. The farm token travels in a header alone and is in no error text: those are built from the call's name and
the class of what went wrong, never from a URL.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import requests

from .contract import (
    ArchiveRef,
    ContractError,
    FailureReport,
    FrameReport,
    JoinAnswer,
    JoinRequest,
    from_json,
    to_json,
)
from .errors import (
    ArchiveMissing,
    AttemptDropped,
    BadArchive,
    DepotRefused,
    DepotSilent,
    FrameRejected,
    StaleLease,
    TokenRefused,
)

#: Seconds: a coordinator on the LAN is there at once or not at all.
CONNECT_TIMEOUT_S = 5
#: Seconds between two bytes of an answer.
READ_TIMEOUT_S = 30
#: The depot reads and checks the whole picture, and writes its ledger, before it answers.
DELIVER_TIMEOUT_S = 120
CHUNK_BYTES = 1024 * 1024
#: Answers that say "not now" rather than "no".
_NOT_NOW = frozenset({408, 425, 429})


class DepotClient:
    """One method per call. Threads may share it."""

    def __init__(self, root_url: str, token: str, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._root = root_url.rstrip("/")
        self._token = token
        self._read_timeout_s = read_timeout_s
        self._mine = threading.local()

    def __repr__(self) -> str:
        return f"DepotClient({self._root!r})"

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Asks to be one of the farm's nodes. Raises DepotSilent, TokenRefused, DepotRefused."""
        answer = self._call("join", "POST", "/api/join", data=to_json(request).encode(), json=True)
        try:
            return from_json(JoinAnswer, answer.content)
        except ContractError as error:
            raise DepotSilent("join", str(error)) from None

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> None:
        """The start-fence. Returns when this attempt may be rendered; raises StaleLease when it may not.

        ``claim`` is a random word of this one execution: the same word again asks after an answer that was lost.
        """
        params = {"node": node_id, "attempt": attempt, "claim": claim}
        self._call("start", "POST", f"/api/leases/{quote(lease_id, safe='')}/start", params=params)

    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, picture: Path) -> None:
        """Streams a picture from disk; returns when the depot has it on its own.

        Raises DepotSilent, StaleLease, FrameRejected, TokenRefused, DepotRefused, and OSError when the picture is gone.
        """
        params = {
            "node": node_id,
            "attempt": attempt,
            "name": report.name,
            "md5": report.md5,
            "render_s": report.render_s,
            "memory_kb": report.memory_kb,
            "cores": report.cores,
        }
        with picture.open("rb") as body:
            path = f"/api/leases/{quote(lease_id, safe='')}/frame"
            self._call("deliver", "PUT", path, params=params, data=body, read_timeout_s=DELIVER_TIMEOUT_S)

    def fail(
        self, lease_id: str, attempt: int, node_id: str, report: FailureReport, *, timeout_s: float | None = None
    ) -> None:
        """Reports an attempt that gave no picture. Raises DepotSilent, StaleLease, TokenRefused, DepotRefused."""
        self._call(
            "report a failure",
            "POST",
            f"/api/leases/{quote(lease_id, safe='')}/failure",
            params={"node": node_id, "attempt": attempt},
            data=to_json(report).encode(),
            json=True,
            read_timeout_s=timeout_s,
        )

    def fetch_archive(self, ref: ArchiveRef, target: BinaryIO, stopped: Callable[[], bool] = lambda: False) -> None:
        """Streams an archive into ``target``; its MD5 is the caller's business.

        Raises ArchiveMissing, BadArchive (more bytes than promised), DepotSilent (cut off), AttemptDropped when
        ``stopped`` turns true on the way.
        """
        call = "fetch an archive"
        try:
            answer = self._call(call, "GET", f"/api/archives/{ref.md5}", stream=True)
        except DepotRefused as error:
            if error.status == 404:
                raise ArchiveMissing(ref.md5) from None
            raise
        with answer:
            came = 0
            try:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    if stopped():
                        raise AttemptDropped("stopped while an archive was fetched")
                    came += len(chunk)
                    if came > ref.size:
                        raise BadArchive(f"archive {ref.md5} is larger than its {ref.size} bytes")
                    target.write(chunk)
            except requests.RequestException as error:
                raise DepotSilent(call, type(error).__name__) from None
        if came < ref.size:
            raise DepotSilent(call, f"cut off after {came} of {ref.size} bytes")

    def _call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        params: dict[str, str | int | float] | None = None,
        data: bytes | BinaryIO | None = None,
        json: bool = False,
        stream: bool = False,
        read_timeout_s: float | None = None,
    ) -> requests.Response:
        read_s = read_timeout_s or self._read_timeout_s
        try:
            answer = self._session().request(
                method,
                self._root + path,
                params=params,
                data=data,
                headers={"Content-Type": "application/json" if json else "application/octet-stream"},
                timeout=(min(CONNECT_TIMEOUT_S, read_s), read_s),
                allow_redirects=False,
                stream=stream,
            )
        except requests.RequestException as error:
            raise DepotSilent(call, type(error).__name__) from None
        if answer.status_code in (200, 201, 204):
            return answer
        with answer:
            raise _refusal(call, answer)

    def _session(self) -> requests.Session:
        if not hasattr(self._mine, "session"):
            session = requests.Session()
            # Neither a studio's proxy for the internet nor a .netrc entry has any say about the LAN.
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self._token}"
            self._mine.session = session
        return self._mine.session


def _refusal(call: str, answer: requests.Response) -> Exception:
    status = answer.status_code
    if status in (401, 403):
        return TokenRefused()
    if status == 409 and call != "join":
        return StaleLease(_detail(answer))
    if status == 422 and call == "deliver":
        return FrameRejected(_detail(answer))
    # The depot answers a body that was cut off on the way with 400: it is sent again.
    if status in _NOT_NOW or not 400 <= status < 500 or (status == 400 and call == "deliver"):
        return DepotSilent(call, f"status {status}")
    return DepotRefused(call, status, _detail(answer))


def _detail(answer: requests.Response) -> str:
    """What the depot says about its refusal, in one line for a person."""
    try:
        text = answer.text
    except (requests.RequestException, OSError):
        return ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(answer.json()["detail"])
    return " ".join(text.split())[:300]
