"""Servers of 2017, 2020, 2022 and 2024, written from what clients of those years say and expect; standard library only.

Each is strict: it answers what a client of its year would get, and an exchange that comes otherwise than that year's
clients send it is written down in :attr:`Seen.complaints` (and refused where a server would have refused it). Scenes
are locked, uploads go to another host and port, sessions die once in the middle, and whoever signs in again does so by
public key.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import hashlib
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape, quoteattr

#: A server's script of 2017 and later defines this, and its clients call it.
SCRIPT = """import bpy

def sheepit_set_compute_device(kind, device, name):
    for scene in bpy.data.scenes:
        if hasattr(scene, "cycles"):
            scene.cycles.device = "CPU"
"""
#: Asked of clients in every year.
_ALWAYS = {
    "login",
    "password",
    "cpu_family",
    "cpu_model",
    "cpu_model_name",
    "cpu_cores",
    "os",
    "ram",
    "bits",
    "version",
}


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a server of a year wants and gives."""

    year: int
    #: Sign-in parameters without which it answers 104.
    sign_in: frozenset[str]
    by_form: bool
    #: Parameters of a job request that a client of that year always sends.
    asking: frozenset[str]
    #: Content type of the list of archives held; ``None``: a body is a surprise.
    cache_type: str | None
    #: What stands in the configuration, ``type path`` a line.
    requests: str
    #: Uploads go to an address of their own.
    has_validation_url: bool
    has_public_key: bool
    has_speed_test: bool
    in_chunks: int = 0
    old_attributes: str = ""


