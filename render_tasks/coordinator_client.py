"""The worker's HTTP client of the coordinator; the only file here that imports requests.

Every call ends in an answer or in one of the errors of :mod:`render_tasks.errors`; which of them may be asked again is
said there. Farm token and node secret travel in headers alone and are in no error text: those are built from the call's
name and the class of what went wrong, never from a URL.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter

from sheepfold.contract.api_messages import (
    NODE_SECRET_HEADER,
    ArchiveManifest,
    ArchiveSources,
    FailureReport,
    FrameReport,
    JoinAnswer,
    JoinRequest,
    StartAnswer,
)
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ContractError
from sheepfold.contract.orders import ArchiveRef
from sheepfold.sharing.pieces import pieces_in
from sheepfold.tls.certificates import COORDINATOR_NAME
from sheepfold.tls.contexts import TlsFiles

from .errors import (
    ArchiveMissing,
    CoordinatorFailed,
    CoordinatorRefused,
    CoordinatorUnreachable,
    FrameRejected,
    StaleLease,
    TokenRefused,
)
from .untrusted.files import open_file

T = TypeVar("T")

#: Seconds: a coordinator on the LAN is there at once or not at all.
CONNECT_TIMEOUT_S = 5
#: Seconds between two bytes of an answer.
READ_TIMEOUT_S = 30
#: The coordinator reads and checks the whole picture, and writes its ledger, before it answers.
DELIVER_TIMEOUT_S = 120
#: Pieces keep coming from the peers that are known.
SOURCES_TIMEOUT_S = 3
#: Answers that say "not now" rather than "no".
_NOT_NOW = frozenset({408, 425, 429})


class CoordinatorClient:
    """The calls of the coordinator's LAN API. Threads share it."""

    def __init__(
        self,
        root_url: str,
        token: str,
        node_secret: str,
        *,
        tls: TlsFiles | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """``node_secret`` proves that this worker is the node its calls name, and the certificate of ``tls``, too.

        ``token`` may be empty where there is a certificate.
        """
        self._root, self._tls = root_url.rstrip("/"), tls
        self._token, self._node_secret = token, node_secret
        self._read_timeout_s = read_timeout_s
        #: The one used last is used first, so that what a burst needed ends for want of use.
        self._idle: list[requests.Session] = []

    def __repr__(self) -> str:
        return f"CoordinatorClient({self._root!r})"

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Asks to be one of the farm's nodes. Raises CoordinatorUnreachable, TokenRefused, CoordinatorRefused."""
        answer = self._call("join", "POST", "/api/join", data=to_json(request).encode(), json=True)
        return _read("join", JoinAnswer, answer)

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer:
        """The start-fence. Returns when this attempt may be rendered; raises StaleLease when it may not.

        ``claim`` is a random word of this one execution: the same word again asks after an answer that was lost.
        """
        params: dict[str, str | int | float] = {"node": node_id, "attempt": attempt, "claim": claim}
        answer = self._call("start", "POST", f"/api/leases/{quote(lease_id, safe='')}/start", params=params)
        return _read("start", StartAnswer, answer)

    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, picture: Path) -> None:
        """Streams a picture from disk; returns when the coordinator has it on its own.

        Raises CoordinatorUnreachable, StaleLease, FrameRejected, TokenRefused, CoordinatorRefused, and OSError when the
        picture is gone.
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
        with open_file(picture.parent, picture.name) as body:
            path = f"/api/leases/{quote(lease_id, safe='')}/frame"
            self._call("deliver", "PUT", path, params=params, data=body, read_timeout_s=DELIVER_TIMEOUT_S)

    def fail(
        self, lease_id: str, attempt: int, node_id: str, report: FailureReport, *, timeout_s: float | None = None
    ) -> None:
        """Reports an attempt that gave no picture.

        Raises CoordinatorUnreachable, StaleLease, TokenRefused, CoordinatorRefused.
        """
        self._call(
            "report a failure",
            "POST",
            f"/api/leases/{quote(lease_id, safe='')}/failure",
            params={"node": node_id, "attempt": attempt},
            data=to_json(report).encode(),
            json=True,
            read_timeout_s=timeout_s,
        )

    def plan(self, ref: ArchiveRef, node_id: str, own_url: str) -> ArchiveManifest:
        """How an archive travels, and from where. ``own_url``: where this node will serve it, empty: nowhere.

        Raises ArchiveMissing, CoordinatorUnreachable, TokenRefused, CoordinatorRefused.
        """
        call = "ask for an archive"
        answer = self._about_archive(call, f"/api/archives/{ref.md5}", ref.md5, node_id, own_url)
        plan = _read(call, ArchiveManifest, answer)
        if plan.piece_bytes < 1 or len(plan.sums) != pieces_in(plan.size, plan.piece_bytes):
            raise CoordinatorUnreachable(call, "size and pieces of its manifest do not fit")
        return plan

    def sources(self, md5: str, node_id: str, own_url: str) -> ArchiveSources:
        """From where an archive can be had by now; raises as :meth:`plan` does."""
        call = "ask who has an archive"
        answer = self._about_archive(call, f"/api/archives/{md5}/sources", md5, node_id, own_url, SOURCES_TIMEOUT_S)
        return _read(call, ArchiveSources, answer)

    def own_address(self) -> str:
        """This PC's address on the way to the coordinator: what other PCs of the LAN reach it by. Raises OSError."""
        parts = urlsplit(self._root)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        for family, kind, protocol, _, address in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.connect(address)  # sends nothing: it only chooses the way
                return probe.getsockname()[0]
        raise OSError("this PC's network has no route to the coordinator")

    def _about_archive(
        self, call: str, path: str, md5: str, node_id: str, own_url: str, timeout_s: float | None = None
    ) -> requests.Response:
        try:
            return self._call(call, "GET", path, params={"node": node_id, "url": own_url}, read_timeout_s=timeout_s)
        except CoordinatorRefused as error:
            if error.status == 404:
                raise ArchiveMissing(md5) from None
            raise

    def _call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        params: dict[str, str | int | float] | None = None,
        data: bytes | BinaryIO | None = None,
        json: bool = False,
        read_timeout_s: float | None = None,
    ) -> requests.Response:
        read_s = read_timeout_s or self._read_timeout_s
        try:
            with self._session() as session:
                answer = session.request(
                    method,
                    self._root + path,
                    params=params,
                    data=data,
                    headers={"Content-Type": "application/json" if json else "application/octet-stream"},
                    timeout=(min(CONNECT_TIMEOUT_S, read_s), read_s),
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            raise CoordinatorUnreachable(call, f"{self._root}: {_why(error)}") from None
        if answer.status_code in (200, 201, 204):
            return answer
        with answer:
            raise _refusal(call, answer)

    @contextlib.contextmanager
    def _session(self) -> Generator[requests.Session]:
        """A connection for one call. A node has dozens of threads, and never more connections than it uses at once."""
        try:
            session = self._idle.pop()
        except IndexError:
            session = requests.Session()
            # Neither a studio's proxy for the internet nor a .netrc entry has any say about the LAN.
            session.trust_env = False
            if self._tls is not None:
                session.mount("https://", _CoordinatorOnly())
                session.verify = str(self._tls.authority)
                session.cert = (str(self._tls.certificate), str(self._tls.key))
            if self._token:
                session.headers["Authorization"] = f"Bearer {self._token}"
            session.headers[NODE_SECRET_HEADER] = self._node_secret
        try:
            yield session
        finally:
            self._idle.append(session)


class _CoordinatorOnly(HTTPAdapter):
    """Whoever is called must be the farm's coordinator, whatever the address is."""

    def init_poolmanager(self, *arguments: Any, **how: Any) -> None:
        super().init_poolmanager(*arguments, **how, server_hostname=COORDINATOR_NAME)


def _read(call: str, kind: type[T], answer: requests.Response) -> T:
    try:
        return from_json(kind, answer.content)
    except ContractError as error:
        raise CoordinatorUnreachable(call, str(error)) from None


def _refusal(call: str, answer: requests.Response) -> Exception:
    status = answer.status_code
    if status == 401:
        return TokenRefused()
    if status == 409 and call != "join":
        return StaleLease(_detail(answer))
    if status == 422 and call == "deliver":
        return FrameRejected(_detail(answer))
    if status == 500:
        return CoordinatorFailed(call)
    # The coordinator answers a body that was cut off on the way with 400: it is sent again.
    if status in _NOT_NOW or not 400 <= status < 500 or (status == 400 and call == "deliver"):
        return CoordinatorUnreachable(call, f"status {status}")
    return CoordinatorRefused(call, status, _detail(answer))


def _why(error: requests.RequestException) -> str:
    """In words without a URL; nobody listening there is told from silence."""
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.ReadTimeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "who answers there is not this farm's coordinator, and was told nothing"
    if isinstance(error, requests.ConnectionError):
        return "nobody listens there" if "refused" in str(error) else "it cannot be reached"
    return type(error).__name__


def _detail(answer: requests.Response) -> str:
    """What the coordinator says about its refusal, in one line for a person."""
    try:
        text = answer.text
    except (requests.RequestException, OSError):
        return ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(answer.json()["detail"])
    return " ".join(text.split())[:300]
