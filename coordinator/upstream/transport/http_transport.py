"""One HTTP exchange with the render server: made within a deadline, answered within bounds, or silent.

It knows nothing of the protocol: :class:`HttpTransport` takes a :class:`HttpCall` and a function that reads the answer,
and either returns what that function made of it or raises :class:`ServerSilent`, whatever went wrong on the way.

**What is repeated by itself.** Only a call that says it may arrive twice (``repeated``): twice more on a lost
connection or 502 to 504. Nothing is repeated longer than the call's deadline.

**Where a call may lead.** Any host: services keep downloads and uploads apart, and the cookie jar gives a host its own
cookies only. Two things are refused: any scheme but http and https, and the step from https down to http. Redirects
follow the same rule, and keep method and body (a POST that turns into a GET would lose a frame) except on 303.

**Secrets.** A query may hold the password. No exception of this file has a query in its text or as its context, and
urllib3, which logs URLs, is kept quiet (``connections.py``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

from coordinator.upstream.errors import BadAnswer, BadResponse, DeadlinePassed, ServerSilent

from .addresses import is_this_machine, public, resolve
from .connections import NO_PROXY, ONCE, REPEATED, SharedJar, ThreadSession
from .deadline import Deadline
from .inward import InwardGuard

#: Seconds for one whole exchange, redirects and repetitions included; files get more as they move.
ANSWER_DEADLINE_S = 120.0
#: A transfer that is slower than this on average is as good as dead. Bytes per second.
SLOWEST_TRANSFER = 8 * 1024
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Below 500, the statuses that say "later" to the client as a whole: request timeout, too many requests.
LATER = frozenset({408, 429})
#: Statuses that stand for a server that is not there.
ABSENT = LATER | {502, 503, 504}


T = TypeVar("T")
Response = requests.Response


@dataclass(frozen=True, kw_only=True)
class HttpCall:
    """One exchange that is about to happen."""

    exchange: str
    #: What ``path`` is relative to; when it is https, so is everything else.
    base: str
    #: As the server wrote it: absolute, relative or a whole URL, perhaps with a query, which may be a secret.
    path: str = dataclasses.field(repr=False)
    jar: SharedJar
    method: str = "GET"
    params: Mapping[str, str] | None = dataclasses.field(default=None, repr=False)
    #: Makes (body, content type) anew for each try; it may extend the deadline as it is read.
    body: Callable[[Deadline], tuple[Any, str]] | None = None
    repeated: bool = False
    deadline_s: float = ANSWER_DEADLINE_S
    abandoned: Callable[[], bool] | None = None
    #: Texts that no reason may show.
    secrets: tuple[str, ...] = dataclasses.field(default=(), repr=False)


class HttpTransport:
    """Makes calls for any number of threads; each has connections of its own."""

    def __init__(self, connect_timeout_s: float, read_timeout_s: float, guard: InwardGuard) -> None:
        self._guard = guard
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._under_way: set[Deadline] = set()
        self._sessions: weakref.WeakSet[ThreadSession] = weakref.WeakSet()

    def make(self, call: HttpCall, read: Callable[[requests.Response, Deadline], T]) -> T:
        """Makes the call and reads its answer; every way to get none becomes :class:`ServerSilent`."""
        code: int | None = None
        with (
            Deadline(call.deadline_s, abandoned=call.abandoned, guard=self._guard) as deadline,
            self._counted(deadline),
        ):
            try:
                with self._answer(call, deadline) as response:
                    # Headers that were cut look complete, and so does a body without a length.
                    deadline.check()
                    result = read(response, deadline)
                deadline.check()
                return result
            except DeadlinePassed as error:
                reason = deadline.ended or str(error)
            except BadResponse as error:
                reason, code = deadline.ended or str(error), None if deadline.ended else error.code
            except _NETWORK_ERRORS as error:
                reason = deadline.ended or _reason(error)
        for secret in filter(None, call.secrets):
            reason = reason.replace(secret, "***")
        # Raised out here, it has no context: the error above holds the whole URL.
        if code is None or code in ABSENT:
            raise ServerSilent(call.exchange, _shown(call), reason)
        raise BadAnswer(call.exchange, _shown(call), reason, code)

    @contextlib.contextmanager
    def _counted(self, deadline: Deadline) -> Generator[None]:
        with self._lock:
            self._under_way.add(deadline)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(deadline)

    def _answer(self, call: HttpCall, deadline: Deadline) -> requests.Response:
        """The answer at the end of all redirects, its body unread."""
        url, method, params = resolve(call.base, call.path), call.method, call.params
        # A deadline can cut a connection, but not an attempt to make one.
        connect_s, read_s = self._timeouts
        timeouts = (min(connect_s, call.deadline_s), min(read_s, call.deadline_s))
        for _ in range(MAX_REDIRECTS + 1):
            self._guard.check_literal(urlsplit(url).hostname or "")
            body, content_type = call.body(deadline) if call.body and method == "POST" else (None, None)
            response = self._session(call).request(
                method,
                url,
                params=params,
                data=body,
                headers={"Content-Type": content_type} if content_type else None,
                timeout=timeouts,
                proxies=NO_PROXY if is_this_machine(url) else None,
                allow_redirects=False,
                stream=True,
            )
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                return response
            response.close()
            url = resolve(response.url, location.encode("latin-1", "replace").decode("utf-8", "replace"))
            method, params = ("GET" if response.status_code == 303 else method), None
        raise BadResponse(f"more than {MAX_REDIRECTS} redirects")

    def _session(self, call: HttpCall) -> ThreadSession:
        """This thread's connections, with the call's cookies."""
        name = "repeated" if call.repeated else "once"
        session: ThreadSession | None = getattr(self._of_thread, name, None)
        if session is None:
            session = ThreadSession(REPEATED if call.repeated else ONCE)
            setattr(self._of_thread, name, session)
            with self._lock:
                self._sessions.add(session)
        session.cookies = call.jar
        return session

    def abort(self) -> None:
        """Ends every exchange that is under way: each raises :class:`ServerSilent` in its own thread."""
        with self._lock:
            for deadline in self._under_way:
                deadline.cut("the farm is stopping")

    def close(self) -> None:
        """Closes the idle connections of all threads."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()


