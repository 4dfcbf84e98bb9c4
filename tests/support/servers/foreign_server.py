"""A server of this protocol that was written by somebody else: standard library only, nothing of ours.

It differs from ours in everything the specification leaves open: other paths (one of them relative, one a whole
address), a cookie under another name that every call must carry, the bare ``&`` in its configuration, no XML
declaration, no ``extras``, no ``frames remaining``, other attribute orders, an unknown element, and it takes
parameters from the query, the form or both.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import quoteattr

CONFIG = """<config extra='1' status="0">
<!-- another hand wrote this -->
<request path="/meadow/next?lang=en" type="request-job"/>
<request type="validate-job" path="/meadow/done"/>
<request type="download-archive" path="files/fetch"/>
<request type="error" path="{root}/meadow/trouble"/>
<request max-period="40" type="keepmealive" path="/meadow/alive"/>
<request type="logout" path="/bye?mode=logout&worker=1"/>
<request type="speed-test" path="/speed"/>
</config>"""


@dataclass
class Job:
    """What the server hands out."""

    scene: bytes
    scene_md5: str
    renderer: bytes
    renderer_md5: str
    scene_path: str
    command_line: str
    frames: list[str]


@dataclass
class ReceivedRequests:
    """What clients did."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    beats: list[dict[str, str]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    sign_ins: list[dict[str, str]] = field(default_factory=list)
    logouts: int = 0
    without_cookie: list[str] = field(default_factory=list)


def _parameters(handler: BaseHTTPRequestHandler) -> tuple[dict[str, str], bytes]:
    """Parameters from query and form, and the bytes of a part named ``file``."""
    values = dict(parse_qsl(urlsplit(handler.path).query, keep_blank_values=True))
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    kind = handler.headers.get("Content-Type", "")
    picture = b""
    if kind.startswith("multipart/form-data"):
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
        )
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if name == "file":
                picture = part.get_payload(decode=True)
            else:
                values[str(name)] = part.get_payload(decode=True).decode()
    elif kind.startswith("application/x-www-form-urlencoded"):
        values |= dict(parse_qsl(body.decode(), keep_blank_values=True))
    return values, picture


class ForeignServer(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    def __init__(self, job: Job, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.job = job
        self.password = password
        self.seen = ReceivedRequests()
        self.root = f"http://127.0.0.1:{self.server_address[1]}"
        self._frames = list(job.frames)
        self._lock = threading.Lock()

    def next_frame(self) -> str | None:
        """The next frame of its job; ``None`` when all are out."""
        with self._lock:
            return self._frames.pop(0) if self._frames else None


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    server: ForeignServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        values, picture = _parameters(self)
        if path == "/server/config.php":
            self._sign_in(values)
        elif "pasture=green" not in self.headers.get("Cookie", ""):
            self.server.seen.without_cookie.append(path)
            self._answer("<html><body>Please log in</body></html>", kind="text/html")
        else:
            self._signed_in(path, values, picture)

    def _sign_in(self, values: dict[str, str]) -> None:
        self.server.seen.sign_ins.append({name: value for name, value in values.items() if name != "password"})
        ok = values.get("password") == self.server.password
        self._answer(CONFIG.format(root=self.server.root) if ok else '<config status="102"/>', cookie=ok)

    def _signed_in(self, path: str, values: dict[str, str], picture: bytes) -> None:
        seen, job = self.server.seen, self.server.job
        match path:
            case "/meadow/next":
                self._answer(_offer(job, self.server.next_frame()))
            case "/files/fetch" | "/server/files/fetch":
                seen.downloads.append(values["type"])
                self._answer(job.scene if values["type"] == "job" else job.renderer, kind="application/zip")
            case "/meadow/done":
                seen.pictures[values["frame"]] = picture
                seen.fields[values["frame"]] = values
                self._answer('<jobvalidate status="0"/>')
            case "/meadow/alive":
                seen.beats.append(values)
                self._answer('<keepmealive status="0"/>')
            case "/meadow/trouble":
                seen.errors.append(values)
                self._answer('<error status="0"/>')
            case "/bye":
                seen.logouts += 1
                self._answer("see you", kind="text/html")
            case _:
                self.send_error(404)

    def _answer(self, body: str | bytes, *, kind: str = "text/xml", cookie: bool = False) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if cookie:
            self.send_header("Set-Cookie", "pasture=green; Path=/")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


def _offer(job: Job, frame: str | None) -> str:
    if frame is None:
        return '<jobrequest status="200"/>'
    return (
        f'<jobrequest status="0"><weather>fine</weather><job revision="7" frame="{frame}" '
        f'path={quoteattr(job.scene_path)} archive_md5="{job.scene_md5.upper()}" use_gpu=\'0\' id="4711">'
        f'<script></script><renderer commandline={quoteattr(job.command_line)} md5="{job.renderer_md5}"/>'
        "</job></jobrequest>"
    )


@contextlib.contextmanager
def foreign_server(job: Job, password: str) -> Iterator[tuple[str, ReceivedRequests]]:
    """The server's root address, and what it sees."""
    server = ForeignServer(job, password)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.root, server.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