GENERATIONS = {
    generation.year: generation
    for generation in (
        Generation(
            year=2017,
            sign_in=frozenset(_ALWAYS | {"hostname", "extras"}),
            by_form=False,
            asking=frozenset({"computemethod", "cpu_cores", "ram_max", "rendertime_max"}),
            cache_type="application/x-www-form-urlencoded",
            requests="validate-job /v/put\nrequest-job /v/next\ndownload-archive /v/get\nerror /v/oops\n"
            "keepmealive /v/alive\nlogout /account?mode=logout&worker=1",
            has_validation_url=False,
            has_public_key=False,
            has_speed_test=False,
            old_attributes='extras="e&amp;17"',
        ),
        Generation(
            year=2020,
            sign_in=frozenset(_ALWAYS | {"hostname", "ui", "extras", "headless"}),
            by_form=True,
            asking=frozenset({"computemethod", "cpu_cores", "ram_max", "rendertime_max"}),
            cache_type="application/xml; charset=utf-8",
            requests="request-job /v/next\ndownload-archive /v/get\nerror /v/oops\nkeepmealive /v/alive\nlogout /v/bye",
            has_validation_url=True,
            has_public_key=True,
            has_speed_test=False,
            old_attributes='extras=""',
        ),
        Generation(
            year=2022,
            sign_in=frozenset(_ALWAYS | {"hostname", "ui", "extras", "headless", "os_version", "hwid"}),
            by_form=True,
            asking=frozenset({"computemethod", "network_dl", "network_up", "cpu_cores", "ram_max", "rendertime_max"}),
            cache_type="application/xml; charset=utf-8",
            requests="request-job /v/next\ndownload-archive /v/get\nerror /v/oops\nkeepmealive /v/alive\n"
            "logout /v/bye\nspeedtest-answer /v/speed",
            has_validation_url=True,
            has_public_key=True,
            has_speed_test=True,
        ),
        Generation(
            year=2024,
            sign_in=frozenset(_ALWAYS | {"hostname", "ui", "extras", "headless", "os_version", "hwid"}),
            by_form=True,
            asking=frozenset({"computemethod", "network_dl", "network_up", "cpu_cores", "ram_max", "rendertime_max"}),
            cache_type=None,
            requests="request-job /v/next\ndownload-binary /v/binary\ndownload-chunk /v/chunk\nerror /v/oops\n"
            "keepmealive /v/alive\nlogout /v/bye\nspeedtest-answer /v/speed",
            has_validation_url=True,
            has_public_key=True,
            has_speed_test=True,
            in_chunks=5,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the server hands out."""

    #: A zip, locked with ``scene_password``.
    scene: bytes
    scene_password: str
    scene_path: str
    renderer: bytes
    command_line: str
    frames: tuple[str, ...]

    def chunks(self, count: int) -> list[bytes]:
        """The scene in so many pieces of different sizes."""
        size = len(self.scene)
        cuts = [0, *(size * (number * number) // (count * count) for number in range(1, count)), size]
        return [self.scene[begin:end] for begin, end in itertools.pairwise(cuts)]


@dataclass
class ReceivedRequests:
    """What clients did."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    uploads: list[dict[str, str]] = field(default_factory=list)
    upload_names: list[str] = field(default_factory=list)
    #: ``password`` or ``key``, whichever was sent.
    sign_ins: list[str] = field(default_factory=list)
    beats: list[dict[str, str]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    speed_tests: list[bytes] = field(default_factory=list)
    speed_test_bytes: int = 0
    logouts: int = 0
    #: What no client of that year does.
    complaints: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class _Server:
    """One server's state, shared by its two ports."""

    generation: Generation
    job: Job
    password: str
    key: str
    seen: ReceivedRequests = field(default_factory=ReceivedRequests)
    todo: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sessions: int = 0
    root: str = ""
    upload_root: str = ""
    #: After so many frames the session dies once.
    dies_after: int = 2

    def config(self) -> str:
        lines = [line.partition(" ") for line in self.generation.requests.splitlines()]
        # 2017 writes its ampersand as the specification's sample does.
        requests = "".join(f'<request type="{kind}" path="{path}"/>' for kind, _, path in lines)
        key = f' publickey="{self.key}"' if self.generation.has_public_key else ""
        test = f'<speedtest><target url="{self.root}/payload"/></speedtest>' if self.generation.has_speed_test else ""
        return f'<?xml version="1.0" encoding="UTF-8"?><config status="0"{key}>{requests}{test}</config>'

    def next_frame(self) -> str:
        with self.lock:
            if not self.todo:
                return '<jobrequest status="200"/>'
            if self.dies_after == 0:
                self.dies_after = -1
                self.sessions += 1
                return '<jobrequest status="202"/>'
            self.dies_after -= 1
            frame = self.todo.pop(0)
        job, generation = self.job, self.generation
        if generation.in_chunks:
            pieces = enumerate(job.chunks(generation.in_chunks))
            scene, listed = "", "".join(f'<chunk id="../c {n}&amp;" md5="{md5_of(data)}"/>' for n, data in pieces)
            chunks = f"<chunks>{listed}</chunks>"
        else:
            scene, chunks = f'archive_md5="{md5_of(job.scene)}"', ""
        target = f"{self.upload_root}/take.php?project=31&frame={frame}&token=up%2Fl0ad%20s3cret"
        address = f'validation_url="{quote(target, safe="")}"' if generation.has_validation_url else ""
        return (
            '<jobrequest status="0"><stats credits_session="0" credits_total="0" frame_remaining="3" '
            'waiting_project="0" connected_machine="7"/>'
            f'<job id="31" use_gpu="0" {scene} path={quoteattr(job.scene_path)} frame="{frame}" '
            f'synchronous_upload="0" name="of {generation.year}" password={quoteattr(job.scene_password)} {address} '
            f"{generation.old_attributes}>{chunks}"
            f'<renderer md5="{md5_of(job.renderer)}" commandline={quoteattr(job.command_line)} '
            f'update_method="remainingtime"/><script>{escape(SCRIPT)}</script></job></jobrequest>'
        )


def md5_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self._query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._kind = self.headers.get("Content-Type", "")
        path = urlsplit(self.path).path
        handlers = {
            "/server/config.php": self._sign_in,
            "/v/next": self._next,
            "/v/get": self._archive,
            "/v/binary": lambda: self._file("binary", self.state.job.renderer),
            "/v/chunk": self._chunk,
            "/v/put": self._upload,
            "/take.php": self._upload,
            "/v/alive": self._beat,
            "/v/oops": self._error,
            "/v/speed": self._speed,
            "/payload": self._payload,
            "/v/bye": self._log_out,
            "/account": self._log_out,
        }
        handler = handlers.get(path)
        if handler is None:
            self.state.seen.complaints.append(f"unknown address {path}")
            self.send_error(404)
        elif path in ("/server/config.php", "/take.php", "/payload") or self._is_signed_in():
            handler()
        else:
            self._answer('<jobrequest status="202"/>')

    def _is_signed_in(self) -> bool:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("PHPSESSID")
        return cookie is not None and cookie.value == f"s{self.state.sessions}"

    def _sign_in(self) -> None:
        state, generation = self.state, self.state.generation
        by_form = self._kind.startswith("application/x-www-form-urlencoded") and self.command == "POST"
        values = dict(parse_qsl(self._body.decode(), keep_blank_values=True)) if by_form else self._query
        missing = generation.sign_in - values.keys()
        if by_form != generation.by_form or missing or ("password" in self._query and generation.by_form):
            state.seen.complaints.append(f"signed in by form: {by_form}, without {sorted(missing)}")
            self._answer('<config status="104"/>')
            return
        if int(values["ram"]) >= 1 << 30:
            state.seen.complaints.append(f"ram={values['ram']} is not in kilobytes")
        sent = {state.password: "password", state.key: "key"}.get(values["password"], "wrong")
        state.seen.sign_ins.append(sent)
        if sent == "wrong" or (sent == "key" and not generation.has_public_key):
            self._answer('<config status="102"/>')
            return
        with state.lock:
            state.sessions += 1
        self._answer(state.config(), cookie=f"s{state.sessions}")

    def _next(self) -> None:
        generation = self.state.generation
        if missing := generation.asking - self._query.keys():
            self.state.seen.complaints.append(f"asked without {sorted(missing)}")
        if self.command != "POST":
            self.state.seen.complaints.append(f"asked by {self.command}")
        kind = self._kind if self._body else None
        if kind != generation.cache_type:
            self.state.seen.complaints.append(f"held archives were told as {kind}")
        self._answer(self.state.next_frame())

    def _archive(self) -> None:
        if "revision" in self._query:
            self.state.seen.complaints.append("asked for a revision")
        job = self.state.job
        is_scene = self._query["type"] == "job"
        self._file(self._query["type"], job.scene if is_scene else job.renderer)

    def _chunk(self) -> None:
        id_ = self._query["chunk"]
        number = int(id_.removeprefix("../c ").removesuffix("&"))
        self._file(f"chunk {number}", self.state.job.chunks(self.state.generation.in_chunks)[number])

    def _file(self, name: str, data: bytes) -> None:
        self.state.seen.downloads.append(name)
        self._answer(data, kind="application/octet-stream")

    def _upload(self) -> None:
        state, at_its_own = self.state, urlsplit(self.path).path == "/take.php"
        if at_its_own != state.generation.has_validation_url:
            state.seen.complaints.append(f"a frame came to {self.path.partition('?')[0]}")
        if at_its_own and (self._query.get("token") != "up/l0ad s3cret" or self._query.get("project") != "31"):
            state.seen.complaints.append(f"a frame came without what its address said: {sorted(self._query)}")
        if at_its_own and self.headers.get("Cookie"):
            state.seen.complaints.append("a cookie went to another host and port")
        if missing := {"rendertime", "memoryused", "frame"} - self._query.keys():
            state.seen.complaints.append(f"a frame came without {sorted(missing)}")
        head = b"Content-Type: " + self._kind.encode() + b"\r\n\r\n"
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self._body)
        part = next(form.iter_parts())
        if part.get_param("name", header="content-disposition") != "file":
            state.seen.complaints.append("the frame is not the part called file")
        state.seen.upload_names.append(part.get_filename() or "")
        state.seen.uploads.append(self._query)
        state.seen.pictures[self._query["frame"]] = part.get_payload(decode=True)
        self._answer('<jobvalidate status="0"/>')

    def _beat(self) -> None:
        self.state.seen.beats.append(self._query)
        self._answer('<keepmealive status="0"/>')

    def _error(self) -> None:
        self.state.seen.errors.append(self._query)
        self._answer('<error status="0"/>')

    def _speed(self) -> None:
        self.state.seen.speed_tests.append(self._body)
        self._answer('<speedtest status="0"/>')

    def _payload(self) -> None:
        """More than anybody has to take: who reads on for ever is told apart by how much it read."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        piece = bytes(64 * 1024)
        with contextlib.suppress(OSError):
            for _ in range(4096):
                self.wfile.write(piece)
                self.state.seen.speed_test_bytes += len(piece)
        self.close_connection = True

    def _log_out(self) -> None:
        self.state.seen.logouts += 1
        self.state.sessions += 1
        self._answer("bye", kind="text/html")

    def _answer(self, body: str | bytes, *, kind: str = "text/xml", cookie: str = "") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if cookie:
            self.send_header("Set-Cookie", f"PHPSESSID={cookie}; Path=/")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client may hang up, as after the bytes of a speed test that it wanted."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def generation_server(year: int, job: Job, password: str, key: str) -> Iterator[tuple[str, ReceivedRequests]]:
    """The root address of a server of that year, and what it sees; uploads have a host and port of their own."""
    state = _Server(generation=GENERATIONS[year], job=job, password=password, key=key, todo=list(job.frames))
    handler = type("Handler", (_Handler,), {"state": state})
    main, uploads = _QuietServer(("127.0.0.1", 0), handler), _QuietServer(("127.0.0.2", 0), handler)
    state.root = f"http://127.0.0.1:{main.server_address[1]}"
    state.upload_root = f"http://127.0.0.2:{uploads.server_address[1]}"
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (main, uploads)]
    for thread in threads:
        thread.start()
    try:
        yield state.root, state.seen
    finally:
        for server in (main, uploads):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