_NETWORK_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def _shown(call: HttpCall) -> str:
    try:
        return public(urljoin(call.base, call.path))
    except ValueError:
        return public(call.base)


def fixed_body(data: str | bytes, content_type: str) -> Callable[[Deadline], tuple[Any, str]]:
    """The same body for each try (:attr:`HttpCall.body`)."""
    return lambda _deadline: (data, content_type)


def multipart(name: str, content: Any, kind: str, deadline: Deadline) -> tuple[Any, str]:
    """A form with one part, ``file``, that is read as it is sent."""
    encoder = MultipartEncoder({"file": (name, content, kind)})
    sent = 0

    def moved(monitor: MultipartEncoderMonitor) -> None:
        nonlocal sent
        deadline.extend((monitor.bytes_read - sent) / SLOWEST_TRANSFER)
        sent = monitor.bytes_read

    return MultipartEncoderMonitor(encoder, moved), encoder.content_type


def _reason(error: BaseException) -> str:
    """Why there was no answer, in words that hold no URL (the texts of requests and urllib3 do)."""
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)):
        return "no answer in time"
    cause = error
    for _ in range(10):
        inner = [getattr(cause, "reason", None), *cause.args, cause.__cause__]
        following = next((other for other in inner if isinstance(other, BaseException) and other is not cause), None)
        if following is None:
            break
        cause = following
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, (HTTPException, urllib3.exceptions.ProtocolError)):
        return f"the answer broke off ({type(cause).__name__})"
    return type(cause).__name__
