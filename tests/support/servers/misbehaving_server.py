"""A small real HTTP server on loopback that can misbehave in every way, and what clients of it are given."""

from __future__ import annotations

import io
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from coordinator.upstream.client import ServerClient
from sheepfold.protocol.messages import ArchiveRequest, Beat, ComputeMethod, FrameUpload, JobRequest
from sheepfold.protocol.session_messages import Credentials, Hardware, SignInRequest

PASSWORD = "s3cret & päss/wörd"
CONFIG = (
    '<?xml version="1.0" encoding="utf-8" ?><config status="0">'
    '<request type="validate-job" path="/server/send_frame.php" />'
    '<request type="request-job" path="/server/request_job.php?from=config" />'
    '<request type="download-archive" path="/server/download.php" />'
    '<request type="error" path="/server/error.php" />'
    '<request type="keepmealive" path="/server/keepmealive.php" max-period="1440" />'
    '<request type="logout" path="/account.php?mode=logout&worker=1" /></config>'
)
SIGN_IN = SignInRequest(
    credentials=Credentials(login="studio", password=PASSWORD),
    version="3.3.1762",
    hardware=Hardware(
        os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="A CPU", cpu_cores=8, ram=2**34
    ),
)
JOB = JobRequest(compute_method=ComputeMethod.CPU_ONLY, held_archives=("0" * 31 + "a",))
UPLOAD = FrameUpload(job="1", frame="0340", render_time_s=12, revision="3", extras="a&b", memory_used_kb=9, cores=8)
BEAT = Beat(job="1", frame="0340", extras="")
SCENE = ArchiveRequest(type="job", job="1", revision="0")


class ReceivedRequest:
    """One request as the server saw it, and the means to answer it well or badly."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.handler = handler
        self.method = handler.command
        self.path = urlsplit(handler.path).path
        self.query = dict(parse_qsl(urlsplit(handler.path).query, keep_blank_values=True))
        self.headers = handler.headers
        self.size = int(handler.headers.get("content-length") or 0)
        self.body = handler.rfile.read(min(self.size, 1_000_000))
        # The rest of a large upload is only counted: it would hide what the client keeps in memory.
        left = self.size - len(self.body)
        while left:
            left -= len(handler.rfile.read(min(left, 65536)))

    def answer(self, body: bytes | str, code: int = 200, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.handler.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def raw(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.handler.close_connection = True

    def drip(self, data: bytes, gone: threading.Event) -> None:
        """One byte at a time until the client has had enough."""
        self.handler.close_connection = True
        try:
            for byte in data * 10_000:
                self.handler.wfile.write(bytes([byte]))
                if gone.wait(0.02):
                    return
        except OSError:
            gone.set()


class MisbehavingServer:
    """Answers each path with the function set for it; remembers every request that it received."""

    def __init__(self) -> None:
        self.received: list[ReceivedRequest] = []
        self.pages: dict[str, Callable[[ReceivedRequest], None]] = {
            "/server/config.php": lambda request: request.answer(CONFIG, Set_Cookie="WORKER=42; path=/"),
        }
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                request = ReceivedRequest(self)
                owner.received.append(request)
                owner.pages.get(request.path, lambda request: request.answer("nothing here", 404))(request)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_args: object) -> None:
                """Silence."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """Clients leave in the middle; that is what is tested."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join(5)


def download(client: ServerClient, *, limit: int = 10**6, cancelled: Callable[[], bool] = lambda: False) -> bytes:
    target = io.BytesIO()
    client.download(SCENE, target, limit_bytes=limit, cancelled=cancelled)
    return target.getvalue()


def everything_about(error: BaseException) -> str:
    """All a log could show: texts, contexts, tracebacks."""
    texts: list[str] = []
    following: BaseException | None = error
    while following is not None:
        texts += [repr(following), str(following), *traceback.format_exception(following), repr(vars(following))]
        following = following.__context__ or following.__cause__
    return "\n".join(texts)
